"""What a suite is, and how long it takes: the values behind ``benchmarks.suite``.

They have a module of their own because launchers send a command's own module to other processes piece by piece, and a
dataclass does not survive that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import mean
from typing import Any

from benchmarks.cells import Cell, Standing, in_words, words
from benchmarks.progress import RunError
from results.record import Record
from results.tables import markdown_table


@dataclass(frozen=True)
class Suite:
    """What ``conf/suite/NAME.yaml`` says."""

    name: str
    title: str
    worlds: Mapping[str, Mapping[str, Any]]
    """A name, and overrides of ``benchmarks.run`` (``env``: the name itself unless given)."""
    agents: Mapping[str, Mapping[str, Any] | None]
    """A name, and overrides (``agent``: the name itself unless given; ``seeds``: its own; ``worlds``: only these)."""
    seeds: Sequence[int]
    """Each agent has one cell per world and seed."""
    common: Mapping[str, Any] = field(default_factory=dict)
    """Overrides for every cell."""
    out: str | None = None
    """Where the tables go; ``results/suites/NAME`` unless given. With another budget, a folder of its own beside it."""

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any]) -> Suite:
        """Check the keys. Raises ``RunError`` naming what is unknown or missing."""
        known = [one.name for one in fields(cls) if one.name != "name"]
        where = f"conf/suite/{name}.yaml"
        if unknown := [key for key in values if key not in known]:
            raise RunError(f"{where}: {unknown[0]} is not known; a suite takes {', '.join(known)}.")
        if missing := [key for key in ("title", "worlds", "agents", "seeds") if not values.get(key)]:
            raise RunError(f"{where}: {missing[0]} is missing; add it.")
        suite = cls(name, **values)
        for agent, settings in suite.agents.items():
            for world in (settings or {}).get("worlds", ()):
                if world not in suite.worlds:
                    raise RunError(
                        f"{where}: agent {agent} names the world {world}; there are {', '.join(suite.worlds)}."
                    )
        return suite

    def where(self, budget: str | None = None) -> str:
        """The folder of the tables."""
        return (self.out or f"results/suites/{self.name}") + (f"-{budget}" if budget else "")

    def cells(self, results: str, budget: str | None = None) -> list[Cell]:
        """The first seed of every agent in every world first; ``budget`` stands for every cell's own."""
        last = {"results": results, **({"budget": budget} if budget else {})}
        own = {agent: list((settings or {}).get("seeds", self.seeds)) for agent, settings in self.agents.items()}
        return [
            Cell(f"{world}/{agent}", own[agent][i], self._words(world, agent, {"seed": own[agent][i], **last}))
            for i in range(max(map(len, own.values())))
            for world in self.worlds
            for agent in self.agents
            if i < len(own[agent]) and world in ((self.agents[agent] or {}).get("worlds") or self.worlds)
        ]

    def _words(self, world: str, agent: str, last: Mapping[str, Any]) -> tuple[str, ...]:
        settings = {key: value for key, value in (self.agents[agent] or {}).items() if key not in ("seeds", "worlds")}
        return words({**self.common, "env": world, **self.worlds[world], "agent": agent, **settings, **last})


# ---- how long it takes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pace:
    """How long runs took, for telling how long others take."""

    took: Mapping[tuple[str, str, str], float]
    """Mean seconds by agent, environment and budget."""

    @classmethod
    def of(cls, records: Sequence[Record]) -> Pace:
        """Of runs that are finished."""
        seconds: dict[tuple[str, str, str], list[float]] = {}
        for one in records:
            spent = one.seconds.setup + one.seconds.learning + one.seconds.evaluation
            seconds.setdefault((one.agent, one.env, one.budget), []).append(spent)
        return cls({key: mean(values) for key, values in seconds.items()})

    def expected(self, cell: Cell) -> float | None:
        """Seconds: as its agent took there, else as its agent took elsewhere; None if it has run nowhere."""
        one = cell.experiment
        if here := self.took.get((one.agent, one.env, one.budget)):
            return here
        elsewhere = [s for (agent, _, budget), s in self.took.items() if (agent, budget) == (one.agent, one.budget)]
        return mean(elsewhere) if elsewhere else None

    def left(self, cells: Sequence[Cell], jobs: int) -> str:
        """How long ``cells`` take, in words."""
        expected = [self.expected(cell) for cell in cells]
        known = [one for one in expected if one is not None]
        if not known:
            return "how long is not known before the first is finished"
        unknown = len(expected) - len(known)
        guess = f", {unknown} of them guessed" if unknown else ""
        return f"about {in_words(mean(known) * len(cells) / jobs)} on {jobs} at a time{guess}"


def overview(standings: Sequence[Standing]) -> str:
    """A table of what is finished, agents by worlds."""
    rows: dict[str, dict[str, list[Standing]]] = {}
    for one in standings:
        world, _, agent = one.cell.method.partition("/")
        rows.setdefault(agent, {}).setdefault(world, []).append(one)
    return markdown_table(
        [{"agent": agent, **{w: _state(of) for w, of in worlds.items()}} for agent, worlds in rows.items()]
    )


def _state(of: Sequence[Standing]) -> str:
    done = sum(one.record is not None for one in of)
    failed = sum(one.state.startswith("failed") for one in of)
    return f"{done} of {len(of)}" + (f", {failed} failed" if failed else "")
