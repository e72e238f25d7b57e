"""Whether transcripts are what their record says: ``python -m benchmarks.replay results/runs/sales/program/iterppo``.

For every finished run below a folder: the scenarios are drawn again, what the agent said is said again, and the
replies, rewards and ends that come are compared with those that were written down; then the record's returns with the
transcripts'. Environment and users are those of this installation, whatever the run's own configuration says: nothing
in the folder is executed, so a stranger's can be looked at.

Exits 1 and says what disagrees, if anything does. Users that are language models may word a reply otherwise on another
machine; such replies are counted, and are no disagreement as long as rewards and ends are the same. ``--update`` writes
what is derived from transcripts, such as how conversations went, into records of an earlier release that agree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra import initialize_config_dir

from benchmarks.build import CONF, Experiment
from benchmarks.cells import Cell
from benchmarks.checkpoint import write_whole
from benchmarks.evaluate import summarise
from benchmarks.progress import RunError, bar
from envs.env import Advance, ConversationEnv
from envs.trajectory import Trajectory, read_jsonl
from results.record import Evaluation, Record, RecordError, record_paths

_SAME = 1e-9
"""Rewards are equal if they differ by less."""
_LISTED = 5
"""Disagreements that are named; the others are counted."""


@dataclass(frozen=True)
class Found:
    """What came of saying one evaluation's conversations again."""

    evaluation: Evaluation
    """As this release sums the transcripts up."""
    conversations: int
    unscored: int
    """Not said again: the user, the agent or the judge had failed."""
    reworded: int
    """Replies in other words."""
    disagreements: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds run folders, at any depth")
    parser.add_argument("--config-dir", type=Path, help="where configuration of your own worlds lies")
    parser.add_argument("--update", action="store_true", help="write figures that are derived from transcripts anew")
    parser.add_argument("--conversations", type=int, default=None, help="of each evaluation, the first so many only")
    options = parser.parse_args(arguments)
    if options.update and options.conversations is not None:
        parser.error("--update needs all conversations; leave --conversations out.")
    records = record_paths(options.folder)
    if not records:
        print(f"There is no finished run below {options.folder}.", file=sys.stderr)
        return 2
    status = 0
    for path in records:
        try:
            evaluations, agree = [], True
            for found in replay(path, options.conversations, options.config_dir):
                agree &= not found.disagreements
                evaluations.append(found.evaluation)
                print(_told(f"{path.parent} {found.evaluation.user}-{found.evaluation.split}", found), flush=True)
            status |= not agree
            if options.update and agree:
                write_whole(path, replace(Record.load(path), evaluations=evaluations).to_json())
        except (RunError, RecordError, ValueError, OSError) as error:
            status = 1
            print(f"{path.parent}: can't be replayed: {error}", flush=True)
    return status


def _told(where: str, found: Found) -> str:
    notes = [f"{found.conversations} conversations"]
    notes += [f"{found.unscored} unscored, left out"] if found.unscored else []
    notes += [f"{found.reworded} replies in other words"] if found.reworded else []
    lines = [f"  {line}" for line in found.disagreements[:_LISTED]]
    if more := len(found.disagreements) - len(lines):
        lines.append(f"  and {more} more")
    return "\n".join([f"{where}: {'DISAGREES' if lines else 'agrees'} ({', '.join(notes)})", *lines])


def replay(path: Path, most: int | None = None, config_dir: Path | None = None) -> Iterator[Found]:
    """Every evaluation of the run whose record lies at ``path``, said again; ``most`` conversations of each.

    ``config_dir`` holds configuration beside the project's own.

    Raises ``RunError`` when its environment or user is not known here, ``RecordError`` or ``ValueError`` when something
    can't be read.
    """
    record = Record.load(path)
    experiment = _experiment(record, config_dir)
    for one in record.evaluations:
        trajectories = list(read_jsonl(path.parent / "trajectories" / f"{one.user}-{one.split}.jsonl"))
        env, chosen = experiment.build_env(experiment.build_user(one.user), one.split), trajectories[:most]
        reworded, disagreements = said_again(env, [t for t in chosen if t.judged])
        evaluation = summarise(one.user, env, trajectories)
        disagreements += against_the_record(one, evaluation)
        unscored = sum(not t.judged for t in chosen)
        yield Found(evaluation, len(chosen), unscored, reworded, tuple(disagreements))


def _experiment(record: Record, config_dir: Path | None) -> Experiment:
    """The record's environment and users as this installation has them. Settings of the environment are taken over if
    they are plain words and numbers."""
    own = [word for word in record.variant if word.lstrip("+~").startswith(("env.", "model", "endpoint"))]
    if odd := [word for word in own if "_target_" in word or any(sign in word for sign in "{}[]$")]:
        raise RunError(f"{odd[0]} is no plain value; runs that are set so are not replayed.")
    words = [f"env={record.env}", f"user={record.user}", "agent=random", "agent.world=null", "budget=smoke", *own]
    if config_dir:
        words.append(f"hydra.searchpath=[file://{config_dir.resolve()}]")
    where = f"env={record.env} user={record.user}"
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return Cell(where, record.seed, tuple(words)).experiment
    except RunError as error:
        raise RunError(f"{where} is not known here: {error}") from error


def said_again(env: ConversationEnv, trajectories: Sequence[Trajectory]) -> tuple[int, list[str]]:
    """Say what the agents said in the same scenarios, and compare exchange by exchange: how many replies had other
    words, and what disagrees."""
    reworded, wrong = 0, [line for one in trajectories for line in _another_scenario(env, one)]
    going = [(one, env.begin(one.seed, one.take)) for one in trajectories if one.steps]
    with bar("replayed", len(going)) as progress:
        for k in range(max((one.exchanges for one in trajectories), default=0)):
            came = env.advance([episode for _, episode in going], [one.steps[k].utterance.text for one, _ in going])
            met = list(zip((one for one, _ in going), came, strict=True))
            reworded += sum(advance.episode.turns[-1].text != one.steps[k].reply for one, advance in met)
            differing = {id(one): line for one, advance in met if (line := _differing(one, k, advance))}
            wrong += differing.values()
            going = [
                (one, advance.episode) for one, advance in met if k + 1 < one.exchanges and id(one) not in differing
            ]
            progress.update(len(met) - len(going))
    return reworded, wrong


def _another_scenario(env: ConversationEnv, one: Trajectory) -> list[str]:
    scenario = env.begin(one.seed, one.take).scenario
    if (scenario.key, scenario.agent_brief, scenario.opening) == (one.key, one.brief, one.opening):
        return []
    return [f"seed {one.seed}: another scenario: {one.key} there, {scenario.key} here"]


def _differing(one: Trajectory, k: int, came: Advance) -> str | None:
    """How exchange ``k`` came otherwise than it was written down; None if it did not."""
    step, last = one.steps[k], k + 1 == one.exchanges
    if not abs(came.reward - step.reward) <= _SAME:
        return f"seed {one.seed}, exchange {k}: reward {step.reward} there, {came.reward} here"
    there = (one.stop_reason, one.terminated, one.success) if last else None
    here = (came.stop_reason, came.terminated, came.assessment.success) if came.done else None
    if there != here:
        told = [f"{end[0]}, success {end[2]}" if end else "it goes on" for end in (there, here)]
        return f"seed {one.seed}, exchange {k}: {told[0]} there, {told[1]} here"
    return None


def against_the_record(there: Evaluation, here: Evaluation) -> list[str]:
    """Where a record does not say what its transcripts do."""
    rows = [list(zip(one.seeds, one.keys, one.returns, one.successes, strict=True)) for one in (there, here)]
    if len(rows[0]) != len(rows[1]):
        return [f"the record has {len(rows[0])} scenarios, the transcripts {len(rows[1])}"]
    return [
        f"seed {mine[0]}: return {written[2]}, success {written[3]} recorded; {mine[2]}, {mine[3]} in the transcript"
        for written, mine in zip(*rows, strict=True)
        if (*written[:2], written[3]) != (*mine[:2], mine[3]) or not _equal(written[2], mine[2])
    ]


def _equal(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) <= _SAME


if __name__ == "__main__":
    sys.exit(main())
