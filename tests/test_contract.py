"""Every agent in every world, at the smoke budget: it ends with a complete record, or with one sentence that says what
is missing."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import yaml

from benchmarks.progress import RunError
from results.record import Record
from tests.composed import run
from tests.documents import explained

ROOT = Path(__file__).parent.parent
WORLDS = sorted(path.stem for path in (ROOT / "conf" / "env").glob("*.yaml"))
AGENTS = sorted(path.stem for path in (ROOT / "conf" / "agent").glob("*.yaml"))
"""Those of subfolders need something more, or are of one world."""
WHOLE = ("sales", "education", "car_dealer", "twenty_questions", "suggested_response")
"""Worlds in which every agent runs. The others are tables in words, for what is exact about them."""


def first_user(world: str) -> str:
    """The program where there is one: it needs no model."""
    users = yaml.safe_load((ROOT / "conf" / "env" / f"{world}.yaml").read_text())["users"]
    return "program" if "program" in users else next(iter(users))


@pytest.mark.long
@pytest.mark.parametrize(("world", "agent"), list(product(WORLDS, AGENTS)))
def test_every_agent_runs_in_every_world(world: str, agent: str, tmp_path: Path):
    words = [f"agent={agent}", f"env={world}", f"user={first_user(world)}", "+budget.users=own", "budget=smoke"]
    try:
        run(*words, f"results={tmp_path}", "forks.moments=1")
    except RunError as error:
        assert world not in WHOLE, error
        assert len(str(error).splitlines()) < 12
        return
    (path,) = tmp_path.rglob("record.json")
    record = Record.load(path)
    assert (record.agent, record.env) == (agent, world)
    spent = record.spent.conversations
    assert spent <= 16  # a rest that is too little for one more comparison is left
    assert spent == (record.curve[-1].conversations if record.learns else 0)
    for one in record.evaluations:
        assert len(one.returns) == 8 and one.unscored == 0 and all(value is not None for value in one.returns)
    assert record.learns == bool(record.curve)
    assert set(record.diagnostics) >= {"words", "repetition", "distinct_utterances"}
    lines = (path.parent / "metrics.jsonl").read_text().splitlines() if record.learns else []
    logged = {name for line in lines for name in json.loads(line)["agent"]}
    logged |= {name.removesuffix("_low").removesuffix("_high") for name in record.diagnostics}
    assert logged <= explained(), f"docs/metrics.md does not explain {sorted(logged - explained())}"
