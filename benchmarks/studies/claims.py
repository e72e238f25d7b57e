"""Claims about methods, judged from the cells of a study. Each function takes ``evidence`` and gives verdicts.

They follow one rule: a claim holds or fails when the whole 95% interval of what it speaks of says so, and is
undecided otherwise. Intervals are over training seeds and clusters of scenarios; a method that learns must have two
seeds at least. They are not corrected for the number of claims on a page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from scipy.stats import f as f_distribution

from benchmarks.progress import RunError
from benchmarks.studies.evidence import Comparison, Evidence
from results.crossed import difference_interval, mean_interval
from results.statistics import (
    Estimate,
    Floats,
    interval,
    resampled_means,
    scenario_weights,
)
from results.verdict import Outcome, Verdict, above, beside, share, within


def preferred(
    evidence: Evidence,
    *,
    claim: str,
    pairs: Sequence[Sequence[str]],
    numbers: Sequence[float] = (),
    source: str = "",
) -> list[Verdict]:
    """In each pair, the first method's conversations are preferred to the second's: a win rate above 1/2.

    Args:
        claim: the claim's name; the pair is added to it.
        pairs: two methods each.
        numbers: what the source reports, one per pair; none for a question that it leaves open.
        source: where it reports them.
    """
    if numbers and len(numbers) != len(pairs):
        raise RunError(f"{claim}: there are {len(pairs)} pairs and {len(numbers)} numbers; give one for each.")
    verdicts = []
    reported: Sequence[float | None] = numbers or [None] * len(pairs)
    for (first, second), number in zip(pairs, reported, strict=True):
        words = f"{claim}: {first} is preferred to {second}"
        to_match = _to_match("above .5", number, source)
        comparison, reason = _comparison(evidence, first, second)
        if comparison is None:
            verdicts.append(_not_measured(words, to_match, reason))
            continue
        estimate = comparison.estimate(first, second)
        note = evidence.caveat((first, second)) + ("" if number is None else beside(estimate, number))
        verdicts.append(_judged(words, to_match, _rate(estimate), estimate, above(estimate, 0.5), note))
    return verdicts


def equal(
    evidence: Evidence,
    *,
    claim: str,
    first: str,
    second: str,
    margin: float,
    number: float | None = None,
    source: str = "",
) -> list[Verdict]:
    """Neither method's conversations are preferred: ``first`` over ``second`` within ``margin`` of 1/2."""
    low, high = 0.5 - margin, 0.5 + margin
    words, to_match = f"{claim}: {first} and {second} are equal", f"in [{share(low)}, {share(high)}]"
    to_match = _to_match(to_match, number, source)
    comparison, reason = _comparison(evidence, first, second)
    if comparison is None:
        return [_not_measured(words, to_match, reason)]
    estimate = comparison.estimate(first, second)
    note = evidence.caveat((first, second)) + ("" if number is None else beside(estimate, number))
    return [_judged(words, to_match, _rate(estimate), estimate, within(estimate, low, high), note)]


def spread_larger(
    evidence: Evidence, *, claim: str, wide: str, narrow: str, against: Sequence[str], number: str
) -> list[Verdict]:
    """The training seeds of ``wide`` differ more among one another than those of ``narrow``.

    Of each run, the mean win rate over the runs of ``against`` is taken. What decides is the ratio of the two standard
    deviations over training seeds, with the interval of the F distribution (normal spreads): few seeds decide little.
    """
    words = f"{claim}: the seeds of {wide} differ more than those of {narrow}"
    comparison, reason = _comparison(evidence, wide, narrow, *against)
    if comparison is None:
        return [_not_measured(words, number, reason)]
    by_seed = [[_seed_rates(comparison, method, other) for other in against] for method in (wide, narrow)]
    first, second = (np.mean(rates, axis=0) for rates in by_seed)  # [seeds]
    if min(len(first), len(second)) < 2 or second.std() == 0:
        return [_not_measured(words, number, f"the seeds of {narrow} do not differ, or are too few")]
    deviations = first.std(ddof=1), second.std(ddof=1)
    ratio = float(deviations[0] / deviations[1])
    low, high = ratio / np.sqrt(f_distribution.ppf([0.975, 0.025], len(first) - 1, len(second) - 1))
    estimate = Estimate(ratio, float(low), float(high))
    measured = f"s.d. {share(deviations[0])} and {share(deviations[1])}, ratio {_interval(estimate)}"
    larger = sum(a.std(ddof=1) > b.std(ddof=1) for a, b in zip(*by_seed, strict=True))
    note = f"{evidence.caveat((wide, narrow))}Larger against {larger} of {len(against)} opponents."
    return [_judged(words, number, measured, estimate, above(estimate, 1.0), note)]


def recovers(
    evidence: Evidence, *, claim: str, method: str, reference: str, margin: float, number: str
) -> list[Verdict]:
    """``method`` comes to the mean return of ``reference``. Two verdicts: its mean is in or above the reference's
    interval (a point estimate, so never undecided); and, which asks more, it is less than ``margin`` below, with the
    whole interval of the difference (paired by scenario)."""
    words = [
        f"{claim}: the mean return of {method} is in or above the interval of {reference}",
        f"{claim}: the mean return of {method} is less than {share(margin)} below that of {reference}",
    ]
    if reason := evidence.lacking((method, reference)):
        return [_not_measured(one, number, reason) for one in words]
    own, goal, difference = _returns(evidence, method, reference)
    reached: Outcome = "holds" if own.value >= goal.low else "fails"
    note = evidence.caveat((method, reference))
    plain = f"{note} A point estimate against an interval, as the criterion is worded: it is never undecided.".strip()
    return [
        _judged(words[0], number, f"{_interval(own)} against {_interval(goal)}", goal, reached, plain),
        _judged(words[1], number, f"difference {_interval(difference)}", difference, above(difference, -margin), note),
    ]


def returns_more(evidence: Evidence, *, claim: str, pairs: Sequence[Sequence[str]], number: str) -> list[Verdict]:
    """In each pair, the first method has the higher mean return; the difference is paired by scenario."""
    return [
        _differ(evidence, one, two, f"{claim}: {one} returns more than {two}", number, lambda gain: above(gain, 0.0))
        for one, two in pairs
    ]


def returns_alike(
    evidence: Evidence, *, claim: str, pairs: Sequence[Sequence[str]], margin: float, number: str
) -> list[Verdict]:
    """In each pair, the mean returns differ by less than ``margin``; the difference is paired by scenario."""
    return [
        _differ(
            evidence, one, two, f"{claim}: {one} and {two} return alike, within {share(margin)}", number,
            lambda gain: within(gain, -margin, margin),
        )
        for one, two in pairs
    ]  # fmt: skip


def _differ(
    evidence: Evidence, first: str, second: str, words: str, number: str, judge: Callable[[Estimate], Outcome]
) -> Verdict:
    """The verdict on how much more ``first`` returns than ``second``."""
    if reason := evidence.lacking((first, second)):
        return _not_measured(words, number, reason)
    one, other, gain = _returns(evidence, first, second)
    measured = f"{_interval(one)} against {_interval(other)}, difference {_interval(gain)}"
    note = evidence.caveat((first, second))
    if gain.low <= 0 <= gain.high:
        note += "The interval of the difference has 0 in it."
    return _judged(words, number, measured, gain, judge(gain), note)


def _returns(evidence: Evidence, first: str, second: str) -> tuple[Estimate, Estimate, Estimate]:
    """The mean returns of two methods and the difference between them, on the same scenarios."""
    (values, keys), (others, other_keys) = evidence.returns(first), evidence.returns(second)
    if keys != other_keys:
        raise RunError(f"{first} and {second} were evaluated on different scenarios; run them with one budget.")
    return mean_interval(values, keys), mean_interval(others, keys), difference_interval(values, others, keys)


def best_setting_smaller(
    evidence: Evidence, *, claim: str, settings: Mapping[str, Mapping[str, float]], against: str, number: str
) -> list[Verdict]:
    """From each group of methods to the next, the best setting is smaller: a ratio of the two above 1.

    Args:
        claim: the claim's name; the groups are added to it.
        settings: group → method → its setting; the groups in the claimed order, that of the largest best setting first.
        against: the method over which the win rate is to be highest.
        number: what the source reports.

    In every replicate of the bootstrap the best settings are chosen anew.
    """
    verdicts = []
    for first, second in pairwise(settings):
        words = f"{claim}: the best setting of {first} is larger than that of {second}"
        methods = [*settings[first], *settings[second]]
        comparison, reason = _comparison(evidence, against, *methods)
        if comparison is None:
            verdicts.append(_not_measured(words, number, reason))
            continue
        rng = np.random.default_rng(0)
        weights = scenario_weights(comparison.clusters, rng)  # scenarios are drawn in common, seeds are not
        best = {group: _best(comparison, settings[group], against, weights, rng) for group in (first, second)}
        (value, replicates), (other, others) = best.values()
        ratio = interval(value / other, replicates / others)
        edges = [g for g in best if best[g][0] in (min(settings[g].values()), max(settings[g].values()))]
        note = evidence.caveat(methods) + (f"At the edge of what was tried: {', '.join(edges)}." if edges else "")
        measured = f"{value:g} and {other:g}, ratio {_interval(ratio)}"
        verdicts.append(_judged(words, number, measured, ratio, above(ratio, 1.0), note))
    return verdicts


def _best(
    comparison: Comparison, settings: Mapping[str, float], against: str, weights: Floats, rng: np.random.Generator
) -> tuple[float, Floats]:
    """The setting with the highest win rate over ``against``, and that of each replicate, ``[replicates]``; scenarios
    are drawn in common, so a setting is compared with another on the same ones."""
    drawn = [resampled_means(_by_scenario(comparison, method, against), weights, rng) for method in settings]
    choices = np.array(list(settings.values()))
    rates = [comparison.estimate(method, against).value for method in settings]
    return float(choices[np.argmax(rates)]), choices[np.argmax(drawn, axis=0)]


def _by_scenario(comparison: Comparison, method: str, other: str) -> Floats:
    """Each run's win rate over the runs of ``other`` on each scenario, ``[seeds, scenarios]``; NaN if unjudged."""
    judged = comparison.between(method, other)
    scored = np.isfinite(judged)
    total, count = np.where(scored, judged, 0.0).sum(axis=1), scored.sum(axis=1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _seed_rates(comparison: Comparison, method: str, other: str) -> Floats:
    """Each run's win rate over all runs of ``other``, ``[seeds]``."""
    rates: Floats = np.nanmean(_by_scenario(comparison, method, other), axis=1)
    return rates


# ---- saying it ------------------------------------------------------------------------------------------------------


def _comparison(evidence: Evidence, *methods: str) -> tuple[Comparison | None, str]:
    """The comparison, or None and why a claim about ``methods`` can't be judged by it."""
    reason = evidence.lacking(methods)
    if not reason and evidence.comparison is None:
        reason = "this study compares no conversations (judging is not set)"
    return (None, reason) if reason else (evidence.comparison, "")


def _judged(
    claim: str, number_to_match: str, measured: str, estimate: Estimate, outcome: Outcome, note: str
) -> Verdict:
    if not math.isfinite(estimate.value):
        return _not_measured(claim, number_to_match, "the judge decided on no conversation")
    if not math.isfinite(estimate.low):
        return _not_measured(claim, number_to_match, "one seed on scenarios of one key has no interval")
    return Verdict(claim, number_to_match, measured, estimate.low, estimate.high, outcome, note.strip())


def _not_measured(claim: str, number_to_match: str, reason: str) -> Verdict:
    return Verdict(claim, number_to_match, "not measured", None, None, "undecided", f"{reason[0].upper()}{reason[1:]}.")


def _to_match(criterion: str, number: float | None, source: str) -> str:
    if number is None:
        return criterion
    return f"{criterion}; {share(number)}" + (f" ({source})" if source else "")


def _rate(estimate: Estimate) -> str:
    return f"{share(estimate.value)} [{share(estimate.low)}, {share(estimate.high)}]"


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
