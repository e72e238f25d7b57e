"""Preparing and one iteration of learning, each reproducible by itself: a resumed run repeats it exactly."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from agents.agent import Agent, Metrics
from agents.practice import Practice, Unavailable
from benchmarks.progress import RunError


def prepare(agent: Agent, practice: Practice) -> None:
    """What an agent does before its first conversation."""
    seed_libraries(practice.seed, 0)
    with _in_words():
        agent.prepare(practice)


def improve(agent: Agent, practice: Practice) -> Metrics:
    """One iteration. Raises ``RunError`` if the agent took nothing and did not say that it is done."""
    seed_libraries(practice.seed, 1 + practice.iteration)
    before = practice.spent.conversations
    with _in_words():
        metrics = agent.improve(practice)
    practice.iteration += 1
    if practice.spent.conversations == before and not practice.finished:
        raise RunError(
            f"{type(agent).__name__}.improve took no conversation in iteration {practice.iteration} and would go on "
            "for ever; let it converse, or call practice.finish() when it is done."
        )
    return metrics


@contextmanager
def _in_words() -> Iterator[None]:
    """What the agent asks for and does not get is told in a sentence, without a traceback."""
    try:
        yield
    except Unavailable as error:
        raise RunError(str(error)) from error


def use_threads(count: int) -> None:
    """Let the numeric libraries use ``count`` threads; those already imported keep theirs, but torch is told."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def seed_libraries(seed: int, iteration: int) -> None:
    """Seed the global generators that library code may draw from, so that a resumed iteration draws the same.

    Torch is seeded where something has imported it; agents that use it import it with their module.
    """
    drawn = int(np.random.SeedSequence((seed, iteration)).generate_state(1)[0])
    random.seed(drawn)
    np.random.seed(drawn)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(drawn)
