"""PPO for single-turn RLHF: the improvement step, at the token level.

A single-turn problem is a prompt, a response and a reward for the whole response, here Q(x, a) of a frozen critic. Per
round, one response to each prompt of some logged conversations is sampled from the current policy and scored once; then
the policy is updated on them for a few epochs by the clipped objective of PPO (arXiv 1707.06347) with one
ratio per token, plus β·KL(π ‖ reference) computed exactly over the vocabulary at every response token.

Departures from the common RLHF recipe, all for variance:

- The value of an unfinished response is not a second network trained along: the critic itself is read at every token
  (``QFunction``). The token's advantage is GAE over these values with γ = 1 inside the response; ``gae_lambda=1`` gives
  Q(x, a) − F(tokens so far).
- The KL penalty is a term of the loss and not of the reward: in the first round the sampled penalty would be zero,
  since the reference is where that round begins.
- Advantages are centred but not divided by their own spread: that would blow up the noise of a Q that sees no
  difference yet, or none any more. Their unit is the standard deviation of the returns, so β weighs the same in every
  world.
- All prompts of a conversation and their responses share one forward pass (``agents.packing``), in minibatches of
  conversations of like length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from agents.agent import check_range
from agents.behaviour import mean_metrics
from agents.chat_model import ChatModel
from agents.packing import Packed, Prompts, like_lengths, pack
from agents.token_batch import TokenBatch
from envs.trajectory import Utterance

_LARGEST_KEPT = 8192
"""The largest vocabulary whose distributions are kept for a round's tokens."""

Metrics = dict[str, float]


class Scorer(Protocol):
    """Tells what responses are worth: Q, or a reward of single turns."""

    @property
    def spread(self) -> Tensor:
        """The unit of advantages: a standard deviation of what is predicted."""

    def values(self, packed: Packed, prompts: Sequence[Prompts], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """V at each prompt [R], and the value at each response token [N], whose last is that of the whole response.

        ``prompts`` are those packed, with one conversation per response; ``rng`` serves scorers that sample."""


class SingleTurnSolver(Protocol):
    """Improves a policy on single-turn problems; an off-the-shelf RLHF tool behind one method."""

    def improve(
        self,
        policy: ChatModel,
        reference: ChatModel,
        scorer: Scorer,
        prompts: Sequence[Prompts],
        rng: np.random.Generator,
        *,
        start: ChatModel | None = None,
    ) -> Metrics:
        """Change ``policy`` in place so that its responses to ``prompts`` score higher, near ``reference``.

        ``start`` is where learning began; solvers may pull towards it against drift of the language.
        """


@dataclass(frozen=True, slots=True)
class _Batch:
    """A minibatch of conversations, with what stays fixed while the policy moves."""

    packed: Packed
    old_logprobs: Tensor  # [N]
    advantages: Tensor  # [N]
    reference: Callable[[], Tensor]  # [N, V] log-probabilities
    start: Callable[[], Tensor] | None  # [N, V]


@dataclass(frozen=True)
class PPO:
    """The solver. Every coefficient is per response token.

    Args:
        rounds: how often responses are sampled; the prompts are divided among the rounds.
        conversations: at most so many logged conversations have their prompts used, in all rounds together; None: all.
        epochs: passes over a round's responses.
        batch_size: conversations per minibatch (about five responses each).
        learning_rate: of Adam; the optimizer is fresh in every call.
        clip: ε of the clipped objective.
        kl_coef: β of KL(π ‖ reference).
        start_kl_coef: the same pull towards the start, against drift of the language; 0 leaves it out.
        entropy_coef: bonus on the entropy of each token's distribution.
        gae_lambda: λ of the advantages inside a response; 1 is Q(x, a) − F(tokens so far).
        max_grad_norm: of the gradient.
    """

    rounds: int = 2
    conversations: int | None = None
    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 3e-4
    clip: float = 0.2
    kl_coef: float = 0.05
    start_kl_coef: float = 0.0
    entropy_coef: float = 0.0
    gae_lambda: float = 1.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rounds", "epochs", "batch_size", "conversations"):
            if (value := getattr(self, name)) is not None:
                check_range(f"solver.{name}", value, 1)
        for name in ("clip", "kl_coef", "start_kl_coef", "max_grad_norm"):
            check_range(f"solver.{name}", getattr(self, name), 0.0)
        check_range("solver.gae_lambda", self.gae_lambda, 0.0, 1.0)

    def improve(
        self,
        policy: ChatModel,
        reference: ChatModel,
        scorer: Scorer,
        prompts: Sequence[Prompts],
        rng: np.random.Generator,
        *,
        start: ChatModel | None = None,
    ) -> Metrics:
        optimizer = torch.optim.Adam(policy.model.parameters(), lr=self.learning_rate, eps=1e-5)
        chosen = rng.permutation(len(prompts))[: self.conversations]
        logs: list[Metrics] = []
        for part in np.array_split(chosen, min(self.rounds, len(chosen))):
            responses = respond(policy, [prompts[i] for i in part], rng)
            logs.append(response_metrics(responses))
            batches = self._prepare(policy, reference, start, scorer, [prompts[i] for i in part], responses, rng, logs)
            for _ in range(self.epochs):
                for i in rng.permutation(len(batches)):
                    logs.append(self._update(policy, optimizer, batches[i]))
        policy.forget()
        return mean_metrics(logs)

    def _prepare(
        self, policy: ChatModel, reference: ChatModel, start: ChatModel | None, scorer: Scorer,
        prompts: Sequence[Prompts], responses: list[list[Utterance]], rng: np.random.Generator, logs: list[Metrics],
    ) -> list[_Batch]:  # fmt: skip
        """Score every response once and keep what the loss needs."""
        kept = [_answered(one, said) for one, said in zip(prompts, responses, strict=True)]
        kept = [(one, said) for one, said in kept if said]
        lengths = [int(one.ends[-1]) + sum(map(len, said)) for one, said in kept]
        raw = []
        for chosen in like_lengths(lengths, self.batch_size, rng):
            said = [kept[i][1] for i in chosen]
            tails = [[policy.tail(tokens) for tokens in row] for row in said]
            packed = pack([kept[i][0] for i in chosen], said, tails)
            value, along = scorer.values(packed, [kept[i][0] for i in chosen], rng)
            raw.append((packed, token_advantages(packed, value, along, self.gae_lambda), value, along[packed.last]))
        gained = torch.cat([last - value for _, _, value, last in raw])
        mean, unit = torch.cat([advantages for _, advantages, _, _ in raw]).mean(), scorer.spread
        device = policy.model.device
        logs.append({"q_gain": gained.mean().item(), "q_spread": gained.std(correction=0).item()})
        with torch.no_grad():
            return [
                _Batch(
                    packed,
                    chosen_logprobs(token_logprobs(policy, packed), packed),
                    ((advantages - mean) / unit).to(device),
                    remembered(reference, partial(token_logprobs, reference, packed)),
                    remembered(start, partial(token_logprobs, start, packed)) if start else None,
                )
                for packed, advantages, _, _ in raw
            ]

    def _update(self, policy: ChatModel, optimizer: torch.optim.Optimizer, batch: _Batch) -> Metrics:
        logprobs = token_logprobs(policy, batch.packed)  # [N, V]
        chosen = chosen_logprobs(logprobs, batch.packed)  # [N]
        loss, metrics = clipped_loss(chosen, batch.old_logprobs, batch.advantages, self.clip)
        entropy = -(logprobs.exp() * logprobs).sum(-1).mean()
        loss = loss - self.entropy_coef * entropy
        for name, coefficient, other in (
            ("kl", self.kl_coef, batch.reference),
            ("start_kl", self.start_kl_coef, batch.start),
        ):
            if other is not None:
                with torch.set_grad_enabled(coefficient > 0):
                    kl = exact_kl(logprobs, other()).mean()
                loss = loss + coefficient * kl
                metrics[name] = kl.item()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(policy.model.parameters(), self.max_grad_norm)
        optimizer.step()
        return {**metrics, "entropy": entropy.item(), "grad_norm": norm.item()}


def respond(policy: ChatModel, prompts: Sequence[Prompts], rng: np.random.Generator) -> list[list[Utterance]]:
    """One fresh response of ``policy`` to every prompt: per conversation, one utterance per prompt."""
    flat = [conversation for one in prompts for conversation in one.conversations]
    order = np.argsort([len(conversation.turns) for conversation in flat], kind="stable")
    said: list[Utterance | None] = [None] * len(flat)
    seeds = rng.integers(2**63, size=len(flat))
    for i in range(0, len(flat), 256):
        part = order[i : i + 256]
        rngs = [np.random.default_rng(seeds[j]) for j in part]
        for j, utterance in zip(part, policy.speak([flat[j] for j in part], rngs), strict=True):
            said[j] = utterance
    following = iter(said)
    return [[next(following) for _ in one.conversations] for one in prompts]  # type: ignore[misc]  # all are filled


def _answered(one: Prompts, said: list[Utterance]) -> tuple[Prompts, list[tuple[int, ...]]]:
    """The prompts that got a response with tokens; an empty one teaches nothing."""
    keep = [k for k, utterance in enumerate(said) if utterance.tokens]
    conversations = tuple(one.conversations[k] for k in keep)
    return Prompts(one.ids, one.ends[keep], conversations), [said[k].tokens for k in keep]


def token_logprobs(model: ChatModel, packed: Packed) -> Tensor:
    """[N, V] log-probabilities of what may be said at every response token, at the model's temperature."""
    return model.distributions(packed.inputs, packed.rows, packed.before)


def chosen_logprobs(logprobs: Tensor, batch: Packed | TokenBatch) -> Tensor:
    """[N] the log-probability of each token that was said."""
    return logprobs.gather(1, batch.tokens.to(logprobs.device)[:, None])[:, 0]


def remembered(model: ChatModel, logprobs: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """``logprobs`` [N, V] of a model that stays as it is, without gradients: kept where the vocabulary is small, else
    worked out at each call, since a large vocabulary's distributions at every token of a round would fill a GPU."""
    read = torch.no_grad()(logprobs)
    if model.model.config.vocab_size > _LARGEST_KEPT:
        return read
    kept = read()
    return lambda: kept


def exact_kl(logprobs: Tensor, other: Tensor) -> Tensor:
    """[N] KL(π ‖ other) over the vocabulary, from log-probabilities [N, V]."""
    return (logprobs.exp() * (logprobs - other)).sum(-1)


def token_advantages(packed: Packed, value: Tensor, along: Tensor, gae_lambda: float) -> Tensor:
    """[N] GAE inside each response, γ = 1: the value before each token is V(x) or F so far, and the only reward is
    Q(x, a), at the last token.

    With values F_0 = V(x), F_1, …, F_n = Q(x, a) the errors are δ_i = F_{i+1} − F_i, and A_i = Σ_j λ^{j-i} δ_j.
    """
    first = torch.ones_like(packed.response, dtype=torch.bool)
    first[1:] = packed.response[1:] != packed.response[:-1]
    before = torch.where(first, value[packed.response], along.roll(1))
    if gae_lambda == 1.0:
        return along[packed.last][packed.response] - before
    deltas, advantages, following = along - before, torch.empty_like(along), 0.0
    ends = torch.zeros_like(first)
    ends[packed.last] = True
    for i in range(len(deltas) - 1, -1, -1):
        following = deltas[i] + (0.0 if ends[i] else gae_lambda * following)
        advantages[i] = following
    return advantages


def clipped_loss(
    logprobs: Tensor, old: Tensor, advantages: Tensor, clip: float, weights: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """PPO's clipped objective as a loss, averaged over [N] tokens, or whatever else one probability is of, by
    ``weights`` [N] if there are any; and how far the ratios have moved."""
    ratio = (logprobs - old).exp()
    loss = -weighted_mean(torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages), weights)
    clipped = ((ratio - 1).abs() > clip).float().mean()
    return loss, {"policy_loss": loss.item(), "clip_fraction": clipped.item()}


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of values [N], by ``weights`` [N] if there are any."""
    return values.mean() if weights is None else (weights * values).sum() / weights.sum()


def response_metrics(responses: Sequence[Sequence[Utterance]]) -> Metrics:
    """Length of the responses in tokens, and how many of a round's are different texts."""
    flat = [utterance for row in responses for utterance in row]
    return {
        "response_length": float(np.mean([len(utterance.tokens) for utterance in flat])),
        "distinct_responses": len({utterance.text for utterance in flat}) / len(flat),
    }
