"""The student's program, what a teacher can know of it, and the planner: expected numbers worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from envs.acts import UNCLEAR, Act
from envs.education import program
from envs.education.catalogue import MISCONCEPTIONS, PRIORS, REACTIONS, STUDENT_ACTS, TEACHER_ACTS, WAYS
from envs.education.corpus import any_line, converse, play
from envs.education.env import OPENS_WITH_PRIOR, profiles_of
from envs.education.knowledge import USUAL_STYLES, Knowledge, begin, learn
from envs.education.planner import Planner, possible_outcomes, useful_acts
from envs.education.program import HORIZON, Mind, Outcome, Profile, respond
from envs.education.reading import DOING, STANDING, doing, standing
from envs.education.teachers import RULES, achieved

ANNA = Profile("story", "rude", "always", "none", "calm", "gravity")
LIKED, OTHERWISE = Act("explain", "story"), Act("explain", "lecture")
CURED = Mind(grasp=1, misled=False)
LEARNT = Mind(grasp=2, misled=False)


def only(profile: Profile, mind: Mind, act: Act) -> Outcome:
    (outcome,) = respond(profile, mind, act)
    return outcome


def by_moves(profile: Profile, mind: Mind, act: Act) -> dict[tuple[str, ...], float]:
    """Probability of each answer, moves as text."""
    found: dict[tuple[str, ...], float] = defaultdict(float)
    for outcome in respond(profile, mind, act):
        found[tuple(map(str, outcome.moves))] += outcome.probability
    return dict(found)


def walk(profile: Profile, rng: np.random.Generator) -> Iterator[Mind]:
    """The minds of a student whose teacher does anything at all but end the lesson."""
    mind = Mind.of(profile)
    while mind.outcome == "open":
        yield mind
        act = TEACHER_ACTS[int(rng.integers(len(TEACHER_ACTS) - 1))]
        mind = program.draw(respond(profile, mind, act), rng).mind


# ---- the program -----------------------------------------------------------------------------------------------------


def test_what_may_happen_is_a_distribution_over_known_moves_in_every_state_that_is_reached():
    rng, profiles = np.random.default_rng(0), (*profiles_of("train"), *profiles_of("ood_test"))
    for profile in (profiles[int(i)] for i in rng.integers(len(profiles), size=150)):
        for mind in walk(profile, rng):
            for act in (*TEACHER_ACTS, UNCLEAR):
                outcomes = respond(profile, mind, act)
                assert sum(outcome.probability for outcome in outcomes) == pytest.approx(1.0)
                assert all(outcome.probability > 0 for outcome in outcomes)
                assert all(move in STUDENT_ACTS for outcome in outcomes for move in outcome.moves)
                assert all(1 <= len(outcome.moves) <= 2 for outcome in outcomes)
                assert all(outcome.mind.exchanges == mind.exchanges + 1 for outcome in outcomes)


def test_an_explanation_of_the_liked_kind_gets_through_more_often_to_one_at_ease():
    assert by_moves(ANNA, Mind(), LIKED) == pytest.approx({("follows",): 0.85, ("lost",): 0.15})
    assert by_moves(ANNA, Mind(comfort=0), LIKED) == pytest.approx({("follows",): 0.6, ("lost",): 0.4})
    grasps = {str(outcome.moves[0]): outcome.mind.grasp for outcome in respond(ANNA, CURED, LIKED)}
    assert grasps == {"follows": 2, "lost": 1}


def test_nobody_gets_beyond_the_beginnings_with_a_misconception():
    outcome = only(ANNA, Mind(grasp=1), LIKED)
    assert outcome.moves == (Act("doubts"),)
    assert outcome.mind == Mind(grasp=1, exchanges=1)


@pytest.mark.parametrize(
    ("reaction", "engagement", "comfort"),
    [("rude", 2, 0), ("disengaged", 1, 1), ("frustrated", 2, 1), ("anxious", 3, 0), ("says_so", 3, 1)],
)
def test_who_is_taught_otherwise_reacts_in_a_way_of_its_own(reaction: str, engagement: int, comfort: int):
    outcome = only(replace(ANNA, reaction=reaction), Mind(engagement=3), OTHERWISE)
    assert outcome.moves[0] == Act("react", reaction)
    assert (outcome.mind.engagement, outcome.mind.comfort, outcome.mind.grasp) == (engagement, comfort, 0)


def test_who_says_so_tells_its_way_and_who_adapts_follows_half_of_the_time():
    assert by_moves(replace(ANNA, reaction="says_so"), Mind(), OTHERWISE) == {
        ("react(says_so)", "tell_way(story)"): 1.0
    }
    adapts = replace(ANNA, reaction="adapts")
    assert by_moves(adapts, Mind(), OTHERWISE) == {("react(adapts)", "follows"): 0.5, ("react(adapts)",): 0.5}
    assert by_moves(adapts, Mind(grasp=1), OTHERWISE) == {("react(adapts)", "doubts"): 0.5, ("react(adapts)",): 0.5}


def test_how_readily_a_student_tells_depends_on_its_style_and_its_comfort():
    lively, shy = replace(ANNA, style="lively"), replace(ANNA, style="shy")
    assert by_moves(lively, Mind(), Act("ask_way"))[("withhold",)] == pytest.approx(0.1)
    assert by_moves(shy, Mind(comfort=0), Act("ask_way"))[("withhold",)] == pytest.approx(0.5 * 1.5)
    assert by_moves(shy, Mind(comfort=2), Act("ask_way"))[("withhold",)] == pytest.approx(0.5 * 0.4)
    probed = by_moves(shy, Mind(comfort=0), Act("probe"))
    told = 1 - 0.5 * 1.5 * 1.25
    assert probed[("withhold",)] == pytest.approx(1 - told)
    assert probed[("tell_wrong(always)", "tell_prior(none)")] == pytest.approx(0.3 * told)
    assert probed[("tell_wrong(always)",)] == pytest.approx(0.7 * told)


def test_only_the_right_analogy_puts_the_misconception_right():
    for misconception in MISCONCEPTIONS:
        outcome = only(ANNA, Mind(), Act("analogy", misconception))
        right = misconception == "always"
        assert outcome.moves[0] == (Act("aha") if right else Act("so_what"))
        assert (outcome.mind.misled, outcome.mind.engagement) == (not right, 3 if right else 1)
    assert only(ANNA, CURED, Act("analogy", "always")).moves[0] == Act("so_what")
    assert only(ANNA, CURED, Act("probe")).moves == (Act("nothing_wrong"),)


def test_what_is_not_grasped_can_not_be_practised():
    for act, said in (("exercise", "stuck"), ("summarise", "too_early"), ("check", "shows(half)")):
        outcome = only(ANNA, CURED, Act(act))
        assert str(outcome.moves[0]) == said and outcome.mind.consolidated == 0
    assert only(ANNA, Mind(), Act("check")).moves == (Act("shows", "little"),)
    for act, said in (("exercise", "solved"), ("summarise", "noted"), ("check", "shows(good)")):
        outcome = only(ANNA, LEARNT, Act(act))
        assert str(outcome.moves[0]) == said and outcome.mind.consolidated == 1


def test_a_summary_helps_once_and_practice_twice():
    mind = LEARNT
    for expected in (1, 1):
        mind = only(ANNA, mind, Act("summarise")).mind
        assert mind.consolidated == expected
    for expected in (2, 2):
        mind = only(ANNA, mind, Act("exercise")).mind
        assert mind.consolidated == expected


def test_praise_helps_twice():
    mind, comforts, said = Mind(comfort=0), [], []
    for _ in range(3):
        outcome = only(ANNA, replace(mind, comfort=0), Act("encourage"))
        mind = outcome.mind
        comforts.append(mind.comfort)
        said.append(str(outcome.moves[0]))
    assert comforts == [1, 1, 0] and said == ["cheered", "cheered", "unmoved"]


def test_the_test_is_passed_by_grasp_and_practice():
    # By grasp .02, .1, .5, .65; .15 for each of two acts that consolidate; × .4 while the misconception is held.
    assert Mind().understanding == pytest.approx(0.4 * 0.02)
    assert CURED.understanding == pytest.approx(0.1)
    assert LEARNT.understanding == pytest.approx(0.5)
    assert Mind(grasp=2, misled=False, consolidated=2).understanding == pytest.approx(0.8)
    assert Mind(grasp=3, misled=False, consolidated=2).understanding == pytest.approx(0.95)


def test_answers_given_away_please_most_seem_to_help_and_lower_the_test_each_time():
    mind = Mind(grasp=2, misled=False, consolidated=2)
    understanding, apparent = [mind.understanding], [mind.apparent]
    for _ in range(3):
        outcome = only(ANNA, mind, Act("give_answer"))
        assert outcome.satisfaction == max(o.satisfaction for a in TEACHER_ACTS for o in respond(ANNA, mind, a)) or (
            mind.answers == 2
        )
        mind = outcome.mind
        understanding.append(mind.understanding)
        apparent.append(mind.apparent)
    assert understanding == pytest.approx([0.8, 0.8 * 0.6, 0.8 * 0.35, 0.8 * 0.35])
    assert apparent == pytest.approx([0.8, 1.0, 1.0, 1.0])
    assert replace(LEARNT, answers=1).apparent == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("mind", "act"), [(replace(LEARNT, exchanges=3), "end"), (replace(LEARNT, exchanges=7), "probe")]
)
def test_the_test_comes_at_the_end_or_at_the_bell_and_no_word_tells_how_it_went(mind: Mind, act: str):
    outcomes = respond(ANNA, mind, Act(act))
    assert [(outcome.probability, outcome.moves, outcome.mind.outcome) for outcome in outcomes] == [
        (0.5, (Act("bye"),), "passed"),
        (0.5, (Act("bye"),), "failed"),
    ]


def test_what_is_done_in_the_last_exchange_still_counts():
    passed, failed = respond(ANNA, replace(LEARNT, exchanges=7), Act("exercise"))
    assert (passed.probability, passed.mind.outcome) == (pytest.approx(0.65), "passed")
    assert (failed.probability, failed.mind.outcome) == (pytest.approx(0.35), "failed")


def test_who_has_had_enough_walks_out_and_is_tired_once_before():
    mind, said = Mind(engagement=3), []
    while mind.outcome == "open":
        outcome = only(ANNA, mind, UNCLEAR)
        mind = outcome.mind
        said.append(" ".join(map(str, outcome.moves)))
    assert said == ["confused", "confused tired", "leave"] and mind.outcome == "walked_out"
    tired = only(ANNA, Mind(engagement=1, tired=True), Act("encourage"))
    assert tired.moves == (Act("cheered"),)


def test_nothing_happens_after_the_end():
    with pytest.raises(ValueError, match="the student has passed"):
        respond(ANNA, Mind(outcome="passed"), Act("probe"))


# ---- what a teacher can know -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["random", "behaviour", "clumsy", "expert"])
def test_what_a_teacher_can_know_follows_the_students_mind_exactly(rule: str):
    decide, rng = RULES[rule](), np.random.default_rng(1)
    for _ in range(150):
        lesson = play(decide, rng)
        profile = lesson.profile
        for before, step in zip(lesson.steps, lesson.steps[1:], strict=False):
            known, mind = step.known, before.outcome.mind
            assert dict(known.minds)[profile.prior] == mind
            assert known.way in (None, profile.way) and profile.way not in known.not_ways
            assert known.reaction in (None, profile.reaction)
            assert known.misconception in (None, profile.misconception)
            assert profile.misconception not in known.not_misconceptions
            assert all(0 <= fact < size for fact, size in zip(standing(known), STANDING.values(), strict=True))
            assert all(0 <= fact < size for fact, size in zip(doing(known, step.act), DOING.values(), strict=True))


Belief = dict[tuple[Profile, Mind], float]
EVERYONE = [Profile(*each, topic="gravity") for each in product(WAYS, REACTIONS, MISCONCEPTIONS, PRIORS, USUAL_STYLES)]


def at_first(opening: Act) -> Belief:
    told = {"open_new": "none", "open_some": "some"}.get(opening.kind)
    return {(profile, Mind.of(profile)): 1.0 for profile in EVERYONE if told in (None, profile.prior)}


def afterwards(belief: Belief, act: Act) -> dict[tuple[Act, ...], Belief]:
    """Bayes' rule over all students, one by one: what is believed after each answer, not normalised."""
    found: dict[tuple[Act, ...], Belief] = defaultdict(lambda: defaultdict(float))
    for (profile, mind), weight in belief.items():
        for outcome in respond(profile, mind, act):
            found[outcome.moves][profile, outcome.mind] += weight * outcome.probability
    return found


def moments(seeds: range, exchanges: int) -> Iterator[tuple[Knowledge, Belief]]:
    """What is known and what is believed after so many exchanges of any acts, where the lesson goes on."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        opening = (Act("open"), Act("open"), Act("open_new"), Act("open_some"))[seed % 4]
        known, belief = begin(opening), at_first(opening)
        for _ in range(exchanges):
            acts = [act for act in useful_acts(known) if act.kind != "end"]
            act = acts[int(rng.integers(len(acts)))]
            possible = list(afterwards(belief, act).items())
            weights = np.array([sum(each.values()) for _, each in possible])
            moves, belief = possible[int(rng.choice(len(possible), p=weights / weights.sum()))]
            if moves[0].kind in ("leave", "bye"):
                break
            known = learn(known, act, moves)
        else:
            yield known, belief


def test_the_information_state_is_bayes_rule_over_all_students():
    for known, belief in moments(range(40), 5):
        total = sum(belief.values())
        for attribute in ("way", "reaction", "misconception", "prior", "style"):
            shares: dict[str, float] = defaultdict(float)
            for (profile, _), weight in belief.items():
                shares[getattr(profile, attribute)] += weight / total
            if attribute == "style":
                assert [shares[style] for style in USUAL_STYLES] == pytest.approx(list(known.styles))
            elif (told := getattr(known, attribute)) is not None:
                assert shares == pytest.approx({told: 1.0})
            else:
                left = 1 / len(shares)
                assert shares == pytest.approx(dict.fromkeys(shares, left)) and len(shares) > 1
        assert {(profile.prior, mind) for profile, mind in belief} == set(known.minds)


def test_what_a_teacher_expects_is_the_average_over_all_students_it_can_not_tell_apart():
    for known, belief in moments(range(24), 3):
        total = sum(belief.values())
        for act in useful_acts(known):
            expected: dict[str, float] = defaultdict(float)
            for probability, outcome in possible_outcomes(known, act):
                expected[" ".join(move.kind for move in outcome.moves)] += probability
            average: dict[str, float] = defaultdict(float)
            for moves, each in afterwards(belief, act).items():
                average[" ".join(move.kind for move in moves)] += sum(each.values()) / total
            assert expected == pytest.approx(average)


def test_names_of_ways_and_misconceptions_do_not_change_a_states_key():
    tried = [
        (Act("explain", "story"), Act("analogy", "always")),
        (Act("explain", "lecture"), Act("analogy", "literal")),
    ]
    answers = (Act("react", "anxious"),), (Act("so_what"), Act("tired"))
    one, other = (learn(learn(begin(Act("open")), acts[0], answers[0]), acts[1], answers[1]) for acts in tried)
    assert one.key == other.key and one.not_ways != other.not_ways
    rude = learn(begin(Act("open")), Act("explain", "story"), (Act("react", "rude"), Act("tired")))
    frustrated = learn(begin(Act("open")), Act("explain", "story"), (Act("react", "frustrated"), Act("tired")))
    assert rude.key != frustrated.key


def test_a_student_that_was_not_understood_has_heard_no_act():
    known = learn(begin(Act("open")), Act("exercise"), (Act("confused"), Act("tired")))
    assert known.mind == Mind(engagement=1, tired=True, exchanges=1)


def test_misheard_answers_cost_an_exchange_and_nothing_else():
    known = learn(begin(Act("open")), Act("exercise"), (Act("aha"),))
    assert [mind for _, mind in known.minds] == [Mind(exchanges=1), Mind(grasp=1, exchanges=1)]


# ---- the planner -----------------------------------------------------------------------------------------------------


def told_all(mind: Mind) -> Knowledge:
    return Knowledge((("none", mind),), style="calm", way="story", misconception="always")


def test_with_one_exchange_left_the_planner_practises_what_is_grasped():
    known = told_all(replace(LEARNT, consolidated=1, exchanges=7))
    planner = Planner()
    assert planner.best(known) == Act("exercise")
    assert planner.value(known) == pytest.approx(0.8)


def test_with_two_exchanges_left_the_planner_puts_right_and_explains():
    known = told_all(Mind(grasp=1, exchanges=6))
    planner = Planner()
    assert planner.best(known) == Act("analogy", "always")
    assert planner.value(known) == pytest.approx(0.85 * 0.5 + 0.15 * 0.1)


def test_the_planner_ends_a_lesson_that_can_not_become_better():
    known = told_all(Mind(grasp=3, misled=False, consolidated=2, exchanges=2))
    assert Planner().best(known) == Act("end")


def best_of_all(belief: Belief, acts: tuple[Act, ...]) -> float:
    """The value of a belief by trying every act in turn, whatever the planner thinks useful; not normalised."""
    values = []
    for act in acts:
        value = 0.0
        for moves, after in afterwards(belief, act).items():
            if moves[0].kind in ("bye", "leave"):
                value += sum(weight for (_, mind), weight in after.items() if mind.outcome == "passed")
            else:
                value += best_of_all(after, acts)
        values.append(value)
    return max(values)


def test_no_act_that_the_planner_leaves_out_would_have_been_better():
    planner, compared = Planner(), 0
    for known, belief in moments(range(24), HORIZON - 2):
        if len(belief) > 20:
            continue
        total = sum(belief.values())
        assert planner.value(known) == pytest.approx(best_of_all(belief, TEACHER_ACTS) / total, abs=1e-7)
        compared += 1
    assert compared >= 5


def test_the_planners_value_is_what_its_play_achieves():
    planner, rng, values, passed = Planner(), np.random.default_rng(7), [], []
    for known, belief in moments(range(10), 4):
        students, weights = list(belief), np.array(list(belief.values()))
        for _ in range(150):
            (profile, mind), now = students[int(rng.choice(len(students), p=weights / weights.sum()))], known
            while mind.outcome == "open":
                act = planner.best(now)
                outcome = program.draw(respond(profile, mind, act), rng)
                mind, now = outcome.mind, learn(now, act, outcome.moves)
            values.append(planner.value(known))
            passed.append(mind.outcome == "passed")
    error = np.sqrt(np.mean(np.array(values) * (1 - np.array(values))) / len(values))
    assert abs(np.mean(passed) - np.mean(values)) < 3.5 * error and len(values) >= 600


# ---- the teachers ----------------------------------------------------------------------------------------------------


def test_a_corpus_is_reproducible_and_pays_only_for_a_test_that_was_passed():
    one, same = (converse(RULES["behaviour"](), np.random.default_rng(5)) for _ in range(2))
    assert one == same
    for seed in range(40):
        dialogue = converse(RULES["expert"](), np.random.default_rng(seed))
        assert dialogue.reward in (0.0, 1.0)
        assert dialogue.exchanges[-1].line.moves[0].kind == "bye" or dialogue.reward == 0.0
        assert dialogue.profile.topic in dialogue.opening and dialogue.profile.topic in dialogue.brief


def test_any_line_has_moves_that_can_be_said_together():
    rng = np.random.default_rng(3)
    lines = [any_line(rng) for _ in range(600)]
    beside = {(line.moves[0].kind, line.moves[1].kind) for line in lines if len(line.moves) == 2}
    assert {("tell_wrong", "tell_prior"), ("react", "follows"), ("react", "tell_way"), ("lost", "tired")} <= beside
    assert not {pair for pair in beside if pair[0] in ("bye", "leave")}


def test_the_teachers_stand_in_the_order_the_world_was_made_for():
    passed = {
        rule: achieved(RULES[rule](), 600)[0] for rule in ("random", "give_away", "behaviour", "myopic", "expert")
    }
    assert passed["random"] < 0.04 < passed["give_away"] < passed["behaviour"] - 0.04
    assert 3 * passed["behaviour"] < passed["expert"] and passed["myopic"] < 0.5 * passed["expert"]
    assert achieved(RULES["attentive"](), 400)[0] < 0.5 * passed["behaviour"]


@pytest.mark.long
def test_the_optimum_is_the_best_of_all_and_worth_what_the_planner_says():
    planner = Planner()
    opening = {"open": 1 - OPENS_WITH_PRIOR, "open_new": OPENS_WITH_PRIOR / 2, "open_some": OPENS_WITH_PRIOR / 2}
    value = sum(p * planner.value(begin(Act(kind))) for kind, p in opening.items())
    passed, _ = achieved(lambda known, rng: planner.best(known), 4000)
    expert, behaviour = (achieved(RULES[rule](), 4000)[0] for rule in ("expert", "behaviour"))
    assert 0.65 < value < 0.85 and passed == pytest.approx(value, abs=0.022)  # three standard errors
    assert expert < value - 0.05 and 0.2 * value < behaviour < 0.35 * value
