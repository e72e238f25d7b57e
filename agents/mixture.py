"""The geometric mixture of two policies, token by token.

π_mix(· | x, y_<t) ∝ π(· | x, y_<t)^(1-τ) · μ(· | x, y_<t)^τ: the logits are interpolated. The mixture over whole
utterances that MTPO-τ asks for can't be sampled from; this is the stand-in of Nash-MD (arXiv 2312.00886) that the MTPO
paper (arXiv 2405.14655, section 4.1) points to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from agents.chat_model import ChatModel
from envs.decoding import Decoder


class Mixture(ChatModel):
    """Speaks by (1 - ``share``) of ``policy``'s logits and ``share`` of ``other``'s.

    It holds both models and not copies of them: when they learn, it changes along. Raises ``ValueError`` unless
    0 <= ``share`` < 1.
    """

    def __init__(self, policy: ChatModel, other: ChatModel, share: float):
        super().__init__(
            policy.model, policy.tokenizer, temperature=policy.temperature, max_new_tokens=policy.max_new_tokens
        )
        self.other, self.share = other, share
        self._decoder = Decoder(policy.model, policy.tokenizer, other.model, share)

    def _logits(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        own, others = super()._logits(ids, rows, columns), self.other._logits(ids, rows, columns)
        return own * (1 - self.share) + others * self.share

    def distributions(self, inputs: Mapping[str, Tensor], rows: Tensor, places: Tensor) -> Tensor:
        """Refused: what learns is the policy."""
        raise TypeError("A mixture speaks and does not learn; ask the policy for its distributions.")

    def clone(self) -> ChatModel:
        """Refused: a copy would no longer move along with the policy."""
        raise TypeError("A mixture is not copied; copy the policy and mix anew.")

    def save(self, folder: str | Path) -> None:
        """Refused: it is no single model."""
        raise TypeError("A mixture is not saved; save the policy.")
