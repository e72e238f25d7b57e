"""The same suite on an existing engine: its records are those of processes of one's own, to the last digit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.same import main as same
from tests.toy_suite import write_suite

ROOT = Path(__file__).parent.parent
ENGINES = {
    "ray": "hydra/launcher=ray",
    "submitit": "hydra/launcher=submitit_local",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the toys' configuration and a suite of them, run here."""
    folder = tmp_path_factory.mktemp("launchers")
    write_suite(folder / "conf")
    subprocess.run(command(folder, "here"), cwd=ROOT, check=True, timeout=120)
    return folder


def command(place: Path, results: str, *words: str) -> list[str]:
    folders = [f"results={place / results}", f"out={place / results}-table", f"hydra.sweep.dir={place / 'sweep'}"]
    options = ["--multirun"] if words else []
    start = [sys.executable, "-m", "benchmarks.suite", f"--config-dir={place / 'conf'}", *options]
    return [*start, "suite=toys", *folders, *words]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_records_are_those_of_ones_own_processes(place, engine):
    words = command(place, engine, ENGINES[engine], "shard=0/2,1/2")
    subprocess.run(words, cwd=ROOT, check=True, timeout=300)
    assert same([str(place / "here"), str(place / engine)]) == 0
