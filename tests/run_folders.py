"""Run folders of a small shop, with the conversations that a page shows: what the tests of the page start from.

Three agents (the start, the optimum and a learner of two seeds) meet two users on two splits, six scenarios each. On
scenario k the learner reaches its purpose if k is even; scenario 5 is always unscored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from envs.conversation import Turn
from envs.trajectory import Step, Trajectory, Utterance, write_jsonl
from results.record import CurvePoint, Evaluation, Record
from tests.test_record import RECORD

SCENARIOS = 6
USERS = ("plain", "moody")
SPLITS = ("iid_test", "ood_test")
COLOURS = ("red", "green", "blue")
SCRIPT = "<script>window.stolen = true</script> & <b>bold</b>"
"""What an agent may say, and a page must only show."""


def returned(agent: str, scenario: int) -> float | None:
    """What ``agent`` returns on a scenario; None where it ends unscored."""
    if scenario == SCENARIOS - 1:
        return None
    return {"always_red": 0.0, "echo": 1.0}.get(agent, 1.0 if scenario % 2 == 0 else 0.25)


def conversation(agent: str, user: str, split: str, scenario: int) -> Trajectory:
    """A greeting, a question, an offer."""
    value = returned(agent, scenario)
    colour = COLOURS[scenario % 3]
    said = SCRIPT if (agent, scenario) == ("bandit", 1) else f"How about {colour}, {agent} asks."
    reply = None if value is None else f"The {user} one says {'yes' if value == 1 else 'no'}."
    steps = (
        Step(Utterance("What do you like?", (1, 2), (-0.5, -0.25)), f"Something {colour}, in {split}.", 0.0),
        Step(Utterance(said, (3,), (-1.0,)), reply, math.nan if value is None else value),
    )
    return Trajectory(
        seed=scenario,
        brief="You sell colours.",
        opening=(Turn("user", f"Hello, I am number {scenario}."),),
        steps=steps,
        terminated=value is not None,
        stop_reason="user_failed" if value is None else "outcome" if value == 1 else "user_left",
        success=None if value is None else value == 1,
        judged=value is not None,
        key=colour,
        attributes={"colour": colour, "mood": "calm" if user == "plain" else "cross"},
        parts={"price": 2.5},
        failure="timeout: no answer" if value is None else None,
    )


def write_run(
    folder: Path, agent: str, seed: int = 0, scenarios: int = SCENARIOS, users: Sequence[str] = USERS, **changes: object
) -> Record:
    """A run folder with its record and conversations; ``changes`` are fields of the record."""
    evaluations = []
    (folder / "trajectories").mkdir(parents=True)
    for user in users:
        for split in SPLITS:
            talks = [conversation(agent, user, split, scenario) for scenario in range(scenarios)]
            write_jsonl(folder / "trajectories" / f"{user}-{split}.jsonl", talks)
            returns = [returned(agent, scenario) for scenario in range(scenarios)]
            evaluations.append(
                Evaluation(
                    user, split, [one.seed for one in talks], [one.key for one in talks], returns,
                    [None if one is None else one == 1 for one in returns], 2.0, returns.count(None),
                )
            )  # fmt: skip
    learns = agent not in ("always_red", "echo")
    curve = [CurvePoint(i, 40 * i, 0.2 * i + 0.1 * seed, 0.5, 0) for i in range(4)] if learns else []
    record = replace(
        RECORD, agent=agent, seed=seed, learns=learns, evaluations=evaluations, curve=curve,
        command=f"python -m benchmarks.run agent={agent} seed={seed}", **changes,
    )  # fmt: skip
    (folder / "record.json").write_text(record.to_json())
    return record


def write_critique(folder: Path, user: str, split: str) -> None:
    """What a critic thought of each conversation: V .25 then .5, Q .75 then nothing."""
    rows = [
        {"seed": scenario, "values": [0.25, 0.5], "action_values": [0.75, None], "advantages": [0.5, None]}
        for scenario in range(SCENARIOS)
    ]
    path = folder / "trajectories" / f"{user}-{split}.critique.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_runs(root: Path, worlds: Sequence[str] = ("shop", "elsewhere")) -> Path:
    """Worlds of four runs each; ``shop`` has a critique beside one of its files."""
    for env in worlds:
        for agent, seeds in (("always_red", 1), ("echo", 1), ("bandit", 2)):
            for seed in range(seeds):
                write_run(root / env / agent / f"seed{seed}", agent, seed, env=env)
    write_critique(root / "shop/bandit/seed0", "plain", "iid_test")
    return root
