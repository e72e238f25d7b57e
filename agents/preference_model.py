"""Models of a judge, learnt from labelled pairs: a general preference model, and a Bradley-Terry reward model.

Both read texts through a ``Reader`` and stand on features of each: the state at its last place, the mean of the states
at all its places, and how many there are.

- general: P(a ≻ b) = σ(f(a, b) - f(b, a)), f a small network on both features. Antisymmetric by its form, and free to
  be intransitive (the "preference model" of arXiv 2405.14655, section 4.1: probability regression on pairs).
- bradley_terry: P(a ≻ b) = σ(r(a) - r(b)); r(a) is the reward of RLHF.

Each is the mean of a few members that begin differently. Fitted by binary cross-entropy on the labels (½ is a tie).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agents.adapters import load_own_state, own_state
from agents.chat_model import ChatModel
from agents.q_function import Heads
from agents.reader import Reader, Text

Kind = Literal["general", "bradley_terry"]
_BINS = 10


@dataclass(frozen=True, slots=True)
class Compared:
    """One labelled pair to learn from."""

    first: Text
    second: Text
    label: float
    """1 where the first is preferred, 0 where the second is, ½ for a tie."""


class PreferenceModel(nn.Module):
    """What a judge would say of two texts.

    Args:
        policy: whose trunk the reader copies.
        rng: draws the weights that the heads begin with.
        kind: ``general`` or ``bradley_terry``.
        learning_rate, trunk_learning_rate: of the heads and of the reader (see ``Reader``).
        weight_decay: of the heads.
        batch_size: pairs per minibatch.
        width, members: of the heads.

    Raises ``ValueError`` for an unknown kind.
    """

    def __init__(
        self,
        policy: ChatModel,
        rng: np.random.Generator,
        *,
        kind: Kind,
        learning_rate: float = 2e-3,
        trunk_learning_rate: float | None = None,
        weight_decay: float = 0.03,
        batch_size: int = 48,
        width: int = 64,
        members: int = 4,
    ):
        super().__init__()
        if kind not in ("general", "bradley_terry"):
            raise ValueError(f"kind={kind!r} is no form of a preference model; choose general or bradley_terry.")
        self.kind = kind
        self.reader = Reader(policy, trunk_learning_rate)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        size = 2 * self.reader.hidden_size + 1
        self.heads = Heads(2 * size if kind == "general" else size, width, members, generator)
        self.learning_rate, self.weight_decay, self.batch_size = learning_rate, weight_decay, batch_size
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("unit", torch.ones(size))
        self.eval()

    # ---- learning -------------------------------------------------------------------------------------------------

    def fit(self, data: Sequence[Compared], rng: np.random.Generator, *, epochs: float) -> float:
        """Learn the labels of ``data`` in ``epochs`` passes; returns the mean loss (nats) of the last pass.

        Raises ``ValueError`` without data.
        """
        if not data:
            raise ValueError("A preference model is to be fitted and no pair has a label; see why the judge fails.")
        kept = self.reader.learning_rate == 0
        raw = self._raw([text for one in data for text in (one.first, one.second)])  # [2N, F]
        self.centre.copy_(raw.mean(0))
        self.unit.copy_(raw.std(0).clamp(min=1e-3))
        labels = torch.tensor([one.label for one in data])
        heads, trunk = list(self.heads.parameters()), list(self.reader.trunk.parameters())
        groups: list[dict[str, Any]] = [{"params": heads, "lr": self.learning_rate, "weight_decay": self.weight_decay}]
        if not kept:
            groups.append({"params": trunk, "lr": self.reader.learning_rate, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups)
        steps = max(1, round(epochs * len(data) / self.batch_size))
        rise = 0.2 if steps == 9 else 0.1  # OneCycleLR divides by a tenth of 10 steps less one
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [group["lr"] for group in groups], total_steps=steps + 1, pct_start=rise
        )
        losses: list[float] = []
        while len(losses) < steps:
            order = rng.permutation(len(data))
            for i in range(0, len(data), self.batch_size):
                chosen = order[i : i + self.batch_size]
                if kept:
                    first, second = self._standard(raw[2 * chosen]), self._standard(raw[2 * chosen + 1])
                else:
                    first = self._features([data[j].first for j in chosen])
                    second = self._features([data[j].second for j in chosen])
                logits = self._logits(first, second)  # [M, B]
                loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[chosen].expand_as(logits))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                for group in groups:
                    nn.utils.clip_grad_norm_(group["params"], 1.0)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                if len(losses) == steps:
                    break
        return float(np.mean(losses[-max(1, len(data) // self.batch_size) :]))

    def _raw(self, texts: Sequence[Text]) -> Tensor:
        """[B, F] features before they are brought to a common scale, without gradients."""
        return torch.stack([_summary(states) for states in self.reader.states(texts)])

    def summarised(self, states: Sequence[Tensor]) -> Tensor:
        """[B, F] features of texts whose states [P, hidden] are known."""
        return self._standard(torch.stack([_summary(of_one) for of_one in states]))

    def _features(self, texts: Sequence[Text]) -> Tensor:
        """[B, F] with gradients where the reader learns."""
        return self.summarised(self.reader(texts).split([len(one.places) for one in texts]))

    def _standard(self, raw: Tensor) -> Tensor:
        return (raw - self.centre) / self.unit

    def _logits(self, first: Tensor, second: Tensor) -> Tensor:
        """[M, B] log-odds that the first is preferred."""
        if self.kind == "bradley_terry":
            return self.heads(first) - self.heads(second)
        there, back = torch.cat([first, second], dim=1), torch.cat([second, first], dim=1)
        return self.heads(there) - self.heads(back)

    # ---- judging --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def features(self, texts: Sequence[Text]) -> Tensor:
        """[B, F] what ``compare`` and ``reward`` take."""
        return self._standard(self._raw(texts))

    @torch.no_grad()
    def compare(self, first: Tensor, second: Tensor) -> np.ndarray:
        """[B] P(first ≻ second), from features [B, F]. ``compare(b, a)`` is 1 - ``compare(a, b)``."""
        return self._logits(first, second).mean(0).sigmoid().double().cpu().numpy()

    @torch.no_grad()
    def rewards(self, features: Tensor) -> np.ndarray:
        """[B] r, up to a constant, from features [B, F]. Raises ``TypeError`` of a general model, which has none."""
        if self.kind != "bradley_terry":
            raise TypeError("A general preference model has no reward; fit one of kind bradley_terry.")
        return self.heads(features).mean(0).double().cpu().numpy()

    def figures(self, data: Sequence[Compared]) -> dict[str, float]:
        """How well it does on pairs it has not learnt from: see ``judge_figures``."""
        features = self.features([text for one in data for text in (one.first, one.second)])
        return judge_figures(self.compare(features[::2], features[1::2]), np.array([one.label for one in data]))

    def save(self, path: Path) -> None:
        save_file(own_state(self, [self.reader]), path)

    def restore(self, path: Path) -> None:
        load_own_state(self, [self.reader], load_file(path))


def _summary(states: Tensor) -> Tensor:
    """[2 · hidden + 1] of a text's states [P, hidden]."""
    length = torch.full((1,), len(states) / 8, dtype=states.dtype, device=states.device)
    return torch.cat([states[-1], states.mean(0), length])


def judge_figures(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Figures of predicted probabilities [N] against labels [N].

    - ``accuracy``: share of the pairs without a tie whose more probable side was preferred.
    - ``calibration_error``: mean absolute difference of prediction and label over ten bins of equal width, weighted by
      their counts (expected calibration error). Both orders of every pair count, since predictions are symmetric.
    """
    decided = labels != 0.5
    right = (predicted[decided] > 0.5) == (labels[decided] > 0.5)
    both, targets = np.concatenate([predicted, 1 - predicted]), np.concatenate([labels, 1 - labels])
    bins = np.minimum((both * _BINS).astype(int), _BINS - 1)
    gaps = [abs(np.sum(both[bins == b] - targets[bins == b])) for b in range(_BINS)]
    return {
        "accuracy": float(right.mean()) if decided.any() else float("nan"),
        "calibration_error": float(np.sum(gaps) / len(both)),
    }
