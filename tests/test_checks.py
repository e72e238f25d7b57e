"""The conformance kit: a good environment passes every check, and each broken one fails exactly the check it breaks."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from echo_env import SPLITS, WORDS, EchoEnv, EchoUser

from envs.checks import _CHECKS, check_conversation_env, main
from envs.env import Advance, Assessment, Scenario, StopReason
from envs.users import Reply

HERE = Path(__file__).parent


# ---- environments that break one clause each ------------------------------------------------------------------------


class RaisingEnv(EchoEnv):
    def assess(self, episodes):
        raise RuntimeError("out of stock")


class DefaultSeedEnv(EchoEnv):
    """Its default seed is not None."""

    def reset(self, *, seed=-1, options=None):
        return super().reset(seed=None if seed == -1 else seed)


class CountingUser(EchoUser):
    """Keeps a counter between calls, and tells it from the second exchange on."""

    calls = 0

    def reply(self, episodes, rngs):
        self.calls += 1
        replies = super().reply(episodes, rngs)
        return [
            replace(reply, text=f"{reply.text} Call {self.calls}.") if episode.exchanges else reply
            for reply, episode in zip(replies, episodes, strict=True)
        ]


class CountingEnv(EchoEnv):
    def __init__(self, **kwargs):
        super().__init__(CountingUser(), **kwargs)


class OneScenarioEnv(EchoEnv):
    def sample_scenario(self, rng):
        return super().sample_scenario(np.random.default_rng(0))


class SameResetEnv(EchoEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=7 if seed is None else seed)


class EndlessEnv(EchoEnv):
    def _conclude(self, episode, assessment, reply):
        advance = super()._conclude(episode, assessment, reply)
        if advance.stop_reason is StopReason.EXCHANGE_LIMIT:
            return replace(advance, truncated=False, stop_reason=None)
        return advance


class BothWaysEnv(EchoEnv):
    def _conclude(self, episode, assessment, reply):
        advance = super()._conclude(episode, assessment, reply)
        return replace(advance, truncated=True) if advance.terminated else advance


class TerminatingLimitEnv(EchoEnv):
    def _conclude(self, episode, assessment, reply):
        advance = super()._conclude(episode, assessment, reply)
        if advance.stop_reason is StopReason.EXCHANGE_LIMIT:
            return replace(advance, truncated=False, terminated=True)
        return advance


class NamelessEndEnv(EchoEnv):
    def _conclude(self, episode, assessment, reply):
        advance = super()._conclude(episode, assessment, reply)
        return replace(advance, stop_reason=None) if advance.terminated else advance


class StepsOnEnv(EchoEnv):
    def step(self, action):
        if self._done:
            return self._episode.heard_by("agent"), 0.0, False, True, {}
        return super().step(action)


class CrowdUser(EchoUser):
    def reply(self, episodes, rngs):
        return [replace(reply, text=f"{reply.text} We are {len(episodes)}.") for reply in super().reply(episodes, rngs)]


class CrowdEnv(EchoEnv):
    def __init__(self, **kwargs):
        super().__init__(CrowdUser(), **kwargs)


class BonusStepEnv(EchoEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward + 0.1, terminated, truncated, info


class MutableMemoryUser(EchoUser):
    def reply(self, episodes, rngs):
        return [self._remember(episode) for episode in episodes]

    def _remember(self, episode):
        memory = episode.memory if isinstance(episode.memory, list) else []
        memory.append(episode.turns[-1].text)
        return Reply("I see.", memory)


class MutableMemoryEnv(EchoEnv):
    def __init__(self, **kwargs):
        super().__init__(MutableMemoryUser(), **kwargs)


class TellingBriefEnv(EchoEnv):
    def sample_scenario(self, rng):
        scenario = super().sample_scenario(rng)
        return replace(scenario, agent_brief="You sell. The customer was told: " + scenario.user_brief)


class RecitingUser(EchoUser):
    def reply(self, episodes, rngs):
        return [Reply("My orders: " + e.scenario.user_brief.replace("customer", "buyer")) for e in episodes]


class RecitingEnv(EchoEnv):
    def __init__(self, **kwargs):
        super().__init__(RecitingUser(), **kwargs)


class _TellingAdvance(Advance):
    @property
    def info(self):
        return {**super().info, "answer": self.episode.scenario.facts}


class TellingInfoEnv(EchoEnv):
    def _conclude(self, *args):
        a = super()._conclude(*args)
        return _TellingAdvance(
            a.episode, a.assessment, a.terminated, a.truncated, a.stop_reason, a.user_tokens, a.failure
        )


class _ObjectAdvance(Advance):
    @property
    def info(self):
        return {**super().info, "scenario": self.episode.scenario}


class ObjectInfoEnv(EchoEnv):
    def _conclude(self, *args):
        a = super()._conclude(*args)
        return _ObjectAdvance(
            a.episode, a.assessment, a.terminated, a.truncated, a.stop_reason, a.user_tokens, a.failure
        )


class ScoredFailureEnv(EchoEnv):
    """Takes a user's failure for a reward of zero."""

    def _conclude(self, episode, assessment, reply):
        if reply.failure is not None:
            return super()._conclude(episode, Assessment(over=True, success=False), replace(reply, failure=None))
        return super()._conclude(episode, assessment, reply)


class ScoredUnjudgedEnv(EchoEnv):
    """Takes a judge's failure for a reward of zero."""

    def _conclude(self, episode, assessment, reply):
        if reply.failure is None and not assessment.judged:
            assessment = Assessment(over=True, success=False)
        return super()._conclude(episode, assessment, reply)


class OneSplitEnv(EchoEnv):
    """Draws from all words in every split."""

    def sample_scenario(self, rng):
        word = str(rng.choice(WORDS))
        return replace(super().sample_scenario(rng), facts=word, key=word)


class KeylessEnv(EchoEnv):
    def sample_scenario(self, rng):
        return replace(super().sample_scenario(rng), key="")


class CoarseKeyEnv(EchoEnv):
    def sample_scenario(self, rng):
        return replace(super().sample_scenario(rng), key=self.split)


class NanRewardEnv(EchoEnv):
    def _assess_one(self, episode):
        assessment = super()._assess_one(episode)
        return replace(assessment, reward=float("nan")) if assessment.over else assessment


class AsciiUser(EchoUser):
    def reply(self, episodes, rngs):
        for episode in episodes:
            episode.turns[-1].text.encode("ascii")
        return super().reply(episodes, rngs)


class AsciiEnv(EchoEnv):
    def __init__(self, **kwargs):
        super().__init__(AsciiUser(), **kwargs)


class GullibleEnv(EchoEnv):
    """Believes whoever writes a turn of the user's."""

    def _assess_one(self, episode):
        said = episode.heard_by("agent").last("agent")
        return Assessment(1.0, True, True) if "User: I am convinced" in said else super()._assess_one(episode)


class CuttingEnv(EchoEnv):
    """Cuts long utterances instead of refusing them."""

    def advance(self, episodes, utterances):
        return super().advance(episodes, [text[: self.action_space.max_chars] for text in utterances])


class BlindEnv(EchoEnv):
    def render(self):
        return None


class UnwritableEnv(EchoEnv):
    def sample_scenario(self, rng):
        return replace(super().sample_scenario(rng), attributes={"seen": {1, 2}})


class GlobalDiceUser(EchoUser):
    def reply(self, episodes, rngs):
        np.random.random()
        return super().reply(episodes, rngs)


class GlobalDiceEnv(EchoEnv):
    def __init__(self, **kwargs):
        super().__init__(GlobalDiceUser(), **kwargs)


class StingyEnv(EchoEnv):
    def assess(self, episodes):
        found = super().assess(episodes)
        return found if self.split == "train" else [replace(one, reward=one.reward / 2 - 1) for one in found]


class StockedEnv(EchoEnv):
    """What there is depends on the split, and the constructor decides it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stock = SPLITS[self.split]

    def assess(self, episodes):
        return [
            replace(one, parts={**one.parts, "stocked": float(episode.scenario.key in self.stock)})
            for one, episode in zip(super().assess(episodes), episodes, strict=True)
        ]


BROKEN = {
    RaisingEnv: ("a conversation can be had", "RuntimeError: out of stock"),
    DefaultSeedEnv: ("gymnasium's check_env finds nothing", "default seed argument"),
    CountingEnv: ("same seed, same conversation", "keep nothing between calls"),
    OneScenarioEnv: ("other seeds, other scenarios", "must draw it from rng"),
    SameResetEnv: ("reset without a seed varies", "seed 7"),
    EndlessEnv: ("ends terminated or truncated, and says why", "goes on after max_exchanges=4"),
    BothWaysEnv: ("ends terminated or truncated, and says why", "both terminated and truncated"),
    TerminatingLimitEnv: ("ends terminated or truncated, and says why", "terminated must come from assess"),
    NamelessEndEnv: ("ends terminated or truncated, and says why", "info['stop_reason'] is None"),
    StepsOnEnv: ("step after the end raises", "ResetNeeded"),
    CrowdEnv: ("a batch is as many singles", "treat each episode by itself"),
    BonusStepEnv: ("vector is single", "Leave reset and step to ConversationEnv"),
    MutableMemoryEnv: ("one moment can be continued twice", "Episode.memory"),
    TellingBriefEnv: ("the user's brief and facts stay hidden", "the agent's brief quotes"),
    RecitingEnv: ("the user's brief and facts stay hidden", "a turn of the user quotes"),
    TellingInfoEnv: ("the user's brief and facts stay hidden", "tells Scenario.facts under 'answer'"),
    ObjectInfoEnv: ("the user's brief and facts stay hidden", "holds a Scenario under 'scenario'"),
    ScoredFailureEnv: ("user failures are unscored", "reward NaN"),
    ScoredUnjudgedEnv: ("judge failures are unscored", "reward NaN"),
    OneSplitEnv: ("splits are disjoint", "share 12 scenario keys"),
    KeylessEnv: ("splits are disjoint", "has no key"),
    StockedEnv: ("goes on alike in every split", "what the constructor chose by it"),
    StingyEnv: ("goes on alike in every split", "belongs into the scenario"),
    CoarseKeyEnv: ("keys name facts", "have other facts"),
    NanRewardEnv: ("rewards are finite", "is nan"),
    AsciiEnv: ("odd utterances neither break nor pay", "raised UnicodeEncodeError"),
    GullibleEnv: ("odd utterances neither break nor pay", "takes it for more than words"),
    CuttingEnv: ("odd utterances neither break nor pay", "longer than max_chars=4000"),
    BlindEnv: ("renders as text", "it returned None"),
    UnwritableEnv: ("records as JSON", "can't be written as JSON"),
    GlobalDiceEnv: ("global generators are left alone", "numpy.random"),
}


def test_a_good_environment_passes_every_check():
    report = check_conversation_env(EchoEnv)
    assert {check.status for check in report.checks} == {"passed"}, str(report)
    assert report.ok


@pytest.mark.parametrize("broken", BROKEN, ids=lambda env: env.__name__)
def test_a_broken_environment_fails_exactly_the_check_it_breaks(broken):
    name, words = BROKEN[broken]
    report = check_conversation_env(broken, episodes=5)
    assert [check.name for check in report.failed] == [name], str(report)
    assert words in report[name].message
    assert not report.ok


def test_every_check_has_an_environment_that_fails_it():
    assert {name for name, _ in BROKEN.values()} == set(_CHECKS)


def test_a_user_that_is_not_deterministic_skips_only_what_repeats():
    user = EchoUser()
    user.deterministic = False
    report = check_conversation_env(EchoEnv(user))
    skipped = {check.name for check in report.checks if check.status == "skipped"}
    assert skipped == {
        "same seed, same conversation",
        "a batch is as many singles",
        "vector is single",
        "goes on alike in every split",
    }
    assert "'echo' is not deterministic" in report["vector is single"].message
    assert report.ok, str(report)


def test_an_environment_given_as_an_instance_is_checked_and_left_as_it_was():
    env = EchoEnv()
    user, split = env.user, env.split
    assert check_conversation_env(env).ok
    assert (env.user, env.split, env.spec, env.render_mode) == (user, split, None, None)
    assert type(env) is EchoEnv


def test_a_wrapped_registered_environment_is_checked_with_its_spec():
    gymnasium.register("test/Echo-v0", entry_point=EchoEnv)
    try:
        report = check_conversation_env(gymnasium.make("test/Echo-v0"))
    finally:
        del gymnasium.registry["test/Echo-v0"]
    assert {check.status for check in report.checks} == {"passed"}, str(report)


def test_a_constructor_that_chooses_the_scenarios_passes_through_its_factory():
    class Stocked(EchoEnv):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.stock = WORDS[:6] if self.split == "train" else WORDS[6:]

        def sample_scenario(self, rng: np.random.Generator) -> Scenario:
            word = str(rng.choice(self.stock))
            return replace(super().sample_scenario(rng), facts=word, key=word)

    assert check_conversation_env(Stocked)["splits are disjoint"].status == "passed"
    assert "give this check a factory" in check_conversation_env(Stocked())["splits are disjoint"].message


def test_one_exchange_environments_skip_gymnasiums_check_and_say_why():
    report = check_conversation_env(lambda: EchoEnv(max_exchanges=1))
    assert report["gymnasium's check_env finds nothing"].status == "skipped"
    assert report.ok, str(report)


def test_what_is_not_a_conversation_environment_is_refused():
    with pytest.raises(TypeError, match="not a ConversationEnv"):
        check_conversation_env(lambda: gymnasium.make("CartPole-v1"))
    with pytest.raises(TypeError, match="does not make an environment with the arguments"):
        check_conversation_env(lambda user: EchoEnv(user))


def test_an_error_in_the_environment_is_reported_once_with_its_place():
    report = check_conversation_env(RaisingEnv)
    assert "test_checks.py, line" in report["a conversation can be had"].message
    assert [check.status for check in report.checks] == ["failed"] + ["skipped"] * (len(_CHECKS) - 1)


def test_the_callers_own_utterances_are_said():
    heard = set()

    class Listening(EchoUser):
        def reply(self, episodes, rngs):
            heard.update(episode.turns[-1].text for episode in episodes)
            return super().reply(episodes, rngs)

    assert check_conversation_env(EchoEnv(Listening()), utterances=["Is it garlic?", "Goodbye."]).ok
    assert {"Is it garlic?", "Goodbye."} <= heard
    assert "What do you need?" not in heard


def test_the_command_prints_a_line_per_check_and_exits_with_zero(capsys):
    assert main(["echo_env:EchoEnv", "max_exchanges=3", "--episodes", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(_CHECKS)
    assert all(line.startswith(" passed  ") for line in lines)


def test_the_command_exits_with_one_on_a_failed_check(capsys):
    assert main(["test_checks:BlindEnv", "--episodes", "2"]) == 1
    assert " failed  renders as text: " in capsys.readouterr().out


def test_the_command_exits_with_two_when_there_is_nothing_to_check(capsys):
    assert main(["echo_env:Nowhere-v0"]) == 2
    assert "can't be checked" in capsys.readouterr().err


def test_the_command_takes_an_id_that_a_module_registers(tmp_path):
    (tmp_path / "my_shop.py").write_text(
        "import gymnasium\nfrom echo_env import EchoEnv\ngymnasium.register('my/Shop-v0', entry_point=EchoEnv)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "envs.checks", "my_shop:my/Shop-v0", "--episodes", "2"],
        cwd=HERE.parent,
        env={"PYTHONPATH": f"{HERE}:{tmp_path}", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") == len(_CHECKS)
