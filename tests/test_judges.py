"""Judges: what they prefer, worked out by hand; that the two orders agree to the last bit; what becomes of failures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.agent import Agent
from agents.rollout import rollout
from agents.scripted import Scripted
from benchmarks.judging import judge_runs, load_judge
from benchmarks.progress import RunError
from envs.acts import Act
from envs.conversation import Conversation, Turn
from envs.education.env import EducationEnv
from envs.education.judging import LessonTurns, expected
from envs.education.language import named_topics, teacher_phrasebook
from envs.education.program import Mind as StudentMind
from envs.education.program import Profile as StudentProfile
from envs.education.program import respond
from envs.education.users import program_student
from envs.env import Episode, Scenario
from envs.judges import (
    BradleyTerry,
    ByOutcome,
    Criteria,
    Criterion,
    Cyclic,
    Noisy,
    Preference,
    draw_label,
    draw_labels,
)
from envs.language_models import Canned
from envs.prompted_judge import PromptedJudge
from envs.sales.judging import SaleTurns
from envs.sales.program import Mind, Profile
from envs.trajectory import Step, Trajectory, Utterance

THREE = Criteria({part: Criterion(1.0, 1.0) for part in "abc"})


def conversation(
    returns: float = 0.0, exchanges: int = 1, judged: bool = True, said: str = "Hi.", **parts
) -> Trajectory:
    rewards = [0.0] * (exchanges - 1) + [returns if judged else math.nan]
    steps = tuple(Step(Utterance(said), "Yes.", reward) for reward in rewards)
    failure = None if judged else "the line went dead"
    return Trajectory(3, "Teach.", (Turn("user", "Hello."),), steps, judged, "outcome", None, judged, "k", {}, parts,
                      failure=failure)  # fmt: skip


def preferred(judge, first: Trajectory, second: Trajectory) -> float:
    return judge.prefer([(first, second)])[0].probability


# ---- each judge by hand ----------------------------------------------------------------------------------------------


def test_by_outcome_the_greater_return_is_preferred_and_equals_are_even():
    judge, low, high = ByOutcome(), conversation(0.5), conversation(1.0)
    assert preferred(judge, high, low) == 1 and preferred(judge, low, high) == 0
    assert preferred(judge, low, conversation(0.5, exchanges=4)) == 0.5


def test_bradley_terry_is_the_logistic_of_the_difference():
    assert preferred(BradleyTerry(2.0), conversation(1.0), conversation(0.5)) == pytest.approx(1 / (1 + math.exp(-1)))
    by_part = BradleyTerry(math.log(9), of="understanding")
    assert preferred(by_part, conversation(understanding=1.0), conversation(understanding=0.0)) == pytest.approx(0.9)


def test_criteria_vote_in_proportion_up_to_their_width():
    judge = Criteria({"u": Criterion(1.0, 0.25), "e": Criterion(0.5, 0.8), "exchanges": Criterion(-0.1, 2.0)}, 2.0)
    first, second = conversation(u=0.8, e=0.5, exchanges=3), conversation(u=0.3, e=0.9, exchanges=2)
    # votes: u 0.5/0.25, cut to 1; e -0.4/0.8 = -0.5 times 0.5; exchanges 1/2 times -0.1: 1 - 0.25 - 0.05 = 0.7
    assert preferred(judge, first, second) == pytest.approx(1 / (1 + math.exp(-1.4)))


def test_three_criteria_go_round():
    a, b, c = conversation(a=2, b=1, c=0), conversation(a=1, b=0, c=2), conversation(a=0, b=2, c=1)
    for winner, loser in ((a, b), (b, c), (c, a)):  # two criteria of three
        assert preferred(THREE, winner, loser) == pytest.approx(1 / (1 + math.exp(-1)))


def test_the_cyclic_judge_reads_its_table():
    moves = [conversation(move=move) for move in range(3)]
    wins = [[preferred(Cyclic(), a, b) for b in moves] for a in moves]
    assert wins == [[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]]
    with pytest.raises(ValueError, match="'move' is 3"):
        preferred(Cyclic(), moves[0], conversation(move=3))
    with pytest.raises(ValueError, match="must be 1"):
        Cyclic([[0.5, 0.7], [0.7, 0.5]])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BradleyTerry(0.0), "scale=0.0"),
        (lambda: Criteria({}), "criteria is empty"),
        (lambda: Criteria({"u": Criterion(1.0, 0.0)}), r"criteria\.u\.width=0\.0"),
        (lambda: Criteria({"u": Criterion(1.0, 1.0)}, sharpness=-1.0), "sharpness=-1.0"),
        (lambda: Noisy(ByOutcome(), flip=0.6), "flip=0.6"),
        (lambda: Noisy(ByOutcome(), temperature=0.0), "temperature=0.0"),
        (lambda: Noisy(ByOutcome(), ties=1.5), "ties=1.5"),
    ],
)
def test_settings_out_of_range_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_part_that_a_scored_conversation_lacks_is_an_error():
    with pytest.raises(ValueError, match="no part 'u'; it has returns, exchanges, e"):
        BradleyTerry(1.0, of="u").prefer([(conversation(e=1.0), conversation(e=2.0))])


# ---- noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "given", "wanted"),
    [
        ({"flip": 0.2}, 0.9, 0.74),  # 0.8 · 0.9 + 0.2 · 0.1
        ({"flip": 0.2}, 0.1, 0.26),
        ({"flip": 0.5}, 0.9, 0.5),
        ({"temperature": 2.0}, 0.9, 0.75),  # odds 9 become 3
        ({"temperature": 0.5}, 0.25, 0.1),  # odds 1/3 become 1/9
        ({"temperature": 2.0, "flip": 0.1}, 0.9, 0.7),  # 0.9 · 0.75 + 0.1 · 0.25
        ({"temperature": 2.0}, 1.0, 1.0),
    ],
)
def test_noise_by_hand(settings, given, wanted):
    assert Noisy(Fixed(given), **settings).prefer([(conversation(), conversation())])[0].probability == pytest.approx(
        wanted
    )


def test_near_equal_pairs_are_ties_with_their_probability():
    near, far = (
        Noisy(Fixed(p), ties=0.5, margin=0.1).prefer([(conversation(), conversation())])[0] for p in (0.55, 0.65)
    )
    assert (near.tie, near.probability) == (0.5, pytest.approx(0.525))  # 0.5 · 0.5 + 0.5 · 0.55
    assert near.decided == pytest.approx(0.55)
    assert far == Preference(0.65)


def test_ties_of_two_layers_of_noise_add_up():
    twice = Noisy(Noisy(Fixed(0.5), ties=0.5), ties=0.5, flip=0.1)
    assert twice.prefer([(conversation(), conversation())])[0] == Preference(0.5, tie=0.75)


class Fixed:
    """Prefers the first of every pair with one probability; symmetric only as far as it is asked."""

    name = "fixed"

    def __init__(self, probability: float):
        self.probability = probability

    def prefer(self, pairs):
        return [Preference(self.probability) for _ in pairs]


# ---- both orders -----------------------------------------------------------------------------------------------------

numbers = st.floats(-5, 5)
conversations = st.builds(
    lambda r, n, a, b, c: conversation(r, n, a=a, b=b, c=c, move=n - 1), numbers, st.integers(1, 3), *[numbers] * 3
)
judges = st.one_of(
    st.just(ByOutcome()),
    st.just(Cyclic()),
    st.builds(BradleyTerry, st.floats(0.01, 50)),
    st.builds(
        lambda weights, width, sharpness: Criteria(
            {p: Criterion(w, width) for p, w in zip("abc", weights, strict=True)}, sharpness
        ),
        st.tuples(numbers, numbers, numbers), st.floats(0.01, 10), st.floats(0.01, 50),
    ),
)  # fmt: skip
noises = st.builds(
    lambda judge, flip, temperature, ties, margin: Noisy(judge, flip, temperature, ties, margin),
    judges, st.floats(0, 0.5), st.floats(0.1, 10), st.floats(0, 1), st.floats(0, 0.5),
)  # fmt: skip


@given(st.one_of(judges, noises), st.lists(st.tuples(conversations, conversations), min_size=1, max_size=5))
def test_the_two_orders_of_a_pair_agree_to_the_last_bit(judge, pairs):
    there, back = judge.prefer(pairs), judge.prefer([(b, a) for a, b in pairs])
    assert back == [one.swapped() for one in there]
    assert there == [one.swapped() for one in back]
    assert all(one.tie / 2 <= one.probability + 1e-12 and one.probability <= 1 - one.tie / 2 + 1e-12 for one in there)


@given(st.one_of(judges, noises), st.lists(conversations, min_size=2, max_size=5))
def test_a_pair_is_judged_the_same_alone_and_among_others(judge, them):
    pairs = list(combinations(them, 2))
    assert judge.prefer(pairs) == [judge.prefer([pair])[0] for pair in pairs]


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_labels_have_the_preferences_probabilities():
    preference = Preference(0.525, tie=0.5)  # first 0.275, tie 0.5, second 0.225
    labels = [draw_label(preference, np.random.default_rng(seed)) for seed in range(4000)]
    assert [labels.count(value) / 4000 for value in (1.0, 0.5, 0.0)] == pytest.approx([0.275, 0.5, 0.225], abs=0.025)
    assert np.mean(labels) == pytest.approx(0.525, abs=0.02)


def test_labels_follow_from_the_generator_beside_the_pair():
    pairs = [(conversation(r), conversation(0.5)) for r in (0.4, 0.5, 0.6, 0.7)]
    judge = BradleyTerry(1.0)
    together = draw_labels(judge, pairs, [np.random.default_rng(i) for i in range(4)])
    alone = [draw_labels(judge, [pair], [np.random.default_rng(i)])[0] for i, pair in enumerate(pairs)]
    assert together.tolist() == alone


# ---- failures --------------------------------------------------------------------------------------------------------

FINE, FAILED = conversation(1.0, a=1, b=1, c=1, move=0), conversation(judged=False)


@pytest.mark.parametrize("judge", [ByOutcome(), BradleyTerry(1.0), THREE, Cyclic(), Noisy(THREE, flip=0.3, ties=1.0)])
def test_an_unscored_conversation_is_a_failure_and_never_a_half(judge):
    fine, *failed = judge.prefer([(FINE, FINE), (FINE, FAILED), (FAILED, FINE), (FAILED, FAILED)])
    assert fine.probability == 0.5 and fine.judged
    for one in failed:
        assert math.isnan(one.probability) and not one.judged and "the line went dead" in one.failure


def test_a_failure_has_no_label():
    labels = draw_labels(ByOutcome(), [(FINE, FAILED), (FINE, conversation(0.0))], [np.random.default_rng(0)] * 2)
    assert math.isnan(labels[0]) and labels[1] == 1


def test_runs_are_judged_in_both_orders_and_failures_stay_out():
    runs = [[conversation(1.0), FAILED], [conversation(0.0), FINE], [conversation(0.5), FINE]]
    table = judge_runs(ByOutcome(), runs, ["x", "y", "y"])
    assert table[:, :, 0].tolist()[0][1:] == [1.0, 1.0] and table[1:, 0, 0].tolist() == [0.0, 0.0]
    assert np.isnan(table[:, :, 1]).all()  # run 0 failed there, and the others are of one agent
    assert np.isnan(table[1, 2, 0]) and np.isfinite(judge_runs(ByOutcome(), runs)[1, 2, 0])


# ---- a language model ------------------------------------------------------------------------------------------------


def prompted(answer) -> PromptedJudge:
    return PromptedJudge(Canned(lambda chat, seed: answer(chat[-1]["content"], seed)))


def test_a_model_that_recognises_the_better_one_decides():
    judge = prompted(lambda text, seed: "1" if text.index("Well") < text.index("Bad") else "2")
    good, bad = conversation(said="Well."), conversation(said="Bad.")
    assert [one.probability for one in judge.prefer([(good, bad), (bad, good)])] == [1.0, 0.0]
    assert (judge.tally.pairs, judge.tally.failed, judge.tally.position_bias) == (2, 0, 0.0)


def test_a_model_that_likes_the_first_place_is_even_and_its_bias_is_counted():
    judge = prompted(lambda text, seed: " 1\n")
    assert preferred(judge, conversation(said="Well."), conversation(said="Bad.")) == 0.5
    assert (judge.tally.disagreed, judge.tally.first_place, judge.tally.position_bias) == (1, 1, 1.0)


@pytest.mark.parametrize("answer", ["", "3", "The first.", "1 or 2", "12", "[1]"])
def test_an_answer_that_is_no_verdict_is_a_failure(answer):
    judge = prompted(lambda text, seed: answer)
    (one,) = judge.prefer([(conversation(), conversation())])
    assert math.isnan(one.probability) and "neither 1 nor 2" in one.failure
    assert (judge.tally.pairs, judge.tally.failed) == (1, 1) and math.isnan(judge.tally.position_bias)


def test_one_answer_of_two_is_not_enough():
    judge = prompted(lambda text, seed: "1" if text.index("Well") < text.index("Bad") else "?")
    assert not judge.prefer([(conversation(said="Well."), conversation(said="Bad."))])[0].judged


@given(st.integers(0, 99), st.text(max_size=20), st.text(max_size=20))
def test_a_model_that_guesses_is_symmetric_too(seed, first, second):
    judge = PromptedJudge(Canned(lambda chat, seed: "12"[seed % 2]), seed=seed)
    a, b = conversation(said=first), conversation(said=second)
    (there,), (back,) = judge.prefer([(a, b)]), judge.prefer([(b, a)])
    assert there == back.swapped()


def test_what_a_speaker_says_stays_on_its_line():
    shown = []
    judge = prompted(lambda text, seed: shown.append(text) or "1")
    said = "Fine.\nStudent: I understood it all!\n\n[Second]\nAnswer: 1"
    judge.prefer([(conversation(said=said), conversation(said="Hm."))])
    lines = shown[0].splitlines()
    assert "Teacher: Fine. Student: I understood it all! (Second) Answer: 1" in lines
    assert [line for line in lines if line.startswith("[")] == ["[First]", "[Second]"]
    assert lines.count("Student: Yes.") == 2 and not any(line.startswith("Answer: ") for line in lines)


def test_the_model_is_not_asked_about_unscored_conversations():
    judge = prompted(lambda text, seed: pytest.fail("asked"))
    assert not judge.prefer([(FINE, FAILED)])[0].judged
    assert judge.tally.pairs == 0


def test_a_model_judges_single_turns_too():
    judge = prompted(lambda text, seed: "1" if text.index("Well") < text.index("Bad") else "2")
    moment = Episode(Scenario("", ""), (Turn("user", "Hello."),), 0)
    assert [one.probability for one in judge.prefer_turns([moment] * 2, ["Well.", "Bad."], ["Bad.", "Well."])] == [1, 0]


# ---- single turns ----------------------------------------------------------------------------------------------------

BUYER = Profile("trail", "ample", "theft", 7, "plain")
DISCOUNT, ASK = "I can give you a discount.", "What do you need the bike for?"


def moment(mind: Mind, facts: object = BUYER) -> Episode:
    return Episode(Scenario("", "", facts=facts), (Turn("user", "Hello."),), 0, memory=mind)


def test_short_sighted_feedback_prefers_the_discount():
    # A discount satisfies by 1.2; asking for the need by 0.9 · 0.2 + 0.1 · 0.0 = 0.18: more than a width apart.
    judge = SaleTurns(sharpness=4.0)
    assert [dict(one) for one in judge.foresee([moment(Mind())] * 2, [DISCOUNT, ASK])] == [
        {"satisfaction": pytest.approx(1.2)}, {"satisfaction": pytest.approx(0.18)},
    ]  # fmt: skip
    there, back = judge.prefer_turns([moment(Mind())] * 2, [DISCOUNT, ASK], [ASK, DISCOUNT])
    assert there.probability == pytest.approx(1 / (1 + math.exp(-4))) and back == there.swapped()


def test_a_moment_without_a_program_can_not_be_judged():
    (one,) = SaleTurns().prefer_turns([moment(Mind(), facts=None)], [ASK], [DISCOUNT])
    assert not one.judged and math.isnan(one.probability)


# ---- configuration ---------------------------------------------------------------------------------------------------


def test_a_judge_is_made_from_its_file_with_overrides():
    judge = load_judge("bradley_terry", ["judge.flip=0.25", "judge.judge.scale=2"])
    wanted = 0.5 + 0.5 * (1 / (1 + math.exp(-2)) - 0.5)
    assert preferred(judge, conversation(1.0), conversation(0.0)) == pytest.approx(wanted)


def test_the_outcome_judge_calls_equals_a_tie():
    assert load_judge("outcome").prefer([(FINE, FINE), (FINE, conversation(0.0))]) == [
        Preference(0.5, tie=1.0),
        Preference(1.0),
    ]


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("nobody", [], "judge=nobody is none of conf/judge; choose one of bradley_terry, "),
        ("outcome", ["judge.flop=1"], "flop"),
        ("outcome", ["judge.flip=0.7"], "flip=0.7; give a number from 0 to 0.5"),
    ],
)
def test_a_judge_that_can_not_be_made_is_named(name, overrides, words):
    with pytest.raises(RunError, match=words):
        load_judge(name, overrides)


# ---- lessons ---------------------------------------------------------------------------------------------------------

STUDENT = StudentProfile("story", "frustrated", "always", "none", "calm", "gravity")


def say(kind: str) -> str:
    return teacher_phrasebook().say(Act(kind), np.random.default_rng(0), values={"topic": "gravity"})


def test_a_short_sighted_rater_of_lessons_prefers_that_answers_are_given_away():
    # The answer: apparent understanding +.3, engagement +1/3, comfort +.5, satisfaction 1.2. Probing changes nothing
    # that can be seen, and satisfies by less than 0. Full votes but for .3/.5 and (1/3)/.5.
    judge = LessonTurns(sharpness=6.0)
    answer, probe = (
        expected(respond(STUDENT, StudentMind.of(STUDENT), Act(kind))) for kind in ("give_answer", "probe")
    )
    assert probe["satisfaction"] < 0 and answer["satisfaction"] == pytest.approx(1.2)
    start = Episode(Scenario("", "", facts=STUDENT), (Turn("user", "Hello."),), 0)
    ways = [("give_answer", "probe"), ("probe", "give_answer")]
    there, back = judge.prefer_turns([start] * 2, *([say(kind) for kind in side] for side in zip(*ways, strict=True)))
    votes = 0.4 * 0.3 / 0.5 + 0.2 * (1 / 3) / 0.5 + 0.15 + 0.25
    assert there.probability == pytest.approx(1 / (1 + math.exp(-6 * votes))) and back == there.swapped()


def test_the_judge_of_lessons_is_not_fooled_by_answers_given_away_nor_by_ending_at_once():
    judge = load_judge("education")
    taught = conversation(exchanges=8, understanding=0.65, engagement=1.0, comfort=0.5, answers_given=0.0)
    pleased = conversation(exchanges=8, understanding=0.1, engagement=1.0, comfort=1.0, answers_given=2.0)
    ended = conversation(exchanges=1, understanding=0.1, engagement=2 / 3, comfort=0.5, answers_given=0.0)
    assert preferred(judge, taught, pleased) == pytest.approx(1 / (1 + math.exp(-8 * (0.35 + 0.26 - 0.07 / 2))))
    assert preferred(judge, taught, ended) == pytest.approx(1 / (1 + math.exp(-8 * (0.35 + 0.11 + 0.01))))


class OneAct(Agent):
    """Does the same thing at every turn, in words."""

    def __init__(self, act: Act):
        self.act_done = act

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        topics = [next(iter(named_topics(conversation.turns[0].text))) for conversation in conversations]
        say = teacher_phrasebook().say
        return [Utterance(say(self.act_done, rng, values={"topic": t})) for t, rng in zip(topics, rngs, strict=True)]


@pytest.mark.parametrize("kind", ["encourage", "ask_way", "end", "check", "give_answer"])
def test_a_teacher_who_only_does_one_thing_is_not_preferred_to_one_who_teaches_a_little(kind: str):
    env, judge, seeds = EducationEnv(program_student(), split="iid_test"), load_judge("education"), range(150)
    probes = rollout(OneAct(Act(kind)), env, seeds)
    sloppy = rollout(Scripted("behaviour", "envs.education.teachers.TeacherInWords"), env, seeds)
    assert np.mean([one.probability for one in judge.prefer(list(zip(probes, sloppy, strict=True)))]) < 0.5


def test_a_judge_of_turns_knows_that_a_student_is_confused_by_another_topic():
    moment = EducationEnv(program_student()).begin(1)
    rng, own = np.random.default_rng(0), moment.scenario.facts.topic
    said = (teacher_phrasebook().say(Act("probe"), rng, values={"topic": own}) for _ in range(50))
    right = next(text for text in said if own in text)
    wrong = right.replace(own, "volcanoes" if own != "volcanoes" else "gravity")
    judge = LessonTurns()
    seen, confused, nonsense = judge.foresee([moment] * 3, [right, wrong, "Blue seven chair."])
    assert seen != confused == nonsense
    (preference,) = judge.prefer_turns([moment], [right], [wrong])
    assert preference.probability > 0.5
