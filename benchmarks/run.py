"""One run of the benchmark: ``python -m benchmarks.run agent=iterppo env=sales user=hybrid budget=default seed=0``.

Sweeps are Hydra's: ``--multirun agent=iterppo,mtpo seed=0,1,2``. What the words mean is in ``conf/``; environments and
agents of your own come in with ``--config-dir FOLDER``.
"""

from __future__ import annotations

import os

import hydra
from omegaconf import DictConfig

from agents.agent import Metrics
from benchmarks.build import CONF, Experiment
from benchmarks.checkpoint import RunFolder
from benchmarks.diagnose import diagnose
from benchmarks.evaluate import evaluate, examine
from benchmarks.learn import improve, prepare, use_threads
from benchmarks.loggers import Log
from benchmarks.progress import RunError, bar, quieten_libraries, readable_errors, report, say, tell
from benchmarks.provenance import Clock, make_record, source
from results.record import Record


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
@readable_errors
def main(config: DictConfig) -> None:
    """Compose, claim the run's folder, run, tell."""
    if (processes := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise RunError(f"A run is one process, and this is one of {processes}; launch it with --num_processes 1.")
    experiment = Experiment.of(config)
    use_threads(experiment.config["threads"])
    with RunFolder.claim(experiment) as folder:
        if folder.finished:
            record = Record.load(folder.record)
            say("This run was finished earlier; resume=never would do it anew.")
        else:
            run(experiment, folder)
            record = Record.load(folder.record)
        report(record, folder.record)


def run(experiment: Experiment, folder: RunFolder) -> None:
    """Learn until the budget is spent, evaluate, record; from the last checkpoint if there is one."""
    experiment.check()
    with Log(experiment.build_logger(), experiment, folder.path) as log:
        learn_and_record(experiment, folder, log)


def learn_and_record(experiment: Experiment, folder: RunFolder, log: Log) -> None:
    """The same, told to a log."""
    clock, progress = Clock(), bar(f"{experiment.agent} learns", experiment.config["budget"]["conversations"])
    user = experiment.build_user(experiment.user)
    practice = experiment.build_practice(user, on_conversation=lambda _: progress.update())
    agent = experiment.build_agent()
    quieten_libraries()
    journal = folder.restore(agent, practice)
    journal.note_source(source())
    log.begin(journal.rows)
    progress.update(practice.spent.conversations)
    clock.book(journal.seconds, "setup")

    def keep(metrics: Metrics) -> None:
        clock.book(journal.seconds, "learning")
        journal.note(practice, metrics, examine(agent, experiment, user, practice))
        clock.book(journal.seconds, "evaluation")
        folder.save(agent, practice, journal)
        tell(journal.rows[-1])
        log.row(journal.rows[-1])

    if agent.learns and not journal.rows:
        prepare(agent, practice)
        keep({})
    while agent.learns and not practice.exhausted:
        keep(improve(agent, practice))
    progress.close()
    evaluations = evaluate(agent, experiment, user, folder)
    diagnostics = diagnose(agent, experiment, user, folder)
    clock.book(journal.seconds, "evaluation")
    record = make_record(experiment, agent, practice, journal, evaluations, diagnostics, user)
    log.final(record)
    folder.write_record(record)


if __name__ == "__main__":
    main()
