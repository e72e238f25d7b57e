"""Chat models told in words what to do, in the agent's seat: what they are told, and what becomes of their failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.practice import Budget, Practice
from agents.prompted import Prompted
from agents.rollout import agent_rng, rollout
from agents.seats import play_both
from envs.conversation import Conversation, Message
from envs.env import StopReason, unspoken
from envs.language_models import Canned, Completion
from envs.trajectory import Trajectory
from results.record import Record
from tests import composed
from tests.conftest import tiny_model
from tests.endpoint_server import Server, serving
from tests.toy import Constant, Customer, Shop

KEY = "sk-very-secret-1234567890"


class Failing:
    """Offers green, and fails to answer whoever wants blue."""

    def __init__(self, failure: str | None = "timeout: no answer in 1 second", words: str = ""):
        self.answer = Completion(words, failure=failure)
        self.chats: list[Sequence[Message]] = []

    def complete(self, chats: Sequence[Sequence[Message]], seeds: Sequence[int]) -> list[Completion]:
        self.chats += chats
        return [self.answer if "blue" in chat[1]["content"] else Completion("green") for chat in chats]


def test_the_brief_is_the_system_message_and_the_turns_are_the_chat():
    model = Failing()
    heard = Conversation("Sell a colour.").then("user", "I want red.").then("agent", "blue").then("user", "No.")
    Prompted(model, note="Say nothing else.").act([heard], [agent_rng(0, 0)])
    Prompted(model).act([heard], [agent_rng(0, 0)])
    assert model.chats[0] == [
        {"role": "system", "content": "Sell a colour.\nSay nothing else."},
        {"role": "user", "content": "I want red."},
        {"role": "assistant", "content": "blue"},
        {"role": "user", "content": "No."},
    ]
    assert model.chats[1][0]["content"] == "Sell a colour."


def test_chance_comes_from_the_conversations_own_generator_whatever_else_is_in_the_batch():
    agent = Prompted(Canned(lambda chat, seed: str(seed)))
    heard = [Shop(Customer()).begin(seed).heard_by("agent") for seed in range(3)]
    together = agent.act(heard, [agent_rng(seed, 0) for seed in range(3)])
    assert together[1] == agent.act(heard[1:2], [agent_rng(1, 0)])[0]
    assert len({one.text for one in together}) == 3


@pytest.mark.parametrize(
    ("model", "kind"),
    [(Failing(), "timeout"), (Failing(failure=None, words=" \n"), "unreadable")],
    ids=["no answer", "no words"],
)
def test_a_conversation_in_which_the_agent_fails_is_unscored_counted_and_never_paid(model: Failing, kind: str):
    practice = Practice(Shop(Customer()), Budget(40, 40), 0)
    held = practice.converse(Prompted(model))
    failed = [one for one in held if "blue" in one.opening[0].text]
    assert 0 < len(failed) < 40 and practice.spent.unscored == len(failed)
    assert practice.spent.failures == {kind: len(failed)}
    for one in failed:
        assert one.stop_reason == StopReason.AGENT_FAILED and not one.judged and one.success is None
        assert np.isnan(one.returns()) and one.steps[-1].reply is None and one.exchanges == 1
        assert not one.terminated and str(one.failure).startswith(kind)
        assert Trajectory.from_json(one.to_json()).failure == one.failure
    assert all(one.judged for one in held if one not in failed)


def test_others_go_on_as_if_nobody_had_failed():
    env, always = Shop(Customer()), Constant("green")
    for mine, other in zip(rollout(Prompted(Failing()), env, range(12)), rollout(always, env, range(12)), strict=True):
        if mine.judged:
            assert mine == other


def test_an_agent_that_fails_in_the_users_seat_is_a_user_who_fails():
    (held,) = play_both(Shop(Customer()), Constant("red"), Prompted(Canned([" "])), [0])
    assert held.stop_reason == StopReason.USER_FAILED and not held.judged
    assert held.failure == "unreadable: the model answered without words"


def test_what_was_never_said_stands_in_no_turn_that_is_answered():
    episode = Shop(Customer()).begin(0)
    end = unspoken(episode, "timeout: late")
    assert end.done and end.truncated and np.isnan(end.reward) and end.episode.exchanges == 1
    assert end.info == {"exchanges": 1, "judged": False, "stop_reason": "agent_failed", "failure": "timeout: late"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def start(*overrides: str) -> tuple[Path, Record]:
        words = ["env=sales", "user=program", "budget=smoke", "+budget.users=own", "budget.scenarios=6"]
        words += [f"results={tmp_path}/runs", f"endpoint.cache={tmp_path}/answers.sqlite", *overrides]
        composed.run(*words)
        (path,) = (tmp_path / "runs").rglob("record.json")
        return path, Record.load(path)

    return start


def seller(request: Mapping[str, Any]) -> str:
    assert request["messages"][0]["role"] == "system" and "sell bicycles" in request["messages"][0]["content"]
    return "Would you like to buy it?"


def test_a_model_behind_a_server_is_an_agent_like_any_other(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with serving(Server(answer=seller, faults=["500", *[None] * 7])) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        path, record = run("agent=hub/endpoint", "endpoint.attempts=1", "endpoint.model=some-model")
    assert path.relative_to(tmp_path / "runs").parts[:4] == ("sales", "program", "hub-endpoint", "smoke")
    assert record.agent == "hub-endpoint" and not record.learns
    assert sum(one.unscored for one in record.evaluations) > 0
    assert all(set(one.failures) <= {"server_error"} for one in record.evaluations)
    figures = record.models["hub-endpoint"]
    assert figures["asked"] - figures["remembered"] == len(server.requests)
    assert record.variant == ["+budget.users=own", "budget.scenarios=6", "endpoint.model=some-model"]
    assert record.config["agent"]["model"] == record.config["endpoint"]
    assert "cache" not in record.config["endpoint"] and "model" not in record.config


def test_a_model_of_the_hub_is_an_agent_like_any_other(run, tmp_path: Path):
    tiny_model().save(tmp_path / "tiny")
    _, record = run("agent=hub/prompted", f"model.folder_or_hub_id={tmp_path}/tiny", "model.max_new_tokens=4")
    assert record.agent == "hub-prompted" and "endpoint" not in record.config and record.models == {}
    assert record.config["agent"]["model"]["folder_or_hub_id"] == f"{tmp_path}/tiny"
