"""What takes minutes: ``make test-long``. The real learner in the real world, killed, and judged by what it learns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kill_test import main as kill_test
from results.crossed import mean_interval
from results.record import Record
from results.statistics import Estimate, matrix

pytestmark = pytest.mark.long
ROOT = Path(__file__).parent.parent


def test_iterative_ppo_killed_at_any_moment_ends_as_if_it_had_not_been(capfd: pytest.CaptureFixture[str]):
    status = kill_test(["agent=iterppo", "env=sales", "user=program", "budget=smoke", "--kills", "3"])
    assert status == 0, capfd.readouterr().out


def mean_return(agent: str, results: Path) -> Estimate:
    """On 400 scenarios of ``iid_test``, after half the default budget."""
    half = ["budget.conversations=3072", "budget.scenarios=400", "budget.curve.every=0", "env.evaluation.also=[]"]
    command = [sys.executable, "-m", "benchmarks.run", f"agent={agent}", "env=sales", "user=program", *half]
    subprocess.run([*command, f"results={results}"], check=True, cwd=ROOT)
    (path,) = results.glob(f"**/{agent}/**/record.json")
    one = next(one for one in Record.load(path).evaluations if (one.user, one.split) == ("program", "iid_test"))
    return mean_interval(matrix([one.returns]), one.keys)


def test_half_the_default_budget_teaches_to_sell_far_better_than_the_start(tmp_path: Path):
    start, learnt = mean_return("start", tmp_path), mean_return("iterppo", tmp_path)
    assert learnt.low > start.high
    assert learnt.value > start.value + 0.15
