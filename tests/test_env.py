"""The rules of a conversation: one exchange, how it ends, and what is never scored."""

import math
import pickle
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from echo_env import EchoEnv, EchoUser
from gymnasium.utils.env_checker import check_env

from envs.conversation import Turn
from envs.env import Assessment, Episode, Scenario, StopReason
from envs.users import Reply

SILENT = "..."  # says nothing that decides the conversation


class FixedUser(EchoUser):
    """Gives the same reply to everything."""

    def __init__(self, reply: Reply):
        self.fixed = reply

    def reply(self, episodes, rngs):
        return [self.fixed for _ in episodes]


class FixedJudgeEnv(EchoEnv):
    """Judges every conversation the same."""

    def __init__(self, assessment: Assessment):
        super().__init__()
        self.fixed = assessment

    def assess(self, episodes):
        return [self.fixed for _ in episodes]


def one_step(env, utterance=SILENT):
    env.reset(seed=1)
    return env.step(utterance)


# ---- episodes -------------------------------------------------------------------------------------------------------


def test_each_exchange_has_a_generator_of_its_own_and_none_is_the_scenarios():
    episode = EchoEnv().begin(5)
    draws = [replace(episode, exchanges=k).rng.random() for k in range(4)]
    assert len({*draws, np.random.default_rng(5).random()}) == 5
    assert episode.rng.random() == draws[0]


def test_the_first_generator_is_derived_from_the_seed_and_one():
    assert EchoEnv().begin(5).rng.random() == np.random.default_rng((5, 1)).random()


def test_each_side_hears_the_turns_and_its_own_brief():
    episode = Episode(Scenario("Sell.", "Buy for 640 dollars."), (Turn("user", "Hi."),), seed=0)
    assert episode.heard_by("agent").brief == "Sell."
    assert episode.heard_by("user").brief == "Buy for 640 dollars."
    assert episode.heard_by("agent").turns == episode.heard_by("user").turns


def test_begin_is_a_function_of_the_seed():
    env = EchoEnv()
    assert env.begin(3) == env.begin(3) == EchoEnv().begin(3)
    assert type(env.begin(np.int64(3)).seed) is int


# ---- advance --------------------------------------------------------------------------------------------------------


def test_an_exchange_is_the_agents_turn_and_the_users_answer():
    env = EchoEnv()
    begun = env.begin(1)
    (advance,) = env.advance([begun], ["Hi."])
    opening, said, answered = advance.episode.turns
    assert opening == Turn("user", "Hello.")
    assert said == Turn("agent", "Hi.")
    assert answered.speaker == "user"
    assert advance.episode.exchanges == 1
    assert advance.episode.memory == 1
    assert advance.user_tokens == 3
    assert not advance.done


def test_advance_leaves_its_episodes_as_they_were_and_repeats_itself():
    env = EchoEnv()
    begun = env.begin(1)
    before = pickle.dumps(begun)
    first, second = env.advance([begun, begun], ["Hi.", "Hi."])
    assert first == second == env.advance([begun], ["Hi."])[0]
    assert pickle.dumps(begun) == before


def test_two_continuations_of_one_moment_share_their_past_only():
    env = EchoEnv()
    (moment,) = env.advance([env.begin(1)], ["Hi."])
    one, other = env.advance([moment.episode] * 2, ["Apples?", "Bread?"])
    assert one.episode.turns[:3] == other.episode.turns[:3] == moment.episode.turns
    assert one.episode.turns[3:] != other.episode.turns[3:]


def test_advance_of_no_episodes_asks_nobody():
    class Asking(EchoUser):
        def reply(self, episodes, rngs):
            raise AssertionError("the user was asked")

    assert EchoEnv(Asking()).advance([], []) == []


def test_only_answered_episodes_are_assessed():
    judged = []

    class FailingOnce(EchoUser):
        def reply(self, episodes, rngs):
            replies = super().reply(episodes, rngs)
            return [Reply("", failure="asleep"), *replies[1:]]

    class Judging(EchoEnv):
        def assess(self, episodes):
            judged.extend(episode.seed for episode in episodes)
            return super().assess(episodes)

    env = Judging(FailingOnce())
    failed, answered = env.advance([env.begin(1), env.begin(2)], [SILENT, SILENT])
    assert judged == [2]
    assert (failed.stop_reason, answered.stop_reason) == (StopReason.USER_FAILED, None)


@pytest.mark.parametrize(("utterance", "words"), [("x" * 11, "of 11"), (None, "NoneType"), ("\ud800", "str of 1")])
def test_an_utterance_outside_the_action_space_is_refused(utterance, words):
    env = EchoEnv(max_chars=10)
    with pytest.raises(ValueError, match=words):
        env.advance([env.begin(1)], [utterance])


def test_as_many_utterances_as_episodes_are_wanted():
    env = EchoEnv()
    with pytest.raises(ValueError, match=r"shorter|longer"):
        env.advance([env.begin(1)], ["a", "b"])


def test_a_user_that_gives_too_few_replies_is_named():
    class Losing(EchoUser):
        def reply(self, episodes, rngs):
            return super().reply(episodes, rngs)[1:]

    env = EchoEnv(Losing())
    with pytest.raises(ValueError, match="User 'echo' gave 1 replies to 2 episodes"):
        env.advance([env.begin(1), env.begin(2)], [SILENT, SILENT])


def test_a_judge_that_gives_too_few_assessments_is_named():
    class Losing(EchoEnv):
        def assess(self, episodes):
            return []

    env = Losing()
    with pytest.raises(ValueError, match=r"Losing.assess gave 0 assessments of 1 episodes"):
        env.advance([env.begin(1)], [SILENT])


# ---- endings --------------------------------------------------------------------------------------------------------


def test_a_decided_conversation_is_terminated_with_its_reward():
    env = EchoEnv()
    observation, _ = env.reset(seed=1)
    word = env.episode.scenario.facts
    assert word not in str(observation)
    _, reward, terminated, truncated, info = env.step(f"Is it {word}?")
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info == {"exchanges": 1, "judged": True, "stop_reason": "outcome", "success": True}


def test_a_user_that_leaves_terminates():
    _, reward, terminated, truncated, info = one_step(EchoEnv(), "Goodbye.")
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert (info["stop_reason"], info["success"]) == ("user_left", False)


def test_an_undecided_conversation_is_truncated_at_the_limit():
    env = EchoEnv(max_exchanges=3)
    env.reset(seed=1)
    steps = [env.step(SILENT) for _ in range(3)]
    assert [(step[2], step[3]) for step in steps] == [(False, False), (False, False), (False, True)]
    assert steps[-1][4] == {"exchanges": 3, "judged": True, "stop_reason": "exchange_limit"}
    assert steps[0][4] == {"exchanges": 1, "judged": True}


def test_an_outcome_in_the_last_exchange_is_no_truncation():
    env = EchoEnv(max_exchanges=1)
    _, _, terminated, truncated, _ = one_step(env, "goodbye")
    assert (terminated, truncated) == (True, False)


def test_over_without_a_reason_counts_as_outcome():
    *_, info = one_step(FixedJudgeEnv(Assessment(over=True)))
    assert info["stop_reason"] == "outcome"
    assert "success" not in info


def test_stepping_before_reset_and_after_the_end_raises():
    env = EchoEnv()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(SILENT)
    one_step(env, "goodbye")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(SILENT)
    env.reset()
    env.step(SILENT)


# ---- failures -------------------------------------------------------------------------------------------------------


def test_a_user_that_fails_leaves_the_conversation_unscored():
    env = EchoEnv(FixedUser(Reply("", memory="lost", failure="timed out", tokens=7)))
    (advance,) = env.advance([env.begin(1)], [SILENT])
    assert math.isnan(advance.reward)
    assert (advance.terminated, advance.truncated) == (False, True)
    assert advance.info == {"exchanges": 1, "judged": False, "stop_reason": "user_failed", "failure": "timed out"}
    assert advance.episode.turns[-1] == Turn("agent", SILENT)
    assert advance.episode.memory is None
    assert advance.user_tokens == 7


def test_a_failure_without_words_is_a_failure_all_the_same():
    *_, info = one_step(EchoEnv(FixedUser(Reply("", failure=""))))
    assert info["failure"] == "the user gave no reason"


@pytest.mark.parametrize("text", ["x" * 101, "\udc80", None])
def test_a_reply_that_no_observation_can_hold_is_a_failure(text):
    env = EchoEnv(FixedUser(Reply(text)), max_chars=100)
    observation, *_, info = one_step(env)
    assert info["stop_reason"] == "user_failed"
    assert "UtteranceSpace(max_chars=100)" in info["failure"]
    assert observation in env.observation_space


def test_a_judge_that_fails_leaves_the_conversation_unscored_with_its_words():
    verdict = Assessment(reward=1.0, over=True, judged=False, failure="no digit in the answer")
    _, reward, terminated, truncated, info = one_step(FixedJudgeEnv(verdict))
    assert math.isnan(reward)
    assert (terminated, truncated) == (False, True)
    assert (info["stop_reason"], info["judged"]) == ("judge_failed", False)
    assert info["failure"] == "no digit in the answer"
    assert one_step(FixedJudgeEnv(Assessment(judged=False)))[4]["failure"] == "the judge gave no verdict"


# ---- Gymnasium ------------------------------------------------------------------------------------------------------


def test_reset_with_a_seed_begins_that_seed():
    env = EchoEnv()
    observation, info = env.reset(seed=11)
    assert env.episode == env.begin(11)
    assert observation == env.begin(11).heard_by("agent")
    assert info == {"exchanges": 0}


def test_resets_without_a_seed_differ_and_repeat_after_a_seeded_one():
    def seeds(env):
        env.reset(seed=11)
        return [env.reset() and env.episode.seed for _ in range(5)]

    assert len(set(seeds(EchoEnv()))) == 5
    assert seeds(EchoEnv()) == seeds(EchoEnv())


@pytest.mark.filterwarnings("error")
def test_gymnasiums_own_check_finds_nothing():
    check_env(EchoEnv(), skip_render_check=True)


def test_it_renders_the_conversation_as_text():
    env = EchoEnv(render_mode="ansi")
    assert env.render() == ""
    one_step(env, "Apples?")
    lines = env.render().splitlines()
    assert lines[0] == " user: Hello."
    assert lines[1] == "agent: Apples?"
    assert EchoEnv().render() is None


def test_a_running_environment_survives_pickling():
    env = EchoEnv()
    one_step(env)
    again = pickle.loads(pickle.dumps(env))
    first, second = env.step("Bread?"), again.step("Bread?")
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "tests"}, "it has train, test"),
        ({"max_exchanges": 0}, "at least 1 exchange"),
        ({"max_chars": 0}, "at least 1 character"),
        ({"render_mode": "human"}, "use 'ansi' or None"),
    ],
)
def test_wrong_arguments_are_refused_with_the_remedy(arguments, words):
    with pytest.raises(ValueError, match=words):
        EchoEnv(**arguments)
