"""``parley/TwentyQuestions-v0``: exact answers, rewards, splits, words and yardsticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401 - registers the ids
from agents.rollout import rollout
from agents.scripted import Scripted
from envs.acts import UNCLEAR, Act
from envs.checks import check_conversation_env
from envs.env import Advance, Episode
from envs.simulators import gate
from envs.simulators.train import texts_for_tokenizer
from envs.simulators.worlds import material_of
from envs.turn_judges import Foreseen
from envs.twenty_questions.askers import (
    RULES,
    AskerInWords,
    exact_return,
    in_any_words,
    in_habit,
    optimum,
    simulated_return,
)
from envs.twenty_questions.env import TwentyQuestionsEnv, make_twenty_questions, secrets_of
from envs.twenty_questions.judging import QuestionTurns
from envs.twenty_questions.knowledge import Knowledge, learn
from envs.twenty_questions.language import answer_of, answerer_phrasebook, asker_phrasebook, question_of
from envs.twenty_questions.program import ANSWERS, DISTRACTED, HORIZON, MANNERS, MISSED, NO, OPENINGS, YES, Mind, Secret
from envs.twenty_questions.reading import DOING, STANDING, doing, standing
from envs.twenty_questions.table import ASKER_ACTS, TABLE, Table, split_by

ASKER = "envs.twenty_questions.askers.AskerInWords"


@pytest.fixture(scope="module")
def env() -> TwentyQuestionsEnv:
    return make_twenty_questions(split="iid_test")


def about(env: TwentyQuestionsEnv, thing: str, manner: str = "plain", seed: int = 0) -> Episode:
    """The beginning of a conversation about a thing of one's choice."""
    episode = env.begin(seed)
    return replace(episode, scenario=replace(episode.scenario, facts=Secret(thing, manner)))


def talk(env: TwentyQuestionsEnv, episode: Episode, utterances: Sequence[str]) -> list[Advance]:
    """What each exchange brings."""
    brought = []
    for utterance in utterances:
        (advance,) = env.advance([episode], [utterance])
        brought.append(advance)
        episode = advance.episode
    return brought


def test_it_passes_the_conformance_kit():
    report = check_conversation_env(
        make_twenty_questions,
        episodes=4,
        utterances=["Is it alive?", "Is it a kite?", "Is it yellow?", "Is it an egg?"],
    )
    assert report.ok, str(report)


def test_it_is_made_by_its_id():
    env = gymnasium.make("parley/TwentyQuestions-v0", split="iid_test")
    conversation, _ = env.reset(seed=3)
    assert conversation.turns[0].speaker == "user"
    many = gymnasium.make_vec("parley/TwentyQuestions-v0", num_envs=2)
    many.reset(seed=0)


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_every_answer_to_every_question_about_every_thing_is_that_of_the_table(env: TwentyQuestionsEnv):
    rng = np.random.default_rng(0)
    asked = [(thing, act) for thing in TABLE.things for act in ASKER_ACTS]
    assert len(asked) == 32 * (23 + 32)
    episodes = [about(env, thing, MANNERS[i % 5], seed=i) for i, (thing, _) in enumerate(asked)]
    advances = env.advance(episodes, [in_any_words(act, rng) for _, act in asked])
    for (thing, act), advance in zip(asked, advances, strict=True):
        answer = answer_of(advance.episode.turns[-1].text)
        if act.kind == "ask":
            assert answer == (YES if act.about in TABLE.true_of[thing].split() else NO)
        else:
            assert answer == (Act("right") if act.about == thing else NO)
        assert advance.done == (act == Act("guess", thing))


def test_each_exchange_costs_one_and_the_right_guess_nothing(env: TwentyQuestionsEnv):
    said = ["Is it alive?", "Are we there yet?", "Is it a car?", "Is it a kite?"]
    brought = talk(env, about(env, "kite"), said)
    assert [one.reward for one in brought] == [-1, -1, -1, 0]
    assert [one.terminated for one in brought] == [False, False, False, True]
    assert brought[-1].assessment.success and brought[-1].info["stop_reason"] == "outcome"
    # Of 32 things 10 are alive, so 22 are left; then nothing is learnt; then the car is out.
    assert [one.assessment.parts["left"] for one in brought] == [22, 22, 21, 1]
    assert [one.assessment.parts["puzzled"] for one in brought] == [0, 1, 1, 1]


def test_who_never_guesses_loses_twenty(env: TwentyQuestionsEnv):
    brought = talk(env, about(env, "kite"), ["Is it alive?"] * 20)
    assert sum(one.reward for one in brought) == -20
    assert brought[-1].truncated and not brought[-1].terminated
    assert brought[-1].info["stop_reason"] == "exchange_limit" and brought[-1].assessment.success is None
    right_at_last = talk(env, about(env, "kite"), ["Is it alive?"] * 19 + ["Is it a kite?"])
    assert sum(one.reward for one in right_at_last) == -19 and right_at_last[-1].terminated


@pytest.mark.parametrize(
    "text", ["", "kite", "Is it alive? Is it a kite?", "Is it a kite or a car?", "Yes, you have found it.", "Is it it?"]
)
def test_what_is_no_wording_of_the_phrasebook_is_not_understood(env: TwentyQuestionsEnv, text: str):
    (advance,) = talk(env, about(env, "kite"), [text])
    assert answer_of(advance.episode.turns[-1].text) == Act("puzzled") and not advance.done and advance.reward == -1


def test_the_distracted_miss_a_fifth_of_everything_and_are_never_wrong(env: TwentyQuestionsEnv):
    acts = [Act("ask", "alive"), Act("guess", "kite"), Act("guess", "car"), UNCLEAR] * 250
    rng = np.random.default_rng(0)
    said = ["Well?" if act == UNCLEAR else in_any_words(act, rng) for act in acts]
    advances = env.advance([about(env, "kite", DISTRACTED, seed) for seed in range(1000)], said)
    answers = [answer_of(one.episode.turns[-1].text) for one in advances]
    truth = {acts[0]: NO, acts[1]: Act("right"), acts[2]: NO, UNCLEAR: Act("puzzled")}
    for act, true in truth.items():
        given = [answer for other, answer in zip(acts, answers, strict=True) if other == act]
        assert set(given) == {true, MISSED}
        assert given.count(MISSED) / 250 == pytest.approx(0.2, abs=0.08)  # three standard errors of .025


# ---- splits ----------------------------------------------------------------------------------------------------------


def test_the_splits_share_every_pair_and_no_combination():
    train, iid, ood = (set(secrets_of(split)) for split in ("train", "iid_test", "ood_test"))
    assert (len(train), len(iid), len(ood)) == (640, 160, 160)  # 32 things × 5 manners × 5 openings, a fifth; 32 × 5
    assert not train & iid and not (train | iid) & ood
    for split in (train, iid):
        assert {(s.thing, s.manner) for s in split} == {(t, m) for t in TABLE.things for m in MANNERS}
        assert {(s.thing, s.opening) for s in split} == {(t, o) for t in TABLE.things for o in OPENINGS}
    assert {s.manner for s in ood} == {DISTRACTED} and DISTRACTED not in {s.manner for s in train | iid}


@pytest.mark.parametrize("split", ["train", "iid_test", "ood_test"])
def test_every_thing_is_thought_of_equally_often(split: str):
    things = [secret.thing for secret in secrets_of(split)]
    assert {things.count(thing) for thing in TABLE.things} == {len(things) // 32}


def test_the_brief_tells_the_agent_nothing_of_this_secret(env: TwentyQuestionsEnv):
    briefs = {env.begin(seed).heard_by("agent").brief for seed in range(20)}
    assert len(briefs) == 1
    assert all(thing in next(iter(briefs)) for thing in TABLE.things)


def test_another_number_of_exchanges_is_refused():
    with pytest.raises(ValueError, match="max_exchanges=8; these are 20 questions"):
        make_twenty_questions(max_exchanges=8)


# ---- words -----------------------------------------------------------------------------------------------------------


def test_every_wording_is_understood_as_what_it_says_and_as_nothing_else():
    book = asker_phrasebook()
    said = [(text, act) for act in ASKER_ACTS for text in book.utterances(act)]
    assert all(book.count(act) >= 3 for act in ASKER_ACTS)
    assert len({text for text, _ in said}) == len(said)
    for text, act in said:
        assert question_of(text) == act
        assert question_of(f"  {text.upper().rstrip('?.')} !") == act


def test_no_wording_is_held_out():
    for book, acts in ((asker_phrasebook(), ASKER_ACTS), (answerer_phrasebook(), ANSWERS)):
        assert not any(book.patterns(act, held_out=True) for act in acts)


@pytest.mark.parametrize("manner", [*MANNERS, DISTRACTED])
def test_every_answer_is_read_back_in_every_manner(manner: str):
    rng = np.random.default_rng(0)
    heard = {act: {answerer_phrasebook().say(act, rng, style=manner) for _ in range(60)} for act in ANSWERS}
    assert all(answer_of(text) == act for act, texts in heard.items() for text in texts)
    together = [text for texts in heard.values() for text in texts]
    assert len(set(together)) == len(together) > 10


def test_the_behaviour_asker_has_habits():
    rng = np.random.default_rng(0)
    assert {in_habit(Act("ask", "metal"), rng) for _ in range(40)} == {"Is it made of metal?", "Is it mostly metal?"}


# ---- what is known ---------------------------------------------------------------------------------------------------


def test_things_that_have_the_same_properties_are_refused():
    with pytest.raises(ValueError, match="'pea' and 'bean' have the same properties"):
        Table(("round", "green"), {"pea": "round green", "bean": "green round"})
    with pytest.raises(ValueError, match=r"'pea' has \['tasty'\]"):
        Table(("round",), {"pea": "tasty"})


def test_what_is_left_is_what_the_answers_allow():
    # Of the animals (dog cow eagle penguin shark bee snake frog), those seen in water: penguin, shark, frog.
    known = learn(learn(Knowledge(), Act("ask", "animal"), YES), Act("ask", "water"), YES)
    assert list(TABLE.named(known.left)) == ["penguin", "shark", "frog"]
    known = learn(learn(learn(known, Act("guess", "frog"), NO), UNCLEAR, Act("puzzled")), Act("ask", "big"), MISSED)
    assert list(TABLE.named(known.left)) == ["penguin", "shark"]
    assert (known.exchanges_left, known.asked) == (15, {"animal", "water"})


def test_the_facts_of_reading_by_hand():
    known = learn(learn(Knowledge(), Act("ask", "animal"), YES), Act("ask", "water"), NO)
    facts = dict(zip(STANDING, standing(known), strict=True))
    # dog, cow, eagle, bee and snake are left: five things, and the whole part of log2 5 is 2. That they are alive was
    # not said, though it follows.
    assert (facts["animal"], facts["water"], facts["alive"], facts["left"]) == (1, 2, 0, 2)
    done = {act: dict(zip(DOING, doing(known, act), strict=True)) for act in ASKER_ACTS}
    assert done[Act("ask", "big")] == {"act": 0, "question": 1, "guess": 0}
    assert done[Act("ask", "alive")] == {"act": 0, "question": 2, "guess": 0}
    assert done[Act("guess", "cow")] == {"act": 1, "question": 0, "guess": 1}
    assert done[Act("guess", "frog")] == {"act": 1, "question": 0, "guess": 2}


# ---- yardsticks ------------------------------------------------------------------------------------------------------


def test_the_scripted_askers_stand_in_their_order():
    returns = {name: simulated_return(RULES[name](), 960) for name in ("random", "behaviour", "myopic", "expert")}
    assert -17.2 < returns["random"] < returns["behaviour"] - 2
    assert returns["behaviour"] < returns["myopic"] < returns["expert"] - 5
    # 960 conversations are 30 about each thing, and the expert draws nothing.
    assert returns["expert"] == pytest.approx(exact_return(RULES["expert"]()))
    assert returns["expert"] <= exact_return(optimum)


def test_the_sloppy_asker_remembers_the_last_yes_alone():
    rng, known = np.random.default_rng(0), Knowledge()
    assert {RULES["sloppy"]()(known, rng).kind for _ in range(100)} == {"ask"}
    for act, answer in ((Act("ask", "animal"), YES), (Act("ask", "yellow"), YES), (Act("ask", "big"), NO)):
        known = learn(known, act, answer)
    done = {RULES["sloppy"]()(known, rng) for _ in range(600)}
    assert {act.about for act in done if act.kind == "guess"} == {"bee", "lemon", "cheese"}  # all that is yellow
    assert {act.about for act in done if act.kind == "ask"} == set(TABLE.properties)


def test_in_words_the_optimum_earns_what_it_earns_in_acts():
    env = make_twenty_questions(split="iid_test")
    trajectories = rollout(Scripted("optimum", ASKER), env, range(160))
    each = {thing: [t.returns() for t in trajectories if t.attributes["thing"] == thing] for thing in TABLE.things}
    assert all(t.success for t in trajectories)
    assert all(len(set(returns)) == 1 for returns in each.values() if returns)  # whatever the manner and the wording
    assert np.mean([returns[0] for returns in each.values()]) == pytest.approx(-4.5)


def test_an_asker_works_out_a_conversation_that_it_has_not_met(env: TwentyQuestionsEnv):
    speaker = AskerInWords("expert")
    episode = about(env, "kite", DISTRACTED)
    for _ in range(HORIZON):
        rng = np.random.default_rng(1)
        (said,) = speaker.speak([episode.heard_by("agent")], [rng])
        (afresh,) = AskerInWords("expert").speak([episode.heard_by("agent")], [np.random.default_rng(1)])
        assert said == afresh
        (advance,) = env.advance([episode], [said])
        episode = advance.episode
        if advance.done:
            break
    assert advance.terminated
    with pytest.raises(ValueError, match=r"rule='bold'.*random, behaviour"):
        AskerInWords("bold")


def test_a_rater_of_single_turns_counts_bits(env: TwentyQuestionsEnv):
    judge = QuestionTurns()
    assert isinstance(judge, Foreseen)
    said = ["Is it alive?", "Is it a kite?", "Is it a car?", "Whatever."]
    foreseen = judge.foresee([about(env, "kite")] * 4, said)
    # 22 of 32 things are not alive; the right guess leaves one, and earns a bit more; a wrong one rules out one.
    expected = [math.log2(32 / 22), 5 + 1, math.log2(32 / 31), 0]
    assert [parts["bits"] for parts in foreseen] == pytest.approx(expected)
    (of_the_distracted,) = judge.foresee([about(env, "kite", DISTRACTED)], said[:1])
    assert of_the_distracted["bits"] == pytest.approx(0.8 * math.log2(32 / 22))
    (preferred,) = judge.prefer_turns([about(env, "kite")], said[:1], said[3:])
    assert preferred.probability == pytest.approx(1 / (1 + math.exp(-4 * math.log2(32 / 22))))
    later = replace(about(env, "kite"), memory=Mind(left=split_by(TABLE, TABLE.everything, Act("ask", "tail"))[0]))
    (parts,) = judge.foresee([later], ["Is it an animal?"])
    assert parts["bits"] == pytest.approx(math.log2(7 / 1))  # of seven things with a tail the kite alone is no animal


# ---- the start -------------------------------------------------------------------------------------------------------


def test_the_starts_tokenizer_knows_what_both_sides_say_and_not_what_training_never_shows():
    texts = " ".join(texts_for_tokenizer(material_of("twenty_questions"), 400, np.random.default_rng(0)))
    assert all(words in texts for words in ("Is it a kite?", "I don't understand", "Aha, ", "my friend", " guess kite"))
    assert "wasn't listening" not in texts


def test_the_start_is_measured_from_twenty_lost_exchanges_on(monkeypatch):
    monkeypatch.setattr("envs.language_models.TransformersModel", lambda folder, **_: None)
    earned = iter([-14.0, -17.0, -14.5, -12.8, -20.0])  # behaviour, then four temperatures
    monkeypatch.setattr(gate, "mean_reward", lambda *_: next(earned))
    figures = gate.agent_figures(material_of("twenty_questions"), Path("nowhere"))
    assert [figure.value for figure in figures] == pytest.approx([3 / 6, 5.5 / 6, 7.2 / 6, 0.0])
    assert figures[1].passed
