"""Models behind a server: against a real server on this machine, which errs on purpose."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from envs.answers import Answer, Answers
from envs.conversation import Message
from envs.endpoint import EndpointError, EndpointModel, SpendingCapError
from tests.endpoint_server import FAULTS, Server, serving

KEY = "sk-very-secret-1234567890"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch):
    made: list[EndpointModel] = []

    def connected(server: Server, **options: object) -> EndpointModel:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        made.append(EndpointModel("small", **{"pause": 0.001, "timeout": 5.0, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield connected
    for model in made:
        model.close()


def chats(n: int) -> list[list[Message]]:
    return [[{"role": "system", "content": "You buy."}, {"role": "user", "content": f"offer {i}"}] for i in range(n)]


def test_answers_come_in_the_order_of_the_chats_whatever_their_number(connect):
    with serving(Server(latency=0.005)) as server:
        model = connect(server, concurrency=4)
        said = model.complete(chats(40), range(40))
    assert [one.text for one in said] == [f"heard: offer {i}" for i in range(40)]
    assert {one.tokens for one in said} == {5} and 1 < server.at_once <= 4
    assert model.tally.answered == 40 and (model.tally.prompt_tokens, model.tally.completion_tokens) == (400, 200)


def test_no_chat_asks_nothing_and_needs_no_server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert EndpointModel("small").complete([], []) == []
    with pytest.raises(EndpointError, match="neither OPENAI_BASE_URL"):
        EndpointModel("small").complete(chats(1), [0])


def plan(n: int, share: float = 0.2) -> list[str | None]:
    """Every fifth request fails, all faults in turn."""
    every = round(1 / share)
    return [FAULTS[i // every % len(FAULTS)] if i % every == 0 else None for i in range(n)]


def test_of_a_thousand_calls_a_fifth_fails_and_every_answer_is_still_the_right_one(connect):
    with serving(Server(faults=plan(25), hang=2.0)) as server:
        model = connect(server, timeout=1.0, concurrency=16, attempts=8)
        said = model.complete(chats(1000), range(1000))
    assert [one.text for one in said] == [f"heard: offer {i}" for i in range(1000)]
    assert not model.tally.failures and model.tally.answered == 1000
    assert sum(model.tally.retries.values()) == server.erred.total() == len(server.requests) - 1000 >= 200
    seen = Counter(model.tally.retries)
    assert seen["rate_limited"] == server.erred["429"] and seen["server_error"] == server.erred["500"]
    assert seen["timeout"] == server.erred["hang"] and seen["unreadable"] >= server.erred["garbage"]


def test_asked_once_only_every_failure_is_named_and_never_words(connect):
    with serving(Server(faults=plan(25), hang=2.0)) as server:
        model = connect(server, timeout=1.0, concurrency=16, attempts=1)
        said = model.complete(chats(500), range(500))
    failed = [one for one in said if one.failure]
    assert len(failed) == server.erred.total() == 100 and not any(one.text for one in failed)
    kinds = Counter(one.failure.split(":")[0] for one in failed if one.failure)
    assert kinds == model.tally.failures
    assert kinds["rate_limited"] == kinds["server_error"] == kinds["timeout"] == 20
    assert kinds["unreadable"] + kinds["connection"] == 40


def test_faults_cost_little_more_than_their_share(connect):
    def seconds(faults: Sequence[str | None]) -> float:
        with serving(Server(faults=faults, latency=0.05, hang=0.6)) as server:
            model = connect(server, timeout=0.25, concurrency=16, attempts=8)
            model.complete(chats(16), range(16))  # connects
            began = time.perf_counter()
            model.complete(chats(400), range(400))
            return time.perf_counter() - began

    faultless, faulty = seconds([None]), seconds(plan(25))
    assert faultless / faulty >= 0.8 * 0.8  # a fifth of the calls is lost whatever one does


def test_those_who_pause_keep_nobody_from_asking(connect):
    with serving(Server(first_fails=True)) as server:
        model = connect(server, pause=0.4, concurrency=2)
        model.complete(chats(1), [99])  # connects
        began = time.perf_counter()
        model.complete(chats(40), range(40))
        took = time.perf_counter() - began
    assert model.tally.retries == {"rate_limited": 41}
    assert took < 40 * 0.2 / 2  # at least what it would take if those who pause counted as asking


def test_what_was_answered_is_not_asked_again_by_another_process(connect, tmp_path: Path):
    with serving(Server()) as server:
        first = connect(server, cache=tmp_path / "a.sqlite").complete(chats(5), range(5))
        again = connect(server, cache=tmp_path / "a.sqlite")
        assert again.complete(chats(5), range(5)) == first and again.tally.remembered == 5
        assert len(server.requests) == 5
        again.complete(chats(1), [77])  # another seed is another answer
        connect(server, cache=tmp_path / "a.sqlite", temperature=0.1).complete(chats(1), [0])
        assert len(server.requests) == 7


def test_a_failed_answer_is_not_remembered(connect, tmp_path: Path):
    with serving(Server(faults=["500", None])) as server:
        model = connect(server, cache=tmp_path / "a.sqlite", attempts=1)
        assert model.complete(chats(1), [0])[0].failure
        assert model.complete(chats(1), [0])[0].text == "heard: offer 0"


@pytest.mark.parametrize(("finish", "kind"), [("length", "truncated"), ("content_filter", "refused")])
def test_an_answer_that_was_cut_off_or_withheld_has_failed_and_was_paid_for(connect, finish: str, kind: str):
    with serving(Server(finish=finish)) as server:
        model = connect(server, prompt_price=1.0, completion_price=2.0)
        (said,) = model.complete(chats(1), [0])
        assert said.failure and said.failure.startswith(f"{kind}:") and len(server.requests) == 1
        assert model.tally.cost == pytest.approx((10 * 1.0 + 5 * 2.0) / 1e6)


def test_spending_stops_at_the_cap_and_goes_on_where_it_is_raised(connect, tmp_path: Path):
    prices = {"prompt_price": 100.0, "completion_price": 200.0, "cache": tmp_path / "a.sqlite"}  # $.002 an answer
    with serving(Server()) as server:
        with pytest.raises(SpendingCapError, match=r"max_cost=0.02 is reached"):
            connect(server, max_cost=0.02, concurrency=1, **prices).complete(chats(30), range(30))
        assert len(server.requests) == 10
        richer = connect(server, max_cost=1.0, **prices)
        assert [one.text for one in richer.complete(chats(30), range(30))] == [f"heard: offer {i}" for i in range(30)]
        assert len(server.requests) == 30 and richer.tally.remembered == 10


def test_a_cap_without_prices_or_a_cache_is_refused():
    with pytest.raises(ValueError, match=r"max_cost=1.0 needs a cache"):
        EndpointModel("small", max_cost=1.0)
    with pytest.raises(ValueError, match="attempts=0"):
        EndpointModel("small", attempts=0)


def test_a_server_that_died_stops_the_run_instead_of_failing_all_that_is_left(connect, tmp_path: Path):
    with serving(Server()) as server:
        model = connect(server, cache=tmp_path / "a.sqlite", attempts=2, give_up_after=5)
        model.complete(chats(10), range(10))
    with pytest.raises(EndpointError, match=r"\d+ questions in a row got no answer.*the same command goes on"):
        model.complete(chats(200), range(200))
    with serving(Server()) as again:
        resumed = connect(again, cache=tmp_path / "a.sqlite")
        resumed.complete(chats(20), range(20))
        assert len(again.requests) == 20  # another address is another endpoint


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_a_wrong_key_or_model_is_said_at_once_without_the_key(connect, status: str):
    with serving(Server(faults=[status])) as server:
        with pytest.raises(EndpointError, match=f"status {status}.*Check the model's name") as caught:
            connect(server).complete(chats(50), range(50))
        assert len(server.requests) <= 8 * 2
    assert KEY not in str(caught.value) and caught.value.__cause__ is None
    assert all(given == f"Bearer {KEY}" for given in server.keys)


def test_the_key_is_in_no_failure_and_in_no_cache(connect, tmp_path: Path):
    with serving(Server(faults=["400", "500", None])) as server:
        model = connect(server, cache=tmp_path / "a.sqlite", attempts=1, concurrency=1)
        said = model.complete(chats(3), range(3))
        assert sorted(bool(one.failure) for one in said) == [False, True, True]
        assert KEY not in str(said) + str(vars(model))
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_tokens_that_the_server_does_not_tell_are_estimated_and_counted_as_such(connect):
    with serving(Server(usage=False)) as server:
        model = connect(server)
        (said,) = model.complete(chats(1), [0])
    assert model.tally.estimated == 1 and said.tokens == 5  # 14 characters, three a token
    assert model.tally.prompt_tokens == 5  # "You buy." and "offer 0"


def test_a_file_that_is_no_cache_is_named(tmp_path: Path):
    (tmp_path / "a.sqlite").write_text("not a database, but long enough to be looked at " * 40)
    with pytest.raises(OSError, match=r"a.sqlite can't be used as a cache"):
        Answers(tmp_path / "a.sqlite")


def test_the_first_answer_to_a_question_stays(tmp_path: Path):
    answers = Answers(tmp_path / "deep" / "a.sqlite")
    answers.put("k", Answer("one", 1))
    answers.put("k", Answer("two", 1))
    assert answers.get("k") == Answer("one", 1) and answers.get("other") is None
    answers.close()
