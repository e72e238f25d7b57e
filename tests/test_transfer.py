"""Agents with users they did not learn with: what is run, what is kept, and the table."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.transfer import main
from results.record import Evaluation
from results.transfer import Transfer, csv, markdown, write

CONF = Path(__file__).parent / "conf"


def evaluation(user: str, returns: list[float | None], split: str = "iid_test") -> Evaluation:
    return Evaluation(
        user=user, split=split, seeds=list(range(len(returns))), keys=[str(i) for i in range(len(returns))],
        returns=returns, successes=[None if value is None else value > 0.5 for value in returns], mean_exchanges=2.0,
        unscored=sum(value is None for value in returns), failures={},
    )  # fmt: skip


MET = {
    "start": {"a": [evaluation("a", [0.0, 0.2, 0.4, 0.2])], "b": [evaluation("b", [0.0, 0.2, 0.4, 0.2])]},
    "a": {
        "a": [evaluation("a", [0.8, 1.0, 0.6, 0.8]), evaluation("a", [0.8, 0.8, 0.8, 0.8])],
        "b": [evaluation("b", [0.3, 0.5, 0.1, 0.3]), evaluation("b", [0.3, 0.3, 0.3, 0.3])],
    },
    "b": {
        "a": [evaluation("a", [0.4, None, 0.6, 0.5]), evaluation("a", [0.5, 0.5, 0.5, 0.5])],
        "b": [evaluation("b", [0.4, 0.6, 0.5, 0.5]), evaluation("b", [0.5, 0.5, 0.5, 0.5])],
    },
}


def test_the_table_by_hand():
    table = Transfer.of("learner", "shop", MET, ["a", "b"])
    assert table.rows == ("start", "a", "b") and table.seeds == {"start": 1, "a": 2, "b": 2} and table.unscored == 1
    assert table.returns["a"]["a"].value == pytest.approx(0.8) and table.returns["a"]["b"].value == pytest.approx(0.3)
    assert table.returns["start"]["a"].value == pytest.approx(0.2)
    gap = table.gaps["a"]["b"]  # .5 in every scenario of every run
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.5, 0.5, 0.5))
    assert table.gaps["b"]["a"].value == pytest.approx(-0.1 / 7)  # a scenario that was not scored is in neither
    assert set(table.gaps) == {"a", "b"}
    assert np.isclose(table.returns["b"]["a"].value, np.mean([0.4, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5]))


def test_evaluations_of_other_scenarios_are_refused():
    met = {"a": {"a": [evaluation("a", [1.0, 0.0])], "b": [evaluation("b", [1.0, 0.0, 0.0])]}}
    with pytest.raises(ValueError, match="same scenarios"):
        Transfer.of("learner", "shop", met, ["a", "b"])


def test_page_csv_and_plot_say_the_same(tmp_path: Path):
    table = Transfer.of("learner", "shop", MET, ["a", "b"])
    path = write(table, tmp_path, "transfer-shop", ["Command: `x`"])
    page = path.read_text()
    assert "0.500 [0.500, 0.500]" in page and "Unscored conversations: 1" in page and "- Command: `x`" in page
    assert page == markdown(table, "transfer-shop.png", ["Command: `x`"])
    lines = csv(table).splitlines()
    assert len(lines) == 7 and lines[0].startswith("env,agent,split,learnt_with,talks_with,return,low,high,gap")
    assert (tmp_path / "transfer-shop.png").stat().st_size > 5000
    assert json.loads((tmp_path / "transfer-shop.json").read_text())["returns"]["a"]["b"]["value"] == pytest.approx(0.3)


def transferred(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> str:
    """Runs the command in this process; returns the page."""
    words = [f"--config-dir={CONF}", "agent=bandit", "env=shop", "budget=tiny", "seeds=[0,1]", "reference=echo"]
    words += ["trained_on=[plain,moody]", "talks_with=[plain,moody]", f"results={folder}/runs", f"out={folder}"]
    monkeypatch.setattr(sys, "argv", ["transfer.py", *words, *overrides])
    main()
    (page,) = folder.glob("transfer-shop-bandit-tiny*.md")
    return page.read_text()


@pytest.fixture
def transfer(monkeypatch, tmp_path: Path):
    return lambda *overrides: transferred(monkeypatch, tmp_path, *overrides)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the command has run."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as monkeypatch:
        transferred(monkeypatch, folder)
    return folder


@pytest.fixture
def again(done: Path, transfer, tmp_path: Path):
    """The same command in a copy of that folder, whose page it gives beside the new one."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    (page,) = tmp_path.glob("transfer-shop-bandit-tiny*.md")
    first = page.read_text()
    return lambda: (first, transfer())


def test_what_is_missing_is_run_everybody_talks_with_everybody_and_nothing_twice(again, tmp_path: Path, capfd):
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.jsonl")}
    capfd.readouterr()
    page, after = again()
    assert "all runs are finished" in page and "Training runs: echo 1, plain 2, moody 2." in page
    assert len([path for path in kept if path.stem == "moody-iid_test"]) == 5
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert " talks with " not in capfd.readouterr().out.partition("learnt with")[0]
    assert [row for row in page.splitlines() if row.startswith("| ")] == [
        row for row in after.splitlines() if row.startswith("| ")
    ]


def test_a_conversation_file_that_is_lost_is_made_again_the_same(again, tmp_path: Path):
    (lost,) = (tmp_path / "runs/shop/plain/bandit/tiny/seed1").rglob("moody-iid_test.jsonl")
    before = lost.read_text()
    lost.unlink()
    page, after = again()
    assert after.splitlines()[6:10] == page.splitlines()[6:10] and lost.read_text() == before


def test_overrides_hold_for_whom_is_talked_with_too(transfer, tmp_path: Path):
    page = transfer('overrides=["+env.max_exchanges=1"]', "seeds=[0]", "talks_with=[moody,plain]")
    assert "Training runs: echo 1, plain 1, moody 1." in page
    for path in (tmp_path / "runs").rglob("*-iid_test.jsonl"):
        assert all(len(json.loads(line)["steps"]) == 1 for line in path.read_text().splitlines()), path


def test_a_damaged_last_checkpoint_is_no_earlier_agent(again, tmp_path: Path, capsys):
    run = tmp_path / "runs/shop/plain/bandit/tiny/seed1"
    (run / "trajectories/moody-iid_test.jsonl").unlink()
    last = max(path for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    next(path for path in (last / "agent").iterdir()).write_text("")
    with pytest.raises(SystemExit):
        again()
    assert "is damaged" in capsys.readouterr().err


def test_a_published_run_has_no_agent_that_could_talk(again, tmp_path: Path, capsys):
    run = next(tmp_path.rglob("bandit/tiny/seed0"))
    for place in ("trajectories", "checkpoints"):
        shutil.rmtree(run / place)
    with pytest.raises(SystemExit):
        again()
    assert "seed0 has a record alone, as published runs have" in capsys.readouterr().err


def test_with_no_jobs_and_no_runs_there_is_nothing_to_show(transfer, capsys):
    with pytest.raises(SystemExit):
        transfer("jobs=0")
    assert "jobs=1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trained_on=[nobody]", "nobody"),
        ("talks_with=[nobody]", "nobody"),
        ("seeds=0", "seeds=0"),
        ("talks_with=[]", "talks_with=[] is empty"),
        ("jobs=-1", "jobs=-1"),
    ],
)
def test_what_is_wrong_is_named(transfer, capsys, override, said):
    with pytest.raises(SystemExit):
        transfer(override)
    assert said in capsys.readouterr().err
