"""Language models behind one method: chats in, completions out.

They play users, judge and advise; agents that learn use ``agents.chat_model`` instead. A model behind a server is in
``envs.endpoint``. Importing this module needs neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from envs.conversation import Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from envs.decoding import Decoder


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered, or why it did not."""

    text: str
    tokens: int = 0
    """Tokens that were generated, the end of the turn included; 0 when no model spoke."""
    failure: str | None = None
    """``kind: what happened`` with a kind of ``envs.endpoint.Failure``, or None. ``text`` is then empty."""


@runtime_checkable
class LanguageModel(Protocol):
    """Continues chats, many at once."""

    def complete(self, chats: Sequence[Sequence[Message]], seeds: Sequence[int]) -> list[Completion]:
        """The assistant's next message in each chat. ``seeds[i]`` is the only source of chance in answer ``i``, which
        does not depend on the other chats (beyond floating point). An answer that did not come is a ``failure`` and
        leaves the others as they are."""
        ...


def figures_of(*models: object) -> dict[str, float]:
    """The figures of those that keep some (``envs.endpoint.EndpointModel``), each model once, added up; but of
    ``cost_so_far``, which models that share a cache have in common, the largest."""
    total: dict[str, float] = {}
    for model in {id(one): one for one in models}.values():
        for name, value in getattr(model, "figures", dict)().items():
            total[name] = max(total.get(name, 0.0), value) if name == "cost_so_far" else total.get(name, 0.0) + value
    return total


class Canned:
    """A language model that needs no model, for tests and trials: its replies are given beforehand.

    Args:
        replies: a list, of which a chat gets the next one for each message the assistant has already given (the last
            one again when they run out); or a function of the chat and its seed.
    """

    def __init__(self, replies: Sequence[str] | Callable[[Sequence[Message], int], str]):
        if not callable(replies) and (isinstance(replies, str) or not replies):
            raise ValueError(
                f"replies={replies!r}; give a list of at least one reply, or a function (chat, seed) -> str."
            )
        self._replies = replies

    def complete(self, chats: Sequence[Sequence[Message]], seeds: Sequence[int]) -> list[Completion]:
        return [Completion(self._reply(chat, seed)) for chat, seed in zip(chats, seeds, strict=True)]

    def _reply(self, chat: Sequence[Message], seed: int) -> str:
        if callable(self._replies):
            return self._replies(chat, seed)
        given = sum(message["role"] == "assistant" for message in chat)
        return self._replies[min(given, len(self._replies) - 1)]


class TransformersModel:
    """A model of ``transformers``, from a local folder or the Hugging Face hub, loaded at its first use.

    Args:
        folder_or_hub_id: a folder that ``save_pretrained`` wrote, or a hub id such as ``Qwen/Qwen2.5-1.5B-Instruct``.
        temperature: of sampling; 0 takes the likeliest tokens.
        max_new_tokens: longest reply, in tokens.
        device: such as ``cpu`` or ``cuda``.
        dtype: such as ``float32`` or ``bfloat16``.
    """

    def __init__(
        self,
        folder_or_hub_id: str | Path,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 64,
        device: str = "cpu",
        dtype: str = "float32",
    ):
        if temperature < 0:
            raise ValueError(f"temperature={temperature}; it must be 0 (the likeliest tokens) or above.")
        self.folder_or_hub_id = folder_or_hub_id
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.device = device
        self.dtype = dtype
        self._decoder: Decoder | None = None

    def complete(self, chats: Sequence[Sequence[Message]], seeds: Sequence[int]) -> list[Completion]:
        if not chats:
            return []
        decoder, tokenizer = self._loaded()
        from envs.chat_format import decode, encode_chat

        sampled = decoder.generate(
            [encode_chat(tokenizer, chat) for chat in chats],
            np.stack([np.random.default_rng(seed).random(self.max_new_tokens) for seed in seeds]),
            temperature=self.temperature or 1.0,
            max_new_tokens=self.max_new_tokens,
            banned=decoder.never_spoken,
            greedy=self.temperature == 0,
        )
        texts = decode(tokenizer, [one.tokens for one in sampled])
        return [Completion(text, len(one.tokens)) for text, one in zip(texts, sampled, strict=True)]

    def _loaded(self) -> tuple[Decoder, PreTrainedTokenizerBase]:
        if self._decoder is None:
            model, tokenizer = load_transformers(self.folder_or_hub_id, device=self.device, dtype=self.dtype)
            from envs.decoding import Decoder

            self._decoder, self._tokenizer = Decoder(model, tokenizer), tokenizer
        return self._decoder, self._tokenizer


_THAT_SHIP = Path("envs/simulators")
"""Where the configuration says that the small models lie, from the root of the source."""


def load_transformers(
    folder_or_hub_id: str | Path, *, device: str = "cpu", dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer, ready to speak; safetensors only, and no remote code ever.

    A model that ships, ``envs/simulators/NAME``, is found from any working directory. On the device ``auto`` accelerate
    spreads its layers over the GPUs that there are. Raises ``FileNotFoundError`` when there is no such folder, and
    ``ImportError`` naming the packages that are missing, ``ValueError`` for a device that can't be used.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise ImportError(
            f"Loading {str(folder_or_hub_id)!r} needs torch and transformers, and {error.name!r} is missing; "
            "run: pip install torch transformers"
        ) from error
    name = str(folder_or_hub_id)
    folder = Path(name).expanduser()
    if not folder.is_dir() and folder.parent == _THAT_SHIP:
        folder = Path(__file__).parents[1] / folder
    if folder.is_dir():
        _check_folder(folder)
        name = str(folder)
    elif _is_path(folder_or_hub_id):
        raise FileNotFoundError(
            f"No model folder at {name!r}. Train or download it first, or give a Hugging Face hub id (owner/name)."
        )
    options: dict[str, Any] = {"trust_remote_code": False}
    placing = {"device_map": "auto"} if device == "auto" else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        options |= {"use_safetensors": True, "dtype": getattr(torch, dtype), **placing}
        model = AutoModelForCausalLM.from_pretrained(name, **options)
    except OSError as error:
        if folder.is_dir():
            raise
        raise FileNotFoundError(
            f"{name!r} is neither a folder here nor a model that the Hugging Face hub gives out: {error}"
        ) from error
    if not placing:
        try:
            model = model.to(device)
        except (RuntimeError, AssertionError) as error:  # an unknown name, or a device that is not there
            reason = str(error).splitlines()[0].rstrip(".")
            raise ValueError(
                f"device={device} can't be used: {reason}. Give cpu, cuda, cuda:1, or auto for all GPUs there are."
            ) from error
    return model.eval(), tokenizer


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"The folder {str(folder)!r} holds no config.json, so it is no saved model; give a folder that "
            "save_pretrained wrote."
        )


def _is_path(folder_or_hub_id: str | Path) -> bool:
    """Whether it can't be a hub id, which is ``name`` or ``owner/name``."""
    text = str(folder_or_hub_id)
    return isinstance(folder_or_hub_id, Path) or text.startswith(("/", ".", "~")) or text.count("/") > 1 or "\\" in text
