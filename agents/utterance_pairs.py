"""Two utterances at one moment, and learning which was better by how much: what counterfactual methods stand on.

Both utterances of a pair follow the same prompt, so whatever the state is worth cancels, and no critic is needed. The
losses are functions of

    moved = [log π(y | x) - log π(y' | x)] - [log μ(y | x) - log μ(y' | x)]

how much further π prefers y to y' than a reference μ does, summed over the tokens of the utterances and of nothing
else. Both share a pass behind their prompt (``agents.packing``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from agents.agent import check_range
from agents.behaviour import mean_metrics
from agents.chat_model import ChatModel
from agents.packing import Prompts, like_lengths, pack
from agents.ppo import chosen_logprobs, token_logprobs
from envs.conversation import Conversation
from envs.trajectory import Utterance

Loss = Callable[[Tensor, Tensor], Tensor]
"""From ``moved`` [B] and the gaps [B] to the loss of each pair [B]."""


@dataclass(frozen=True, slots=True)
class UtterancePair:
    """What was said to a prompt, what else was said to it, and what came of either."""

    prompt: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]
    """Tokens; at least one in each utterance."""
    gap: float
    """What the first brought less what the second did."""

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.first) + len(self.second)


def paired(policy: ChatModel, x: Conversation, y: Utterance, other: Utterance, gap: float) -> UtterancePair | None:
    """The pair of two utterances of ``policy``; None where they are equal or one has no tokens."""
    if y.tokens == other.tokens or not (y.tokens and other.tokens):
        return None
    return UtterancePair(tuple(policy.prompt_ids(x)), y.tokens, other.tokens, gap)


def margins(model: ChatModel, pairs: Sequence[UtterancePair]) -> Tensor:
    """[B] log π(y | x) - log π(y' | x)."""
    prompts = [Prompts(one.prompt, np.full(2, len(one.prompt) - 1), ()) for one in pairs]
    packed = pack(prompts, [(one.first, one.second) for one in pairs])
    chosen = chosen_logprobs(token_logprobs(model, packed), packed)  # [N]
    summed = torch.zeros(2 * len(pairs), device=chosen.device).index_add(0, packed.response.to(chosen.device), chosen)
    return summed[::2] - summed[1::2]


@dataclass(frozen=True)
class PairSolver:
    """Gradient descent on a loss of pairs.

    Args:
        epochs: passes over the pairs.
        batch_size: pairs per minibatch.
        learning_rate: of Adam; the optimizer is fresh in every call.
        max_grad_norm: of the gradient.

    Raises ``ValueError`` for values out of range.
    """

    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 3e-4
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            check_range(f"solver.{name}", getattr(self, name), 1)
        check_range("solver.max_grad_norm", self.max_grad_norm, 0.0)

    def improve(
        self, policy: ChatModel, reference: ChatModel, pairs: Sequence[UtterancePair], loss: Loss,
        rng: np.random.Generator,
    ) -> dict[str, float]:  # fmt: skip
        """Change ``policy`` in place so that the mean ``loss`` of ``pairs`` falls; what was measured on the way.

        ``reference`` is μ and stays as it is; it may be a copy of the policy but not the policy itself.
        """
        if not pairs:
            return {}
        optimizer = torch.optim.Adam(policy.model.parameters(), lr=self.learning_rate, eps=1e-5)
        cuts = list(like_lengths([one.length for one in pairs], self.batch_size, rng))
        batches = [[pairs[i] for i in cut] for cut in cuts]
        with torch.no_grad():
            before = [margins(reference, batch) for batch in batches]
        logs: list[dict[str, float]] = []
        for _ in range(self.epochs):
            for i in rng.permutation(len(batches)):
                moved = margins(policy, batches[i]) - before[i]
                gaps = torch.tensor([one.gap for one in batches[i]], dtype=moved.dtype, device=moved.device)
                value = loss(moved, gaps).mean()
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                norm = nn.utils.clip_grad_norm_(policy.model.parameters(), self.max_grad_norm)
                optimizer.step()
                decided = gaps != 0
                agrees = (moved * gaps > 0)[decided].float().mean().item() if decided.any() else float("nan")
                logs.append({"pair_loss": value.item(), "grad_norm": norm.item(), "moved": moved.abs().mean().item()})
                logs[-1] |= {} if np.isnan(agrees) else {"pair_agreement": agrees}
        policy.forget()
        return {**mean_metrics(logs), "pair_gap": float(np.mean([abs(one.gap) for one in pairs]))}
