"""Whole runs whose users are played by a model on a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import benchmarks.evaluate
from benchmarks.progress import RunError
from envs.trajectory import read_jsonl
from results.record import Record
from tests import composed
from tests.endpoint_server import FAULTS, Server, serving

KEY = "sk-very-secret-1234567890"
WORDS = ["agent=expert", "env=sales", "budget=smoke", "budget.scenarios=16", "+budget.users=own"]
WORDS += ["endpoint.pause=0.001", "endpoint.timeout=4"]


def buyer(request: Mapping[str, Any]) -> str:
    """Buys as soon as it is asked to."""
    sellers = [line for line in request["messages"][-1]["content"].splitlines() if line.startswith("Seller:")]
    decision = "buy" if any(word in sellers[-1].lower() for word in ("buy", "take it", "deal")) else "continue"
    return f"SAY: Right.\nDECISION: {decision}"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def start(server: Server, *overrides: str) -> Record:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        words = [*WORDS, f"results={tmp_path}/runs", f"endpoint.cache={tmp_path}/answers.sqlite", *overrides]
        composed.run(*words)
        (record,) = (path for path in (tmp_path / "runs").rglob("record.json") if ".aside" not in str(path))
        return Record.load(record)

    return start


def test_failures_are_unscored_counted_by_kind_and_told_and_the_key_is_nowhere(run, tmp_path: Path, capfd):
    faults = [FAULTS[i // 20 % 5] if i % 20 == 0 else None for i in range(100)]
    with serving(Server(answer=buyer, faults=faults, hang=6.0)) as server:
        record = run(server, "user=endpoint_person", "endpoint.attempts=1")
    told = capfd.readouterr()
    for one in record.evaluations:
        assert one.user == "endpoint_person" and one.unscored == sum(value is None for value in one.returns) > 0
        assert sum(one.failures.values()) == one.unscored
    with serving(Server(answer=buyer)) as server_without_fault:
        right = run(server_without_fault, "user=endpoint_person", "endpoint.attempts=1", "resume=never")
    for one, other in zip(record.evaluations, right.evaluations, strict=True):
        scored = [(a, b) for a, b in zip(one.returns, other.returns, strict=True) if a is not None]
        assert all(a == b for a, b in scored) and sum(a for a, _ in scored) > 0
    kinds = {kind for one in record.evaluations for kind in one.failures}
    assert {"rate_limited", "server_error", "timeout", "unreadable"} <= kinds
    figures = record.models["endpoint_person"]
    failed = {name: n for name, n in figures.items() if name.startswith("failures_")}
    assert sum(failed.values()) == server.erred.total() and figures["asked"] == len(server.requests)
    assert "unscored (" in told.out and "endpoint_person's model: asked" in told.out
    assert KEY not in told.out + told.err
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_server_that_dies_stops_the_run_with_a_sentence_and_the_same_command_goes_on(run, tmp_path: Path):
    with serving(Server(answer=buyer, dies_after=150)) as server, pytest.raises(RunError, match="questions in a row"):
        run(server, "user=endpoint_person", "endpoint.attempts=1", "budget.scenarios=32")
    assert not list((tmp_path / "runs").rglob("record.json"))
    with serving(Server(answer=buyer), server.port) as again:
        record = run(again, "user=endpoint_person", "endpoint.attempts=1", "budget.scenarios=32")
    assert not any(one.unscored for one in record.evaluations)
    assert record.models["endpoint_person"]["remembered"] >= 100


def test_what_failed_before_a_server_was_given_up_on_is_asked_again(run, monkeypatch, tmp_path: Path):
    """It dies at the last two questions of the first chunk, given up on in the second: the first is whole then."""
    monkeypatch.setattr("benchmarks.evaluate._CHUNK", 16)  # 8 scenarios of two splits
    written: list[Path] = []
    keep = benchmarks.evaluate.write_jsonl
    monkeypatch.setattr("benchmarks.evaluate.write_jsonl", lambda path, rows: (written.append(path), keep(path, rows)))
    words = ["user=endpoint_person", "endpoint.attempts=1", "endpoint.concurrency=1"]
    with serving(Server(answer=buyer)) as server:
        whole = run(server, *words)
    files = sorted((tmp_path / "runs").rglob("trajectories/*.jsonl"))
    assert len(files) == 2 and len(written) == 4
    dies_after = sum(one.exchanges for path in files for one in list(read_jsonl(path))[:8]) - 2
    (tmp_path / "answers.sqlite").unlink()
    written.clear()
    with (
        serving(Server(answer=buyer, dies_after=dies_after)) as server,
        pytest.raises(RunError, match="16 questions in a row"),
    ):
        run(server, *words, "resume=never")
    assert [path.name for path in written] == ["000000.jsonl"] and not written[0].exists()
    with serving(Server(answer=buyer), server.port) as again:
        record = run(again, *words)
    assert [one.returns for one in record.evaluations] == [one.returns for one in whole.evaluations]


def echo(request: Mapping[str, Any]) -> str:
    return request["messages"][-1]["content"].split("What you say: ")[1]


def test_a_model_as_the_voice_changes_nothing_that_pays(run):
    with serving(Server(answer=echo)) as server:
        record = run(server, "user=endpoint")
    assert all(one.unscored == 0 and sum(filter(None, one.returns)) > 0 for one in record.evaluations)
    assert record.config["guest"]["model"] == record.config["endpoint"]  # what was asked stands in the record
    assert "guests" not in record.config["env"] and "model" not in record.config
    assert not {"max_cost", "cache", "timeout"} & record.config["endpoint"].keys()  # how it was asked does not
    assert set(record.variant) == {"budget.scenarios=16", "+budget.users=own"}


def test_who_is_not_there_is_no_part_of_a_run(run):
    with serving(Server()) as server:
        record = run(server, "user=program")
    assert not {"model", "endpoint"} & record.config.keys() and "guests" not in record.config["env"]
    assert not server.requests and not record.models
