"""A leaderboard's runs as one command: ``python -m benchmarks.suite suite=headline jobs=2``.

A suite is agents × worlds × seeds, in ``conf/suite/NAME.yaml``. The command runs the cells that are not finished, tells
what is left and how long it takes, and writes the tables of what is finished. Stopped at any moment, the same command
goes on. docs/suites.md says how, also on Ray and Slurm.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from benchmarks.build import CONF
from benchmarks.cells import Standing, check_jobs, choose, run_cells
from benchmarks.progress import RunError, readable_errors, say
from benchmarks.suites import Pace, Suite, overview
from results.leaderboard import placed, write
from results.sections import sections_of


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="suite_config")
@readable_errors
def main(config: DictConfig) -> None:
    """Run, tell, write the tables. Ends with exit status 1 and their names if cells failed."""
    options: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    choices = HydraConfig.get().runtime.choices
    name, budget = str(choices["suite"]).replace("/", "-"), choices["budget"]
    suite, jobs = Suite.of(name, options["suite"]), options["jobs"]
    check_jobs(jobs)
    cells = suite.cells(options["results"], budget)
    chosen = choose(cells, options["only"], options["shard"])
    before = [Standing.of(cell, {}) for cell in cells]
    pace = Pace.of([one.record for one in before if one.record])
    due = [one.cell for one in before if one.state in ("begun", "not begun") and one.cell in chosen]
    if jobs and due:
        say(f"{suite.title}: {len(due)} of {len(chosen)} cells to run, {pace.left(due, jobs)}.")
    failures = run_cells(chosen, jobs, pace.expected) if jobs and due else {}
    standings = [Standing.of(cell, failures) for cell in cells]
    say(overview(standings))
    records = [one.record for one in standings if one.record]
    if records:
        with placed("out=FOLDER"):
            write(sections_of(records), Path(options["out"] or suite.where(budget)))
    unfinished = [one for one in standings if one.record is None]
    if unfinished:
        say(f"{len(unfinished)} of {len(cells)} cells are not finished; the same command goes on.")
    if failed := [f"  {one.cell.name}: {one.state}" for one in unfinished if one.state.startswith("failed")]:
        raise RunError("\n".join(chain(["These cells failed:"], failed)))


if __name__ == "__main__":
    main()
