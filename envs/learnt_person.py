"""Users that are small language models altogether: they hear, feel, decide and speak; no program stands behind them.

A model that plays a person writes to itself before it speaks, in tokens that nobody else can write: what it heard, what
it does, how it feels afterwards. That is its private channel. The environment strips it, the outcome is read from it,
and at the next exchange the model reads its own notes again. What is for sale at which price is the world's ledger, as
with any user.

What is learnt can be fooled. A world's ``PrivateChannel`` says what a model notes; how such a model is trained,
measured and hardened is in ``envs.simulators.people``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from envs.acts import Act
from envs.conversation import Message
from envs.env import Episode
from envs.language_models import Completion
from envs.users import Reply, UserSimulator
from envs.wording import Reader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from envs.decoding import Decoder


class PrivateChannel(Protocol):
    """What a model that plays a world's user knows besides the words, and what it writes to itself.

    All of it is markers: special tokens of the model's tokenizer that no text can spell (``envs.chat_format``).
    """

    @property
    def slots(self) -> Sequence[Sequence[str]]:
        """Before every reply the model writes one marker per slot, out of those named there."""

    blanks: Mapping[str, str]
    """What the model writes for values that are the world's, such as ``{"$PRICE": "price"}``."""

    def markers(self) -> list[str]:
        """All there are."""

    def told(self, episode: Episode) -> list[str]:
        """Who the user is, and its notes so far."""

    def chat(self, episode: Episode) -> list[Message]:
        """The words it answers to, seen from its own seat (it is the ``assistant``)."""

    def memory(self, episode: Episode, act: Act, written: tuple[str, ...]) -> object:
        """``Episode.memory`` after it has written its slots. ``act`` is what the agent did by the ledger's reader."""

    def values(self, episode: Episode, memory: object) -> Mapping[str, str]:
        """What the world has for the blanks."""


def prompt_of(tokenizer: PreTrainedTokenizerBase, told: Sequence[str], chat: Sequence[Message]) -> list[int]:
    """The ids before what the model writes: what it is told between the system marker and the end of a turn, then the
    chat up to where it takes its turn. Texts can't spell a marker."""
    from envs.chat_format import END, SYSTEM, encode_chat

    return [*tokenizer.convert_tokens_to_ids([SYSTEM, *told, END]), *encode_chat(tokenizer, chat)]


LISTENS = 250
"""Bytes of an utterance after which a person stops listening: several times the longest that does anything."""


def _listened(one: Message) -> Message:
    """What of an utterance is heard: nobody can talk a model out of its context by talking on."""
    return {"role": one["role"], "content": one["content"].encode()[:LISTENS].decode(errors="ignore")}


class LearntPerson(UserSimulator):
    """A user that is the model in ``folder`` altogether.

    Args:
        name: in tables and records.
        folder: a Hugging Face folder that ``envs.simulators.people`` wrote.
        channel: its private channel.
        reader: the ledger's ear: which acts of the agent change what is offered.
        temperature: of the words. What is written privately is always drawn at 1: its chances are part of the person.
        max_new_tokens: longest reply, in tokens.
    """

    def __init__(
        self, name: str, folder: str | Path, channel: PrivateChannel, reader: Reader, *,
        temperature: float = 0.5, max_new_tokens: int = 48,
    ):  # fmt: skip
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}; it must be above 0.")
        self._name, self.folder, self.channel, self.reader = name, Path(folder), channel, reader
        self.temperature, self.max_new_tokens = temperature, max_new_tokens
        self.deterministic = reader.deterministic
        self._decoder: Decoder | None = None

    @property
    def name(self) -> str:
        return self._name

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        read = self.reader.read(episodes)
        replies = [Reply("", None, one.tokens, one.failure) for one in read]
        asked = [i for i, one in enumerate(read) if one.failure is None]
        heard = [(self.channel.told(episodes[i]), self.channel.chat(episodes[i])) for i in asked]
        said = self.answer(heard, [rngs[i] for i in asked])
        for i, (written, words) in zip(asked, said, strict=True):
            memory = self.channel.memory(episodes[i], read[i].act, written)
            text, values = words.text, self.channel.values(episodes[i], memory)
            for blank, value in self.channel.blanks.items():
                text = text.replace(blank, values.get(value, ""))
            replies[i] = Reply(text, memory, read[i].tokens + words.tokens)
        return replies

    def answer(
        self, heard: Sequence[tuple[Sequence[str], Sequence[Message]]], rngs: Sequence[np.random.Generator]
    ) -> list[tuple[tuple[str, ...], Completion]]:
        """What the model writes to itself and what it then says, given what it is told and the chat."""
        from envs.chat_format import decode

        if not heard:
            return []
        decoder, tokenizer = self.loaded()
        slots = len(self.channel.slots)
        uniforms = np.stack([rng.random(slots + self.max_new_tokens) for rng in rngs])
        prompts = [self._prompt(told, chat) for told, chat in heard]
        notes = [one.tokens for one in decoder.generate(
            prompts, uniforms, max_new_tokens=slots,
            allowed=[tokenizer.convert_tokens_to_ids(list(slot)) for slot in self.channel.slots],
        )]  # fmt: skip
        spoken = decoder.generate(
            [[*prompt, *written] for prompt, written in zip(prompts, notes, strict=True)], uniforms[:, slots:],
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, banned=decoder.never_spoken,
        )  # fmt: skip
        texts = decode(tokenizer, [one.tokens for one in spoken])
        return [
            (tuple(tokenizer.convert_ids_to_tokens(list(written))), Completion(text, slots + len(one.tokens)))
            for written, one, text in zip(notes, spoken, texts, strict=True)
        ]

    def chances(
        self, heard: Sequence[tuple[Sequence[str], Sequence[Message]]], rngs: Sequence[np.random.Generator], slot: int
    ) -> np.ndarray:
        """[N, markers of the slot] how likely it is to write each of them, having drawn what it writes before."""
        import torch

        decoder, tokenizer = self.loaded()
        ids = [tokenizer.convert_tokens_to_ids(list(markers)) for markers in self.channel.slots]
        rows = [self._prompt(told, chat) for told, chat in heard]
        if slot:
            uniforms = np.stack([rng.random(slot) for rng in rngs])
            before = decoder.generate(rows, uniforms, max_new_tokens=slot, allowed=ids[:slot])
            rows = [[*row, *one.tokens] for row, one in zip(rows, before, strict=True)]
        batch = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        with torch.inference_mode():
            states = decoder.model.base_model(input_ids=batch, use_cache=False).last_hidden_state  # [N, T, hidden]
            last = states[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
            logits = decoder.model.get_output_embeddings()(last)[:, ids[slot]]
        return np.asarray(logits.double().softmax(-1))

    def _prompt(self, told: Sequence[str], chat: Sequence[Message]) -> list[int]:
        """The ids of what it is told and hears; of a talk that is too long for it, what was said last."""
        decoder, tokenizer = self.loaded()
        heard = [_listened(one) for one in chat]
        room = (decoder.context or 1 << 30) - len(self.channel.slots) - self.max_new_tokens
        while len(ids := prompt_of(tokenizer, told, heard)) > room and len(heard) > 1:
            heard = heard[1:]
        return ids

    def loaded(self) -> tuple[Decoder, PreTrainedTokenizerBase]:
        """The model, loaded at its first use."""
        if self._decoder is None:
            from envs.decoding import Decoder
            from envs.language_models import load_transformers

            model, tokenizer = load_transformers(self.folder)
            missing = set(self.channel.markers()) - set(tokenizer.get_vocab())
            if missing:
                raise ValueError(
                    f"The model in {str(self.folder)!r} does not know {len(missing)} markers of this world, such as "
                    f"{min(missing)!r}; give one that envs.simulators.people trained for it."
                )
            self._decoder, self._tokenizer = Decoder(model, tokenizer), tokenizer
        return self._decoder, self._tokenizer
