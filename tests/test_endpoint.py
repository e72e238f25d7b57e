"""Models behind a server: against a real server on this machine, which errs on purpose."""

from __future__ import annotations

import gc
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from envs.answers import Answer, Answers
from envs.conversation import Message
from envs.endpoint import EndpointError, EndpointModel, SpendingCapError
from envs.language_models import figures_of
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


def told(error: BaseException) -> str:
    """All that a log could show of an error: itself, its causes and its contexts."""
    words, seen = "".join(traceback.format_exception(error)), {id(error)}
    while (before := error.__cause__ or error.__context__) and id(before) not in seen:
        words, error = words + repr(before) + str(vars(before)), before
        seen.add(id(before))
    return words


def test_a_model_that_nobody_closes_leaves_no_connection_open(monkeypatch):
    with serving(Server()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        model = EndpointModel("small", pause=0.001, timeout=5.0)
        model.complete(chats(1), [0])
        client = model._client
        assert client is not None and not client.is_closed()
        del model
        gc.collect()
        assert client.is_closed()


# ---- answers --------------------------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_chats_whatever_their_number(connect):
    with serving(Server(latency=0.01)) as server:
        model = connect(server, concurrency=4)
        said = model.complete(chats(40), range(40))
    assert [one.text for one in said] == [f"heard: offer {i}" for i in range(40)]
    assert {one.tokens for one in said} == {5} and 1 < server.at_once < 10
    assert model.tally.answered == 40 and (model.tally.prompt_tokens, model.tally.completion_tokens) == (400, 200)


def test_a_question_that_stands_there_twice_is_asked_once(connect):
    with serving(Server()) as server:
        model = connect(server)
        said = model.complete(chats(1) * 3 + chats(1), [7, 7, 7, 8])
        assert len(server.requests) == 2 and said[0] == said[1] == said[2]


def test_no_chat_asks_nothing_and_needs_no_server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert EndpointModel("small").complete([], []) == []
    with pytest.raises(ValueError, match="1 chats and 2 seeds"):
        EndpointModel("small").complete(chats(1), [1, 2])


def test_further_fields_are_sent_and_null_takes_one_out(connect):
    with serving(Server()) as server:
        connect(server, extra={"top_k": 5, "max_tokens": None, "max_completion_tokens": 9}).complete(chats(1), [3])
    (request,) = server.requests
    assert request["top_k"] == 5 and request["max_completion_tokens"] == 9 and "max_tokens" not in request
    assert request["seed"] == 3 and request["temperature"] == 0.7 and not request.get("stream")


# ---- failures -------------------------------------------------------------------------------------------------------


PATIENCE = 6.0
"""Seconds until a question counts as unanswered: more than any answer takes on a machine with other work to do."""


def plan(n: int) -> list[str | None]:
    """Every fifth request fails, all faults in turn."""
    return [FAULTS[i // 5 % len(FAULTS)] if i % 5 == 0 else None for i in range(n)]


def test_of_a_thousand_calls_a_fifth_fails_and_every_answer_is_still_the_right_one(connect):
    with serving(Server(faults=plan(25), hang=PATIENCE + 2)) as server:
        model = connect(server, timeout=PATIENCE, concurrency=16, attempts=8)
        said = model.complete(chats(1000), range(1000))
    assert [one.text for one in said] == [f"heard: offer {i}" for i in range(1000)]
    assert not model.tally.failures and model.tally.answered == 1000
    assert sum(model.tally.retries.values()) == server.erred.total() == len(server.requests) - 1000 >= 200
    seen = model.tally.retries
    assert seen["rate_limited"] == server.erred["429"] and seen["server_error"] == server.erred["500"]
    assert seen["timeout"] == server.erred["hang"] and seen["unreadable"] >= server.erred["garbage"]


def test_asked_once_only_every_failure_is_named_and_never_words(connect):
    with serving(Server(faults=plan(25), hang=PATIENCE + 2)) as server:
        model = connect(server, timeout=PATIENCE, concurrency=16, attempts=1)
        said = model.complete(chats(300), range(300))
    failed = [one for one in said if one.failure]
    assert len(failed) == server.erred.total() == 60 and not any(one.text for one in failed)
    kinds = Counter(one.failure.split(":")[0] for one in failed if one.failure)
    assert kinds == model.tally.failures
    assert kinds["rate_limited"] == kinds["server_error"] == kinds["timeout"] == 12
    assert kinds["unreadable"] + kinds["connection"] == 24


def test_faults_cost_little_more_than_their_share(connect):
    def seconds(faults: Sequence[str | None]) -> float:
        with serving(Server(faults=faults, latency=0.3)) as server:
            model = connect(server, timeout=30.0, concurrency=16, attempts=8)
            model.complete(chats(16), range(1000, 1016))  # connects
            model.tally.retries.clear()
            began = time.perf_counter()
            model.complete(chats(200), range(200))
            took = time.perf_counter() - began
            assert bool(model.tally.retries) == bool(faults[0])
            return took

    # one that hangs costs its whole timeout, whatever one does: not here
    faultless, faulty = seconds([None]), seconds([fault if fault != "hang" else None for fault in plan(25)])
    assert faultless / faulty >= 0.8 * 0.8  # a sixth of the calls is lost whatever one does


def test_those_who_pause_keep_nobody_from_asking(connect):
    with serving(Server(first_fails=True)) as server:
        model = connect(server, pause=2.0, concurrency=2)
        model.complete(chats(1), [99])  # connects
        began = time.perf_counter()
        model.complete(chats(40), range(40))
        took = time.perf_counter() - began
    assert model.tally.retries == {"rate_limited": 41}
    assert took < 40 * 1.0 / 2  # at least what it would take if those who pause counted as asking


def test_an_answer_that_dribbles_in_is_too_late(connect):
    with serving(Server(dribble=4.0)) as server:
        (said,) = connect(server, timeout=1.0, attempts=1).complete(chats(1), [0])
    assert said.failure and said.failure.startswith("timeout: no whole answer within 1 s")


@pytest.mark.parametrize(("finish", "kind"), [("length", "truncated"), ("content_filter", "refused")])
def test_an_answer_that_was_cut_off_or_withheld_has_failed_and_was_paid_for(connect, finish: str, kind: str):
    with serving(Server(finish=finish)) as server:
        model = connect(server, prompt_price=1.0, completion_price=2.0)
        (said,) = model.complete(chats(1), [0])
        assert said.failure and said.failure.startswith(f"{kind}:") and len(server.requests) == 1
        assert model.tally.cost == pytest.approx((10 * 1.0 + 5 * 2.0) / 1e6)


def test_a_server_that_died_stops_the_run_and_back_again_only_the_rest_is_asked(connect, tmp_path: Path):
    with serving(Server(dies_after=60)) as server:
        model = connect(server, cache=tmp_path / "a.sqlite", attempts=2, give_up_after=5)
        with pytest.raises(EndpointError, match=r"questions in a row got no answer.*the same command goes on"):
            model.complete(chats(200), range(200))
    with serving(Server(), server.port) as again:
        resumed = connect(again, cache=tmp_path / "a.sqlite")
        assert [one.text for one in resumed.complete(chats(200), range(200))] == [
            f"heard: offer {i}" for i in range(200)
        ]
        assert len(again.requests) == 200 - model.tally.answered and 50 <= model.tally.answered <= 60


def test_rejected_one_and_all_the_run_is_stopped_too(connect):
    with serving(Server(faults=["400"])) as server:
        with pytest.raises(EndpointError, match=r"questions in a row got no answer.*status 400"):
            connect(server, give_up_after=10).complete(chats(100), range(100))
        assert len(server.requests) < 60


def test_one_question_in_ten_that_is_rejected_is_one_failure_in_ten(connect):
    with serving(Server(faults=[None, "403", *[None] * 8])) as server:
        model = connect(server, concurrency=1)
        said = model.complete(chats(50), range(50))
    assert sum(bool(one.failure) for one in said) == model.tally.failures["rejected"] == 5


def test_one_question_that_is_turned_down_after_a_resume_is_one_failure(connect, tmp_path: Path):
    with serving(Server(faults=[None, "403"])) as server:
        connect(server, cache=tmp_path / "a.sqlite").complete(chats(1), [0])
        said = connect(server, cache=tmp_path / "a.sqlite", concurrency=1).complete(chats(2), [0, 1])
    assert said[0].text and said[1].failure and said[1].failure.startswith("rejected:")


def test_half_a_character_is_no_answer(connect, tmp_path: Path):
    with serving(Server(answer=lambda request: "\ud83d")) as server:
        (said,) = connect(server, cache=tmp_path / "a.sqlite", attempts=2).complete(chats(1), [0])
    assert said.failure and said.failure.startswith("unreadable: the answer holds half a character")


# ---- the cache and the cap ------------------------------------------------------------------------------------------


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


def test_spending_stops_at_the_cap_and_goes_on_where_it_is_raised(connect, tmp_path: Path):
    prices = {"prompt_price": 100.0, "completion_price": 200.0, "cache": tmp_path / "a.sqlite"}  # $.002 an answer
    with serving(Server()) as server:
        with pytest.raises(SpendingCapError, match=r"max_cost=0.02 is reached"):
            connect(server, max_cost=0.02, concurrency=1, **prices).complete(chats(30), range(30))
        assert len(server.requests) == 10
        richer = connect(server, max_cost=1.0, **prices)
        assert [one.text for one in richer.complete(chats(30), range(30))] == [f"heard: offer {i}" for i in range(30)]
        assert len(server.requests) == 30 and richer.tally.remembered == 10
        assert richer.figures()["cost_so_far"] == pytest.approx(0.06) and richer.figures()["cost"] == pytest.approx(
            0.04
        )


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": "many"}, [1], {"prompt_tokens": -9, "completion_tokens": 5}])
def test_answers_that_fail_use_up_the_cap_even_if_the_server_tells_no_tokens(connect, tmp_path: Path, usage: object):
    prices = {"prompt_price": 100.0, "completion_price": 100.0, "cache": tmp_path / "a.sqlite"}  # 10 tokens, $.001
    with serving(Server(finish="length", usage=usage)) as server:
        model = connect(server, max_cost=0.005, concurrency=1, **prices)
        with pytest.raises(SpendingCapError):
            model.complete(chats(30), range(30))
    assert len(server.requests) == 5 == model.tally.estimated == model.tally.failures["truncated"]


def test_tokens_that_the_server_does_not_tell_are_estimated_and_counted_as_such(connect):
    with serving(Server(usage=None)) as server:
        model = connect(server)
        (said,) = model.complete(chats(1), [0])
    assert model.tally.estimated == 1 and said.tokens == 5  # "heard: offer 0", three characters a token
    assert model.tally.prompt_tokens == 5  # "You buy." and "offer 0"


def test_a_file_that_is_no_cache_is_named_again_and_again(connect, tmp_path: Path):
    (tmp_path / "a.sqlite").write_text("not a database, but long enough to be looked at " * 40)
    with serving(Server()) as server:
        model = connect(server, cache=tmp_path / "a.sqlite")
        for _ in range(2):
            with pytest.raises(OSError, match=r"a.sqlite can't be used as a cache"):
                model.complete(chats(1), [0])
        assert not server.requests


def test_the_first_answer_to_a_question_stays(tmp_path: Path):
    answers = Answers(tmp_path / "deep" / "a.sqlite")
    assert answers.put("k", Answer("one", 1), 0.5) == Answer("one", 1)
    assert answers.put("k", Answer("two", 1), 0.25) == Answer("one", 1)
    answers.pay(0.125)
    assert answers.get("k") == Answer("one", 1) and answers.get("other") is None and answers.cost() == 0.875
    answers.close()


def test_figures_of_models_that_share_a_cache_count_its_cost_once(connect, tmp_path: Path):
    prices = {"prompt_price": 100.0, "cache": tmp_path / "a.sqlite"}
    with serving(Server(faults=[None, "500", None])) as server:
        models = [connect(server, **prices) for _ in range(2)]
        for i, model in enumerate(models):
            model.complete(chats(1), [i])
        figures = figures_of(*models, None, models[0])
    assert figures["asked"] == figures["answered"] == 2 and figures["retries_server_error"] == 1
    assert figures["cost_so_far"] == pytest.approx(0.002) == pytest.approx(figures["cost"])


# ---- the address and the key ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["401", "402", "403", "404"])
def test_a_wrong_key_or_model_is_said_at_once_without_the_key(connect, status: str):
    with serving(Server(faults=[status])) as server:
        with pytest.raises(EndpointError, match=f"status {status}.*Check the model's name") as caught:
            connect(server).complete(chats(50), range(50))
        assert len(server.requests) <= 8 * 2
    assert KEY not in told(caught.value)
    assert all(given == f"Bearer {KEY}" for given in server.keys)


def test_the_key_is_in_no_failure_no_error_and_no_cache(connect, tmp_path: Path, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")  # as files have it
    with serving(Server(faults=["400", "500", None])) as server:
        model = connect(server, cache=tmp_path / "a.sqlite", attempts=1, concurrency=1)
        said = model.complete(chats(3), range(3))
        assert sorted(bool(one.failure) for one in said) == [False, True, True]
        assert any("[key]" in one.failure for one in said if one.failure)  # the server said it
        assert KEY not in str(said)
    with serving(Server(faults=["500"])) as server, pytest.raises(EndpointError) as caught:
        connect(server, attempts=1, give_up_after=3).complete(chats(30), range(30))
    assert KEY not in told(caught.value) and KEY not in caplog.text
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_a_key_that_would_be_cut_in_two_is_taken_out_first(connect, monkeypatch):
    long = "k" * 290
    monkeypatch.setenv("OPENAI_API_KEY", long)
    with serving(Server(faults=["400"])) as server:
        (said,) = connect(server).complete(chats(1), [0])
    assert said.failure and "kkkk" not in said.failure


@pytest.mark.parametrize("value", ["sk-\x01x", "schlüssel"])
def test_a_key_that_is_none_is_named_and_not_shown(connect, monkeypatch, value: str):
    monkeypatch.setenv("OPENAI_API_KEY", value)
    with serving(Server()) as server, pytest.raises(EndpointError, match="OPENAI_API_KEY holds characters") as caught:
        connect(server).complete(chats(1), [0])
    assert value not in str(caught.value)


@pytest.mark.parametrize("address", ["localhost:8000/v1", "ftp://there/v1", "http://name:pa55word@there/v1", "http://"])
def test_an_address_that_is_none_is_refused_and_not_shown(monkeypatch, address: str):
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(EndpointError, match="OPENAI_BASE_URL is no address") as caught:
        EndpointModel("small").complete(chats(1), [0])
    assert "pa55word" not in str(caught.value)


def test_a_key_goes_to_no_server_but_its_own(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with pytest.raises(EndpointError, match="JUDGE_URL is not set"):
        EndpointModel("small", base_url_variable="JUDGE_URL", api_key_variable="JUDGE_KEY").complete(chats(1), [0])
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(EndpointError, match=r"OPENAI_BASE_URL is not set.*or OPENAI_API_KEY"):
        EndpointModel("small").complete(chats(1), [0])


BAD = [
    ({"max_cost": 1.0}, "max_cost=1.0 needs a cache"),
    ({"attempts": 0}, "attempts=0"),
    ({"attempts": 2.5}, "attempts=2.5"),
    ({"timeout": float("nan")}, "timeout=nan"),
    ({"temperature": -1}, "temperature=-1"),
    ({"extra": {"stream": True}}, r"extra.stream is set by Parley"),
]


@pytest.mark.parametrize(("options", "named"), BAD)
def test_values_out_of_range_are_named(options: dict[str, object], named: str):
    with pytest.raises(ValueError, match=named):
        EndpointModel("small", **options)  # type: ignore[arg-type]
