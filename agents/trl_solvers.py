"""TRL's trainers as single-turn solvers: the improvement step of Iterative PPO with a tool off the shelf.

The claim of Iterative PPO (arXiv 2511.21638) is that any single-turn RLHF tool serves. So the prompts are a data set,
the frozen critic is a reward function of a completion, and ``GRPOTrainer`` or ``RLOOTrainer`` does the rest: it samples
``num_generations`` completions for each prompt, compares them with each other and takes its own loss.

The reward of a completion is (Q(x, a) - V(x)) / spread. GRPO has it compared within the prompt and not divided by the
prompt's own deviation (``scale_rewards="none"``), which would blow up the noise of a Q that sees no difference; so
``kl_coef`` weighs about the same as with ``agents.ppo``. Its KL is a term of the loss, token by token. RLOO subtracts
the KL of a whole completion, as it was when that was sampled, from its reward: in the first round, which is sampled
from the reference itself, there is none yet.

What they can't know is set here: the reference is read from the folder that the model's configuration names, so it is
saved first; tokens that are never spoken are suppressed while sampling, but not in their loss; the learning rate is
constant, since each call is one improvement of many; sampling draws from torch's global generator, seeded from ``rng``.
They read prompts by the chat template: a prompt that comes out otherwise than the policy reads it (somebody has spelt a
special token) is left out and counted.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from agents.adapters import has_lora
from agents.agent import check_range
from agents.chat_model import ChatModel
from agents.packing import Prompts, pack
from agents.ppo import Metrics, Scorer

_SCORED_AT_ONCE = 64
_LOGGED = {
    "kl": "kl",
    "entropy": "entropy",
    "grad_norm": "grad_norm",
    "completions/mean_length": "response_length",
    "clip_ratio/region_mean": "clip_fraction",
}
"""What the trainers log, and what it is called here."""


@dataclass(frozen=True)
class TRLSolver:
    """GRPO or RLOO as TRL has them.

    Args:
        algorithm: ``grpo`` or ``rloo``.
        num_generations: completions that are compared with each other, of each prompt.
        rounds: how often completions are sampled; the prompts are divided among the rounds, and a remainder that makes
            no whole gradient step is left.
        prompts: at most so many prompts are used, in all rounds together; None: all.
        epochs: passes over a round's completions.
        batch_size: completions per gradient step, at least; less than twice as many.
        learning_rate: of AdamW; the optimizer is fresh in every call.
        kl_coef: β of the KL to the reference.
        clip: ε of the clipped ratio.
        max_grad_norm: of the gradient.

    Raises ``ValueError`` for values out of range.
    """

    algorithm: Literal["grpo", "rloo"] = "grpo"
    num_generations: int = 4
    rounds: int = 2
    prompts: int | None = 1024
    epochs: int = 2
    batch_size: int = 64
    learning_rate: float = 5e-4
    kl_coef: float = 0.05
    clip: float = 0.2
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.algorithm not in ("grpo", "rloo"):
            raise ValueError(f"solver.algorithm={self.algorithm!r}; choose grpo or rloo.")
        check_range("solver.num_generations", self.num_generations, 2)
        for name in ("rounds", "prompts", "epochs"):
            if (value := getattr(self, name)) is not None:
                check_range(f"solver.{name}", value, 1)
        if self.batch_size < self.num_generations or self.batch_size % self.num_generations:
            raise ValueError(
                f"solver.batch_size={self.batch_size} holds no whole number of prompts with "
                f"{self.num_generations} completions each; give a multiple of solver.num_generations."
            )
        for name in ("learning_rate", "kl_coef", "clip", "max_grad_norm"):
            check_range(f"solver.{name}", getattr(self, name), 0.0)
        if self.algorithm == "rloo" and self.rounds == 1 and self.kl_coef > 0:
            raise ValueError("solver.rounds=1 leaves RLOO's KL without effect; give 2 or more, or solver.kl_coef=0.")

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
        """See ``agents.ppo.SingleTurnSolver``; ``start`` is left aside."""
        if has_lora(policy.model):
            raise ValueError("TRL's trainers are given whole models here; leave solver=… or lora_rank=… out.")
        from datasets import Dataset
        from transformers.trainer_callback import PrinterCallback

        single = [_single(one, k) for one in prompts for k in range(len(one))]
        drawn = [single[i] for i in rng.permutation(len(single))[: self.prompts]]
        chosen = [one for one in drawn if _read_alike(policy, one)]
        if not chosen:
            raise ValueError("No prompt is read by the chat template as the policy reads it; use another solver.")
        rounds, per_round, batch_size = self._shares(len(chosen))
        left_out, chosen = len(drawn) - len(chosen), chosen[: rounds * per_round]
        rows = [{"prompt": one.conversations[0].messages("agent"), "at": i} for i, one in enumerate(chosen)]
        seeds, unit = rng.spawn(1)[0], float(scorer.spread)
        gains: list[float] = []

        def reward(completion_ids: Sequence[Sequence[int]], at: Sequence[int], **_: Any) -> list[float]:
            gained = _gains(policy, scorer, [chosen[i] for i in at], completion_ids, seeds)
            gains.extend(gained)
            return [gain / unit for gain in gained]

        known_as = policy.model.config._name_or_path
        try:
            with tempfile.TemporaryDirectory(prefix="parley-trl-") as folder, warnings.catch_warnings():
                # TRL 1.16 asks transformers 5.23 by a name that is on its way out.
                warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
                reference.save(Path(folder) / "reference")
                policy.model.config._name_or_path = str(Path(folder) / "reference")
                kind, config = self._configured(policy, Path(folder), per_round, batch_size, int(rng.integers(2**31)))
                trainer = kind(
                    model=policy.model,
                    reward_funcs=reward,
                    args=config,
                    train_dataset=Dataset.from_list(rows),
                    processing_class=policy.tokenizer,
                )
                trainer.remove_callback(PrinterCallback)
                trainer.train()
                logs = trainer.state.log_history
        finally:
            policy.model.config._name_or_path = known_as
            for theirs in ("forward", "_original_forward"):  # the trainer's own, which a clone would run on our weights
                policy.model.__dict__.pop(theirs, None)
            policy.model.eval()
            policy.forget()
        metrics = {
            "q_gain": float(np.mean(gains)),
            "q_spread": float(np.std(gains)),
            "prompts_left_out": float(left_out),
        }
        for theirs, ours in _LOGGED.items():
            if values := [row[theirs] for row in logs if theirs in row]:
                metrics[ours] = float(np.mean(values))
        return metrics

    def _shares(self, n: int) -> tuple[int, int, int]:
        """Of ``n`` prompts: how many rounds, how many prompts each of them takes, and the completions per step."""
        rounds = min(self.rounds, n)
        steps = max(1, n // rounds * self.num_generations // self.batch_size)
        per_step = n // rounds // steps
        return rounds, steps * per_step, per_step * self.num_generations

    def _configured(self, policy: ChatModel, folder: Path, per_round: int, batch_size: int, seed: int) -> Any:
        """The trainer's class and its configuration."""
        import trl

        on_cpu = policy.model.device.type == "cpu"
        settings: dict[str, Any] = {
            "output_dir": str(folder / "trainer"),
            "per_device_train_batch_size": batch_size,
            "gradient_accumulation_steps": 1,
            "generation_batch_size": per_round * self.num_generations,
            "num_generations": self.num_generations,
            "num_iterations": self.epochs,
            "num_train_epochs": 1,
            "max_completion_length": policy.max_new_tokens,
            "temperature": policy.temperature,
            "top_k": 0,
            "generation_kwargs": {"suppress_tokens": list(policy.banned)} if len(policy.banned) else None,
            "beta": self.kl_coef,
            "epsilon": self.clip,
            "learning_rate": self.learning_rate,
            "optim": "adamw_torch",  # the default is the fused one, with other last digits
            "lr_scheduler_type": "constant",
            "max_grad_norm": self.max_grad_norm,
            "shuffle_dataset": False,
            "remove_unused_columns": False,
            "activation_checkpointing": False,
            "bf16": not on_cpu and policy.model.dtype == torch.bfloat16,
            "use_cpu": on_cpu,
            "seed": seed,
            "save_strategy": "no",
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_num_workers": 0,
        }
        if self.algorithm == "grpo":
            return trl.GRPOTrainer, trl.GRPOConfig(**settings, scale_rewards="none")
        return trl.RLOOTrainer, trl.RLOOConfig(**settings)


def _single(prompts: Prompts, k: int) -> Prompts:
    """Prompt k alone."""
    end = int(prompts.ends[k])
    return Prompts(prompts.ids[: end + 1], np.array([end]), (prompts.conversations[k],))


def _read_alike(policy: ChatModel, prompt: Prompts) -> bool:
    """Whether the chat template reads a prompt as the policy does."""
    messages = prompt.conversations[0].messages("agent")
    if not messages:  # the agent opens, without a brief: a template needs something to begin with
        return False
    ids = policy.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return list(ids) == list(prompt.ids)


@torch.no_grad()
def _gains(
    policy: ChatModel,
    scorer: Scorer,
    prompts: Sequence[Prompts],
    completions: Sequence[Sequence[int]],
    rng: np.random.Generator,
) -> list[float]:
    """Q(x, a) - V(x) of each completion, one per prompt."""
    gains: list[float] = []
    for i in range(0, len(prompts), _SCORED_AT_ONCE):
        part = prompts[i : i + _SCORED_AT_ONCE]
        # An empty completion has nothing to score; its first token is the one that ends the turn.
        said = [tuple(tokens) or policy.tail(())[:1] for tokens in completions[i : i + _SCORED_AT_ONCE]]
        packed = pack(part, [[tokens] for tokens in said], [[policy.tail(tokens)] for tokens in said])
        value, along = scorer.values(packed, part, rng)
        gains += (along[packed.last] - value).tolist()
    return gains
