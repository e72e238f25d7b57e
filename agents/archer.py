"""ArCHer (arXiv 2402.19446): a critic of whole utterances, learnt off-policy, and an actor of tokens beneath it.

Per round, as in the authors' code (trainer.py, archer_agent.py):

1. Hold some conversations with the current policy and put them into the replay.
2. Critic: steps on turns from the replay (``agents.utterance_critic``: twin Q and V, target copies).
3. Actor: steps on states from the whole replay, at each of which π says ã afresh:

       A = min(Q_1, Q_2)(s, ã) - min(V_1, V_2)(s)        loss = -mean( A · log π(ã | s) )

   log π(ã | s) is summed over the tokens. No ratio, no clip, no KL. In the first rounds the critic learns alone.

The other option of the paper, a baseline per token, is not built.

Departures:

- The critic is small heads on one causal trunk that has learnt to read, where the authors fine-tune RoBERTa on separate
  encodings of state and action.
- Our conversations are counted: a few dozen rounds take the place of 2,000 iterations, so there are more steps in each,
  at higher learning rates, and as many as make some passes over what is replayed: where the replay is still small, more
  would fit its noise. Before the first, the critic learns on the logged conversations that every agent is given
  (``warm_start``); they do not enter the replay. The replay holds the last few rounds: what a critic that goes over all
  of a run learns is what earlier policies made of a state, and the actor followed it down (conf/agent/archer.yaml).
- In the critic's phase of a round π stays as it is, so ã is drawn once for a pool of replayed conversations, and the
  steps go over the pool; there, each step draws its own. A minibatch is conversations with all of their turns, which
  share a pass (``agents.packing``); there, it is single turns. Either way all turns of the replay are as likely.
- Losses are means over a minibatch, where the code sums the gradients of its accumulated parts. Under Adam, which both
  use, that makes a difference to the clipping of gradients alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from agents.agent import Critique, Metrics, check_range
from agents.behaviour import behaviour_metrics, mean_metrics
from agents.chat_learner import ChatLearner
from agents.packing import Prompts
from agents.ppo import chosen_logprobs, respond, response_metrics, token_logprobs
from agents.practice import Practice
from agents.utterance_critic import Turns, UtteranceCritic, turns_of
from envs.trajectory import Trajectory, read_jsonl, write_jsonl


class Archer(ChatLearner):
    """A chat model that learns by ArCHer.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``.
        gamma, polyak, critic_learning_rate, critic_trunk_learning_rate, critic_width: see ``UtteranceCritic``.
        conversations_per_round: held anew in each round.
        replay: how many of the latest conversations are kept.
        pool: conversations that the critic's steps of a round go over, drawn evenly from the replay.
        critic_epochs, critic_batch_size: passes over the pool in a round, and conversations in each step.
        warm_start: rounds of critic steps on logged conversations beforehand, no more than they have pools; 0 leaves
            them out.
        warm_up: rounds in which the critic alone learns.
        learning_rate: of the actor's Adam.
        actor_steps, actor_batch_size: of a round, and conversations in each step.
        max_grad_norm: of the actor's gradient.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(
        self,
        start: str | None,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        gamma: float = 0.95,
        polyak: float = 0.1,
        critic_learning_rate: float = 2e-3,
        critic_trunk_learning_rate: float | None = None,
        critic_width: int = 64,
        conversations_per_round: int = 128,
        replay: int = 1024,
        pool: int = 256,
        critic_epochs: float = 7.5,
        critic_batch_size: int = 16,
        warm_start: int = 4,
        warm_up: int = 1,
        learning_rate: float = 3e-4,
        actor_steps: int = 3,
        actor_batch_size: int = 48,
        max_grad_norm: float = 1.0,
        **loading: Any,
    ):
        counts = {"conversations_per_round": conversations_per_round, "replay": replay, "pool": pool}
        counts |= {"critic_batch_size": critic_batch_size}
        for name, value in {**counts, "actor_steps": actor_steps, "actor_batch_size": actor_batch_size}.items():
            check_range(name, value, 1)
        for name, share in (("gamma", gamma), ("polyak", polyak)):
            check_range(name, share, 0.0, 1.0)
        for name, value in (("warm_start", warm_start), ("warm_up", warm_up)):
            check_range(name, value, 0)
        for name, size in (("critic_epochs", critic_epochs), ("max_grad_norm", max_grad_norm)):
            check_range(name, size, 0.0)
        self.conversations_per_round, self.replay, self.pool = conversations_per_round, replay, pool
        self.critic_epochs, self.critic_batch_size = critic_epochs, critic_batch_size
        self.warm_start, self.warm_up = warm_start, warm_up
        self.actor_steps, self.actor_batch_size = actor_steps, actor_batch_size
        self.learning_rate, self.max_grad_norm = learning_rate, max_grad_norm
        self._critic: dict[str, Any] = {
            "learning_rate": critic_learning_rate,
            "trunk_learning_rate": critic_trunk_learning_rate,
            "width": critic_width,
            "gamma": gamma,
            "polyak": polyak,
        }
        self.rounds = 0
        self._replay: list[Trajectory] = []
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given; begin the critic, and let it learn from the logged conversations."""
        super().prepare(practice)
        (rng,) = practice.rng.spawn(1)  # a stream of its own: the first iteration begins with practice.rng itself
        self._begin_learning(rng)
        if self.warm_start and practice.budget.logged:
            logged = _scored(practice.logged())
            for _ in range(min(self.warm_start, -(-len(logged) // self.pool))):
                self._fit_critic(logged, rng)

    def _begin_learning(self, rng: np.random.Generator) -> None:
        self.critic = UtteranceCritic(self.start, rng, **self._critic)
        self._optimizer = torch.optim.Adam(self.policy.model.parameters(), lr=self.learning_rate, eps=1e-5)

    def improve(self, practice: Practice) -> Metrics:
        rng = practice.rng
        self.policy.forget()  # a restored agent remembers nothing of what it read; reading is exact to rounding only
        share = practice.iteration_share()
        rounds = max(1, round(share / self.conversations_per_round))
        logs: list[dict[str, float]] = []
        held: list[Trajectory] = []
        for part in np.array_split(np.arange(share), rounds):
            trajectories = practice.converse(self, len(part))
            held += trajectories
            logs.append(self._round(_scored(trajectories), rng))
        if not self._replay:
            raise RuntimeError(
                f"Of {share} conversations none was scored, and there is nothing to learn from; see why the user or "
                "the judge fails."
            )
        return {**behaviour_metrics(held), **mean_metrics(logs), "rounds": float(self.rounds)}

    def _round(self, fresh: list[Trajectory], rng: np.random.Generator) -> dict[str, float]:
        """Take ``fresh`` into the replay; then the critic's steps, and the actor's."""
        metrics: dict[str, float] = {}
        if fresh:  # which the critic has not seen yet
            metrics |= {f"q_{name}": value for name, value in self.critic.calibration(self.policy, fresh).items()}
        self._replay = [*self._replay, *fresh][-self.replay :]
        self.rounds += 1
        if not self._replay:
            return metrics
        metrics |= self._fit_critic(self._replay, rng)
        if self.rounds > self.warm_up:
            metrics |= mean_metrics([self._actor_step(rng) for _ in range(self.actor_steps)])
            self.policy.forget()
        return metrics

    def _fit_critic(self, replay: Sequence[Trajectory], rng: np.random.Generator) -> dict[str, float]:
        """A round's critic steps, on a pool from ``replay`` with what the policy would say at each of its turns."""
        pool = _drawn(replay, self.pool, rng)
        parts = [pool[i : i + self.critic_batch_size] for i in range(0, len(pool), self.critic_batch_size)]
        data = [turns for part in parts if (turns := self._turns(part, rng)) is not None]
        return self.critic.fit(data, rng, steps=max(1, round(self.critic_epochs * len(data)))) if data else {}

    def _turns(self, conversations: Sequence[Trajectory], rng: np.random.Generator) -> Turns | None:
        prompts = [_prompts(one) for one in conversations]
        return turns_of(self.policy, conversations, respond(self.policy, prompts, rng))

    def _actor_step(self, rng: np.random.Generator) -> dict[str, float]:
        """One step on what the policy says now at states of the whole replay."""
        conversations = _drawn(self._replay, self.actor_batch_size, rng)
        said = respond(self.policy, [_prompts(one) for one in conversations], rng)
        turns = turns_of(self.policy, conversations, said)
        if turns is None:
            return response_metrics(said)
        advantages = self.critic.advantages(turns.fresh)  # [R']
        logprobs = token_logprobs(self.policy, turns.fresh)  # [N, V]
        chosen = chosen_logprobs(logprobs, turns.fresh)  # [N]
        loss = actor_loss(chosen, turns.fresh.response.to(chosen.device), advantages.to(chosen.device))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.policy.model.parameters(), self.max_grad_norm)
        self._optimizer.step()
        entropy = -(logprobs.exp() * logprobs).sum(-1).mean()
        figures = {"policy_loss": loss, "entropy": entropy, "grad_norm": norm, "advantage": advantages.mean()}
        figures["advantage_spread"] = advantages.std(correction=0)
        return {**response_metrics(said), **{name: figure.item() for name, figure in figures.items()}}

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def critique(self, trajectories: Sequence[Trajectory]) -> Critique:
        """Of the lesser of both Q and of both V, in units of the discounted return."""
        return self.critic.critique(self.policy, trajectories)

    def save(self, folder: Path) -> None:
        super().save(folder)
        write_jsonl(folder / "replay.jsonl", self._replay)
        learning = {"rounds": self.rounds, "critic": self.critic.state(), "policy": self._optimizer.state_dict()}
        torch.save(learning, folder / "learning.pt")

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self._begin_learning(np.random.default_rng(0))  # weights are read in the next lines
        state = torch.load(folder / "learning.pt", weights_only=True)
        self.rounds = int(state["rounds"])
        self.critic.restore(state["critic"])
        self._optimizer.load_state_dict(state["policy"])
        self._replay = list(read_jsonl(folder / "replay.jsonl"))


def actor_loss(logprobs: torch.Tensor, response: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """-mean over R utterances of A · log π(ã | s), from the log-probabilities [N] of their tokens, the utterance that
    each token belongs to [N], and the advantages [R]."""
    summed = torch.zeros_like(advantages).index_add(0, response, logprobs)  # [R]
    return -(summed * advantages).mean()


def _scored(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    return [one for one in trajectories if one.judged and one.steps]


def _drawn(trajectories: Sequence[Trajectory], n: int, rng: np.random.Generator) -> list[Trajectory]:
    """``n`` of them, or all if there are fewer, each at most once."""
    return [trajectories[i] for i in rng.permutation(len(trajectories))[:n]]


def _prompts(trajectory: Trajectory) -> Prompts:
    """What was said before every turn; ``respond`` reads the conversations alone."""
    ends = np.arange(trajectory.exchanges)
    return Prompts((), ends, tuple(trajectory.prefix(k) for k in range(trajectory.exchanges)))
