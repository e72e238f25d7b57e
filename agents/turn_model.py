"""Feedback on single turns: a model of which of two utterances at one moment is better, and rewards made from it.

What ``agents.preference_model`` is for finished conversations, for utterances: the text is the prompt and the
utterance, read where the user is given the turn. The single-turn solver (``agents.ppo``) asks a ``Scorer`` for the
reward of fresh utterances and for their prompts' values:

- ``TurnReward``: the Bradley-Terry reward r(x, y); its value is a regression of r on the prompt, since Bradley-Terry
  leaves a constant per prompt open.
- ``TurnContest``: P(y ≻ y') against a fresh utterance y' of a mixture of the policy and μ (Nash-MD, arXiv 2312.00886);
  the value is ½, the control variate of a symmetric game.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from agents.chat_model import ChatModel
from agents.packing import Packed, Prompts, pack
from agents.preference_model import Compared, PreferenceModel
from agents.q_function import Heads
from agents.reader import Text, states_at


@dataclass(frozen=True, slots=True)
class TurnPair:
    """Two utterances at one moment, and which of them is better."""

    prompt: tuple[int, ...]
    """[T] what the policy read."""
    first: tuple[int, ...]
    second: tuple[int, ...]
    """The tokens of both."""
    label: float
    """1 where the first is better, 0 where the second is, ½ for a tie."""


def said(policy: ChatModel, prompt: Sequence[int], tokens: Sequence[int]) -> Text:
    """A prompt and an utterance, read where the user is given the turn."""
    ids = [*prompt, *tokens, *policy.tail(tokens)]
    return Text(ids, np.array([len(ids) - 1], dtype=np.int64))


def compared(policy: ChatModel, pair: TurnPair) -> Compared:
    """The pair as a preference model learns from it."""
    return Compared(said(policy, pair.prompt, pair.first), said(policy, pair.prompt, pair.second), pair.label)


class TurnReward:
    """r(x, y) of a Bradley-Terry model of turns, and its expectation before y is said.

    Args:
        model: fitted, of kind ``bradley_terry``.
        policy: whose utterances ``pairs`` are.
        pairs: on which the value is fitted.
        rng: draws the value's first weights and its minibatches.
        epochs: passes over ``pairs``.
    """

    def __init__(
        self, model: PreferenceModel, policy: ChatModel, pairs: Sequence[TurnPair], rng: np.random.Generator,
        *, epochs: float = 5.0,
    ):  # fmt: skip
        self.model = model
        texts = [said(policy, pair.prompt, tokens) for pair in pairs for tokens in (pair.first, pair.second)]
        rewards = torch.from_numpy(model.rewards(model.features(texts))).float()  # [2N]
        apart = rewards[::2] - rewards[1::2]  # [N] within a prompt: see above
        self.spread = (apart.square().mean().sqrt() / 2**0.5).clamp(min=1e-3)  # its mean is 0, whoever is first
        self.mean, self.scale = rewards.mean(), rewards.std(correction=0).clamp(min=1e-3)
        ends = [Text(pair.prompt, np.array([len(pair.prompt) - 1])) for pair in pairs]
        states = torch.cat(model.reader.states(ends))  # [N, hidden]
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        self.value = Heads(model.reader.hidden_size, 64, 4, generator)
        self._fit(states, ((rewards[::2] + rewards[1::2]) / 2 - self.mean) / self.scale, rng, epochs)

    def _fit(self, states: Tensor, targets: Tensor, rng: np.random.Generator, epochs: float) -> None:
        optimizer = torch.optim.AdamW(self.value.parameters(), lr=2e-3, weight_decay=0.01)
        for _ in range(max(1, round(epochs))):
            order = rng.permutation(len(states))
            for i in range(0, len(order), 64):
                chosen = order[i : i + 64]
                loss = nn.functional.mse_loss(self.value(states[chosen]), targets[chosen].expand(4, -1))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()

    @torch.no_grad()
    def values(self, packed: Packed, prompts: Sequence[Prompts], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        read, ends = _states(self.model, packed)
        rewards = torch.from_numpy(self.model.rewards(_features(self.model, read))).float()
        value = self.value(ends).mean(0) * self.scale + self.mean
        return value, _at_the_end(packed, value, rewards)


class TurnContest:
    """P(y ≻ y') of a general preference model of turns, y' said by ``opponent`` to the same prompt.

    Args:
        model: fitted, of kind ``general``.
        opponent: the mixture of the policy that learns and μ; it moves along with the policy.
        spread: the unit of advantages, a deviation of probabilities.
    """

    def __init__(self, model: PreferenceModel, opponent: ChatModel, spread: float):
        self.model, self.opponent = model, opponent
        self.spread = torch.tensor(max(spread, 1e-3))

    @torch.no_grad()
    def values(self, packed: Packed, prompts: Sequence[Prompts], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        own = _features(self.model, _states(self.model, packed)[0])
        flat = [conversation for one in prompts for conversation in one.conversations]
        seeds = rng.integers(2**63, size=len(flat))
        utterances = self.opponent.speak(flat, [np.random.default_rng(seed) for seed in seeds])
        # An empty utterance has nothing to pack; its first token is the one that ends the turn.
        tokens = [one.tokens or self.opponent.tail(())[:1] for one in utterances]
        following = iter(tokens)
        rows = [[next(following) for _ in one.conversations] for one in prompts]
        tails = [[self.opponent.tail(row) for row in of_one] for of_one in rows]
        theirs = pack(prompts, rows, tails)
        wins = torch.from_numpy(self.model.compare(own, _features(self.model, _states(self.model, theirs)[0]))).float()
        value = torch.full_like(wins, 0.5)
        return value, _at_the_end(packed, value, wins)


def _states(model: PreferenceModel, packed: Packed) -> tuple[Tensor, Tensor]:
    """[R, hidden] each, where a response is read and where its prompt ends."""
    rows, columns = torch.cat([packed.prompt_rows] * 2), torch.cat([packed.reads, packed.prompt_ends])
    read, ends = states_at(model.reader.trunk, packed.inputs, rows, columns).chunk(2)
    return read, ends


def _features(model: PreferenceModel, read: Tensor) -> Tensor:
    """[R, F] of every response, as ``PreferenceModel.features`` has them of a text with one place."""
    return model.summarised([state[None] for state in read])


def _at_the_end(packed: Packed, value: Tensor, rewards: Tensor) -> Tensor:
    """[N] the prompt's value at every token but the last of its response, and there the reward."""
    along = value[packed.response].clone()
    along[packed.last] = rewards
    return along
