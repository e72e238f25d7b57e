"""Interrupted runs: continued exactly, told apart, and never lost."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

import benchmarks.evaluate
import benchmarks.run
from agents.rollout import rollout
from benchmarks.checkpoint import RunFolder, write_whole
from benchmarks.kill_test import kill_test
from benchmarks.progress import RunError
from benchmarks.run import main
from benchmarks.same import compare
from envs.trajectory import read_jsonl
from tests.conftest import AnyColour
from tests.toy import Customer, Shop

CONF = Path(__file__).parent / "conf"
WORDS = ["env=shop", "budget=tiny", "agent=bandit"]


class Killed(BaseException):
    """Stands for a process that ends here."""


def start(results: Path, *overrides: str) -> Path:
    """Run the command in this process into ``results``; returns the run's folder."""
    words = [*WORDS, f"results={results}", *overrides]
    with initialize_config_dir(str(benchmarks.run.CONF), version_base="1.3"):
        config = compose("config", [f"hydra.searchpath=[file://{CONF}]", *words], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    main(config)
    return results / "shop/plain/bandit/tiny/seed0"


@pytest.fixture
def run():
    return start


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of an undisturbed run."""
    return start(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def killed(run, monkeypatch):
    """Runs the command until the ``n``-th call of a method, where the process ends."""

    def go(results: Path, owner: object, method: str, n: int) -> None:
        calls, whole = iter(range(1, n + 1)), getattr(owner, method)

        def counted(*arguments, **options):
            if next(calls) == n:
                raise Killed
            return whole(*arguments, **options)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(owner, method, counted)
            run(results)

    return go


MOMENTS = [(RunFolder, "save", 1), (RunFolder, "write_metrics", 3), (RunFolder, "write_record", 1)]
MOMENTS += [
    (benchmarks.evaluate, *at)
    for at in (("rollout", 2), ("play", 1), ("play", 2), ("_of", 2), ("_of", 4), ("rmtree", 1))
]


@pytest.mark.parametrize(("owner", "method", "n"), MOMENTS)
def test_a_run_ended_anywhere_and_resumed_ends_as_an_undisturbed_one(run, killed, whole, tmp_path, owner, method, n):
    killed(tmp_path, owner, method, n)
    assert list(compare(whole, run(tmp_path))) == []


def test_an_evaluation_ended_between_two_chunks_goes_on_after_the_first(run, killed, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks.evaluate, "_CHUNK", 12)
    killed(tmp_path, benchmarks.evaluate, "play", 2)
    assert [path.name for path in tmp_path.rglob("*.parts/*")] == ["000000.jsonl"]
    assert list(compare(whole, run(tmp_path))) == []


def test_each_file_of_an_evaluation_has_the_conversations_of_its_split(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks.evaluate, "_CHUNK", 12)
    envs = {tmp_path / f"{split}.jsonl": Shop(Customer(), split=split) for split in Shop.splits}
    assert len(envs) > 1
    benchmarks.evaluate.converse(AnyColour(), envs, range(20), [])
    for path, env in envs.items():
        assert list(read_jsonl(path)) == rollout(AnyColour(), env, range(20))
    assert sorted(tmp_path.iterdir()) == sorted(envs)


def test_killed_at_random_moments_and_resumed_it_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(CONF.parents[1])
    assert kill_test([f"--config-dir={CONF}", *WORDS, "agent.pause=0.05"], kills=4, seed=1, folder=tmp_path) == 0


def test_the_comparison_finds_a_difference(run, whole, tmp_path):
    second = run(tmp_path)
    record = json.loads((second / "record.json").read_text())
    record["evaluations"][0]["returns"][5] = 7.0
    (second / "record.json").write_text(json.dumps(record))
    (difference,) = compare(whole, second)
    assert difference.startswith("record.json.evaluations[0].returns[5]: 0.") and "7.0" in difference


def test_a_finished_run_is_left_as_it_is(run, tmp_path, capsys, monkeypatch):
    folder = run(tmp_path)
    before = (folder / "record.json").stat().st_mtime_ns
    monkeypatch.setattr("benchmarks.run.run", None)
    run(tmp_path)
    assert "finished earlier" in capsys.readouterr().out
    assert (folder / "record.json").stat().st_mtime_ns == before


def test_what_was_evaluated_is_not_evaluated_again(run, killed, tmp_path, monkeypatch):
    killed(tmp_path, RunFolder, "write_record", 1)
    for name in ("rollout", "play"):
        monkeypatch.setattr(f"benchmarks.evaluate.{name}", None)
    assert (run(tmp_path) / "record.json").exists()


def test_a_source_that_changed_meanwhile_is_warned_of_and_recorded(run, killed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.run.source", lambda: "first")
    killed(tmp_path, RunFolder, "save", 4)
    monkeypatch.setattr("benchmarks.run.source", lambda: "second")
    folder = run(tmp_path)
    assert "WARNING: The source has changed since this run began (first, now second)" in capsys.readouterr().err
    assert json.loads((folder / "record.json").read_text())["earlier_sources"] == ["first"]


@pytest.mark.parametrize("moment", [(RunFolder, "save", 4), (RunFolder, "write_record", 1)])
def test_another_configuration_is_told_apart_key_by_key(run, killed, tmp_path, moment):
    killed(tmp_path, *moment)
    folder = tmp_path / "shop/plain/bandit/tiny/seed0"
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("learning_rate: 4.0", "learning_rate: 3.0\n  momentum: 1"))
    with pytest.raises(RunError) as error:
        run(tmp_path)
    said = str(error.value)
    assert "agent.learning_rate: 3.0 there, 4.0 now" in said and "agent.momentum: 1 there, (absent) now" in said
    assert "resume=never" in said
    run(tmp_path, "resume=never")
    aside = [path for path in folder.parent.iterdir() if ".aside-" in path.name]
    assert len(aside) == 1 and (aside[0] / "checkpoints").exists() and (folder / "record.json").exists()


def test_a_folder_in_which_nothing_was_learnt_is_taken_over(run, tmp_path):
    folder = tmp_path / "shop/plain/bandit/tiny/seed0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("agent: {learning_rate: 7}")
    assert (run(tmp_path) / "record.json").exists()


DAMAGE = [("agent/logits.json", "[[0, 0"), ("agent/logits.json", None), ("state.json", "{}"), ("manifest.json", "")]


@pytest.mark.parametrize(("name", "text"), DAMAGE)
def test_a_damaged_checkpoint_is_replaced_by_the_one_before_it_loudly(run, killed, whole, tmp_path, capsys, name, text):
    killed(tmp_path / "killed", RunFolder, "write_record", 1)
    path = tmp_path / "killed/shop/plain/bandit/tiny/seed0/checkpoints/000006" / name
    path.unlink() if text is None else path.write_text(text)
    folder = run(tmp_path / "killed")
    said = capsys.readouterr().err
    assert "WARNING" in said and str(path) in said and "falling back" in said
    assert list(compare(whole, folder)) == []
    assert any(".aside-" in other.name for other in folder.iterdir()), "the evaluation of the lost agent is moved aside"


def test_when_every_checkpoint_is_damaged_the_remedy_is_named(run, killed, tmp_path):
    killed(tmp_path, RunFolder, "write_record", 1)
    for path in tmp_path.rglob("checkpoints/*/state.json"):
        path.write_text("")
    with pytest.raises(RunError) as error:
        run(tmp_path)
    said = str(error.value)
    assert "No checkpoint in" in said and "resume=never" in said
    assert len(list(tmp_path.rglob("checkpoints/*/state.json"))) == 2


def test_a_damaged_evaluation_file_is_named(run, killed, tmp_path):
    killed(tmp_path, RunFolder, "write_record", 1)
    path = tmp_path / "shop/plain/bandit/tiny/seed0/trajectories/plain-iid_test.jsonl"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(RunError) as error:
        run(tmp_path)
    said = str(error.value)
    assert f"{path}, line 20" in said and "the same command makes it again" in said
    path.unlink()
    assert (run(tmp_path) / "record.json").exists()


def test_a_damaged_record_is_named_with_its_remedy(run, tmp_path):
    folder = run(tmp_path)
    text = (folder / "record.json").read_text()
    (folder / "record.json").write_text(text[:500])
    with pytest.raises(RunError, match="Move that file away") as error:
        run(tmp_path)
    assert f"{folder / 'record.json'} can't be read" in str(error.value)
    (folder / "record.json").rename(folder / "bad.json")
    run(tmp_path)
    assert json.loads((folder / "record.json").read_text())["evaluations"] == json.loads(text)["evaluations"]


def test_a_folder_that_another_process_holds_is_not_touched(run, tmp_path):
    folder = tmp_path / "shop/plain/bandit/tiny/seed0"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="Another process is at work"):
            run(tmp_path)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_half_written_files_of_killed_processes_are_cleared_away(run, killed, tmp_path):
    killed(tmp_path, RunFolder, "save", 4)
    folder = tmp_path / "shop/plain/bandit/tiny/seed0"
    (folder / ".record.json.123").write_text("{")
    (folder / "checkpoints/.000009.123/agent").mkdir(parents=True)
    run(tmp_path)
    assert sorted(path.name for path in folder.rglob(".*")) == [".lock"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "old")
    monkeypatch.setattr("benchmarks.checkpoint.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert path.read_text() == "old"
