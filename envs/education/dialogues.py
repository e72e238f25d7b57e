"""The published Education Dialogue conversations (arXiv 2405.14655), read, and made into training rows.

The data (github.com/google-research-datasets/Education-Dialogue-Dataset; not part of this package) are JSON files, each
a list of records of two fields, whose names are misspelt as they are here:

    {"background_info": {"topic": …, "student_prefrences": …, "teacher_prefrences": …,
                         "student_reactions": …, "teacher_reactions": …},
     "conversation": [{"role": "Teacher", "text": …}, {"role": "Student", "text": …}, …]}

All values are text. Roles are read in any case, a turn without words is no turn, and the marker ``[end of
conversation]`` ends the conversation: what a record has after it is left out (and counted in ``Dialogue.left_out``).

    python -m envs.education.dialogues conversations_train*.json --side teacher --out rows.jsonl

writes rows in TRL's conversational formats, with which a model from the hub learns to play one of the two sides. Each
side is told the topic and its own half of the background, never the other's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from envs.chat_format import FOREIGN_OPENING
from envs.conversation import Message

Side = Literal["teacher", "student"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)
END_MARKER: Final = "[end of conversation]"
_ENDS: Final = re.compile(re.escape(END_MARKER), re.IGNORECASE)

Form = Literal["turns", "messages"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)


@dataclass(frozen=True, slots=True)
class Background:
    """What a conversation was made from, in the data's own words."""

    topic: str
    student_preference: str
    """How the student likes to learn (``student_prefrences``)."""
    teacher_preference: str
    student_reaction: str
    """What the student does when it is taught otherwise (``student_reactions``)."""
    teacher_reaction: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """One turn."""

    side: Side
    text: str
    """Without the end marker; empty only if the turn was nothing else."""
    ends: bool = False
    """Whether the end marker stood in it."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One record."""

    background: Background
    turns: tuple[Spoken, ...]
    """At least one with words; one side may have several in a row."""
    left_out: int = 0
    """How many turns the record has after the end marker."""


_FIELDS: Final = {
    "topic": "topic",
    "student_preference": "student_prefrences",
    "teacher_preference": "teacher_prefrences",
    "student_reaction": "student_reactions",
    "teacher_reaction": "teacher_reactions",
}


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_dialogues(path: str | Path, on_empty: Callable[[int], None] | None = None) -> Iterator[Dialogue]:
    """The records of a file, in its order.

    A record in which nothing is said is an error, or is left out if ``on_empty`` is given, which is then called with
    its number (from 1). Raises ``ValueError``, which names the file, the record and the field, for all that is not of
    the format, when it comes to it.
    """
    path = Path(path)
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON in UTF-8: {error}.") from error
    if not isinstance(records, list):
        raise ValueError(f"{path} holds {_kind(records)}; the data are one JSON list of records.")
    for number, record in enumerate(records, start=1):
        dialogue = _read(record, f"{path}, record {number}")
        if any(turn.text for turn in dialogue.turns):
            yield dialogue
        elif on_empty is None:
            raise ValueError(f"{path}, record {number}: conversation has no words; give on_empty to leave such out.")
        else:
            on_empty(number)


def _read(record: Any, where: str) -> Dialogue:
    background = _field(record, "background_info", dict, where)
    known = {name: _field(background, field, str, f"{where}, background_info") for name, field in _FIELDS.items()}
    turns: list[Spoken] = []
    given = _field(record, "conversation", list, where)
    for number, turn in enumerate(given, start=1):
        spoken = _spoken(turn, f"{where}, turn {number}")
        if spoken.text or spoken.ends:
            turns.append(spoken)
        if spoken.ends:
            return Dialogue(Background(**known), tuple(turns), len(given) - number)
    return Dialogue(Background(**known), tuple(turns))


def _spoken(turn: Any, where: str) -> Spoken:
    role, text = (_field(turn, name, str, where) for name in ("role", "text"))
    side = next((side for side in SIDES if side == role.strip().lower()), None)
    if side is None:
        raise ValueError(f"{where}: role is {role!r}; expected Teacher or Student.")
    before, *after = _ENDS.split(text, maxsplit=1)
    return Spoken(side, before.strip(), bool(after))


def _field(owner: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(owner, dict):
        raise ValueError(f"{where} is {_kind(owner)}; expected an object with the field {name!r}.")
    if name not in owner:
        spelling = " (spelt so in the data)" if "prefrences" in name else ""
        raise ValueError(f"{where} has no field {name!r}{spelling}; it has {', '.join(map(repr, owner)) or 'none'}.")
    if not isinstance(owner[name], kind):
        raise ValueError(f"{where}: {name} is {_kind(owner[name])}; expected {_KINDS[kind]}.")
    return owner[name]


_KINDS: Final[dict[type, str]] = {str: "a text", list: "a list", dict: "an object"}


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), f"{json.dumps(value)[:40]}")


# ---- training rows ---------------------------------------------------------------------------------------------------


def brief(background: Background, side: Side, *, keep_end: bool = False) -> str:
    """What a side is told: the topic, how it prefers the lesson and what it does otherwise; nothing of the other's."""
    preference, reaction = (
        (background.teacher_preference, background.teacher_reaction)
        if side == "teacher"
        else (background.student_preference, background.student_reaction)
    )
    does, otherwise = _BRIEFS[side]
    sentences = [
        does.format(background.topic.strip()),
        f"What you prefer: {_sentence(preference)}",
        f"{otherwise}: {_sentence(reaction)}",
        "Say one turn at a time.",
    ]
    if keep_end:
        sentences.append(f"When the lesson is over, end your turn with {END_MARKER}")
    return " ".join(sentences)


_BRIEFS: Final[dict[Side, tuple[str, str]]] = {
    "teacher": (
        "You are a teacher and give one student a lesson on {}. You do not know how the student likes to learn.",
        "When the lesson does not go that way",
    ),
    "student": (
        "You are a student, and a teacher gives you a lesson on {}.",
        "When you are taught in another way",
    ),
}


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else text + "."


def messages(dialogue: Dialogue, side: Side, *, keep_end: bool = False) -> list[Message]:
    """A whole conversation as chat messages with ``side`` in the assistant's seat.

    The brief is the system message, and what one side says in several turns in a row is one message of several lines. A
    side that opens gets ``FOREIGN_OPENING`` as a user message first, as a hub model does when it speaks here
    (``envs.chat_format``). With ``keep_end`` the end marker stays where it stood, and the brief tells of it.
    """
    said: list[Message] = []
    for turn in _merged(dialogue.turns):
        words = [turn.text, END_MARKER] if keep_end and turn.ends else [turn.text]
        content = " ".join(word for word in words if word)
        if content:
            said.append({"role": "assistant" if turn.side == side else "user", "content": content})
    opening: list[Message] = [{"role": "system", "content": brief(dialogue.background, side, keep_end=keep_end)}]
    if said[0]["role"] == "assistant":
        opening.append({"role": "user", "content": FOREIGN_OPENING})
    return opening + said


def _merged(turns: Iterable[Spoken]) -> list[Spoken]:
    """The turns, those that one side has in a row as one."""
    merged: list[Spoken] = []
    for turn in turns:
        if merged and merged[-1].side == turn.side:
            text = "\n".join(text for text in (merged[-1].text, turn.text) if text)
            merged[-1] = replace(turn, text=text)
        else:
            merged.append(turn)
    return merged


def rows(
    dialogues: Iterable[Dialogue], side: Side, *, form: Form = "turns", keep_end: bool = False
) -> Iterator[dict[str, list[Message]]]:
    """Training rows for a model that plays ``side``.

    ``form="turns"``: a row per turn of that side, ``prompt`` (all messages before it) and ``completion`` (the one
    message). ``form="messages"``: a row per conversation, ``messages``; there the loss should count the assistant's
    words alone (TRL: ``assistant_only_loss``). A conversation in which the side says nothing gives no row.
    """
    for name, value, known in (("side", side, SIDES), ("form", form, FORMS)):
        if value not in known:
            raise ValueError(f"{name}={value!r}; choose one of {', '.join(known)}.")
    for dialogue in dialogues:
        chat = messages(dialogue, side, keep_end=keep_end)
        own = [place for place, message in enumerate(chat) if message["role"] == "assistant"]
        if form == "turns":
            for place in own:
                yield {"prompt": chat[:place], "completion": [chat[place]]}
        elif own:
            yield {"messages": chat}


# ---- the command -----------------------------------------------------------------------------------------------------


def write_rows(path: str | Path, made: Iterable[dict[str, list[Message]]]) -> int:
    """Write one row per line, as JSON in UTF-8; the file appears whole or not at all. Returns how many there are."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in made:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 after saying what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m envs.education.dialogues", description="Make training rows of Education Dialogue files."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a JSON file of the published format")
    parser.add_argument("--side", choices=SIDES, required=True, help="whom the model is to play")
    parser.add_argument("--out", type=Path, required=True, help="the JSON Lines file to write")
    parser.add_argument("--form", choices=FORMS, default="turns", help="a row per turn (default) or per conversation")
    parser.add_argument("--keep-end", action="store_true", help=f"keep the marker {END_MARKER}")
    options = parser.parse_args(arguments)
    counts = {"conversations": 0, "empty": 0, "left_out": 0}

    def dialogues() -> Iterator[Dialogue]:
        for file in options.files:
            for dialogue in read_dialogues(file, lambda _: counts.update(empty=counts["empty"] + 1)):
                counts["conversations"] += 1
                counts["left_out"] += dialogue.left_out
                yield dialogue

    try:
        made = write_rows(options.out, rows(dialogues(), options.side, form=options.form, keep_end=options.keep_end))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{options.out}: {made} rows for a {options.side} from {counts['conversations']} conversations; left out: "
        f"{counts['empty']} conversations without words, {counts['left_out']} turns after the end marker."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
