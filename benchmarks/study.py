"""A question of the literature as configuration and a verdict: ``python -m benchmarks.study study=mtpo_table1``.

Runs the cells of ``conf/study/NAME.yaml`` that are not finished, judges its claims by what is finished, and writes a
page, ``results/studies/NAME.md`` (with .csv and .json). How, and how to add one, is in docs/studies.md.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from benchmarks.build import CONF
from benchmarks.cells import Cell, Standing, check_jobs, choose, run_cells, words
from benchmarks.progress import RunError, readable_errors, say
from benchmarks.provenance import commit, dirty
from benchmarks.studies.evidence import Evidence, Judging, check_conversations
from results.record import Record
from results.study_page import Page, cell_row, method_table, win_rate_table, write
from results.verdict import Verdict


@dataclass(frozen=True)
class Study:
    """What ``conf/study/NAME.yaml`` says. A study of computed claims alone has no methods."""

    name: str
    title: str
    source: str
    """Where the claims come from."""
    claims: Sequence[Mapping[str, Any]]
    """Functions that give verdicts: a dotted path under ``_target_``, and its options. One that takes ``evidence`` is
    given what the cells came to."""
    question: str = ""
    """What is asked, and how the answer is to be read."""
    common: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of ``benchmarks.run`` for every cell; null takes one back."""
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is compared: a name, and its overrides beside the common ones (``seeds``: its own seeds)."""
    seeds: Sequence[int] = ()
    """Each method has one cell per seed."""
    judging: Judging | None = None
    """How the methods' conversations are compared with each other; null: they are not."""
    reported: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Win rates that the source reports, row by row, shown beside ours."""

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any]) -> Study:
        """Check the keys. Raises ``RunError`` naming what is unknown or missing."""
        known = [one.name for one in fields(cls) if one.name != "name"]
        where = f"conf/study/{name}.yaml"
        if unknown := [key for key in values if key not in known]:
            raise RunError(f"{where}: {unknown[0]} is not known; a study takes {', '.join(known)}.")
        if missing := [key for key in ("title", "source", "claims") if key not in values]:
            raise RunError(f"{where}: {missing[0]} is missing; add it.")
        try:
            judging = Judging(**values["judging"]) if values.get("judging") else None
        except TypeError as error:
            raise RunError(f"{where}: judging can't be read: {error}.") from error
        study = cls(name, **{**values, "judging": judging})
        if study.methods and not study.seeds:
            raise RunError(f"{where}: seeds is missing; give the seeds that each method is run with.")
        return study

    def cells(self, results: str, budget: str | None = None) -> list[Cell]:
        """One per method and seed, the first seed of every method first; ``budget`` stands for every cell's own."""
        own = {method: list(settings.get("seeds", self.seeds)) for method, settings in self.methods.items()}
        longest = max(map(len, own.values()), default=0)
        places = [(method, seeds[i]) for i in range(longest) for method, seeds in own.items() if i < len(seeds)]
        last = {"results": results, **({"budget": budget} if budget else {})}
        return [Cell(method, seed, self._words(method, {"seed": seed, **last})) for method, seed in places]

    def _words(self, method: str, last: Mapping[str, Any]) -> tuple[str, ...]:
        settings = {key: value for key, value in self.methods[method].items() if key != "seeds"}
        values = {**self.common, **settings, **last}
        return words(values)

    def check(self) -> None:
        """Judge the claims by nothing: a slip in a name shows before hours are spent. Raises ``RunError`` naming it."""
        nothing = Evidence(dict.fromkeys(self.methods, 1), {})
        for function in self._functions:
            if _takes_evidence(function):
                function(evidence=nothing)

    def judge(self, evidence: Evidence) -> list[Verdict]:
        """A verdict on every claim, in order."""
        given = [{"evidence": evidence} if _takes_evidence(one) else {} for one in self._functions]
        return [verdict for one, what in zip(self._functions, given, strict=True) for verdict in one(**what)]

    @cached_property
    def _functions(self) -> list[Callable[..., list[Verdict]]]:
        return [_function(claim, f"conf/study/{self.name}.yaml") for claim in self.claims]


def _function(claim: Mapping[str, Any], where: str) -> Callable[..., list[Verdict]]:
    """The function a claim names, with its options; raises ``RunError`` if it can't be called so."""
    options = {key: value for key, value in claim.items() if key != "_target_"}
    try:
        function = pkgutil.resolve_name(claim["_target_"])
    except (KeyError, ImportError, AttributeError, ValueError, TypeError) as error:
        raise RunError(
            f"{where}: a claim names its function under _target_; {dict(claim)} does not: {error}"
        ) from error
    try:
        inspect.signature(function).bind(**options, **({"evidence": None} if _takes_evidence(function) else {}))
    except (TypeError, ValueError) as error:
        raise RunError(f"{where}: {claim['_target_']} can't be called so: {error}") from error
    return partial(function, **options)


def _takes_evidence(function: Callable[..., list[Verdict]]) -> bool:
    return "evidence" in inspect.signature(function).parameters


# ---- the command ----------------------------------------------------------------------------------------------------


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="study_config")
@readable_errors
def main(config: DictConfig) -> None:
    """Run, judge, write the page. Ends with exit status 1 and their names if cells failed."""
    options: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    choices = HydraConfig.get().runtime.choices
    name, budget = str(choices["study"]).replace("/", "-"), choices["budget"]
    study, jobs = Study.of(name, options["study"]), options["jobs"]
    check_jobs(jobs)
    study.check()
    cells = study.cells(options["results"], budget)
    chosen = choose(cells, options["only"], options["shard"])
    if study.judging and jobs:
        check_conversations([Standing.of(cell, {}) for cell in cells], study.judging)
    failures = run_cells(chosen, jobs) if jobs and chosen else {}
    standings = [Standing.of(cell, failures) for cell in cells]
    evidence = Evidence.of(standings, study.judging)
    page = make_page(study, standings, evidence)
    path = Path(options["out"]) / (f"{name}-{budget}.md" if budget else f"{name}.md")
    for verdict in page.verdicts:
        say(f"  {verdict.verdict:9}  {verdict.claim}: {verdict.measured}")
    if lost := _lost(path.with_suffix(".json"), standings):
        kept = (
            f"{path} is left as it is: it tells of {len(lost)} finished cells that are not finished below "
            f"{options['results']} ({', '.join(lost[:4])}{', …' if len(lost) > 4 else ''}). Bring or finish them; to "
            "have a page without them, remove this one or write elsewhere with out=FOLDER."
        )
        if not jobs:
            raise RunError(kept)
        say(f"{page.tally}. {page.completeness}\n{kept}")
    else:
        say(f"{page.tally}. {page.completeness}\n{write(page, path.parent, path.stem)}")
    if failures:
        raise RunError("\n".join(["These cells failed:", *(f"  {cell}: {why}" for cell, why in failures.items())]))


def _lost(page: Path, standings: Sequence[Standing]) -> list[str]:
    """The finished cells that the page's JSON tells of and that are not finished here."""
    try:
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        told = [f"{cell['method']}/{cell['seed']}" for cell in cells if cell["state"] == "finished"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    here = {f"{one.cell.method}/{one.cell.seed}" for one in standings if one.record is not None}
    return [name for name in told if name not in here]


def _finished(standings: Sequence[Standing]) -> dict[str, list[Record]]:
    """The records by method, if all were evaluated on the same scenarios; else none."""
    found: dict[str, list[Record]] = {}
    for one in standings:
        if one.record is not None:
            found.setdefault(one.cell.method, []).append(one.record)
    scenarios = {(main.split, *main.seeds) for of in found.values() for main in (one.evaluations[0] for one in of)}
    return found if len(scenarios) == 1 else {}


def make_page(study: Study, standings: Sequence[Standing], evidence: Evidence) -> Page:
    """Everything that is published of a study."""
    hydra_config = HydraConfig.get()
    folders = [s.path for s in hydra_config.runtime.config_sources if s.provider == "command-line"]
    words = [*(f"--config-dir={folder}" for folder in folders), *hydra_config.overrides.task]
    return Page(
        name=study.name,
        title=study.title,
        question=study.question,
        source=study.source,
        command=shlex.join(["python", "-m", "benchmarks.study", *words]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        dirty=dirty(),
        verdicts=study.judge(evidence),
        tables=[
            *([method_table(by_method)] if (by_method := _finished(standings)) else []),
            *([win_rate_table(evidence.comparison.rates, study.reported)] if evidence.comparison else []),
        ],
        cells=[cell_row(one.cell.method, one.cell.seed, one.state, one.record) for one in standings],
    )


if __name__ == "__main__":
    main()
