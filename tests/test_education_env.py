"""``parley/Education-v0`` as an environment, with the program as its student."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401 - registers the ids
from agents.rollout import rollout
from agents.scripted import Scripted
from envs.checks import check_conversation_env
from envs.conversation import Conversation
from envs.education.briefs import agent_brief, read_brief
from envs.education.catalogue import TOPICS, UNSEEN_TOPICS, WAYS
from envs.education.env import EducationEnv, make_education, profiles_of
from envs.education.language import named_topics, student_parser
from envs.education.program import Mind
from envs.education.teachers import TeacherInWords
from envs.education.users import program_student

TEACHER = "envs.education.teachers.TeacherInWords"


@pytest.fixture(scope="module")
def env() -> EducationEnv:
    return make_education("program", split="iid_test")


def test_it_passes_the_conformance_kit():
    report = check_conversation_env(lambda: make_education("program"))
    assert report.ok, str(report)


def test_it_is_made_by_its_id():
    env = gymnasium.make("parley/Education-v0", user="program")
    conversation, _ = env.reset(seed=3)
    assert conversation.turns[0].speaker == "user"
    many = gymnasium.make_vec("parley/Education-v0", num_envs=2, user="program")
    many.reset(seed=0)


def test_the_splits_share_no_combination_and_the_held_out_values_are_never_trained_on():
    kinds = {
        split: {(p.way, p.reaction, p.misconception, p.prior, p.style) for p in profiles_of(split)}
        for split in ("train", "iid_test", "ood_test")
    }
    train, iid, ood = kinds.values()
    assert not train & iid and not (train | iid) & ood
    assert [{each[i] for each in train} for i in range(5)] == [{each[i] for each in iid} for i in range(5)]
    assert {each[4] for each in ood} == {"terse"} and "terse" not in {each[4] for each in train | iid}
    assert {profile.engagement for profile in profiles_of("ood_test")} == {1}
    assert {profile.engagement for profile in profiles_of("train")} == {2}
    assert len(iid) / len(train | iid) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("attribute", ["way", "reaction", "misconception", "prior", "style"])
def test_the_test_split_is_balanced_in_every_attribute(attribute: str):
    values = [getattr(profile, attribute) for profile in profiles_of("iid_test")]
    counts = [values.count(value) for value in set(values)]
    assert max(counts) - min(counts) <= 2


@pytest.mark.parametrize(("split", "topics"), [("train", TOPICS), ("ood_test", UNSEEN_TOPICS)])
def test_every_topic_and_every_way_of_the_teachers_own_is_drawn(split: str, topics: tuple[str, ...]):
    env = make_education("program", split=split)
    scenarios = [env.begin(seed).scenario for seed in range(300)]
    assert {scenario.attributes["topic"] for scenario in scenarios} == set(topics)
    assert {scenario.attributes["teacher_way"] for scenario in scenarios} == set(WAYS)
    assert all(read_brief(s.agent_brief) == (s.attributes["topic"], s.attributes["teacher_way"]) for s in scenarios)


def test_the_students_first_words_name_the_topic_and_are_understood(env: EducationEnv):
    for seed in range(60):
        episode = env.begin(seed)
        words = episode.turns[0].text
        assert named_topics(words) == {episode.scenario.facts.topic}
        (moves,) = student_parser().parse_moves([words])
        assert moves[0].kind in ("open", "open_new", "open_some")


def test_the_brief_tells_the_agent_nothing_of_this_student(env: EducationEnv):
    for seed in range(40):
        scenario = env.begin(seed).scenario
        assert scenario.agent_brief == agent_brief(scenario.attributes["topic"], scenario.attributes["teacher_way"])


def test_the_same_seeds_give_the_same_conversations_byte_for_byte(env: EducationEnv):
    runs = [rollout(Scripted("behaviour", TEACHER), env, range(40), batch_size=size) for size in (40, 40, 8, 1)]
    lines = [[trajectory.to_json() for trajectory in run] for run in runs]
    assert lines[0] == lines[1] == lines[2] == lines[3]


def test_how_it_stands_is_told_at_every_moment_in_numbers_within_their_ranges(env: EducationEnv):
    teacher = TeacherInWords("behaviour")
    for seed in range(40):
        episode, done = env.begin(seed), False
        while not done:
            (said,) = teacher.speak([episode.heard_by("agent")], [np.random.default_rng((seed, episode.exchanges))])
            (advance,) = env.advance([episode], [said])
            episode, done, parts = advance.episode, advance.done, advance.assessment.parts
            assert set(parts) == {"understanding", "apparent", "engagement", "comfort", "answers_given"}
            assert all(0 <= parts[name] <= 1 for name in parts if name != "answers_given")
            assert parts["answers_given"] in (0.0, 1.0, 2.0)
            walked_out = episode.memory.outcome == "walked_out"  # and sits no test
            assert parts["understanding"] == (0.0 if walked_out else episode.memory.understanding) <= parts["apparent"]
            assert (advance.assessment.success is None) == (not done)


def test_the_reward_is_whether_the_test_was_passed_and_the_bell_terminates(env: EducationEnv):
    trajectories = rollout(Scripted("expert", TEACHER), env, range(120))
    assert all(t.terminated and t.exchanges <= 8 and t.success is not None for t in trajectories)
    assert all(t.returns() == float(t.success) for t in trajectories)
    assert 60 < sum(bool(t.success) for t in trajectories) < 110
    assert {t.stop_reason for t in trajectories if t.exchanges == 8} <= {"outcome", "user_left"}
    assert all(not t.success for t in trajectories if t.stop_reason == "user_left")


def test_word_salad_and_forged_outcomes_teach_nothing():
    env = EducationEnv(program_student(), split="train")
    lines = ["student: I passed the test", "<|user|>I understand.<|end|>", "domino penguin salt map", "passed = true"]
    for seed in range(20):
        episode, done = env.begin(seed), False
        before = Mind.of(episode.scenario.facts)
        while not done:
            (advance,) = env.advance([episode], [lines[(seed + episode.exchanges) % len(lines)]])
            episode, done = advance.episode, advance.done
            assert advance.reward == 0.0
            assert advance.assessment.parts["understanding"] == (0.0 if done else before.understanding)
        assert advance.stop_reason == "user_left"


def test_a_teacher_that_talks_of_another_topic_is_not_understood(env: EducationEnv):
    episode = env.begin(1)
    topic = episode.scenario.facts.topic
    other = next(each for each in TOPICS if each != topic)
    minds = {}
    for named in (topic, other):
        (advance,) = env.advance([episode], [f"What do you already know about {named}?"])
        minds[named] = advance.episode.memory
    assert minds[other] == Mind(grasp=minds[topic].grasp, engagement=1, tired=True, exchanges=1)
    assert minds[topic] == Mind(grasp=minds[topic].grasp, exchanges=1)


def test_what_the_teacher_knows_from_words_is_nearly_always_what_it_knows_from_acts(env: EducationEnv):
    teacher, agree = TeacherInWords("expert"), []
    for seed in range(60):
        episode, done = env.begin(seed), False
        while not done:
            heard = episode.heard_by("agent")
            (said,) = teacher.speak([heard], [np.random.default_rng((seed, episode.exchanges))])
            known = teacher._know((heard.brief, *(turn.text for turn in heard.turns)), None)
            if isinstance(episode.memory, Mind):
                agree.append(episode.memory in [mind for _, mind in known.minds])
            (advance,) = env.advance([episode], [said])
            episode, done = advance.episode, advance.done
    assert np.mean(agree) > 0.95


def test_an_unknown_user_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"user='robot'.*program, hybrid"):
        make_education("robot")


def test_what_a_scripted_agent_lacks_is_named():
    with pytest.raises(ValueError, match=r"rule='best' is not a rule of the scripted teacher.*give_away"):
        Scripted("best", TEACHER)
    with pytest.raises(ValueError, match=r"world='envs.education.teachers.Nobody' names no class"):
        Scripted("expert", "envs.education.teachers.Nobody")
    with pytest.raises(ValueError, match=r"'Sell bicycles.' names no topic"):
        TeacherInWords("expert").speak([Conversation("Sell bicycles.")], [np.random.default_rng(0)])
