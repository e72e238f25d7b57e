"""One run of the benchmark: ``python -m benchmarks.run agent=iterppo env=sales user=hybrid budget=default seed=0``.

Sweeps are Hydra's: ``--multirun agent=iterppo,mtpo seed=0,1,2``. What the words mean is in ``conf/``; environments and
agents of your own come in with ``--config-dir FOLDER``.
"""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from agents.agent import Agent, Metrics
from agents.practice import Practice
from benchmarks.build import Experiment, seed_libraries, use_threads
from benchmarks.checkpoint import RunFolder
from benchmarks.evaluate import evaluate, examine
from benchmarks.progress import RunError, bar, quieten_libraries, readable_errors, report, say
from benchmarks.provenance import Clock, make_record, source
from results.record import Record

CONF = Path(__file__).parents[1] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
@readable_errors
def main(config: DictConfig) -> None:
    """Compose, claim the run's folder, run, tell."""
    experiment = Experiment.of(config)
    use_threads(experiment.config["threads"])
    with RunFolder.claim(experiment) as folder:
        if folder.finished:
            say("This run was finished earlier; resume=never would do it anew.")
        else:
            run(experiment, folder)
        report(Record.load(folder.record), folder.record)


def run(experiment: Experiment, folder: RunFolder) -> None:
    """Learn until the budget is spent, evaluate, record; from the last checkpoint if there is one."""
    experiment.check()
    clock, progress = Clock(), bar(f"{experiment.agent} learns", experiment.config["budget"]["conversations"])
    user = experiment.build_user(experiment.user)
    practice = experiment.build_practice(user, on_conversation=lambda _: progress.update())
    agent = experiment.build_agent()
    quieten_libraries()
    journal = folder.restore(agent, practice)
    journal.note_source(source())
    progress.update(practice.spent.conversations)
    clock.book(journal.seconds, "setup")

    def keep(metrics: Metrics) -> None:
        clock.book(journal.seconds, "learning")
        journal.note(practice, metrics, examine(agent, experiment, user, practice))
        clock.book(journal.seconds, "evaluation")
        folder.save(agent, practice, journal)

    if agent.learns and not journal.rows:
        agent.prepare(practice)
        keep({})
    while agent.learns and not practice.exhausted:
        keep(improve(agent, practice))
    progress.close()
    evaluations = evaluate(agent, experiment, user, folder)
    clock.book(journal.seconds, "evaluation")
    folder.write_record(make_record(experiment, agent, practice, journal, evaluations))


def improve(agent: Agent, practice: Practice) -> Metrics:
    """One iteration, reproducible by itself: a resumed run repeats it exactly."""
    seed_libraries(practice.seed, 1 + practice.iteration)
    before = practice.spent.conversations
    metrics = agent.improve(practice)
    practice.iteration += 1
    if practice.spent.conversations == before and not practice.finished:
        raise RunError(
            f"{type(agent).__name__}.improve took no conversation in iteration {practice.iteration} and would go on "
            "for ever; let it converse, or call practice.finish() when it is done."
        )
    return metrics


if __name__ == "__main__":
    main()
