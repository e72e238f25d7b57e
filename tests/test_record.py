"""``record.json``: what is written is read back, and what is wrong with one is named."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import pytest

from results.record import CurvePoint, Evaluation, Record, RecordError, Seconds, Spending

RECORD = Record(
    agent="bandit",
    env="shop",
    user="plain",
    budget="tiny",
    seed=0,
    variant=[],
    learns=True,
    references={"start": "always_red", "optimum": "echo"},
    config={"agent": {"rate": 0.5}, "env": {"users": {"plain": {}}}, "seed": 0},
    overrides=["agent=bandit"],
    command="python -m benchmarks.run agent=bandit",
    date="2026-01-01T00:00:00+00:00",
    commit="0123456789abcdef",
    dirty=False,
    earlier_sources=[],
    versions={"python": "3.11.7", "trl": None},
    platform="Linux, x86_64",
    evaluations=[Evaluation("plain", "iid_test", [0, 1], ["a", "b"], [0.5, None], [True, None], 1.5, 1)],
    spent=Spending(240, 400, 1200, 400, 0, 3),
    seconds=Seconds(0.1, 2.0, 1.0, 3.0),
    metrics={"loss": 0.25, "undefined": None},
    curve=[CurvePoint(0, 0, 0.5, 0.7, 0), CurvePoint(1, 40, None, None, 20)],
)


def changed(**changes) -> str:
    return json.dumps({**json.loads(RECORD.to_json()), **changes})


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(RECORD.to_json())
    assert Record.load(path) == RECORD


def test_the_json_is_strict_and_carries_its_schema_version():
    values = json.loads(RECORD.to_json(), parse_constant=pytest.fail)
    assert values["schema_version"] == 1
    assert values["evaluations"][0]["returns"] == [0.5, None]


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(RECORD, metrics={"loss": float("nan")}).to_json()


def test_every_field_of_every_dataclass_has_a_sentence():
    tree = ast.parse(Path("results/record.py").read_text())
    for node in (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name != "RecordError"):
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
                assert said and said.endswith("."), f"{node.name}.{field.target.id}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RECORD.to_json()[:200], "it is not JSON"),
        ("[]", "it is not a JSON object"),
        ("", "it is not JSON"),
        (changed(schema_version=9), "schema version 9; this release reads version 1"),
        (changed(seed="zero"), 'record.seed is "zero", not a int'),
        (changed(seed=True), "record.seed is true, not a int"),
        (changed(colour="red"), "record has unknown fields colour"),
        (changed(spent={"conversations": 3}), "record.spent lacks agent_tokens, exchanges"),
        (changed(evaluations=[3]), r"record.evaluations\[0\] is 3, not an object"),
        (changed(curve={}), "record.curve is {}, not a"),
        (json.dumps({k: v for k, v in json.loads(RECORD.to_json()).items() if k != "date"}), "record lacks date"),
    ],
)
def test_what_is_wrong_with_a_record_is_named(text, message):
    with pytest.raises(RecordError, match=message):
        Record.from_json(text)


def test_lists_of_an_evaluation_have_one_entry_per_scenario():
    short = dataclasses.replace(RECORD.evaluations[0], returns=[0.5])
    with pytest.raises(RecordError, match="evaluation plain-iid_test differ in length"):
        dataclasses.replace(RECORD, evaluations=[short])


def test_a_bad_file_is_named_with_its_remedy(tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError, match=rf"{path} can't be read.*Move that file away and run its command again"):
        Record.load(path)
