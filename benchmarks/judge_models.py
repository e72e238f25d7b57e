"""How well models learn a judge: ``python -m benchmarks.judge_models agent=mtpo env=education user=program``.

Both kinds of model are fitted as the agent fits them, to the logged pairs that a run is given, and measured on pairs
they have not met: of the policy that made the logged data, and of the start. A judge draws its labels, so no model can
foretell all of them; the attainable accuracy is the mean of max(P, 1 - P).
"""

from __future__ import annotations

import hydra
import numpy as np
from omegaconf import DictConfig

from agents.agent import Agent
from agents.learnt_judge import fit_judge
from agents.practice import LOGGED_SEEDS, Practice
from agents.preference_model import PreferenceModel, judge_figures
from agents.reader import whole
from agents.rollout import rollout
from agents.speaker import Speaker
from agents.turn_learner import TurnLearner
from benchmarks.build import CONF, Experiment
from benchmarks.learn import use_threads
from benchmarks.progress import RunError, quieten_libraries, readable_errors, say
from envs.judges import Pair, draw_label

HELD_OUT = 1500
"""Pairs that a model is measured on, from scenarios of their own at the end of the logged seeds."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
@readable_errors
def main(config: DictConfig) -> None:
    """Fit, measure, print a table."""
    experiment = Experiment.of(config)
    use_threads(experiment.config["threads"])
    experiment.check()
    agent = experiment.build_agent()
    if not isinstance(agent, TurnLearner) or experiment.config["agent"]["start"] is None:
        raise RunError(
            f"agent={experiment.agent} on env={experiment.env}: this needs an agent that learns from whole "
            "conversations, such as agent=mtpo, and an environment that names its start."
        )
    practice = experiment.build_practice(experiment.build_user(experiment.user), on_conversation=lambda _: None)
    quieten_libraries()
    if practice.behaviour is None:
        raise RunError(
            f"env={experiment.env} names no behaviour policy, so there are no logged pairs; add `behaviour:`."
        )
    speakers: dict[str, Agent] = {"logged": practice.behaviour, "start": Speaker(agent.start)}
    fresh = {name: _pairs(practice, speaker) for name, speaker in speakers.items()}
    say("| model | pairs of | accuracy | attainable | share | calibration error |\n|---|---|---|---|---|---|")
    for kind in ("general", "bradley_terry"):
        model, _ = fit_judge(
            agent.start, practice, np.random.default_rng(experiment.seed), kind=kind, **agent.fitting, **agent.judging
        )
        for name, pairs in fresh.items():
            say(
                f"| {kind} | {name} | "
                + " | ".join(f"{value:.3f}" for value in _measured(model, agent, practice, pairs))
                + " |"
            )


def _pairs(practice: Practice, speaker: Agent) -> list[Pair]:
    seeds, env = LOGGED_SEEDS[-HELD_OUT:], practice.logged_env or practice.env
    first, second = (rollout(speaker, env, seeds, take=take) for take in (0, 1))
    return [pair for pair in zip(first, second, strict=True) if all(one.judged for one in pair)]


def _measured(
    model: PreferenceModel, agent: TurnLearner, practice: Practice, pairs: list[Pair]
) -> tuple[float, float, float, float]:
    """Accuracy on labels drawn once, the attainable one, their ratio, and the calibration error."""
    preferences = practice.preferences(pairs)
    rngs = [np.random.default_rng((first.seed, 0x1ABE1)) for first, _ in pairs]
    labels = np.array([draw_label(one, rng) for one, rng in zip(preferences, rngs, strict=True)])
    known = ~np.isnan(labels)
    features = [model.features([whole(agent.start, pair[side]) for pair in pairs]) for side in (0, 1)]
    predicted = model.compare(*features)[known]
    figures = judge_figures(predicted, labels[known])
    sure = np.array([one.decided for one in preferences])[known]
    attainable = float(np.maximum(sure, 1 - sure)[labels[known] != 0.5].mean())
    return figures["accuracy"], attainable, figures["accuracy"] / attainable, figures["calibration_error"]


if __name__ == "__main__":
    main()
