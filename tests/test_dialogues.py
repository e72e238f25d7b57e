"""The published Education Dialogue format, on a small file of our own."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from envs.chat_format import FOREIGN_OPENING
from envs.education.dialogues import Background, Spoken, brief, main, messages, read_dialogues, rows, write_rows

SAMPLE = Path(__file__).parent / "data" / "education_dialogue_sample.json"
TIDES = Background(
    topic="tides",
    student_preference="experiments with things one can touch",
    teacher_preference="a lecture from start to end.",
    student_reaction="looks out of the window",
    teacher_reaction="asks for silence",
)
RECORD = {
    "background_info": {
        "topic": "tides",
        "student_prefrences": "experiments",
        "teacher_prefrences": "lectures",
        "student_reactions": "sighs",
        "teacher_reactions": "insists",
    },
    "conversation": [{"role": "Teacher", "text": "Hello."}, {"role": "Student", "text": "Hi."}],
}


@pytest.fixture
def tides():
    return next(read_dialogues(SAMPLE))


@pytest.fixture
def rhyme():
    return list(read_dialogues(SAMPLE))[1]


def written(folder: Path, value: object) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def changed(*path_and_value):
    """The record with one value replaced, or taken out if the value is ``...``."""
    *path, last, value = path_and_value
    record = copy.deepcopy(RECORD)
    owner = record
    for name in path:
        owner = owner[name]
    if value is ...:
        del owner[last]
    else:
        owner[last] = value
    return record


def contents(chat):
    return [(message["role"], message["content"]) for message in chat]


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_is_spelt(tides):
    assert tides.background == TIDES
    assert tides.turns[1] == Spoken("student", "Do I have to write that down?")
    assert [turn.side for turn in tides.turns] == ["teacher", "student", "teacher", "teacher", "student", "teacher"]


def test_the_marker_is_taken_from_the_turn_that_ends_the_conversation(tides):
    assert tides.turns[-1] == Spoken("teacher", "Next time. That is all for today.", ends=True)
    assert not any(turn.ends for turn in tides.turns[:-1])
    assert tides.left_out == 0


def test_what_follows_the_marker_is_left_out_and_counted(rhyme):
    assert rhyme.turns[-1] == Spoken("student", "", ends=True)
    assert rhyme.left_out == 1
    assert "0.9" not in str(messages(rhyme, "student", keep_end=True))


def test_a_turn_without_words_is_no_turn_and_roles_are_read_in_any_case(rhyme):
    assert [(turn.side, turn.text[:5]) for turn in rhyme.turns] == [
        ("student", "Good "),
        ("teacher", "Which"),
        ("student", "June!"),
        ("teacher", "So it"),
        ("student", "Yes, "),
        ("student", ""),
    ]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (changed("background_info", ...), "record 2 has no field 'background_info'; it has 'conversation'"),
        (changed("background_info", []), "record 2: background_info is a list; expected an object"),
        (
            changed("background_info", "student_prefrences", ...),
            r"record 2, background_info has no field 'student_prefrences' \(spelt so in the data\); it has 'topic',",
        ),
        (changed("background_info", "topic", 7), "record 2, background_info: topic is 7; expected a text"),
        (changed("conversation", "Hello."), "record 2: conversation is a text; expected a list"),
        (changed("conversation", 1, "Hi."), "record 2, turn 2 is a text; expected an object with the field 'role'"),
        (changed("conversation", 1, "role", "Pupil"), "record 2, turn 2: role is 'Pupil'; expected Teacher or Student"),
        (changed("conversation", 0, "text", None), "record 2, turn 1: text is null; expected a text"),
        (changed("conversation", 0, "text", ...), "record 2, turn 1 has no field 'text'; it has 'role'"),
        ("Hello.", "record 2 is a text; expected an object with the field 'background_info'"),
    ],
)
def test_what_is_malformed_is_named_with_file_record_and_field(tmp_path, record, message):
    path = written(tmp_path, [RECORD, record])
    with pytest.raises(ValueError, match=rf"data\.json, {message}"):
        list(read_dialogues(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1,", r"data\.json is no JSON in UTF-8: Expecting value: line 1 column 4"),
        ('{"conversation": []}', r"data\.json holds an object; the data are one JSON list"),
    ],
)
def test_a_file_that_is_no_list_is_named(tmp_path, text, message):
    path = tmp_path / "data.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        list(read_dialogues(path))


@pytest.mark.parametrize(
    "turns", [[], [{"role": "Teacher", "text": " "}], [{"role": "Student", "text": "[end of conversation]"}]]
)
def test_a_conversation_without_words_is_an_error_or_left_out_with_its_number(tmp_path, turns):
    path = written(tmp_path, [changed("conversation", turns), RECORD])
    with pytest.raises(ValueError, match=r"data\.json, record 1: conversation has no words"):
        list(read_dialogues(path))
    left_out: list[int] = []
    (dialogue,) = read_dialogues(path, left_out.append)
    assert left_out == [1]
    assert dialogue.turns[0].text == "Hello."


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_a_brief_has_the_topic_and_its_own_half_of_the_background():
    teacher, student = brief(TIDES, "teacher"), brief(TIDES, "student")
    for told, other in ((teacher, student), (student, teacher)):
        assert "a lesson on tides" in told and "a lesson on tides" in other
    assert "a lecture from start to end. " in teacher and "asks for silence. " in teacher
    assert "things one can touch. " in student and "looks out of the window. " in student
    assert "touch" not in teacher and "window" not in teacher
    assert "lecture" not in student and "silence" not in student


def test_a_conversation_is_a_chat_with_the_side_in_the_assistants_seat(tides):
    assert contents(messages(tides, "teacher")) == [
        ("system", brief(TIDES, "teacher")),
        ("user", FOREIGN_OPENING),
        ("assistant", "Today we talk about the tides. They come twice a day."),
        ("user", "Do I have to write that down?"),
        ("assistant", "Please do. The moon pulls at the sea.\nAnd the sun does too, a little."),
        ("user", "Could we try it with a bowl of water?"),
        ("assistant", "Next time. That is all for today."),
    ]
    assert contents(messages(tides, "student"))[1:3] == [
        ("user", "Today we talk about the tides. They come twice a day."),
        ("assistant", "Do I have to write that down?"),
    ]


def test_the_marker_stays_if_asked_for(tides, rhyme):
    assert messages(tides, "teacher", keep_end=True)[-1]["content"].endswith("all for today. [end of conversation]")
    assert messages(rhyme, "student", keep_end=True)[-1]["content"] == "Yes, please. [end of conversation]"
    assert "[end of conversation]" in messages(tides, "student", keep_end=True)[0]["content"]
    for dialogue in (tides, rhyme):
        assert "end of conversation" not in str(messages(dialogue, "student")).lower()


def test_a_turn_is_completed_from_all_that_came_before(tides):
    chat = messages(tides, "teacher")
    made = list(rows([tides], "teacher"))
    assert made == [
        {"prompt": chat[:2], "completion": [chat[2]]},
        {"prompt": chat[:4], "completion": [chat[4]]},
        {"prompt": chat[:6], "completion": [chat[6]]},
    ]


def test_roles_alternate_from_the_user_on_and_a_prompt_ends_with_the_user():
    for side in ("teacher", "student"):
        for row in rows(read_dialogues(SAMPLE), side):
            roles = [message["role"] for message in row["prompt"] + row["completion"]]
            assert roles == ["system", *["user", "assistant"] * (len(roles) // 2)]


def test_conversations_as_messages_are_one_row_each(tides, rhyme):
    made = list(rows([tides, rhyme], "student", form="messages"))
    assert made == [{"messages": messages(tides, "student")}, {"messages": messages(rhyme, "student")}]


@pytest.mark.parametrize("form", ["turns", "messages"])
def test_a_side_that_says_nothing_gives_no_row(tmp_path, form):
    path = written(tmp_path, [changed("conversation", [{"role": "Teacher", "text": "Hello."}])])
    assert list(rows(read_dialogues(path), "student", form=form)) == []
    assert len(list(rows(read_dialogues(path), "teacher", form=form))) == 1


def test_another_side_or_form_is_named():
    with pytest.raises(ValueError, match="side='pupil'; choose one of teacher, student"):
        next(rows([], "pupil"))
    with pytest.raises(ValueError, match="form='text'; choose one of turns, messages"):
        next(rows([], "teacher", form="text"))


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_rows_of_all_files_and_says_what_it_left_out(tmp_path, capsys):
    more, out = written(tmp_path, [changed("conversation", []), RECORD]), tmp_path / "rows.jsonl"
    assert main([str(SAMPLE), str(more), "--side", "teacher", "--out", str(out)]) == 0
    made = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert made[:5] == list(rows(read_dialogues(SAMPLE), "teacher"))
    assert made[5]["completion"] == [{"role": "assistant", "content": "Hello."}]
    assert "“moon”" in out.read_text(encoding="utf-8")
    assert capsys.readouterr().out == (
        f"{out}: 6 rows for a teacher from 3 conversations; left out: 1 conversations without words, 1 turns after the "
        "end marker.\n"
    )


def test_the_command_leaves_nothing_behind_when_a_record_is_malformed(tmp_path, capsys):
    path, out = written(tmp_path, [RECORD, changed("conversation", 0, "role", "Pupil")]), tmp_path / "rows.jsonl"
    assert main([str(path), "--side", "student", "--out", str(out)]) == 1
    assert "record 2, turn 1: role is 'Pupil'" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["data.json"]


def test_a_file_that_is_not_there_is_named(tmp_path, capsys):
    assert main([str(tmp_path / "none.json"), "--side", "student", "--out", str(tmp_path / "rows.jsonl")]) == 1
    assert "none.json" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["turns", "messages"])
def test_trl_takes_the_rows_for_conversations_and_its_templates_render_them(tmp_path, form):
    from transformers import AutoTokenizer
    from trl.data_utils import apply_chat_template, is_conversational

    seller = Path(__file__).parent.parent / "envs" / "simulators" / "sales_seller"
    tokenizer = AutoTokenizer.from_pretrained(seller)
    write_rows(tmp_path / "rows.jsonl", rows(read_dialogues(SAMPLE), "student", form=form))
    row = json.loads((tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert is_conversational(row)
    text = "".join(apply_chat_template(row, tokenizer).values())
    assert text.startswith("<|user|>Today we talk about the tides.")
    assert "<|agent|>Do I have to write that down?<|end|>" in text
