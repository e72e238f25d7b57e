"""Low-rank adapters (LoRA, arXiv 2106.09685) by ``peft``: learn a large model by a small number of weights.

The adapters are put into the model where it is, so that it stays what it was to everybody who reads it. All else in it
is frozen; copies of it (the reference, the critic's trunk) share the frozen weights and have adapters of their own.
What is saved is a folder of adapters as ``peft`` writes it, which names the model they belong to.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_NAME = "default"
_PREFIX = "base_model.model."
"""Before every name in a folder of adapters: ``peft`` wraps the model, which we do not."""

Module = TypeVar("Module", bound=nn.Module)


def add_lora(model: PreTrainedModel, rank: int, base: str, alpha: float | None = None) -> None:
    """Put fresh adapters of this rank beside every linear layer of ``model``, in place, and freeze the rest.

    Args:
        base: folder or hub id of ``model``, for whoever loads the adapters.
        alpha: what the adapters' product is multiplied with, times the rank; None: twice the rank.

    Raises ``ImportError`` naming what to install, and ``ValueError`` for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"lora_rank={rank}; give 1 or more, or leave it out to learn all weights.")
    config = _peft().LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    _put_in(model, config)


def load_lora(model: PreTrainedModel, folder: Path) -> None:
    """Put the adapters of ``folder`` into their model, in place."""
    _put_in(model, _peft().LoraConfig.from_pretrained(str(folder)))
    read_lora(model, folder)


def read_lora(model: PreTrainedModel, folder: Path) -> None:
    """The weights of the adapters in ``folder`` into those that ``model`` has."""
    from safetensors.torch import load_file

    weights = {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(folder / _WEIGHTS).items()}
    _peft().set_peft_model_state_dict(model, weights)


def save_lora(model: PreTrainedModel, folder: Path) -> None:
    """Write the adapters of ``model`` alone."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = _peft().get_peft_model_state_dict(model)
    save_file({_PREFIX + name: tensor.contiguous() for name, tensor in weights.items()}, folder / _WEIGHTS)
    model.peft_config[_NAME].save_pretrained(str(folder))


def base_of(folder: str | Path) -> str | None:
    """The model that the adapters in ``folder`` belong to; None if it holds none."""
    if not (Path(folder) / _CONFIG).is_file():
        return None
    return str(_peft().LoraConfig.from_pretrained(str(folder)).base_model_name_or_path)


def has_lora(module: nn.Module) -> bool:
    """Whether there are adapters in it."""
    return any(type(part).__module__.startswith("peft.") for part in module.modules())


def copied(module: Module) -> Module:
    """A copy with weights of its own; of a module with adapters, the frozen weights are shared."""
    shared = {id(p): p for p in module.parameters() if not p.requires_grad} if has_lora(module) else {}
    return copy.deepcopy(module, shared)


def trunk_copied(model: PreTrainedModel, learns: bool) -> nn.Module:
    """A copy of the model's trunk, to be read; if it ``learns``, whatever of it learns in the model."""
    trunk = copied(model.base_model)
    if not (learns and has_lora(trunk)):
        trunk.requires_grad_(learns)
    return trunk


def own_state(module: nn.Module, adapted: Iterable[nn.Module]) -> dict[str, Tensor]:
    """``module.state_dict()``, contiguous, without the frozen weights of those of its parts that have adapters: they
    are the base model's."""
    frozen = {
        id(p) for part in adapted if has_lora(part) for name, p in part.named_parameters() if not _is_adapter(name)
    }
    names = {name for name, p in module.named_parameters() if id(p) in frozen}
    return {name: tensor.contiguous() for name, tensor in module.state_dict().items() if name not in names}


def load_own_state(module: nn.Module, adapted: Iterable[nn.Module], state: Mapping[str, Tensor]) -> None:
    """What ``own_state`` gave, back into a module that was built alike. Raises ``RuntimeError`` if something else is
    missing, or there is too much."""
    parts = list(adapted)
    expected = own_state(module, parts)
    if set(expected) != set(state):
        odd = sorted(set(expected) ^ set(state))
        raise RuntimeError(f"{len(odd)} weights do not belong or are missing, such as {odd[0]}")
    module.load_state_dict(dict(state), strict=False)


def _is_adapter(name: str) -> bool:
    return ".lora_" in name


def _put_in(model: PreTrainedModel, config: LoraConfig) -> None:
    _peft().inject_adapter_in_model(config, model, adapter_name=_NAME)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_is_adapter(name))
        if _is_adapter(name):
            parameter.data = parameter.data.to(torch.float32)  # a step of Adam is lost in bfloat16's rounding
    model.peft_config = {_NAME: config}


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError(
            f"LoRA needs peft, and {error.name!r} is missing; run: pip install 'parley-gym[lora]'"
        ) from error
    return peft
