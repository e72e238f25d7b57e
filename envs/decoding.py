"""Fast batched sampling from causal language models, the key-value cache kept from one turn to the next.

``Decoder.generate`` continues many prompts at once. Its randomness is handed down: row ``b`` is sampled by inverse CDF
from the uniforms in row ``b``, so what a row says depends on its prompt and its uniforms alone, whatever else is in the
batch (beyond floating point).

A conversation's next prompt repeats almost everything of its last one. The decoder remembers what it fed for each row
of the last batch, and a prompt that begins like a remembered row reuses that row's keys and values up to the first
difference; rows may have been dropped, reordered or doubled in between. Two ways of computing stand behind one
interface: a hand-written forward pass for small Llama models, and ``model(...)`` for every other causal LM.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import functional as F  # noqa: N812  # the name everybody knows
from torch.optim.optimizer import register_optimizer_step_post_hook

from envs.chat_format import is_small_format, never_spoken

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

_BLOCK = 64
"""Tokens per block of the two-level CDF; logits are padded to a multiple of it."""
_COMPACT_BELOW = 0.85
"""Finished rows are put aside once at most this share of the batch still speaks."""
_LARGEST_FUSED = 100_000_000
"""Parameters up to which the hand-written pass is used: it holds a second, fused copy of the weights."""
_GROUP = 64
"""Rows prefilled together, of similar suffix lengths: little padding, and a working set that stays in cache."""
_LARGEST_SCORES = 1 << 24
"""Attention scores computed at once while prefilling; longer suffixes go in pieces."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """The continuation of one prompt."""

    tokens: tuple[int, ...]
    """Up to and including the end-of-turn token, or ``max_new_tokens`` tokens without one."""
    logprobs: tuple[float, ...]
    """The log-probability of each token, at the sampling temperature, over the tokens that were not banned."""


def small_model(
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden_size: int = 96,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 1,
    intermediate_size: int = 256,
    context: int = 1024,
    seed: int = 0,
) -> LlamaForCausalLM:
    """An untrained Llama of the default small size (0.55M parameters at 2048 tokens), weights drawn from ``seed``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def _count_as_change(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """After every step of every optimizer: count it as a change of the weights. Fused optimizers (the default of
    ``transformers.Trainer``) don't, and a decoder would speak on with what it computed from the weights before."""
    stepped = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    increment_version(stepped)


register_optimizer_step_post_hook(_count_as_change)


class Perturbation(Protocol):
    """What is added to a model's logits: values of the tokens, told from the states of a trunk."""

    @property
    def model(self) -> PreTrainedModel:
        """Whose trunk is read; the model that is perturbed, or another one with the same tokenizer."""

    def __call__(self, states: Tensor) -> Tensor:
        """[n, V] what is added to the logits, from the trunk's last states [n, hidden]."""


class Decoder:
    """Samples from one model, remembering the last batch.

    Args:
        model: a causal language model of ``transformers``, on any device.
        tokenizer: names the end-of-turn token; for foreign tokenizers those of the generation config count too.
        other: a second model with the same tokenizer, for sampling from a mixture of both; None: of ``model`` alone.
        share: of ``other``. Token by token the logits are (1 - share) of ``model`` and share of ``other``: the
            geometric mixture of both next-token distributions (Nash-MD, arXiv 2312.00886; MTPO-τ).
        perturbation: added to the logits of ``model``, token by token (ILQL, arXiv 2206.11871).

    Raises ``ValueError`` for a share out of range, and for a mixture that is perturbed as well.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        other: PreTrainedModel | None = None,
        share: float = 0.0,
        perturbation: Perturbation | None = None,
    ):
        if not 0.0 <= share < 1.0:
            raise ValueError(f"share={share}; a mixture has between 0 and less than 1 of the other model.")
        if other is not None and perturbation is not None:
            raise ValueError("A decoder mixes two models or perturbs one; give other or perturbation, not both.")
        self.model = model
        self._models = [model, other] if other is not None and share else [model]
        if perturbation is not None and perturbation.model is not model:
            self._models.append(perturbation.model)
        self.stop_ids = stop_ids(model, tokenizer)
        self.never_spoken = never_spoken(tokenizer, self.stop_ids)
        """What a speaker passes as ``banned``."""
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        rows: list[Any] = [
            _LlamaRows(one) if _LlamaRows.fits(one) else _AnyRows(one, perturbation is not None) for one in self._models
        ]
        self._rows: _Rows = rows[0]
        if perturbation is not None:
            self._rows = _PerturbedRows(rows, perturbation)
        elif len(rows) > 1:
            self._rows = _MixedRows(rows, share)
        self._fed: list[tuple[int, ...]] = []
        self._weights: object = None

    def forget(self) -> None:
        """Forget the last batch and everything computed from the weights. Call it after changing weights through
        ``.data``, which leaves no trace; other changes are noticed, also those of fused optimizers."""
        self._fed, self._weights = [], None
        self._rows.clear()

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        uniforms: np.ndarray,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        banned: Sequence[int] = (),
        allowed: Sequence[Sequence[int]] = (),
        greedy: bool = False,
    ) -> list[Sampled]:
        """Continue each prompt until its end-of-turn token, for at most ``max_new_tokens`` tokens.

        Args:
            prompts: token ids; none may be empty.
            uniforms: [B, ≥ max_new_tokens] float64 in [0, 1); ``uniforms[b, t]`` decides token ``t`` of row ``b``.
            temperature: divides the logits before sampling.
            banned: ids that are never sampled.
            allowed: the only ids that may be sampled as token ``t``; beyond the last of these, any may.
            greedy: take the likeliest token and leave ``uniforms`` unread; log-probabilities stay those of sampling.
        """
        rows = [tuple(prompt) for prompt in prompts]
        self._check(rows, uniforms, max_new_tokens, temperature)
        if not rows:
            return []
        self._notice_new_weights()
        order = self._prefill(rows, max_new_tokens)
        draw = _Draw(self.model, uniforms[:, :max_new_tokens], temperature, banned, allowed, greedy)
        tokens, logprobs, lengths, order = self._speak(draw, order, max_new_tokens)
        said = [tuple(row[:n]) for row, n in zip(tokens.tolist(), lengths, strict=True)]
        self._fed = [rows[i] + said[i][:-1] for i in order]
        return [Sampled(row, tuple(p[: len(row)])) for row, p in zip(said, logprobs.tolist(), strict=True)]

    def _check(
        self, prompts: list[tuple[int, ...]], uniforms: np.ndarray, max_new_tokens: int, temperature: float
    ) -> None:
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens}; an utterance needs at least 1.")
        if not temperature > 0:
            raise ValueError(
                f"temperature={temperature}; it must be above 0. For the likeliest tokens use greedy=True."
            )
        if uniforms.ndim != 2 or uniforms.shape[0] != len(prompts) or uniforms.shape[1] < max_new_tokens:
            raise ValueError(
                f"uniforms has shape {uniforms.shape}; {len(prompts)} prompts of {max_new_tokens} new tokens need "
                f"({len(prompts)}, {max_new_tokens})."
            )
        for row, prompt in enumerate(prompts):
            if not prompt:
                raise ValueError(f"Prompt {row} is empty; give at least one token, such as the generation prompt.")
            if self.context is not None and len(prompt) + max_new_tokens > self.context:
                raise ValueError(
                    f"Prompt {row} has {len(prompt)} tokens, and {max_new_tokens} new ones would pass the model's "
                    f"context of {self.context}; shorten the conversation, lower max_new_tokens or use a model with "
                    "more max_position_embeddings."
                )

    def _notice_new_weights(self) -> None:
        weights = tuple(
            (p.data_ptr(), 0 if p.is_inference() else p._version) for model in self._models for p in model.parameters()
        )
        if weights != self._weights:
            self.forget()
            self._weights = weights

    def _prefill(self, prompts: list[tuple[int, ...]], max_new_tokens: int) -> list[int]:
        """Feed what is new in each prompt; returns the prompt of each slot and leaves the logits in the rows."""
        if not self._rows.keeps:
            self._fed = []
        sources, kept = self._match(prompts)
        order = _place(sources, len(self._fed))
        self._rows.arrange(
            [sources[i] for i in order],
            [kept[i] for i in order],
            max(len(prompt) for prompt in prompts) + max_new_tokens,
        )
        self._fed = []  # the rows are being overwritten: if anything fails from here on, nothing is remembered
        self._rows.feed([prompts[i][kept[i] :] for i in order])
        return order

    def _match(self, prompts: list[tuple[int, ...]]) -> tuple[list[int | None], list[int]]:
        """For each prompt the remembered row it shares most with, or None, and how many tokens they share.

        In sorted order the row with the longest common prefix is a neighbour. The last token of a prompt always
        counts as new: its logits are needed.
        """
        slots = sorted(range(len(self._fed)), key=self._fed.__getitem__)
        remembered = [self._fed[slot] for slot in slots]
        sources: list[int | None] = []
        kept: list[int] = []
        for prompt in prompts:
            at = bisect_left(remembered, prompt)
            best, length = None, 0
            for near in range(max(at - 1, 0), min(at + 1, len(slots))):
                common = min(_common_prefix(remembered[near], prompt), len(prompt) - 1)
                if common > length:
                    best, length = slots[near], common
            sources.append(best)
            kept.append(length)
        return sources, kept

    def _speak(
        self, draw: _Draw, order: list[int], max_new_tokens: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
        """Sample until all rows are finished. Returns tokens, log-probabilities [B, T] and lengths [B] by prompt, and
        the prompt of each slot."""
        tokens = np.zeros((len(order), max_new_tokens), dtype=np.int64)
        logprobs = np.zeros((len(order), max_new_tokens))
        lengths = np.zeros(len(order), dtype=np.int64)
        prompt_of = np.array(order)
        finished = np.zeros(len(order), dtype=bool)
        stops = np.zeros(self._rows.logits.shape[1], dtype=bool)
        stops[self.stop_ids] = True
        live = len(order)  # slots [0, live) still get tokens
        for t in range(max_new_tokens):
            rows = prompt_of[:live]
            chosen, chosen_logprobs = draw(self._rows.logits, rows, t)
            speaking = rows[~finished[:live]]
            tokens[rows, t], logprobs[rows, t] = chosen, chosen_logprobs
            lengths[speaking] = t + 1
            finished[:live] |= stops[chosen]
            left = live - int(finished[:live].sum())
            if t + 1 == max_new_tokens or not left:
                break
            here = np.flatnonzero(finished[:left])
            there = left + np.flatnonzero(~finished[left:live])
            if left <= _COMPACT_BELOW * live and self._rows.swap(here, there):
                chosen[here] = chosen[there]
                prompt_of[here], prompt_of[there] = prompt_of[there], prompt_of[here]
                finished[here], finished[there] = False, True
                live = left
            self._rows.step(chosen[:live])
        if not np.isfinite(logprobs).all():
            raise FloatingPointError(
                "The model gave NaN or infinite logits: its weights are damaged, most likely by training that diverged."
            )
        return tokens, logprobs, lengths, prompt_of.tolist()


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that end a turn: the tokenizer's, and for foreign formats also those of the model's generation config."""
    ids = set() if tokenizer.eos_token_id is None else {tokenizer.eos_token_id}
    config = getattr(model, "generation_config", None)
    more = getattr(config, "eos_token_id", None)
    if not is_small_format(tokenizer) and more is not None:
        ids |= set(more) if isinstance(more, list) else {more}
    if not ids:
        raise ValueError("The tokenizer has no eos_token, so no turn would ever end; set tokenizer.eos_token.")
    return sorted(ids)


def _common_prefix(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many leading elements are equal, by halving: comparing slices is fast, comparing elements is not."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _place(sources: Sequence[int | None], remembered: int) -> list[int]:
    """Which prompt goes to which slot, so that as many as possible stay where their source is."""
    order: list[int | None] = [None] * len(sources)
    homeless = []
    for prompt, source in enumerate(sources):
        if source is not None and source < min(len(order), remembered) and order[source] is None:
            order[source] = prompt
        else:
            homeless.append(prompt)
    waiting = iter(homeless)
    return [next(waiting) if prompt is None else prompt for prompt in order]


class _Draw:
    """Picks one token per row by inverse CDF, for all steps of one ``generate``."""

    def __init__(
        self, model: PreTrainedModel, uniforms: np.ndarray, temperature: float, banned: Sequence[int],
        allowed: Sequence[Sequence[int]], greedy: bool,
    ):  # fmt: skip
        self._device = model.device
        self._uniforms = uniforms
        self._temperature = temperature
        self._banned = torch.tensor(sorted(set(banned)), dtype=torch.long, device=self._device)
        self._allowed = [torch.tensor(sorted(set(ids)), dtype=torch.long, device=self._device) for ids in allowed]
        self._greedy = greedy

    def __call__(self, logits: Tensor, rows: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and their log-probabilities, [n] each. ``logits`` [n, V] is overwritten; V is a multiple of _BLOCK."""
        if self._temperature != 1.0:
            logits /= self._temperature
        if len(self._banned):
            logits.index_fill_(1, self._banned, -torch.inf)
        if t < len(self._allowed):
            kept = logits[:, self._allowed[t]]
            logits.fill_(-torch.inf).index_copy_(1, self._allowed[t], kept)
        logits -= logits.amax(-1, keepdim=True)
        weights = logits.exp()  # [n, V]
        if self._greedy:
            tokens, total = logits.max(-1).indices, weights.sum(-1, dtype=torch.float64)
        else:
            uniforms = torch.from_numpy(self._uniforms[rows, t]).to(self._device)
            tokens, total = _inverse_cdf(weights, uniforms)
        logprobs = logits.gather(1, tokens[:, None])[:, 0] - total.log()
        return tokens.cpu().numpy(), logprobs.cpu().numpy()


def _inverse_cdf(weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """The index at which the CDF of each row of ``weights`` [n, V] first passes ``uniforms`` [n], and the sums [n].

    In two levels, blocks and then tokens within a block, since a running sum over the whole vocabulary is slow. An
    index of weight zero is never returned: the running sum does not rise there.
    """
    blocks = weights.view(len(weights), -1, _BLOCK)  # [n, V / 64, 64]
    cdf = blocks.sum(-1).cumsum(-1, dtype=torch.float64)  # [n, V / 64]
    total = cdf[:, -1]
    target = _below(uniforms * total, total)
    block = (cdf <= target[:, None]).sum(-1)
    before = torch.where(block > 0, cdf.gather(1, (block - 1).clamp_min(0)[:, None])[:, 0], 0.0)
    inner = blocks[torch.arange(len(block), device=block.device), block].cumsum(-1, dtype=torch.float64)  # [n, 64]
    target = _below(target - before, inner[:, -1])
    return block * _BLOCK + (inner <= target[:, None]).sum(-1), total


def _below(target: Tensor, total: Tensor) -> Tensor:
    """``target`` brought into [0, total), which rounding may have left."""
    return torch.minimum(target, torch.nextafter(total, torch.zeros_like(total))).clamp_min(0.0)


class _Rows(Protocol):
    """The keys and values of a batch of rows, and how they grow. Slots are numbered from 0."""

    @property
    def keeps(self) -> bool:
        """Whether what the slots hold can be continued by a later ``generate``."""

    @property
    def logits(self) -> Tensor:
        """After ``feed`` and ``step``: [live rows, V padded to a multiple of _BLOCK], float32; padding is -inf."""

    def clear(self) -> None:
        """Free everything."""

    def arrange(self, sources: Sequence[int | None], kept: Sequence[int], capacity: int) -> None:
        """Slot ``i`` becomes the first ``kept[i]`` tokens of old slot ``sources[i]``; make room for ``capacity``."""

    def feed(self, suffixes: Sequence[Sequence[int]]) -> None:
        """Append at least one token to every slot."""

    def step(self, tokens: np.ndarray) -> None:
        """Append one token to each of the first ``len(tokens)`` slots."""

    def swap(self, here: np.ndarray, there: np.ndarray) -> bool:
        """Exchange the slots ``here`` with the slots ``there``, so that ``step`` can leave out the last ones.

        False, and nothing is changed, where every ``step`` takes all slots anyway.
        """


class _ModelRows(_Rows, Protocol):
    """The rows of one model, which may be asked for more than logits."""

    @property
    def states(self) -> Tensor:
        """After ``feed`` and ``step``: [live rows, hidden] the trunk's last states, which the logits are told from."""


class _SeveralRows:
    """The rows of one or two models, fed alike; what becomes of their logits is the subclass's."""

    def __init__(self, rows: Sequence[_ModelRows]):
        self._all = tuple(rows)

    @property
    def keeps(self) -> bool:
        return all(rows.keeps for rows in self._all)

    def clear(self) -> None:
        for rows in self._all:
            rows.clear()

    def arrange(self, sources: Sequence[int | None], kept: Sequence[int], capacity: int) -> None:
        for rows in self._all:
            rows.arrange(sources, kept, capacity)

    def feed(self, suffixes: Sequence[Sequence[int]]) -> None:
        for rows in self._all:
            rows.feed(suffixes)

    def step(self, tokens: np.ndarray) -> None:
        for rows in self._all:
            rows.step(tokens)

    def swap(self, here: np.ndarray, there: np.ndarray) -> bool:
        if any(isinstance(rows, _AnyRows) for rows in self._all):
            return False  # before either has swapped
        for rows in self._all:
            rows.swap(here, there)
        return True


class _MixedRows(_SeveralRows):
    """The rows of two models; their logits are mixed."""

    def __init__(self, rows: Sequence[_ModelRows], share: float):
        super().__init__(rows)
        self._share = share

    @property
    def logits(self) -> Tensor:
        first, second = (rows.logits for rows in self._all)
        return first * (1 - self._share) + second * self._share


class _PerturbedRows(_SeveralRows):
    """The rows of a model, and of another one if that is where the perturbation reads: the last of ``rows``."""

    def __init__(self, rows: Sequence[_ModelRows], perturbation: Perturbation):
        super().__init__(rows)
        self._perturbation = perturbation

    @property
    def logits(self) -> Tensor:
        logits = self._all[0].logits
        added = self._perturbation(self._all[-1].states).to(logits)
        return logits + F.pad(added, (0, logits.shape[1] - added.shape[1]))


@dataclass(frozen=True)
class _Layer:
    """The fused weights of one layer: norms and the attention scale are multiplied in."""

    attention_in: Tensor
    """[2 (H + K) D + K D, hidden]: queries and keys, the same rotated by a quarter turn, values."""
    attention_out: Tensor
    mlp_in: Tensor
    """[2 · intermediate, hidden]: gate and up."""
    mlp_out: Tensor


class _LlamaRows:
    """Llama's forward pass over slots of a preallocated cache [layers, 2, slots, K, capacity, D].

    Tokens of different rows are packed, so the linear layers see no padding. A row's tokens lie at their positions, so
    what lies behind a row's length is never attended and is overwritten in time.
    """

    keeps = True

    def __init__(self, model: PreTrainedModel):
        config = model.config
        self._model = model
        self._heads = config.num_attention_heads
        self._kv_heads = config.num_key_value_heads
        self._dim = config.head_dim
        self._eps = config.rms_norm_eps
        self._layers: list[_Layer] = []
        self.clear()

    @staticmethod
    def fits(model: PreTrainedModel) -> bool:
        """Whether ``model`` is a plain Llama that this pass computes exactly, small enough for a second copy."""
        from transformers import LlamaForCausalLM

        if type(model) is not LlamaForCausalLM:
            return False
        config = model.config
        return (
            not (config.attention_bias or config.mlp_bias)
            and config.hidden_act == "silu"
            and config.rope_parameters.get("rope_type", "default") in ("default", "linear", "llama3")
            and all(p.dtype == torch.float32 for p in model.parameters())
            and all(type(m.weight) is torch.nn.Parameter for m in model.modules() if hasattr(m, "weight"))
            and not any(type(m).__module__.startswith("peft.") for m in model.modules())  # their weight is not all
            and sum(p.numel() for p in model.parameters()) <= _LARGEST_FUSED
            and len({p.device for p in model.parameters()}) == 1
        )

    def clear(self) -> None:
        self._layers = []
        self._kv = torch.zeros(0)
        self._last = self.logits = torch.zeros(0)

    # ---- the weights ----------------------------------------------------------------------------------------------

    def _fuse(self) -> None:
        """Read the weights of the model as they are now."""
        model = self._model.model
        self._layers = [self._fuse_layer(layer) for layer in model.layers]
        self._embedding = model.embed_tokens.weight
        self._scale = model.norm.weight * self._model.config.hidden_size**0.5  # [hidden], what _normalized leaves out
        head = self._model.lm_head.weight * self._scale
        self._vocabulary = len(head)
        self._head = F.pad(head, (0, 0, 0, -len(head) % _BLOCK))  # [V padded, hidden]
        positions = torch.arange(self._model.config.max_position_embeddings, device=head.device)
        cos, sin = model.rotary_emb(head[:1], positions[None])
        self._cos, self._sin = cos[0, :, None], sin[0, :, None]  # [context, 1, D]

    def _fuse_layer(self, layer: torch.nn.Module) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        root = self._model.config.hidden_size**0.5  # what _normalized leaves out
        queries = attention.q_proj.weight * attention.scaling
        turned = torch.cat((queries, attention.k_proj.weight)).view(-1, 2, self._dim // 2, queries.shape[1])
        quarter = torch.stack((-turned[:, 1], turned[:, 0]), 1)  # Llama's rotate_half, done to the weights
        wide = torch.cat((turned.flatten(0, 2), quarter.flatten(0, 2), attention.v_proj.weight))
        return _Layer(
            attention_in=wide * layer.input_layernorm.weight * root,
            attention_out=attention.o_proj.weight.clone(),
            mlp_in=torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)) * layer.post_attention_layernorm.weight * root,
            mlp_out=mlp.down_proj.weight.clone(),
        )

    # ---- the slots ------------------------------------------------------------------------------------------------

    def arrange(self, sources: Sequence[int | None], kept: Sequence[int], capacity: int) -> None:
        if not self._layers:
            self._fuse()
        self._reserve(len(sources), capacity)
        moves = [(s, slot) for slot, s in enumerate(sources) if s is not None and s != slot]
        if moves:
            sources_of, slots = torch.tensor(moves, device=self._kv.device).T
            used = max(kept)
            self._kv[:, :, slots, :, :used] = self._kv[:, :, sources_of, :, :used]
        self._length = np.array(kept)

    def _reserve(self, slots: int, capacity: int) -> None:
        """Make room, keeping what is there. Zeros, since a masked NaN would still spoil a sum."""
        old = self._kv
        if old.dim() > 1 and old.shape[2] >= slots and old.shape[4] >= capacity:
            return
        had = (old.shape[2], old.shape[4]) if old.dim() > 1 else (0, 0)
        if capacity > had[1]:
            capacity = max(-(-capacity // 32) * 32, had[1] * 3 // 2)
        shape = (len(self._layers), 2, max(slots, had[0]), self._kv_heads, max(capacity, had[1]), self._dim)
        self._kv = torch.zeros(shape, device=self._head.device)
        if old.dim() > 1:
            self._kv[:, :, : had[0], :, : had[1]] = old

    def swap(self, here: np.ndarray, there: np.ndarray) -> bool:
        used = int(self._length.max())
        a, b = np.concatenate((here, there)), np.concatenate((there, here))
        to, of = torch.from_numpy(a).to(self._kv.device), torch.from_numpy(b).to(self._kv.device)
        self._kv[:, :, to, :, :used] = self._kv[:, :, of, :, :used]
        self._length[a] = self._length[b]
        return True

    # ---- the forward pass -----------------------------------------------------------------------------------------

    def feed(self, suffixes: Sequence[Sequence[int]]) -> None:
        counts = np.array([len(suffix) for suffix in suffixes])
        last = torch.empty(len(suffixes), self._head.shape[1], device=self._head.device)
        for members in np.split(counts.argsort(kind="stable"), range(_GROUP, len(counts), _GROUP)):
            last[torch.from_numpy(members)] = self._feed_group(members, [suffixes[slot] for slot in members])
        self._length = self._length + counts
        self._read(last)

    def _feed_group(self, members: np.ndarray, suffixes: Sequence[Sequence[int]]) -> Tensor:
        """Feed the slots ``members``; returns the hidden states of their last tokens [n, hidden]."""
        counts = np.array([len(suffix) for suffix in suffixes])
        tokens = np.concatenate([np.asarray(suffix, dtype=np.int64) for suffix in suffixes])
        rows = np.repeat(np.arange(len(suffixes)), counts)
        columns = np.arange(len(tokens)) - np.repeat(counts.cumsum() - counts, counts)
        positions = self._length[members][rows] + columns
        width = max(1, _LARGEST_SCORES // (len(suffixes) * self._heads * (int(positions.max()) + 1)))
        last = torch.empty(len(suffixes), self._head.shape[1], device=self._head.device)
        for start in range(0, int(counts.max()), width):
            piece = np.flatnonzero((columns >= start) & (columns < start + width))
            hidden = self._forward(tokens[piece], rows[piece], columns[piece] - start, positions[piece], members)
            ends = columns[piece] + 1 == counts[rows[piece]]
            last[torch.from_numpy(rows[piece][ends])] = hidden[torch.from_numpy(ends)]
        return last

    def step(self, tokens: np.ndarray) -> None:
        live = len(tokens)
        columns = np.zeros(live, dtype=np.int64)
        hidden = self._forward(tokens, np.arange(live), columns, self._length[:live], None)
        self._length[:live] += 1
        self._read(hidden)

    def _read(self, hidden: Tensor) -> None:
        self._last = self._normalized(hidden)
        self.logits = F.linear(self._last, self._head)
        self.logits[:, self._vocabulary :] = -torch.inf

    @property
    def states(self) -> Tensor:
        return self._last * self._scale

    def _normalized(self, x: Tensor) -> Tensor:
        """RMSNorm up to its weights and the root of the width, which are in the matrices that follow."""
        return x * (x * x).sum(-1, keepdim=True).add_(self._eps * x.shape[-1]).rsqrt_()

    def _forward(
        self,
        tokens: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        positions: np.ndarray,
        members: np.ndarray | None,
    ) -> Tensor:
        """Feed N packed tokens: token ``i`` is query ``columns[i]`` of row ``rows[i]`` and goes to ``positions[i]``.

        The rows are the slots ``members``, or with None the first slots, one token each. Returns the last layer's
        hidden states [N, hidden].
        """
        device = self._head.device
        kv_heads, dim, groups = self._kv_heads, self._dim, self._heads // self._kv_heads
        count, width, reach = int(rows[-1]) + 1, int(columns.max()) + 1, int(positions.max()) + 1
        where = torch.from_numpy(positions).to(device)
        cos, sin = self._cos[where], self._sin[where]  # [N, 1, D]
        slots = torch.from_numpy(rows if members is None else members[rows]).to(device)
        heads = slots[:, None] * kv_heads + torch.arange(kv_heads, device=device)
        cells = (heads * self._kv.shape[4] + where[:, None]).flatten()  # [N K], into [slots K capacity, D]
        chosen = slice(count) if members is None else torch.from_numpy(members).to(device)
        packed = None if members is None else torch.from_numpy(rows * width + columns).to(device)
        mask = self._mask(where, packed, count, width, reach)  # [rows, 1, width, 1, reach]
        x = F.embedding(torch.from_numpy(tokens).to(device), self._embedding)  # [N, hidden]
        turning = (self._heads + kv_heads) * dim
        for layer, cache in zip(self._layers, self._kv, strict=True):
            wide = F.linear(self._normalized(x), layer.attention_in)
            straight = wide[:, :turning].view(len(x), -1, dim)
            quarter = wide[:, turning : 2 * turning].view(len(x), -1, dim)
            turned = torch.addcmul(straight * cos, quarter, sin)  # [N, H + K, D]
            keys, values = cache.flatten(1, 3)  # [slots K capacity, D]
            keys.index_copy_(0, cells, turned[:, self._heads :].reshape(-1, dim))
            values.index_copy_(0, cells, wide[:, 2 * turning :].reshape(-1, dim))
            queries = _spread(turned[:, : self._heads], packed, count * width)
            queries = queries.view(count, width, kv_heads, groups, dim).transpose(1, 2).reshape(-1, width * groups, dim)
            keys, values = cache[:, chosen, :, :reach].flatten(1, 2)  # [rows K, reach, D]
            scores = torch.bmm(queries, keys.transpose(1, 2))  # [rows K, width G, reach]
            scores.view(count, kv_heads, width, groups, reach).add_(mask)
            heard = torch.bmm(scores.softmax(-1), values).view(count, kv_heads, width, groups, dim).transpose(1, 2)
            heard = heard.reshape(count * width, -1)
            x = x + F.linear(heard if packed is None else heard[packed], layer.attention_out)
            gate, up = F.linear(self._normalized(x), layer.mlp_in).chunk(2, -1)
            x = x + F.linear(F.silu(gate).mul_(up), layer.mlp_out)
        return x

    def _mask(self, positions: Tensor, packed: Tensor | None, rows: int, width: int, reach: int) -> Tensor:
        """0 where a query may look, -inf elsewhere. A query that stands for no token looks at position 0."""
        until = _spread(positions, packed, rows * width).view(rows, 1, width, 1, 1)
        mask = torch.zeros(rows, 1, width, 1, reach, device=positions.device)
        return mask.masked_fill_(torch.arange(reach, device=positions.device) > until, -torch.inf)


def _spread(x: Tensor, packed: Tensor | None, size: int) -> Tensor:
    """Packed rows put at their places of a padded array of zeros; ``packed=None`` means there is no padding."""
    return x if packed is None else x.new_zeros(size, *x.shape[1:]).index_copy_(0, packed, x)


class _AnyRows:
    """Any causal LM of ``transformers``, through ``model(...)`` and its own cache.

    A column of the cache is one call's token in every row; columns a row has no use for are masked, and positions are
    counted over the others. Models whose layers don't hold all keys and values (sliding windows, recurrent states)
    are computed afresh in every ``generate``.
    """

    def __init__(self, model: PreTrainedModel, tells_states: bool = False):
        self._model, self._tells_states = model, tells_states
        self.clear()

    def clear(self) -> None:
        self._cache: Any = None
        self._mask = torch.zeros(0, 0, dtype=torch.long)
        self.states = self.logits = torch.zeros(0)

    def arrange(self, sources: Sequence[int | None], kept: Sequence[int], capacity: int) -> None:
        device = self._model.device
        if not any(kept):
            self.clear()
            self._mask = torch.zeros(len(sources), 0, dtype=torch.long, device=device)
            return
        rows = torch.tensor([source or 0 for source in sources], device=device)
        self._cache.batch_select_indices(rows)
        mask = self._mask[rows]
        mask = mask * (mask.cumsum(-1) <= torch.tensor(kept, device=device)[:, None])
        columns = int(mask.any(0).nonzero().max()) + 1
        if columns < mask.shape[1]:
            self._cache.crop(columns - mask.shape[1])
        self._mask = mask[:, :columns]

    @property
    def keeps(self) -> bool:
        from transformers.cache_utils import DynamicLayer

        return self._cache is not None and all(type(layer) is DynamicLayer for layer in self._cache.layers)

    def feed(self, suffixes: Sequence[Sequence[int]]) -> None:
        width = max(len(suffix) for suffix in suffixes)
        tokens = torch.zeros(len(suffixes), width, dtype=torch.long)
        mask = torch.zeros(len(suffixes), width, dtype=torch.long)
        for row, suffix in enumerate(suffixes):
            tokens[row, width - len(suffix) :] = torch.tensor(suffix)
            mask[row, width - len(suffix) :] = 1
        self._run(tokens, mask)

    def step(self, tokens: np.ndarray) -> None:
        column = torch.from_numpy(tokens)[:, None]
        self._run(column, torch.ones_like(column))

    def _run(self, tokens: Tensor, mask: Tensor) -> None:
        from transformers import DynamicCache

        tokens, mask = tokens.to(self._model.device), mask.to(self._model.device)
        self._mask = torch.cat((self._mask, mask), 1)
        positions = (self._mask.cumsum(-1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
        if self._cache is None:
            self._cache = DynamicCache(config=self._model.config)
        training = self._model.training
        self._model.eval()
        out = self._model(
            input_ids=tokens,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            output_hidden_states=self._tells_states,
        )
        self._model.train(training)
        self._cache = out.past_key_values
        if self._tells_states:
            self.states = out.hidden_states[-1][:, -1]  # after the last norm: what the output layer reads
        logits = out.logits[:, -1].float()
        self.logits = F.pad(logits, (0, -logits.shape[1] % _BLOCK), value=-torch.inf)

    def swap(self, here: np.ndarray, there: np.ndarray) -> bool:
        return False
