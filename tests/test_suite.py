"""Suites: which cells there are, how long they take, and that a suite killed at any moment ends with the same table."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from benchmarks.build import Experiment
from benchmarks.cells import Cell, Standing, _composed_once, in_words
from benchmarks.progress import RunError
from benchmarks.run import CONF
from benchmarks.suites import Pace, Suite, overview
from tests.test_record import RECORD
from tests.toy_suite import TOYS, write_suite

ROOT = Path(__file__).parent.parent
SUITES = sorted(path.stem for path in (CONF / "suite").glob("*.yaml"))
VALUES = {
    "title": "Toys",
    "common": {"budget": "tiny", "+agent.pause": None},
    "worlds": {"shop": {}, "far": {"env": "shop", "user": "moody"}},
    "agents": {"red": {"agent": "always_red", "seeds": [0]}, "bandit": None, "slow": {"worlds": ["far"], "x": 1}},
    "seeds": [0, 1],
}


def test_the_first_seed_of_every_agent_in_every_world_comes_first():
    cells = Suite.of("toys", VALUES).cells("runs")
    assert [cell.name for cell in cells] == [
        "shop/red/0", "shop/bandit/0", "far/red/0", "far/bandit/0", "far/slow/0",
        "shop/bandit/1", "far/bandit/1", "far/slow/1",
    ]  # fmt: skip
    assert cells[0].overrides == ("agent=always_red", "env=shop", "budget=tiny", "seed=0", "results=runs")
    assert cells[-1].overrides == (
        "agent=slow", "env=shop", "user=moody", "budget=tiny", "seed=1", "x=1", "results=runs",
    )  # fmt: skip
    assert "budget=smoke" in Suite.of("toys", VALUES).cells("runs", "smoke")[0].overrides


def test_a_slip_in_a_suite_is_named():
    with pytest.raises(RunError, match=r"conf/suite/toys.yaml: sead is not known; a suite takes title, worlds, agents"):
        Suite.of("toys", {**VALUES, "sead": [0]})
    with pytest.raises(RunError, match="seeds is missing; add it"):
        Suite.of("toys", {**VALUES, "seeds": []})
    with pytest.raises(RunError, match="agent slow names the world near; there are shop, far"):
        Suite.of("toys", {**VALUES, "agents": {"slow": {"worlds": ["near"]}}})


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_cells_that_can_be_run(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("suite_config", [f"suite={name}"], return_hydra_config=True)
        suite = Suite.of(name, OmegaConf.to_container(config, resolve=False)["suite"])
        cells = suite.cells("results/runs")
        for cell in cells:
            if cell.seed == 0:
                cell.experiment.check()
    assert len({cell.name for cell in cells}) == len({cell.overrides for cell in cells}) == len(cells)


def cell(agent: str, env: str = "shop", seed: int = 0) -> Cell:
    words = [f"hydra.searchpath=[file://{TOYS}]", f"agent={agent}", f"env={env}", "budget=tiny", f"seed={seed}"]
    return Cell(f"{env}/{agent}", seed, tuple(words))


def test_a_cell_is_what_its_words_say_whatever_was_composed_before():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = _composed_once.cache_info().misses
        for seed in (3, 0, 1):
            one = cell("bandit", seed=seed)
            config = compose("config", list(one.overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            ours = HydraConfig.instance().cfg
            apart = Experiment.of(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
            assert one.experiment == apart and HydraConfig.instance().cfg is ours
            assert one.experiment.config["agent"]["seed"] == seed  # the toy's YAML says ${seed}
            assert one.experiment.folder.name == f"seed{seed}" and f"seed={seed}" in one.command
        assert _composed_once.cache_info().misses == composed + 1
        twice = Cell("shop/bandit", 1, (*cell("bandit", seed=1).overrides, "++seed=2")).experiment
        assert twice.seed == twice.config["agent"]["seed"] == 2


@pytest.mark.parametrize("word", ["7", "seed=007", "seed=-1", "+seed=1"])
def test_a_seed_that_is_none_is_an_error_of_that_cell(word):
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(RunError):
        _ = Cell("shop/bandit", 0, (*cell("bandit").overrides[:-1], word)).experiment


@pytest.mark.parametrize(
    ("out", "budget", "folder"),
    [
        (None, None, "results/suites/mine"),
        (None, "smoke", "results/suites/mine-smoke"),
        ("there", None, "there"),
        ("there", "smoke", "there-smoke"),
    ],
)
def test_tables_of_another_budget_lie_beside_those_of_the_suites_own(out, budget, folder):
    assert Suite("mine", "Mine", {"shop": {}}, {"bandit": None}, [0], out=out).where(budget) == folder


def test_how_long_it_takes_is_told_by_what_took_how_long():
    seconds = replace(RECORD.seconds, setup=1.0, learning=10.0, evaluation=4.0)
    one = replace(RECORD, agent="bandit", env="shop", budget="tiny", seconds=seconds)
    pace = Pace.of([one, replace(one, seconds=replace(seconds, learning=20.0))])  # 15 and 25 seconds
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert pace.expected(cell("bandit")) == 20.0
        assert pace.expected(cell("echo")) is None
        assert pace.left([cell("bandit"), cell("bandit", seed=1)], 1) == "about 40 seconds on 1 at a time"
        guessed = pace.left([cell("bandit"), cell("echo")], 2)
        assert guessed == "about 20 seconds on 2 at a time, 1 of them guessed"
        assert Pace.of([]).left([cell("echo")], 1) == "how long is not known before the first is finished"
    assert [in_words(s) for s in (12, 100, 6000)] == ["12 seconds", "1.7 minutes", "1.7 hours"]


def test_the_overview_counts_by_agent_and_world():
    standings = [
        Standing(cell("bandit"), "finished", RECORD), Standing(cell("bandit", seed=1), "failed: it died"),
        Standing(cell("bandit", "far"), "not begun"),
    ]  # fmt: skip
    (row,) = overview(standings).splitlines()[2:]
    assert [part.strip() for part in row.strip("|").split("|")] == ["bandit", "1 of 2, 1 failed", "0 of 1"]


# ---- for real -------------------------------------------------------------------------------------------------------

VOLATILE = ("learning_seconds", "evaluation_seconds", "cpu_seconds", "commit", "dirty")
"""Columns of the table that tell the time or the source."""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the toys' configuration and a suite of them."""
    folder = tmp_path_factory.mktemp("suite")
    toys = write_suite(folder / "conf", bandit={"agent.pause": 0.1})
    broken = {**toys, "agents": {"idler": {"agent.honest": False}, "nobody": None, "always_red": None}, "seeds": [0]}
    (folder / "conf/suite/broken.yaml").write_text(yaml.safe_dump(broken))
    return folder


def command(place: Path, results: str, *words: str) -> list[str]:
    folders = [f"--config-dir={place / 'conf'}", f"results={place / results}", f"out={place / results}-table"]
    return [sys.executable, "-m", "benchmarks.suite", *folders, *words]


def table(place: Path, results: str) -> pd.DataFrame:
    return pd.read_csv(place / f"{results}-table" / "leaderboard.csv").drop(columns=list(VOLATILE))


@pytest.fixture(scope="module")
def undisturbed(place) -> subprocess.CompletedProcess[str]:
    words = command(place, "undisturbed", "suite=toys", "jobs=2")
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)


def test_a_suite_runs_tells_and_writes_its_table(place, undisturbed):
    said = undisturbed.stdout
    assert "Toys: 3 of 3 cells to run, how long is not known before the first is finished." in said
    assert "| always_red | 1 of 1 |" in said and "| bandit     | 2 of 2 |" in said
    assert set(table(place, "undisturbed")["agent"]) == {"always_red", "bandit"}


def test_what_is_finished_is_left_alone_and_the_table_is_written_anew(place, undisturbed):
    (place / "undisturbed-table" / "leaderboard.csv").unlink()
    before = {path: path.stat().st_mtime_ns for path in (place / "undisturbed").rglob("record.json")}
    words = command(place, "undisturbed", "suite=toys")
    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert " starts: " not in again.stdout and len(table(place, "undisturbed")) == 8
    assert {path: path.stat().st_mtime_ns for path in (place / "undisturbed").rglob("record.json")} == before


def test_a_cell_that_fails_is_named_and_the_others_are_in_the_table(place):
    words = command(place, "broken", "suite=broken")
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "These cells failed:\n  shop/idler/0: failed: ended with exit status 1" in ended.stderr
    assert "shop/nobody/0: failed: shop/nobody/0 can't be composed: " in ended.stderr
    assert "| idler      | 0 of 1, 1 failed |" in ended.stdout
    assert list(dict.fromkeys(table(place, "broken")["agent"])) == ["always_red"]


def test_places_that_can_t_be_written_are_told_with_what_names_them(place, undisturbed):
    (place / "file").touch()
    words = [*command(place, "undisturbed", "suite=toys"), f"out={place / 'file/table'}"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "Give another place with out=FOLDER." in ended.stderr
    words = [*command(place, "file/runs", "suite=toys"), f"out={place / 'another-table'}"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.count("Another place is given with results=FOLDER.") >= 3  # one for every cell


def kill(process: subprocess.Popen, results: Path, everything: bool) -> None:
    """SIGKILL to the suite, and if it is the whole machine that goes down, to its cells as well."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if everything:
        subprocess.run(  # their sessions are their own
            ["pkill", "-KILL", "-f", f"benchmarks.run .*results={results}( |$)"], check=False
        )


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_a_suite_killed_at_random_moments_ends_with_the_same_table(place, undisturbed, kills):
    moments, results = random.Random(kills), f"killed{kills}"
    words = command(place, results, "suite=toys", "jobs=2")
    for i in range(kills):
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.5, 8.0))
        kill(process, place / results, everything=i % 2 == 0)
    last = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert last.returncode == 0, last.stderr
    pd.testing.assert_frame_equal(table(place, results), table(place, "undisturbed"))
