"""Conversations as files: the columns by hand, what is read back, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from agents.practice import Budget, Practice
from agents.rollout import rollout
from agents.starting import imitate
from envs.conversation import Turn
from envs.dataset import Judged, Logged, Parting, content_of, plain, read_dataset
from envs.env import StopReason
from envs.judges import Preference
from envs.trajectory import Step, Trajectory, Utterance, write_jsonl, write_rows
from tests.toy import Constant, Customer, Shop


def conversation(*said: str, rewards: tuple[float, ...] = (-0.1, 0.9), **more) -> Trajectory:
    """Somebody wants blue, and takes what is said last."""
    replies = ["Not that."] * (len(said) - 1) + ["I'll take it."]
    steps = [Step(Utterance(text), reply, r) for text, reply, r in zip(said, replies, rewards, strict=True)]
    opening = (Turn("user", "Hello, I want blue."),)
    return Trajectory(7, "Sell a colour.", opening, tuple(steps), True, "outcome", True, True, "train/blue/3", **more)


TWO = Logged(
    conversation("red", "blue", attributes={"wants": "blue"}), "behaviour", "train", ("offer(red)", "offer(blue)"),
    "act", (math.log(0.25), 0.0), ({"mood": 1}, {"mood": 2}),
)  # fmt: skip
SYSTEM = {"role": "system", "content": "Sell a colour."}
WANTS = {"role": "user", "content": "Hello, I want blue."}
RED, BLUE = {"role": "assistant", "content": "red"}, {"role": "assistant", "content": "blue"}
NO, YES = {"role": "user", "content": "Not that."}, {"role": "user", "content": "I'll take it."}


def test_the_columns_of_a_conversation_of_two_turns():
    row = TWO.row()
    assert row["return"] == pytest.approx(0.8) and row["policy"] == "behaviour" and row["split"] == "train"
    assert row["turn_mask"] == [0, 0, 1, 0, 1, 0]  # brief, opening, red, no, blue, yes
    assert row["logprob_of"] == "act" and row["logprobs"] == [-1.386294, 0.0]
    assert row["acts"] == ("offer(red)", "offer(blue)") and row["user_states"] == ({"mood": 1}, {"mood": 2})
    assert row["attributes"] == {"wants": "blue"} and row["stop_reason"] == "outcome"
    assert {"schema_version", "steps", "opening", "brief", "seed", "take", "success", "judged", "key"} <= set(row)


def test_the_columns_for_trainers():
    row = TWO.message_row()
    assert row["messages"] == [SYSTEM, WANTS, RED, NO, BLUE, YES] and row["turn_mask"] == [0, 0, 1, 0, 1, 0]
    assert row["success"] is True and row["return"] == pytest.approx(0.8)
    first, second = TWO.turn_rows()
    assert first["prompt"] == [SYSTEM, WANTS] and first["completion"] == [RED]
    assert second["prompt"] == [SYSTEM, WANTS, RED, NO] and second["completion"] == [BLUE]
    assert (first["exchange"], second["exchange"]) == (0, 1)
    assert (first["reward"], second["reward"]) == (-0.1, 0.9)
    assert (first["return_to_go"], second["return_to_go"]) == pytest.approx((0.8, 0.9))
    assert all("user_states" not in one and "attributes" not in one for one in (row, first, second))


def parting(label: float, second: str = "blue", exchange: int = 1) -> Parting:
    pair = conversation("red", "green"), conversation("red", second)
    return Parting(exchange, Judged(pair, Preference(0.3), label, ("start", "start"), "outcome"))


def test_a_preference_is_one_moment_and_two_utterances():
    row = parting(0.0).row()
    assert row["prompt"] == [SYSTEM, WANTS, RED, NO]
    assert row["chosen"] == [BLUE] and row["rejected"] == [{"role": "assistant", "content": "green"}]
    assert row["probability"] == pytest.approx(0.7) and row["exchange"] == 1 and row["policy"] == "start"
    turned = parting(1.0).row()
    assert turned["rejected"] == [BLUE] and turned["probability"] == pytest.approx(0.3)


def test_ties_failures_and_equal_utterances_decide_nothing():
    assert parting(0.0).decided and parting(1.0).decided
    assert not parting(0.5).decided and not parting(math.nan).decided and not parting(1.0, second="green").decided


def test_what_is_written_is_read_back(tmp_path: Path):
    judged = Judged((conversation("blue", rewards=(0.9,)), TWO.trajectory), Preference(0.6), 1.0, ("a", "b"), "outcome")
    failed = Judged(judged.pair, Preference(math.nan, "no idea"), math.nan, ("a", "b"), "outcome")
    unscored = Logged(rollout(Constant("red"), Shop(Customer(failing=1.0)), [0])[0], "red")
    for kind, ones in (("conversations", [TWO, unscored]), ("pairs", [judged, failed])):
        (tmp_path / kind).mkdir()
        write_rows(tmp_path / kind / "train.jsonl", (one.row() for one in ones))
    found = read_dataset(tmp_path)
    assert found.conversations[0].row() == TWO.row() and found.conversations[0].acts == TWO.acts
    assert not found.conversations[1].trajectory.judged and found.conversations[1].logprob_of is None
    pairs, labels = found.first_pairs(2)
    assert pairs[0] == judged.pair and labels[0] == 1.0 and math.isnan(labels[1])
    assert json.loads((tmp_path / "pairs/train.jsonl").read_text().splitlines()[1])["label"] is None


def test_a_users_memory_is_written_in_plain_values():
    @dataclass(frozen=True)
    class Mind:
        trust: int
        told: frozenset[str]
        inner: tuple[float, ...] = (1.0, 2.0)

    assert plain(Mind(2, frozenset({"b", "a"}))) == {"trust": 2, "told": ["a", "b"], "inner": [1.0, 2.0]}
    assert (
        plain(StopReason.OUTCOME) == "outcome"
        and plain(None) is None
        and plain(np.float64(0.5)) == 0.5
        and plain({1: True}) == {"1": True}
    )
    with pytest.raises(ValueError, match="The user's memory holds a object"):
        plain(object())


# ---- what others have logged ---------------------------------------------------------------------------------------


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


CHAT = [SYSTEM, WANTS, RED, NO, BLUE, YES]


def test_messages_of_others_become_trajectories(tmp_path: Path):
    path = write(
        tmp_path / "chats.jsonl",
        {"messages": CHAT, "return": 0.8, "success": True},
        {"messages": CHAT[1:5], "reward": [-0.1, 0.9]},
        {"messages": CHAT[1:], "success": False},
        {"messages": [RED]},
    )
    first, second, third, fourth = read_dataset(path).first(4)
    assert (
        first.messages() == CHAT
        and first.brief == "Sell a colour."
        and first.opening == (Turn("user", WANTS["content"]),)
    )
    assert [step.reward for step in first.steps] == [0.0, 0.8] and first.success and first.judged
    assert second.brief == "" and [step.reward for step in second.steps] == [-0.1, 0.9]
    assert [step.reply for step in second.steps] == ["Not that.", None]
    assert third.returns() == 0.0 and third.success is False and third.judged
    assert math.isnan(fourth.returns()) and not fourth.judged and fourth.failure is None and fourth.opening == ()


def test_preferences_of_others_become_labelled_pairs(tmp_path: Path):
    row = {"prompt": CHAT[:4], "chosen": [BLUE], "rejected": "green"}
    pairs, labels = read_dataset(write(tmp_path / "p.jsonl", row, row)).first_pairs(2)
    assert labels.tolist() == [1.0, 0.0]
    assert pairs[0][0].messages() == CHAT[:5] == pairs[1][1].messages()
    assert pairs[0][1].steps[-1].utterance.text == "green" and all(one.failure is None for one in pairs[0])


def test_conversations_without_an_outcome_can_be_imitated():
    trajectories = [conversation("blue", rewards=(0.9,))]
    unscored = [
        Trajectory(**{name: getattr(t, name) for name in t.__slots__} | {"judged": False}) for t in trajectories
    ]
    model, tokenizer = imitate(unscored, epochs=1.0, rng=np.random.default_rng(0))
    assert model is not None and tokenizer is not None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "hello"}, "line 1: It has the columns text; a conversation needs `messages`"),
        ({"prompt": CHAT[:4], "chosen": "a"}, "The column `rejected` is missing"),
        ({"prompt": "Hello", "chosen": "a", "rejected": "b"}, "`prompt` is no list of messages"),
        ({"messages": []}, "not an empty one"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role='tool' is not known here"),
        ({"messages": [{"content": "x"}]}, "has no `role`"),
        ({"messages": [WANTS]}, "There is no message of the assistant"),
        ({"messages": [WANTS, RED, BLUE]}, "Two messages of the assistant follow one another"),
        ({"messages": CHAT, "reward": "much"}, "reward='much'; give a number"),
        ({"messages": CHAT, "reward": [1.0]}, "There are 1 rewards for 2 messages of the assistant"),
        ({"messages": CHAT, "success": "yes"}, "success='yes'; give true or false"),
        (["messages"], "This is a list; each line is one JSON object"),
        ({"steps": [], "schema_version": 99}, "Trajectory of schema version 99"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, row, said):
    with pytest.raises(ValueError) as error:
        read_dataset(write(tmp_path / "bad.jsonl", row))
    assert said in str(error.value) and "bad.jsonl, line 1" in str(error.value)


def test_files_that_are_missing_or_empty_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no JSON Lines"):
        read_dataset(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"empty\.jsonl is empty"):
        read_dataset(tmp_path)
    (tmp_path / "conversations").mkdir()
    write_rows(tmp_path / "conversations/ood_test.jsonl", [TWO.row()])
    with pytest.raises(ValueError, match="holds no split train; its splits are ood_test"):
        read_dataset(tmp_path)


def test_practice_gives_what_was_given(tmp_path: Path):
    row = {"prompt": CHAT[:4], "chosen": [BLUE], "rejected": "green"}
    write(tmp_path / "a.jsonl", *[{"messages": CHAT, "return": 0.8}] * 3)
    write(tmp_path / "b.jsonl", row)
    given = read_dataset(tmp_path)
    one = Practice(Shop(Customer()), Budget(10, 5, 2), 0, given=given)
    assert [t.returns() for t in one.logged()] == [0.8, 0.8]
    assert one.logged_pairs()[1].tolist() == [1.0]
    more = Practice(Shop(Customer()), Budget(10, 5, 4), 0, given=given)
    with pytest.raises(ValueError, match=r"holds 3 conversations, and budget.logged=4 asks for 4; .* budget.logged=3"):
        more.logged()
    with pytest.raises(ValueError, match=r"holds 1 pairs, and budget.logged=4 asks for 2; .* budget.logged=2"):
        more.logged_pairs()
    alone = Practice(Shop(Customer()), Budget(10, 5, 4), 0, given=read_dataset(tmp_path / "a.jsonl"))
    with pytest.raises(ValueError, match="holds no pairs, which are asked for; add lines with `prompt`"):
        alone.logged_pairs()


def test_data_is_named_by_its_content_wherever_it_lies(tmp_path: Path):
    first, second = write(tmp_path / "a.jsonl", {"messages": CHAT}), write(tmp_path / "b.jsonl", {"messages": CHAT})
    third = write(tmp_path / "c.jsonl", {"messages": CHAT[1:]})
    assert content_of(first) == content_of(second) != content_of(third)


def test_the_conversations_of_a_run_can_be_given_too(tmp_path: Path):
    held = rollout(Constant("red"), Shop(Customer()), range(3))
    write_jsonl(tmp_path / "held.jsonl", held)
    assert read_dataset(tmp_path / "held.jsonl").first(3) == held
