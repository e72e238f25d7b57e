"""Judges of ``conf/judge`` outside a run, and every pair of several agents' conversations put to one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException

from benchmarks.build import CONF
from benchmarks.progress import RunError
from envs.judges import Pair, PreferenceJudge
from envs.trajectory import Trajectory
from results.statistics import Floats

_PAIRS = 1_000_000
"""Pairs per call of a judge, so that many runs fit into memory."""


def load_judge(name: str, overrides: Sequence[str] = ()) -> PreferenceJudge:
    """The judge of ``conf/judge/NAME.yaml``, with overrides as on the command line of a run, such as
    ``judge.flip=0.2``. Raises ``RunError`` naming what is wrong.
    """
    known = sorted(path.stem for path in (CONF / "judge").glob("*.yaml"))
    if name not in known:
        raise RunError(f"judge={name} is none of conf/judge; choose one of {', '.join(known)}.")
    try:
        begun = GlobalHydra.instance().is_initialized()  # by a command that is Hydra's, such as benchmarks.study
        with nullcontext() if begun else initialize_config_dir(str(CONF), version_base=None):
            node = compose(f"judge/{name}", overrides=list(overrides)).judge
        judge: PreferenceJudge = instantiate(node, _convert_="all")
    except InstantiationException as error:
        raise RunError(f"judge={name} can't be built: {error.__cause__ or error}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise RunError(f"judge={name}: {str(error).splitlines()[0]}") from error
    return judge


def judge_runs(
    judge: PreferenceJudge, runs: Sequence[Sequence[Trajectory]], agent_of: Sequence[str] | None = None
) -> Floats:
    """``[runs, runs, scenarios]``: the probability that run i's conversation on scenario s is preferred to run j's.

    ``runs[i][s]`` are on one scenario for all i. Every pair is judged in both orders, each by itself, so that the two
    can be checked against each other. NaN where the judge failed, on the diagonal and, if ``agent_of`` is given,
    between runs of one agent, which are not judged.
    """
    table = np.full((len(runs), len(runs), len(runs[0])), np.nan)
    matches = [(i, j) for i in range(len(runs)) for j in range(len(runs)) if i != j]
    matches = [(i, j) for i, j in matches if agent_of is None or agent_of[i] != agent_of[j]]
    at_once = max(1, _PAIRS // len(runs[0]))
    for k in range(0, len(matches), at_once):
        some = matches[k : k + at_once]
        pairs: list[Pair] = [pair for i, j in some for pair in zip(runs[i], runs[j], strict=True)]
        preferred = [one.probability for one in judge.prefer(pairs)]
        table[tuple(np.transpose(some))] = np.reshape(preferred, (len(some), -1))
    return table
