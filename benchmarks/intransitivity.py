"""How far a judge is from a ranking, on conversations of scripted agents: ``python -m benchmarks.intransitivity``.

On every scenario each agent converses several times, and all pairs of these conversations are judged. Printed are the
share of triples that go round among those all three pairs of which are decided; the share of the squared log-odds that
no reward explains (the curl of a Hodge decomposition, scenario by scenario); and how often each agent is preferred to
each other. A judge that goes by the outcome alone has a curl too, because no finite reward makes it as certain as it
is, but no cycles.

    python -m benchmarks.intransitivity --env education --judge education
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate

from agents.agent import Agent
from agents.rollout import rollout
from benchmarks.build import CONF, RUNNER_KEYS
from benchmarks.judging import judge_runs, load_judge
from benchmarks.progress import RunError
from envs.env import ConversationEnv
from envs.judges import PreferenceJudge
from results.preferences import Cycles, Explained, check_antisymmetry, cycles, explained_by_a_reward
from results.statistics import Floats

MARGIN = 0.1
"""A pair is decided when its probability is farther than this from 1/2."""
RULES = {
    "sales": ("optimum", "expert", "behaviour", "myopic", "random"),
    "education": ("optimum", "expert", "myopic", "behaviour", "give_away", "random"),
}
"""Scripted agents by environment, those that are meant to be better first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Sample, judge, print; and write a line of JSON with ``--out``."""
    options = _parser().parse_args(arguments)
    try:
        judge = load_judge(options.judge, options.overrides)
        env, agents = _world(options.env, options.user, options.split, options.agents)
    except RunError as error:
        print(error, file=sys.stderr)
        return 1
    scenarios = max(1, options.conversations // (len(agents) * options.takes))
    figures = measure(judge, env, agents, scenarios, options.takes, options.margin)
    figures = {"env": options.env, "user": env.user.name, "split": options.split, **figures}
    print(_page(figures))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intransitivity", description=__doc__.split("\n\n")[0])
    parser.add_argument("--env", default="education", help="the environment, a file of conf/env")
    parser.add_argument("--user", default="program", help="who is talked with")
    parser.add_argument("--split", default="train", help="whose scenarios")
    parser.add_argument("--judge", default="education", help="the judge, a file of conf/judge")
    parser.add_argument("--agents", help="scripted agents, names of conf/agent with commas between")
    parser.add_argument("--conversations", type=int, default=3000, help="in all")
    parser.add_argument("--takes", type=int, default=2, help="conversations of each agent on each scenario")
    parser.add_argument("--margin", type=float, default=MARGIN, help="distance from 1/2 from which a pair is decided")
    parser.add_argument("--out", type=Path, help="a file for the figures as JSON")
    parser.add_argument("overrides", nargs="*", help="settings of the judge, such as judge.flip=0.2")
    return parser


def _world(env: str, user: str, split: str, names: str | None) -> tuple[ConversationEnv, dict[str, Agent]]:
    """The environment with its user, and the scripted agents."""
    known = sorted(path.stem for path in (CONF / "env").glob("*.yaml"))
    if env not in known:
        raise RunError(f"--env {env} is none of conf/env; choose one of {', '.join(known)}.")
    chosen = names.split(",") if names else RULES.get(env)
    if not chosen:
        raise RunError(f"--agents is missing: env={env} has no usual ones; name some of conf/agent.")
    try:
        with initialize_config_dir(str(CONF), version_base=None):
            node = compose(f"env/{env}").env
            nodes = {name: compose("config", overrides=[f"env={env}", f"agent={name}"]).agent for name in chosen}
        values = {key: value for key, value in node.items() if key not in RUNNER_KEYS}
        if user not in node.users:
            raise RunError(f"--user {user} is none of env={env}; choose one of {', '.join(node.users)}.")
        world = instantiate(values, user=instantiate(node.users[user]), split=split)
        return world, {name: instantiate(agent, _convert_="all") for name, agent in nodes.items()}
    except HydraException as error:
        raise RunError(f"{str(error.__cause__ or error).splitlines()[0]}") from error


def measure(
    judge: PreferenceJudge,
    env: ConversationEnv,
    agents: Mapping[str, Agent],
    scenarios: int,
    takes: int = 2,
    margin: float = MARGIN,
) -> dict[str, Any]:
    """The figures, from ``takes`` conversations of every agent on each of the first ``scenarios`` scenarios."""
    owners = [name for name in agents for _ in range(takes)]
    runs = [rollout(agent, env, range(scenarios), take=take) for agent in agents.values() for take in range(takes)]
    table = judge_runs(judge, runs)  # [conversations, conversations, scenarios]
    check_antisymmetry(table)
    found, explained = Cycles(0, 0), Explained(0.0, 0.0)
    for s in range(scenarios):
        found, explained = found + cycles(table[:, :, s], margin), explained + explained_by_a_reward(table[:, :, s])
    by_agent = mean_preferences(table, owners)
    return {
        "judge": judge.name,
        "conversations": len(runs) * scenarios,
        "scenarios": scenarios,
        "takes": takes,
        "margin": margin,
        "unjudged_pairs": int(np.isnan(table).sum()) // 2 - len(runs) * scenarios // 2,
        "decided_triples": found.decided,
        "cyclic_triples": found.cyclic,
        "cyclic_share": found.share,
        "unexplained_share": explained.share,
        "agents": list(agents),
        "agent_cycles": cycles(by_agent).cyclic,
        "preferences": by_agent.tolist(),
    }


def mean_preferences(table: Floats, owners: Sequence[str]) -> Floats:
    """[agents, agents]: the mean of ``table`` over the conversations of each two agents; 1/2 on the diagonal."""
    names = list(dict.fromkeys(owners))
    means = np.full((len(names), len(names)), 0.5)
    for a, name in enumerate(names):
        for b, other in enumerate(names):
            if a != b:
                own, theirs = ([k for k, owner in enumerate(owners) if owner == one] for one in (name, other))
                cell = table[np.ix_(own, theirs)]
                means[a, b] = np.nanmean(cell) if np.isfinite(cell).any() else np.nan
    return means


def _page(figures: Mapping[str, Any]) -> str:
    names, width = figures["agents"], max(map(len, figures["agents"])) + 2
    head = " " * width + "".join(name.rjust(width) for name in names)
    rows = [
        name.ljust(width) + "".join(f"{value:.3f}".rjust(width) for value in row)
        for name, row in zip(names, figures["preferences"], strict=True)
    ]
    return "\n".join(
        [
            f"{figures['judge']} on {figures['env']} ({figures['user']}, {figures['split']}): "
            f"{figures['conversations']} conversations on {figures['scenarios']} scenarios, "
            f"{figures['unjudged_pairs']} pairs not judged",
            f"  cyclic triples: {figures['cyclic_triples']} of {figures['decided_triples']} decided by more than "
            f"{figures['margin']:g} ({figures['cyclic_share']:.2%})",
            f"  squared log-odds that no reward explains: {figures['unexplained_share']:.2%}",
            f"  cycles among the agents' mean preferences: {figures['agent_cycles']}",
            "  how often the row is preferred to the column:",
            *(f"  {line}" for line in (head, *rows)),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
