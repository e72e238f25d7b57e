"""The exact optimum of twenty questions: by hand on four things, by exhaustion on small tables, and in the world."""

from __future__ import annotations

import numpy as np
import pytest

from envs.acts import Act
from envs.twenty_questions.askers import exact_return, optimum
from envs.twenty_questions.planner import Planner, bound
from envs.twenty_questions.program import DISTRACTED, HORIZON, MISSES
from envs.twenty_questions.table import TABLE, Table, Things, split_by

FOUR = Table(("p", "q"), {"a": "p q", "b": "p", "c": "q", "d": ""})


def test_four_things_by_hand():
    planner = Planner(FOUR)
    pair = FOUR.alone["a"] | FOUR.alone["b"]
    assert planner.value(FOUR.alone["a"], 20) == 0  # guess it
    assert planner.value(pair, 20) == pytest.approx(-0.5)  # guess: 1/2 · 0 + 1/2 · (-1 + 0); a question would cost 1
    assert planner.best(pair, 20).kind == "guess"
    assert planner.value(pair | FOUR.alone["c"], 20) == pytest.approx(-1)  # guess: 2/3 · (-1 - 1/2)
    # A question: -1 + (-1/2). A guess: 3/4 · (-1 - 1), the same.
    assert planner.value(FOUR.everything, 20) == pytest.approx(-1.5)


def test_the_limit_makes_bold():
    planner = Planner(FOUR)
    # One exchange: a question is -1, a guess 3/4 · -1. Two: a question, then a guess, -1 + 1/2 · -1; two guesses,
    # 3/4 · (-1 + 2/3 · -1).
    assert planner.value(FOUR.everything, 1) == pytest.approx(-0.75)
    assert planner.value(FOUR.everything, 2) == pytest.approx(-1.25)
    assert planner.best(FOUR.everything, 2).kind == "guess"


def test_what_is_missed_by_hand():
    planner = Planner(FOUR, misses=0.5)
    one, two = FOUR.alone["a"], FOUR.alone["a"] | FOUR.alone["b"]
    assert planner.value(one, 1) == pytest.approx(-0.5)
    assert planner.value(one, 2) == pytest.approx(-0.75)  # 1/2 · 0 + 1/2 · (-1 - 1/2)
    assert planner.value(two, 1) == pytest.approx(-0.75)  # heard: 1/2 · 1/2 · -1; missed: 1/2 · -1
    # Heard: 1/2 · 1/2 · (-1 - 1/2) = -.375; missed: 1/2 · (-1 - .75) = -.875.
    assert planner.value(two, 2) == pytest.approx(-1.25)


@pytest.mark.parametrize("misses", [0.0, 0.3])
def test_branch_and_bound_finds_what_trying_everything_finds(misses: float):
    rng = np.random.default_rng(0)
    for _ in range(6):
        table = any_table(rng)
        planner = Planner(table, misses)
        for exchanges in (1, 3, 5):
            everything = exhaustive(table, table.everything, exchanges, misses, {})
            assert planner.value(table.everything, exchanges) == pytest.approx(everything, abs=1e-9)
            assert everything <= bound(len(table.things), exchanges, misses) + 1e-9


def any_table(rng: np.random.Generator) -> Table:
    """Six things that three or four properties tell apart."""
    properties = tuple("pqrs"[: int(rng.integers(3, 5))])
    rows = rng.permutation(2 ** len(properties))[:6]
    return Table(properties, {
        f"thing{i}": " ".join(one for j, one in enumerate(properties) if row >> j & 1) for i, row in enumerate(rows)
    })  # fmt: skip


def exhaustive(
    table: Table, left: Things, exchanges: int, misses: float, known: dict[tuple[Things, int], float]
) -> float:
    """The optimum by trying every question and every guess, those that tell nothing among them."""
    if not (left and exchanges):
        return 0.0
    if (left, exchanges) not in known:
        acts = (*(Act("ask", one) for one in table.properties), *(Act("guess", one) for one in table.things))
        values = []
        for act in acts:
            yes, no = split_by(table, left, act)
            after = 0.0
            for part in (yes, no) if act.kind == "ask" else (no,):
                chance = part.bit_count() / left.bit_count()
                after += chance * (-1 + exhaustive(table, part, exchanges - 1, misses, known))
            missed = -1 + exhaustive(table, left, exchanges - 1, misses, known)
            values.append((1 - misses) * after + misses * missed)
        known[left, exchanges] = max(values)
    return known[left, exchanges]


def test_no_table_of_thirty_two_things_allows_more_than_this_one():
    # Halving five times would leave one thing: -5. Two that are left cost half an exchange by guessing: -4 - 1/2.
    assert bound(32, HORIZON) == pytest.approx(-4.5)
    assert Planner().value(TABLE.everything, HORIZON) == pytest.approx(-4.5)


def test_one_rule_is_optimal_with_who_listens_and_with_the_distracted():
    # Without a limit every act would be said 1 / (1 - 1/5) times, the last one too: -4.5 · 5/4 - 1/4. The limit of
    # twenty is hardly ever met.
    planned = Planner(misses=MISSES).value(TABLE.everything, HORIZON)
    assert planned == pytest.approx(-5.875, abs=1e-5) and planned > -5.875
    assert exact_return(optimum, DISTRACTED) == pytest.approx(planned, abs=1e-9)
    assert exact_return(optimum) == pytest.approx(-4.5)
    assert planned <= bound(32, HORIZON, MISSES) + 1e-9


def test_nothing_to_do_is_said():
    with pytest.raises(ValueError, match="there is nothing to do"):
        Planner(FOUR).best(0, 3)
