"""Trajectories: what they say of a conversation, and that a line of JSON keeps it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.conversation import Turn
from envs.trajectory import SCHEMA_VERSION, Step, Trajectory, Utterance, read_jsonl, write_jsonl

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
tokens = st.lists(st.tuples(st.integers(0, 10**6), st.integers(-20_000_000, 0)), max_size=5)
utterances = st.builds(
    lambda text, pairs: Utterance(text, tuple(t for t, _ in pairs), tuple(millionths / 1e6 for _, millionths in pairs)),
    words,
    tokens,
)
steps = st.builds(Step, utterances, st.none() | words, numbers | st.just(math.nan))
trajectories = st.builds(
    Trajectory,
    seed=st.integers(0, 2**40),
    brief=words,
    opening=st.lists(st.builds(Turn, st.sampled_from(["agent", "user"]), words), max_size=2).map(tuple),
    steps=st.lists(steps, max_size=4).map(tuple),
    terminated=st.booleans(),
    stop_reason=st.sampled_from(["outcome", "exchange_limit"]),
    success=st.none() | st.booleans(),
    judged=st.booleans(),
    key=words,
    attributes=st.dictionaries(words, words, max_size=2),
    parts=st.dictionaries(words, numbers | st.just(math.nan), max_size=2),
    user_tokens=st.integers(0, 10**6),
    failure=st.none() | words,
)


def talk(*rewards: float) -> Trajectory:
    """A conversation with these rewards."""
    told = tuple(Step(Utterance(f"a{k}", (k,), (-0.5,)), f"u{k}", reward) for k, reward in enumerate(rewards))
    return Trajectory(7, "Sell.", (Turn("user", "Hi."),), told, True, "outcome", True, True)


@settings(max_examples=40, deadline=None)
@given(trajectories)
def test_a_line_of_json_keeps_everything(trajectory):
    line = trajectory.to_json()
    assert "\n" not in line
    json.loads(line, parse_constant=pytest.fail)  # no NaN or Infinity, which strict readers refuse
    again = Trajectory.from_json(line)
    assert again.to_json() == line
    assert again == trajectory  # NaN included: both hold the one math.nan


def test_log_probabilities_keep_six_decimals():
    step = Step(Utterance("hi", (1,), (-0.12345678,)), "ho", 0.0)
    again = Trajectory.from_json(replace(talk(), steps=(step,)).to_json())
    assert again.steps[0].utterance.logprobs == (-0.123457,)


def test_numpys_numbers_are_written_as_numbers():
    numpys = replace(
        talk(),
        seed=np.int64(7),
        success=np.bool_(True),
        steps=(Step(Utterance("a", (np.int64(3),), (np.float32(-0.5),)), "u", np.float32(0.5)),),
        parts={"price": np.float64(640.0)},
    )
    assert Trajectory.from_json(numpys.to_json()) == numpys


def test_what_is_neither_text_nor_number_is_refused():
    with pytest.raises(TypeError, match="neither"):
        replace(talk(), attributes={"seen": {1}}).to_json()
    with pytest.raises(ValueError):
        talk(math.inf).to_json()


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, None])
def test_another_schema_version_is_refused(version):
    row = {**json.loads(talk(1.0).to_json()), "schema_version": version}
    with pytest.raises(ValueError, match=f"schema version {version}.*reads version {SCHEMA_VERSION}"):
        Trajectory.from_json(json.dumps(row))


def _without(name: str) -> str:
    row = json.loads(talk(1.0).to_json())
    del row[name]
    return json.dumps(row)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{",
        _without("steps"),
        _without("seed"),
        _without("schema_version"),
        talk(1.0).to_json().replace('"opening": [', '"opening": [3, '),
        talk(1.0).to_json().replace('"key"', '"kee"'),
    ],
)
def test_a_malformed_line_raises_value_error(line):
    with pytest.raises(ValueError):
        Trajectory.from_json(line)


def test_files_hold_a_trajectory_per_line_and_name_the_line_that_is_wrong(tmp_path):
    path = tmp_path / "talk.jsonl"
    many = [talk(1.0), replace(talk(0.0, 1.0), brief="line\u2028separator\r\nand \x85 more 🚲")]
    write_jsonl(path, many)
    assert list(read_jsonl(path)) == many
    assert [entry.name for entry in tmp_path.iterdir()] == ["talk.jsonl"]
    with path.open("a") as file:
        file.write("{}\n")
    with pytest.raises(ValueError, match=r"talk.jsonl, line 3: Trajectory of schema version None"):
        list(read_jsonl(path))


def test_a_file_that_could_not_be_written_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "talk.jsonl"
    write_jsonl(path, [talk(1.0)])
    with pytest.raises(TypeError):
        write_jsonl(path, [talk(), replace(talk(), attributes={"seen": {1}})])
    assert list(read_jsonl(path)) == [talk(1.0)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["talk.jsonl"]


def test_returns_are_discounted_from_each_exchange_on():
    assert talk(1.0, 2.0, 4.0).returns_to_go(0.5) == [3.0, 4.0, 4.0]  # 1 + 0.5·2 + 0.25·4; 2 + 0.5·4; 4
    assert talk(1.0, 2.0, 4.0).returns() == 7.0


def test_the_return_of_an_unscored_conversation_is_not_a_number():
    assert math.isnan(talk(1.0, math.nan).returns())
    assert math.isnan(talk().returns())


def test_a_prefix_is_what_the_agent_saw_before_that_exchange():
    told = talk(0.0, 1.0)
    assert told.prefix(0).turns == (Turn("user", "Hi."),)
    assert [turn.text for turn in told.prefix(1).turns] == ["Hi.", "a0", "u0"]
    assert [turn.text for turn in told.conversation.turns] == ["Hi.", "a0", "u0", "a1", "u1"]
    assert told.prefix(1).brief == "Sell."


def test_a_user_that_failed_has_no_turn():
    told = replace(talk(), steps=(Step(Utterance("a0"), None, math.nan),))
    assert told.messages() == [
        {"role": "system", "content": "Sell."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "a0"},
    ]


def test_the_agents_tokens_are_counted():
    assert talk(0.0, 1.0).agent_tokens == 2
    assert talk(0.0, 1.0).exchanges == 2
