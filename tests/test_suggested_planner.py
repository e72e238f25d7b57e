"""The planner through the business: exact where it can be checked, and other in its choices than without one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.acts import Act
from envs.conversation import Conversation
from envs.sales.knowledge import Knowledge, begin
from envs.sales.language import buyer_phrasebook
from envs.sales.planner import Planner as SalesPlanner
from envs.sales.planner import openings
from envs.sales.program import Mind
from envs.suggested_response.advisers import PlanningAdviser, sales_adviser
from envs.suggested_response.business import Business
from envs.suggested_response.env import AGENT_BRIEF
from envs.suggested_response.planner import Businesses, Planner, sensible, training_businesses
from envs.suggested_response.transcript import Exchange

CONVINCED = Mind(shown="Ridge", worried=False, trust=2, spent=3)
LAST = Knowledge(need="trail", budget="tight", worry="theft", fit="full", mind=CONVINCED, exchanges=7)
"""One exchange is left, and nothing holds the buyer back: asked, it buys with probability .9."""
WORRIED = Knowledge(need="trail", budget="tight", fit="full", mind=Mind(shown="Ridge", trust=1, spent=3), exchanges=5)
"""Three are left, and what worries the buyer is not known."""
OWN = 0.25 / 23 + 0.75 * 0.75
"""How often the business asks the convinced buyer by itself: see test_suggested_response."""


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner(Businesses([*training_businesses(), None]))


def row(planner: Planner, habit: str, dislikes: str) -> int:
    return planner.businesses.of.index(Business(habit, dislikes))


def test_the_last_exchange_by_hand(planner: Planner):
    values = planner.act_values(LAST, [Act("close"), Act("greet"), None])
    steady, pressed = row(planner, "steady", "promises"), row(planner, "steady", "pressure")
    # Accepts .8 · .7 = .56. Of the other .44, .4 drifts, to close or to a discount; the rest it writes itself, or (.02)
    # falls silent.
    by_itself = 0.98 * OWN * 0.9
    assert values[Act("close")][steady, 1] == pytest.approx(0.56 * 0.9 + 0.44 * 0.4 * 0.45 + 0.44 * 0.6 * by_itself)
    # Disliked, a tenth of that is accepted.
    disliked = 0.056 * 0.9 + 0.944 * 0.4 * 0.45 + 0.944 * 0.6 * by_itself
    assert values[Act("close")][pressed, 1] == pytest.approx(disliked)
    assert values[None][steady, 1] == pytest.approx(by_itself)
    assert values[Act("greet")][steady, 1] == pytest.approx(0.44 * 0.6 * by_itself)
    assert values[Act("close")][-1, 1] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "known",
    [WORRIED, replace(begin(Act("open_need", "trail")), exchanges=6), replace(begin(Act("open_idle")), exchanges=6)],
)
def test_without_a_business_it_is_the_wrapped_world_s_optimum(known: Knowledge):
    ours = Planner(Businesses([None]), reward="world").value(known)
    assert ours == pytest.approx(np.full((1, 4), SalesPlanner().value(known)))


def test_the_optimum_differs_where_a_business_decides(planner: Planner):
    assert planner.best(WORRIED, -1, 1) == Act("ask_worry")
    dislikes_it = row(planner, "eager", "chatter")
    assert planner.best(WORRIED, dislikes_it, 1) == Act("pitch", "Ridge")  # a buyer may tell its worry unasked
    loss = (
        planner.value(WORRIED)[dislikes_it, 1]
        - planner.act_values(WORRIED, [Act("ask_worry")])[Act("ask_worry")][dislikes_it, 1]
    )
    assert loss > 0.02


def test_to_abstain_can_be_the_best_there_is_to_do(planner: Planner):
    told = replace(WORRIED, worry="theft", exchanges=6)
    distrustful = row(planner, "wary", "pressure")
    assert planner.best(told, distrustful, 0) is None and planner.best(told, distrustful, 2) is not None


def test_a_fixed_choice_is_worth_no_more_than_the_best(planner: Planner):
    follow = Planner(planner.businesses, follow=lambda known: planner.best(known, -1, 1))
    best, fixed = planner.value(WORRIED), follow.value(WORRIED)
    assert (fixed <= best + 1e-12).all() and fixed[-1] == pytest.approx(best[-1])
    assert (fixed[:-1] < best[:-1] - 0.01).any()


def test_trust_is_never_worth_less_than_nothing(planner: Planner):
    values = planner.value(WORRIED)[:-1]
    assert (np.diff(values, axis=1) >= -1e-12).all()


def test_what_the_openings_have_in_common_is_one_conversation():
    assert sum(p for p, _ in openings()) == pytest.approx(1.0)


def test_suggestions_are_the_same_up_to_names():
    one = replace(WORRIED, worry="theft")
    other = replace(WORRIED, worry="upkeep", need="cargo", mind=replace(WORRIED.mind, shown="Mule"))
    assert one.key(8) == other.key(8)
    for act, its_twin in zip(sensible(one), sensible(other), strict=True):
        assert (act is None) == (its_twin is None) and (act is None or act.kind == its_twin.kind)


def test_states_that_are_solved_together_have_the_same_values(monkeypatch: pytest.MonkeyPatch):
    known = replace(WORRIED, mind=replace(WORRIED.mind, spent=5), patience=(7, 9))
    businesses = Businesses([Business("wary", "pressure"), None])
    together = Planner(businesses)
    values = together.value(known)
    monkeypatch.setattr(Knowledge, "key", lambda self, horizon: self)
    apart = Planner(businesses)
    assert (apart.value(known) == values).all() and apart.states > together.states
    assert [apart.best(known, 0, trust) for trust in range(4)] == [together.best(known, 0, trust) for trust in range(4)]


def test_who_the_business_is_shows_in_what_it_does_with_suggestions():
    adviser = PlanningAdviser("business")
    start = adviser.believe(Conversation(AGENT_BRIEF).then("user", "Hi, I'm looking for a bike."))
    businesses = [one for one in adviser.businesses.of if one is not None]
    assert start.weights == pytest.approx(np.full(9, 1 / 9)) and list(start.trust) == [2] * 9
    asked = "What will you use the bike for?"
    answer = buyer_phrasebook().say(Act("tell_need", "commute"), np.random.default_rng(0))

    sent = adviser.learn(start, Exchange(asked, asked, answer))
    # Word for word: .97 · .9 · .9, .8 · .9 · .6 and .55 · .9 · .5, or a tenth of that where questions are disliked.
    kept = {"eager": 0.7857, "steady": 0.432, "wary": 0.2475}
    chances = np.array([kept[one.habit] * (0.1 if one.dislikes == "chatter" else 1.0) for one in businesses])
    assert sent.weights == pytest.approx(chances / chances.sum(), abs=1e-4)
    # It was welcome, so trust grows; where questions are disliked, it is gone.
    assert [int(t) for t in sent.trust] == [0 if one.dislikes == "chatter" else 3 for one in businesses]
    assert sent.known.need == "commute"

    turned_down = adviser.learn(start, Exchange(asked, "Hello, nice to see you!", "Hello."))
    by_habit = {h: sum(w for w, b in zip(turned_down.weights, businesses, strict=True) if b.habit == h) for h in kept}
    assert by_habit["wary"] > by_habit["steady"] > by_habit["eager"]
    assert turned_down.known.mind.greeted


def test_what_was_misheard_rules_nothing_out():
    adviser = PlanningAdviser("business")
    start = adviser.believe(Conversation(AGENT_BRIEF).then("user", "Hi, I'm looking for a bike."))
    odd = adviser.learn(start, Exchange("What will you use the bike for?", "Farewell!", "Well, goodbye."))
    assert np.isfinite(odd.weights).all() and odd.weights.sum() == pytest.approx(1.0)


def test_rules_of_the_wrapped_world_are_at_hand_and_others_are_named():
    with pytest.raises(ValueError, match="rule='wise'"):
        sales_adviser("wise")
