"""Supervised fine-tuning of a causal language model on token sequences, by TRL's ``SFTTrainer``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

IGNORED = -100
"""The label of a token that is not learnt from."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to learn from."""

    ids: Sequence[int]
    labels: Sequence[int]
    """As ``ids``, with ``IGNORED`` where the token is read but not learnt."""
    places: Sequence[int] = ()
    """[P] where facts are to be known."""
    facts: Sequence[Sequence[int]] = ()
    """[P, F] the value of every fact at each of these places, ``IGNORED`` where it is not asked for."""
    weights: Sequence[float] = ()
    """[T] how much each token's loss counts; empty: all alike."""


class FactHeads(nn.Module):
    """Linear heads that tell F facts from a trunk's hidden states: what makes a trunk understand what it reads.

    Args:
        hidden_size: of the trunk.
        sizes: [F] how many values each fact has.
    """

    def __init__(self, hidden_size: int, sizes: Sequence[int]):
        super().__init__()
        self.sizes = list(sizes)
        self.linear = nn.Linear(hidden_size, sum(sizes))

    def loss(self, states: Tensor, facts: Tensor) -> Tensor:
        """Cross-entropy of the facts [P, F] at hidden states [P, hidden], in nats, summed over facts."""
        logits = self.linear(states).split(self.sizes, dim=1)
        return torch.stack([_mean_cross_entropy(x, facts[:, f]) for f, x in enumerate(logits)]).sum()

    @torch.no_grad()
    def accuracy(self, model: Any, examples: Sequence[Example]) -> Tensor:
        """[F] share of the facts of ``examples`` that are told right from the trunk of ``model``."""
        right, asked = torch.zeros(len(self.sizes)), torch.zeros(len(self.sizes))
        for i in range(0, len(examples), 64):
            batch = collate([{**asdict(one), "input_ids": one.ids} for one in examples[i : i + 64]])
            states = model.base_model(input_ids=batch["input_ids"], use_cache=False).last_hidden_state
            logits = self.linear(states.flatten(0, 1)[batch["places"]]).split(self.sizes, dim=1)
            told = torch.stack([x.argmax(1) for x in logits], dim=1)
            right += ((told == batch["facts"]) & (batch["facts"] != IGNORED)).sum(0)
            asked += (batch["facts"] != IGNORED).sum(0)
        return right / asked


def _mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Over the labels that are not ``IGNORED``; 0 if all are."""
    total = nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def _weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over [N] labels, none of them ``IGNORED``; 0 if there are none, or none counts."""
    total = (weights * nn.functional.cross_entropy(logits, labels, reduction="none")).sum()
    return total / weights.sum().clamp(min=1e-6)


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Rows of ``Example`` fields as one batch, padded on the right: ids, labels and weights [B, T], places [P] in the
    flattened batch [B · T] and their facts [P, F]."""
    pad = nn.utils.rnn.pad_sequence
    ids = pad([torch.tensor(row["input_ids"]) for row in rows], batch_first=True)
    labels = pad([torch.tensor(row["labels"]) for row in rows], batch_first=True, padding_value=IGNORED)
    weights = pad([torch.tensor(row["weights"] or [1.0] * len(row["labels"])) for row in rows], batch_first=True)
    places = [b * ids.shape[1] + place for b, row in enumerate(rows) for place in row["places"]]
    facts = [values for row in rows for values in row["facts"]]
    told = {"places": torch.tensor(places), "facts": torch.tensor(facts)}
    return {"input_ids": ids, "labels": labels, "weights": weights, **told}


def small_config(vocab_size: int, **changes: Any) -> Any:
    """The architecture of the small models that ship with Parley: a Llama of under half a million parameters.

    Weights are drawn about as widely as the root of the hidden size asks for. At the usual .02, made for models ten
    times as wide, attention starts out so even that what belongs to what is learnt late or never.
    """
    from transformers import LlamaConfig

    values = {
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,  # one key-value head: reading the cache is what decoding on a CPU costs
        "intermediate_size": 256,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.08,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    return LlamaConfig(vocab_size=vocab_size, **{**values, **changes})


def sft(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    *,
    epochs: float,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    schedule: str = "cosine",
    seed: int = 0,
    progress: bool = True,
    heads: FactHeads | None = None,
    facts_coef: float = 0.3,
) -> float:
    """Train ``model`` in place; returns the mean training loss of the last tenth of the steps (nats per learnt token,
    and ``facts_coef`` times that of the facts).

    AdamW, ``schedule`` of the learning rate (as ``transformers`` names it) with 2% warm-up, sequences of like length
    batched together. With ``heads`` the trunk also learns the facts of the examples; the heads are trained along and
    are no part of the model afterwards.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    class _Trainer(SFTTrainer):
        # SFTTrainer's own adds entropy and accuracy of every token to the log, and works out the logits of tokens that
        # are only read: together more than half of a small model's step.
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:
            ids = inputs["input_ids"]  # [B, T]
            states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state  # [B, T, hidden]
            labels = inputs["labels"][:, 1:]  # [B, T - 1]; padding is on the right, where causal attention never looks
            learnt = labels != IGNORED
            logits = model.get_output_embeddings()(states[:, :-1][learnt])
            loss = _weighted_cross_entropy(logits, labels[learnt], inputs["weights"][:, 1:][learnt])
            if heads is None or not len(inputs["places"]):
                return loss
            return loss + facts_coef * heads.loss(states.flatten(0, 1)[inputs["places"]], inputs["facts"])

    columns = {
        "input_ids": [list(e.ids) for e in examples],
        "labels": [list(e.labels) for e in examples],
        "weights": [list(e.weights) for e in examples],
        "places": [list(e.places) for e in examples],
        "facts": [[list(values) for values in e.facts] for e in examples],
    }
    data = Dataset.from_dict(columns)
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
            lr_scheduler_type=schedule,
            warmup_steps=max(1, int(0.02 * epochs * len(examples) / batch_size)),
            weight_decay=0.01,
            max_grad_norm=1.0,
            train_sampling_strategy="group_by_length",
            logging_steps=max(1, int(epochs * len(examples) / batch_size / 50)),
            save_strategy="no",
            report_to=[],
            seed=seed,
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            activation_checkpointing=False,
            max_length=None,
            disable_tqdm=not progress,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
        )
        device = model.device
        if heads is not None:
            model.add_module("fact_heads", heads)  # so that the trainer's optimizer has their weights
        trainer = _Trainer(
            model=model, args=config, train_dataset=data, processing_class=tokenizer, data_collator=collate
        )
        if not progress:
            trainer.remove_callback(PrinterCallback)
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    if heads is not None:
        del model.fact_heads
        heads.to(device)
    model.to(device).eval()  # the trainer has taken it to a GPU if there is one
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)
