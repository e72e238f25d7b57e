"""Q of every token that the agent might say next, and the policy that such values perturb (ILQL, arXiv 2206.11871; MC
returns and ILQL in LMRL-Gym, arXiv 2311.18232).

A conversation is a decision process of tokens: each of the agent's tokens is a decision, time counts these alone, and
what the user says in between is the world's. The reward of an exchange follows the last token of the agent's turn.
After the last decision there is nothing more to come, however the conversation ended: conversations are finite, and
one that was cut off at its last exchange has brought what it brought.

Heads on the states of a language model give Q for the whole vocabulary at once. Alone they would be a bad speaker: of
tokens that nobody has said there they know nothing. So they perturb a model that imitates, here the start:

    logits = logits of the start + β · min_k Q_k

Q is learnt and spoken by in units of its own: how many standard deviations of the logged returns it is above their
mean. So it begins at their mean, and β, learning rates and the term of conservative Q-learning mean about the same in a
world that pays 1 in the end and in one that takes 1 at every exchange. LMRL-Gym's scripts set the level at which Q
begins by hand for worlds that take (``layer2_bias_init=-4.4``): were it 0 there, what nobody said would look best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from agents.adapters import copied
from agents.chat_model import ChatModel
from agents.reader import Reader, Text, states_at
from envs.decoding import Decoder
from envs.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Decisions:
    """A conversation as N decisions, one per token of the agent."""

    text: Text
    """Read [N] before each decision: the state."""
    tokens: np.ndarray
    """[N] what was decided."""
    rewards: np.ndarray
    """[N] what was paid between the decision and the next one."""

    def returns(self, gamma: float) -> np.ndarray:
        """[N] the discounted reward from each decision on, γ per token of the agent."""
        returns, following = np.empty(len(self.rewards)), 0.0
        for i in range(len(self.rewards) - 1, -1, -1):
            returns[i] = following = self.rewards[i] + gamma * following
        return returns


@dataclass(frozen=True, slots=True)
class Unit:
    """What Q is measured in: standard deviations of returns, above their mean."""

    mean: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(cls, data: Sequence[Decisions], gamma: float) -> Unit:
        """Of the returns from every decision on. Where they are all the same, their scale stays as it is."""
        returns = np.concatenate([one.returns(gamma) for one in data])
        mean, scale = float(returns.mean()), float(returns.std())
        return cls(mean, scale if scale > 1e-9 * max(1.0, abs(mean)) else 1.0)  # less is rounding

    def returns(self, one: Decisions, gamma: float) -> np.ndarray:
        """[N] of each decision, in this unit."""
        return (one.returns(gamma) - self.mean) / self.scale

    def rewards(self, one: Decisions, gamma: float) -> np.ndarray:
        """[N] those that add up to the same: r + γ V' with V' in this unit, and 0 after the last decision, is in this
        unit what the world's r + γ V' is."""
        later = np.full(len(one.rewards), gamma)
        later[-1:] = 0.0
        return (one.rewards - self.mean * (1.0 - later)) / self.scale


def decisions(policy: ChatModel, trajectory: Trajectory) -> Decisions:
    """A scored conversation, token by token.

    The reward of a turn without tokens goes to the decision before it, and to none if there was none yet.
    """
    read = policy.trajectory_tokens(trajectory)
    places: list[int] = []
    rewards: list[float] = []
    for step, before, end in zip(trajectory.steps, read.prompt_ends, read.turn_ends, strict=True):
        places += range(before, end)
        rewards += [0.0] * (end - before)
        if rewards:
            rewards[-1] += step.reward
    at = np.array(places, dtype=np.int64)
    return Decisions(Text(read.ids, at), np.asarray(read.ids)[at + 1], np.array(rewards))


class TokenHeads(nn.Module):
    """K networks with one hidden layer and a value for each of V tokens, which begin at 0.

    Args:
        hidden_size: of the trunk.
        width: of the hidden layer.
        members: K.
        vocabulary: V.
        generator: draws the weights of the hidden layer.
    """

    def __init__(self, hidden_size: int, width: int, members: int, vocabulary: int, generator: torch.Generator):
        super().__init__()
        scale = hidden_size**-0.5
        drawn = torch.empty(members, hidden_size, width).uniform_(-scale, scale, generator=generator)
        self.inner = nn.Parameter(drawn)
        self.bias = nn.Parameter(torch.zeros(members, 1, width))
        self.outer = nn.Parameter(torch.zeros(members, width, vocabulary))
        self.level = nn.Parameter(torch.zeros(members, 1, vocabulary))

    def forward(self, states: Tensor) -> Tensor:
        """[K, N, V] values at states [N, hidden]."""
        return (states @ self.inner + self.bias).relu() @ self.outer + self.level


class TokenQ(nn.Module):
    """Q of every token: a trunk, and heads that compute where it does. Values are in the ``unit`` set last.

    Args:
        policy: whose trunk is copied.
        rng: draws the weights that the heads begin with. All values begin at 0.
        members: K, how many there are of Q.
        width: of the heads' hidden layer.
        trunk_learning_rate: None: see ``Reader``.
    """

    _unit: Tensor

    def __init__(
        self,
        policy: ChatModel,
        rng: np.random.Generator,
        *,
        members: int = 1,
        width: int = 128,
        trunk_learning_rate: float | None = None,
    ):
        super().__init__()
        self.reader = Reader(policy, trunk_learning_rate)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        vocabulary = policy.model.get_output_embeddings().weight.shape[0]
        self.heads = TokenHeads(self.reader.hidden_size, width, members, vocabulary, generator)
        self.heads.to(policy.model.device)
        self.register_buffer("_unit", torch.tensor([0.0, 1.0], dtype=torch.float64))
        self.eval()

    @property
    def unit(self) -> Unit:
        return Unit(*self._unit.tolist())

    @unit.setter
    def unit(self, unit: Unit) -> None:
        self._unit = self._unit.new_tensor([unit.mean, unit.scale])

    @property
    def device(self) -> torch.device:
        return self.heads.inner.device

    def states(self, batch: Sequence[Decisions]) -> Tensor:
        """[N, hidden] before every decision of the batch, one conversation after another."""
        return self.reader([one.text for one in batch]).to(self.device)

    def least(self, states: Tensor) -> Tensor:
        """[N, V] min_k Q_k at a trunk's last states [N, hidden]."""
        return self.heads(states.to(self.device, torch.float32)).amin(0)

    @torch.no_grad()
    def of_decisions(self, data: Sequence[Decisions], batch_size: int = 32) -> np.ndarray:
        """[N] min_k Q_k of what was decided, as a return."""
        found = [np.zeros(0)]
        for i in range(0, len(data), batch_size):
            batch = data[i : i + batch_size]
            found.append(chosen(self.least(self.states(batch)), tokens_of(batch, self.device)).double().cpu().numpy())
        return self.unit.mean + self.unit.scale * np.concatenate(found)


def tokens_of(batch: Sequence[Decisions], device: torch.device) -> Tensor:
    """[N] what was decided, one conversation after another."""
    return torch.from_numpy(np.concatenate([one.tokens for one in batch])).to(device)


def chosen(values: Tensor, tokens: Tensor) -> Tensor:
    """[..., N] of values [..., N, V], that of each of the tokens [N]."""
    index = tokens.expand(values.shape[:-1])[..., None]
    return values.gather(-1, index)[..., 0]


def cross_entropy(values: Tensor, tokens: Tensor) -> Tensor:
    """Of Q [K, N, V], taken for logits, on the tokens that were decided [N]: the term of conservative Q-learning, which
    keeps the values of tokens that nobody said below those that were. Summed over K, a mean over N."""
    return (values.logsumexp(-1) - chosen(values, tokens)).mean(-1).sum()


class Perturbed(ChatModel):
    """Speaks by the logits of ``policy`` plus ``beta`` times the least of ``q``.

    It holds both and not copies of them: when Q learns, it changes along. The policy must stay as it was when Q's trunk
    was copied; if that trunk does not learn, it is the policy's own, and one pass serves for both.

    Raises ``ValueError`` for a negative ``beta``.
    """

    def __init__(self, policy: ChatModel, q: TokenQ, beta: float):
        super().__init__(
            policy.model, policy.tokenizer, temperature=policy.temperature, max_new_tokens=policy.max_new_tokens
        )
        if not beta >= 0:
            raise ValueError(f"beta={beta}; give 0 or more. At 0 the policy speaks as it is.")
        self.q, self.beta = q, beta
        self._decoder = Decoder(policy.model, policy.tokenizer, perturbation=_Added(policy, q, beta))

    def _logits(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        added = self._added({"input_ids": ids}, rows, columns)
        logits = super()._logits(ids, rows, columns)
        return logits + added.to(logits)

    def distributions(self, inputs: Mapping[str, Tensor], rows: Tensor, places: Tensor) -> Tensor:
        plain = super().distributions(inputs, rows, places)  # at the temperature
        added = self._added(inputs, rows, places) / self.temperature
        return (plain + added.to(plain)).log_softmax(-1)

    def _added(self, inputs: Mapping[str, Tensor], rows: Tensor, places: Tensor) -> Tensor:
        return self.beta * self.q.least(states_at(self.q.reader.trunk, inputs, rows, places))

    def clone(self) -> ChatModel:
        """Refused: a copy would no longer move along with Q."""
        raise TypeError("A perturbed policy is not copied; copy the policy and perturb it anew.")

    def save(self, folder: str | Path) -> None:
        """Refused: it is no single model."""
        raise TypeError("A perturbed policy is not saved; save the policy and Q.")


class _Added:
    """What ``Perturbed`` adds, as its decoder asks for it."""

    def __init__(self, policy: ChatModel, q: TokenQ, beta: float):
        self._q, self._beta = q, beta
        self.model = policy.model
        if q.reader.learning_rate:
            self.model = copied(policy.model)
            setattr(self.model, self.model.base_model_prefix, q.reader.trunk)

    def __call__(self, states: Tensor) -> Tensor:
        return self._beta * self._q.least(states)
