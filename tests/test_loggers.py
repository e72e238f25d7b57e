"""Experiment trackers: told what metrics.jsonl has, interrupted or not; never in the way, and nothing is uploaded."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from benchmarks.checkpoint import RunFolder
from benchmarks.loggers import numbers
from benchmarks.run import main
from results.record import Record

CONF = Path(__file__).parent / "conf"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the bandit of the toy shop in this process; returns the run's folder."""

    def go(*overrides: str) -> Path:
        words = [f"--config-dir={CONF}", "env=shop", "budget=tiny", "agent=bandit", f"results={tmp_path}", *overrides]
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        main()
        return tmp_path / "shop/plain/bandit/tiny/seed0"

    return go


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.fixture
def killed(run, monkeypatch):
    """Runs the bandit until its ``n``-th checkpoint is to be written, where the process ends."""

    def go(n: int, *overrides: str) -> None:
        calls, save = iter(range(1, n + 1)), RunFolder.save

        def counted(*arguments):
            if next(calls) == n:
                raise Killed
            save(*arguments)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(RunFolder, "save", counted)
            run(*overrides)

    return go


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Fake(types.ModuleType):
    """Stands for wandb and for trackio, of which it has what we call: an ``init`` that returns a run."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__spec__ = types.SimpleNamespace(name=name)
        self.inits: list[dict] = []
        self.told: list[tuple[int, dict]] = []
        self.summary: dict[str, float] = {}
        self.finished = 0

    def init(self, **options):
        self.inits.append(options)
        return self

    def Settings(self, **options):  # noqa: N802  # wandb's own name
        return options

    def log(self, numbers, step):
        self.told.append((step, numbers))

    def finish(self):
        self.finished += 1


@pytest.fixture
def fake(monkeypatch):
    """Puts a fake module in the place of ``name``, whether that is installed or not."""
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)

    def put(name: str) -> Fake:
        monkeypatch.setitem(sys.modules, name, module := Fake(name))
        return module

    return put


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads in a folder: (step, value) by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    return {name: [(one.step, one.value) for one in read.Scalars(name)] for name in read.Tags()["scalars"]}


def test_a_row_becomes_named_numbers_without_what_was_not_measured():
    row = {
        "iteration": 2,
        "conversations": 40,
        "evaluation": {"iteration": 2, "conversations": 40, "mean_return": 0.5, "success_rate": None},
        "agent": {"loss": 1.5, "auc": None},
        "seconds": {"learning": 3.0},
    }
    named = {"conversations": 40, "evaluation/mean_return": 0.5, "agent/loss": 1.5, "seconds/learning": 3.0}
    assert dict(numbers(row)) == named
    assert dict(numbers({**row, "evaluation": None, "agent": {}})) == {"conversations": 40, "seconds/learning": 3.0}


def test_tensorboard_has_every_row_once_after_an_interruption(run, killed):
    killed(4, "logger=tensorboard")
    folder = run("logger=tensorboard")
    assert len(list((folder / "tensorboard").iterdir())) == 2  # a file for each process
    told, written = scalars(folder / "tensorboard"), rows(folder)
    assert [step for step, _ in told["conversations"]] == list(range(7))
    returns = [row["evaluation"]["mean_return"] for row in written]
    assert [value for _, value in told["evaluation/mean_return"]] == pytest.approx(returns)
    one = Record.load(folder / "record.json").evaluations[0]
    assert (one.user, one.split) == ("plain", "iid_test")
    assert told["final/plain/iid_test/mean_return"] == [(6, pytest.approx(sum(one.returns) / 20))]


def test_the_logger_is_no_part_of_what_a_run_is(run, killed, fake):
    module = fake("wandb")
    killed(4)  # begun without one
    folder = run("logger=wandb", "logger.project=mine")
    assert folder.name == "seed0" and Record.load(folder / "record.json").variant == []
    assert "logger" not in Record.load(folder / "record.json").config
    assert [step for step, _ in module.told] == list(range(7))  # what came before it was there is told too


def test_wandb_is_offline_unless_it_is_told_otherwise(run, fake):
    module = fake("wandb")
    folder = run("logger=wandb")
    (options,) = module.inits
    assert (options["mode"], options["project"], options["dir"]) == ("offline", "parley", str(folder))
    assert options["name"] == "shop/plain/bandit/tiny/seed0" and options["config"]["seed"] == 0
    assert module.summary["final/plain/iid_test/success_rate"] == 1.0 and module.finished == 1


@pytest.mark.parametrize(
    ("name", "words", "heard"),
    [
        ("wandb", ["logger=wandb"], [0, 1, 2, *range(7)]),  # a file of its own, whole in itself
        ("wandb", ["logger=wandb", "logger.mode=online"], list(range(7))),
        ("trackio", ["logger=trackio"], [*range(7), 6]),  # the last are those of the final evaluation
    ],
)
def test_a_continued_run_is_the_same_run(run, killed, fake, name, words, heard):
    module = fake(name)
    killed(4, *words)
    run(*words)
    assert [step for step, _ in module.told] == heard
    first, second = module.inits
    assert first["name"] == second["name"] and first.get("id") == second.get("id")
    assert module.finished == 2  # closed where the first process ended, too


def test_a_run_made_anew_is_another_run(run, fake):
    module = fake("trackio")
    run("logger=trackio")
    run("logger=trackio", "resume=never")
    first, second = module.inits
    assert first["name"] != second["name"] and len(module.told) == 16


def test_trackio_uploads_nothing_unless_the_configuration_says_where(run, fake, monkeypatch, capsys):
    module = fake("trackio")
    run("logger=trackio")
    assert module.inits[0]["space_id"] is None
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/somewhere")
    with pytest.raises(SystemExit):
        run("logger=trackio", "seed=1")
    assert "TRACKIO_SPACE_ID is set, so it would upload" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["init", "log", "finish"])
def test_a_logger_that_fails_is_warned_of_once_and_left(run, fake, monkeypatch, capsys, method):
    module = fake("wandb")

    def fail(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(module, method, fail)
    folder = run("logger=wandb")
    assert Record.load(folder / "record.json").spent.conversations == 120 and len(rows(folder)) == 7
    assert capsys.readouterr().err.count("WandB failed (the disk is full) and is told nothing more") == 1


@pytest.mark.parametrize(
    ("name", "library", "command"),
    [
        ("tensorboard", "tensorboard", "pip install 'parley-gym[tensorboard]'"),
        ("wandb", "wandb", "pip install wandb"),
        ("trackio", "trackio", "pip install trackio"),
    ],
)
def test_a_missing_library_is_named_with_its_remedy_before_anything_runs(
    run, monkeypatch, capsys, tmp_path, name, library, command
):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(SystemExit):
        run(f"logger={name}")
    said = capsys.readouterr().err
    assert f"it needs {library}, which is not installed; run: {command}" in said and "Traceback" not in said
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_an_unknown_value_of_a_logger_is_named(run, capsys):
    with pytest.raises(SystemExit):
        run("logger=wandb", "logger.mode=shared")
    assert "logger.mode='shared' is of the wrong type: it takes Literal['offline', 'online']" in capsys.readouterr().err
