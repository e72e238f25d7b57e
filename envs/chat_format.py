"""The tokenizer and the chat format of the small models, and how any model's prompt is encoded.

The format, from the model's own seat (the ``assistant`` of its chat, whichever side of the conversation that is):

    <|user|>what the other said<|end|><|agent|>what the model said<|end|><|user|>…<|end|><|agent|>

The last ``<|agent|>`` is the generation prompt, and ``<|end|>`` ends every turn and is the end-of-sequence token. The
system message (the brief) is left out by default: the brief of a small model of one world is in its weights. With
``keep_system=True`` it comes first, as ``<|system|>…<|end|>``.

``encode`` gives the ids of ``tokenizer.apply_chat_template(messages, add_generation_prompt=True)`` without the cost
(the ids of each turn are remembered), and can't be fooled: what is said never becomes a special token, even if it
spells one. ``apply_chat_template`` itself makes no such promise; use it for texts you trust, such as training data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from envs.conversation import Conversation, Message, Speaker

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD: Final = "<|pad|>"
END: Final = "<|end|>"
AGENT: Final = "<|agent|>"
USER: Final = "<|user|>"
SYSTEM: Final = "<|system|>"
SPECIAL_TOKENS: Final = (PAD, END, AGENT, USER, SYSTEM)

_TEMPLATE_START: Final = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|agent|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% elif message['role'] == 'user' %}<|user|>{{ message['content'] }}<|end|>"
)
_TEMPLATE_SYSTEM: Final = "{% elif message['role'] == 'system' %}<|system|>{{ message['content'] }}<|end|>"
_TEMPLATE_END: Final = "{% endif %}{% endfor %}{% if add_generation_prompt %}<|agent|>{% endif %}"

TEMPLATE: Final = _TEMPLATE_START + _TEMPLATE_END
"""The chat template without the system message; ``{% generation %}`` serves TRL's ``assistant_only_loss``."""
TEMPLATE_WITH_SYSTEM: Final = _TEMPLATE_START + _TEMPLATE_SYSTEM + _TEMPLATE_END

FOREIGN_OPENING: Final = "(The conversation begins.)"
"""What a foreign model is given as the first user message when its own seat opens the conversation."""

_REMEMBERED_TURNS: Final = 1 << 16


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 2048, *, keep_system: bool = False, markers: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of the small models' format, trained on ``texts``. Any text round-trips exactly.

    ``vocab_size`` counts the special tokens and the 256 bytes; a small corpus may fill less. ``markers`` are further
    special tokens of one world, such as outcomes; ``never_spoken`` lists them.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [*SPECIAL_TOKENS, *markers]
    smallest = len(special) + 256
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size={vocab_size} has no room for {len(special)} special tokens and 256 bytes; "
            f"give at least {smallest}."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[AGENT, USER, SYSTEM, *markers],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE_WITH_SYSTEM if keep_system else TEMPLATE
    return fast


def is_small_format(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether ``tokenizer`` speaks the format of this module, with or without the system message."""
    return tokenizer.chat_template in (TEMPLATE, TEMPLATE_WITH_SYSTEM)


def never_spoken(tokenizer: PreTrainedTokenizerBase, stop_ids: Iterable[int] = ()) -> tuple[int, ...]:
    """The ids a speaker must not sample: every special token (roles, padding, markers) but those that end the turn,
    which are the tokenizer's end of sequence and ``stop_ids``."""
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return tuple(sorted(special - {tokenizer.eos_token_id, *stop_ids}))


def encode(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, seen_by: Speaker) -> list[int]:
    """The prompt of a model that sits in the seat of ``seen_by`` and speaks next, as token ids."""
    return encode_chat(tokenizer, conversation.messages(seen_by))


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message], *, add_generation_prompt: bool = True
) -> list[int]:
    """The ids of a chat in the tokenizer's own format, without anything said becoming a special token.

    Tokenizers of another format ("foreign", from the hub) go through their own chat template. In what is said, the
    text of each of their special tokens gets an invisible character (U+200B) after its first letter, so it is read as
    ordinary text. A chat that opens with the assistant, or is empty, gets ``FOREIGN_OPENING`` as its first user
    message, since most templates demand one; a template without a system role gets the brief before the first user
    message.
    """
    return _codec(tokenizer).chat(chat, add_generation_prompt)


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """The ids of ``text`` as ordinary text: nothing in it becomes a special token. Remembered, since turns recur."""
    return _codec(tokenizer).text(text)


def decode(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
    """The text of each row of ids, special tokens left out."""
    ids = [list(row) for row in rows]
    if tokenizer.is_fast:
        return tokenizer.backend_tokenizer.decode_batch(ids, skip_special_tokens=True)
    return [tokenizer.decode(row, skip_special_tokens=True) for row in ids]


@dataclass(frozen=True)
class _Codec:
    """How one tokenizer encodes text and chats."""

    template: str | None
    """The chat template it was made for."""
    text: Callable[[str], tuple[int, ...]]
    chat: Callable[[Sequence[Message], bool], list[int]]


_CODECS: WeakKeyDictionary[PreTrainedTokenizerBase, _Codec] = WeakKeyDictionary()


def _codec(tokenizer: PreTrainedTokenizerBase) -> _Codec:
    codec = _CODECS.get(tokenizer)
    if codec is None or codec.template != tokenizer.chat_template:
        codec = _CODECS[tokenizer] = _small(tokenizer) if is_small_format(tokenizer) else _foreign(tokenizer)
    return codec


def _small(tokenizer: PreTrainedTokenizerBase) -> _Codec:
    """The codec of this module's format. It keeps no reference to ``tokenizer``, which would keep both alive."""
    from tokenizers import Tokenizer

    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.encode_special_tokens = True  # a private copy, so that the setting can't leak into training code
    agent, user, system, end = tokenizer.convert_tokens_to_ids([AGENT, USER, SYSTEM, END])
    heads = {"assistant": agent, "user": user}
    if tokenizer.chat_template == TEMPLATE_WITH_SYSTEM:
        heads["system"] = system

    @lru_cache(_REMEMBERED_TURNS)
    def text(text: str) -> tuple[int, ...]:
        return tuple(plain.encode(text, add_special_tokens=False).ids)

    def chat(chat: Sequence[Message], add_generation_prompt: bool) -> list[int]:
        ids: list[int] = []
        for message in chat:
            head = heads.get(message["role"])
            if head is not None:
                ids.append(head)
                ids += text(message["content"])
                ids.append(end)
        if add_generation_prompt:
            ids.append(agent)
        return ids

    return _Codec(tokenizer.chat_template, text, chat)


def _foreign(tokenizer: PreTrainedTokenizerBase) -> _Codec:
    """The codec of a tokenizer from elsewhere: its own chat template, what is said escaped."""
    from weakref import ref

    weak = ref(tokenizer)
    special = sorted(
        {*tokenizer.all_special_tokens, *(str(token) for token in tokenizer.added_tokens_decoder.values())} - {""},
        key=len,
        reverse=True,
    )
    special = [token for token in special if not token.isspace()]

    def escape(text: str) -> str:
        for token in special:
            if token in text:
                text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
        return text

    @lru_cache(_REMEMBERED_TURNS)
    def text(text: str) -> tuple[int, ...]:
        tokenizer: Any = weak()
        return tuple(tokenizer.encode(escape(text), add_special_tokens=False))

    def chat(chat: Sequence[Message], add_generation_prompt: bool) -> list[int]:
        safe: list[Message] = [{"role": m["role"], "content": escape(m["content"])} for m in chat]
        return _through_template(weak(), safe, add_generation_prompt)

    return _Codec(tokenizer.chat_template, text, chat)


def _through_template(
    tokenizer: PreTrainedTokenizerBase, chat: list[Message], add_generation_prompt: bool
) -> list[int]:
    """``apply_chat_template`` for any template: a first user message is made sure of, the system role is optional."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise ValueError(
            f"The tokenizer of {tokenizer.name_or_path or 'this model'!r} has no chat template, so it can't hold a "
            "conversation; use an instruction-tuned model, or set tokenizer.chat_template."
        )
    system = [m for m in chat if m["role"] == "system"]
    spoken = [m for m in chat if m["role"] != "system"]
    if not spoken or spoken[0]["role"] == "assistant":
        spoken = [{"role": "user", "content": FOREIGN_OPENING}, *spoken]
    options = {"add_generation_prompt": add_generation_prompt, "tokenize": True, "return_dict": False}
    try:
        return list(tokenizer.apply_chat_template([*system, *spoken], **options))
    except TemplateError:
        if not system:
            raise
    brief = "\n\n".join(m["content"] for m in system)
    first: Message = {"role": "user", "content": f"{brief}\n\n{spoken[0]['content']}"}
    return list(tokenizer.apply_chat_template([first, *spoken[1:]], **options))
