"""Supervised fine-tuning of a causal language model on token sequences, by TRL's ``SFTTrainer``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

IGNORED = -100
"""The label of a token that is not learnt from."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to learn from."""

    ids: Sequence[int]
    labels: Sequence[int]
    """As ``ids``, with ``IGNORED`` where the token is read but not learnt."""


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
) -> float:
    """Train ``model`` in place; returns the mean training loss (nats per learnt token) of the last tenth of the steps.

    AdamW, ``schedule`` of the learning rate (as ``transformers`` names it) with 2% warm-up, sequences of like length
    batched together.
    """
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    class _Trainer(SFTTrainer):
        # SFTTrainer's own adds entropy and accuracy of every token to the log, and works out the logits of tokens that
        # are only read: together more than half of a small model's step.
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:
            states = model.base_model(input_ids=inputs["input_ids"], use_cache=False).last_hidden_state[:, :-1]
            labels = inputs["labels"][:, 1:]  # [B, T - 1]; padding is on the right, where causal attention never looks
            learnt = labels != IGNORED
            return torch.nn.functional.cross_entropy(model.get_output_embeddings()(states[learnt]), labels[learnt])

    columns = {"input_ids": [list(e.ids) for e in examples], "labels": [list(e.labels) for e in examples]}
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
        trainer = _Trainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
        if not progress:
            trainer.remove_callback(PrinterCallback)
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    model.eval()
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)
