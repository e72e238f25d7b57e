"""Language models behind a server: any that speaks the OpenAI chat protocol, through the ``openai`` client.

Address and key come from the environment and from nowhere else, so that no key can get into a configuration, record,
log or cache; what a server says is freed of the key before anybody sees it, and no error carries the client's own
behind it. An answer that did not come is a failure of a named kind and never words; what can pass is tried again with
growing pauses, and everything is counted (``EndpointModel.tally``). Answers are kept on disk, so that a run that was
stopped goes on without paying twice, and a cap on spending stops it in time.
"""

from __future__ import annotations

import enum
import hashlib
import json
import logging
import math
import os
import random
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, fields
from pathlib import Path
from threading import BoundedSemaphore, Event, Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from envs.answers import Answer, Answers
from envs.conversation import Message
from envs.language_models import Completion

if TYPE_CHECKING:
    from openai import OpenAI

LONGEST_PAUSE: Final = 60.0
"""Seconds between two attempts, at most, whatever the server asks for."""
THREADS_PER_CALL: Final = 4
"""So that those who pause before another attempt keep nobody from asking."""
_USUAL: Final = {"OPENAI_BASE_URL": "https://api.openai.com/v1"}
"""The address where none is set; there is one for the usual variable alone, so that no key goes to a stranger."""
_OURS: Final = ("model", "messages", "stream", "n", "seed")
"""Fields of a request that ``extra`` can't set."""


class Failure(enum.StrEnum):
    """Why an answer did not come."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    """The server could not be reached, or hung up in the middle."""
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    UNREADABLE = "unreadable"
    """What came was no answer of the protocol, or an empty one."""
    TRUNCATED = "truncated"
    """The answer was cut off at ``max_new_tokens``."""
    REFUSED = "refused"
    """The server's filter withheld the answer."""
    REJECTED = "rejected"
    """The server would not take this question, such as one that is too long."""


_PASSING: Final = frozenset(
    {Failure.TIMEOUT, Failure.CONNECTION, Failure.RATE_LIMITED, Failure.SERVER_ERROR, Failure.UNREADABLE}
)
"""Failures that another attempt may mend."""


class EndpointError(OSError):
    """The endpoint can't be used as it is configured. The message says what to change, and never holds the key."""


class SpendingCapError(EndpointError):
    """The cap on spending was reached: nothing more is asked. Answers that were paid for are kept."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one attempt brought: a text or a failure."""

    text: str = ""
    failure: Failure | None = None
    what: str = ""
    """The failure in words, without the key."""
    pause: float = 0.0
    """Seconds that the server asks to wait."""
    turned_down: bool = False
    """Whether no question can be answered: a wrong key, no such model, no money left."""
    tokens: tuple[int, int] | None = None
    """Of the question and the answer, where the server tells; what it generated is paid for even if it can't be
    used."""
    generated: bool = False


@dataclass(slots=True)
class Tally:
    """What became of all questions so far, in this process."""

    asked: int = 0
    remembered: int = 0
    """Answered from the cache; they cost nothing."""
    answered: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    """Attempts that failed while others were left, by kind."""
    failures: Counter[str] = field(default_factory=Counter)
    """Questions that got no answer, by kind."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    """Answers whose tokens the server did not tell; they were estimated from characters, three a token."""
    cost: float = 0.0
    """Dollars, by the prices given."""


class EndpointModel:
    """A chat model behind an OpenAI-compatible server; a ``LanguageModel``.

    Args:
        model: its name there.
        base_url_variable, api_key_variable: environment variables with the server's address (such as
            ``http://localhost:8000/v1``; the usual variable may be unset: OpenAI's own) and key (unset: none is sent
            that means anything).
        temperature: of sampling.
        max_new_tokens: longest answer, in tokens.
        timeout: seconds that one attempt may take, give or take one wait for the server.
        attempts: how often a question is asked before it has failed.
        pause: seconds before the second attempt; it doubles with each, with jitter. A server's ``Retry-After`` goes
            before it.
        concurrency: questions that are under way at once.
        give_up_after: questions in a row that got no answer; then ``complete`` raises ``EndpointError`` instead of
            failing all that is left.
        send_seed: whether the server is told the seed. It keeps answers apart in the cache either way.
        cache: a file for the answers; None: none are kept.
        prompt_price, completion_price: dollars per million tokens.
        max_cost: dollars that may be spent by all processes that share the cache; None: no cap. It needs prices and a
            cache, and may be overdrawn by what is under way when it is reached.
        extra: further fields of the request, such as ``{"top_p": 0.9}``; None takes one out, as in
            ``{"max_tokens": None, "max_completion_tokens": 96}``.

    Raises ``ValueError`` for values out of range, and from ``complete`` ``EndpointError`` where the server turns every
    question down (no such model, a wrong key) or is taken for dead, ``SpendingCapError``, and ``OSError`` for a cache
    that can't be used.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url_variable: str = "OPENAI_BASE_URL",
        api_key_variable: str = "OPENAI_API_KEY",
        temperature: float = 0.7,
        max_new_tokens: int = 128,
        timeout: float = 60.0,
        attempts: int = 5,
        pause: float = 1.0,
        concurrency: int = 8,
        give_up_after: int = 16,
        send_seed: bool = True,
        cache: str | Path | None = None,
        prompt_price: float = 0.0,
        completion_price: float = 0.0,
        max_cost: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ):
        counts = {"max_new_tokens": max_new_tokens, "attempts": attempts, "concurrency": concurrency}
        for name, count in {**counts, "give_up_after": give_up_after}.items():
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name}={count}; give a whole number, 1 or more.")
        amounts = {"temperature": temperature, "pause": pause, "prompt_price": prompt_price}
        for name, amount in {**amounts, "completion_price": completion_price, "max_cost": max_cost or 0.0}.items():
            if not 0 <= amount < math.inf:
                raise ValueError(f"{name}={amount}; give 0 or more.")
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout={timeout}; give seconds above 0.")
        if max_cost is not None and (cache is None or prompt_price + completion_price == 0):
            raise ValueError(
                f"max_cost={max_cost} needs a cache, which remembers what was spent, and prompt_price and "
                "completion_price in dollars per million tokens; give all of them, or max_cost=null."
            )
        if ours := [name for name in extra or {} if name in _OURS]:
            raise ValueError(f"extra.{ours[0]} is set by Parley itself; leave it out of extra.")
        self.model, self.attempts, self.pause, self.timeout = model, attempts, pause, timeout
        self.concurrency, self.give_up_after, self.send_seed = concurrency, give_up_after, send_seed
        self.max_cost = max_cost
        self.tally = Tally()
        self._prices = (prompt_price, completion_price)
        self._variables = (base_url_variable, api_key_variable)
        self._body = {"temperature": temperature, "max_tokens": max_new_tokens, **(extra or {})}
        self._cache = cache
        self._answers: Answers | None = None
        self._client: OpenAI | None = None
        self._secrets: tuple[str, ...] = ()
        self._lock, self._under_way = Lock(), BoundedSemaphore(concurrency)
        self._failed_in_a_row = 0

    def complete(self, chats: Sequence[Sequence[Message]], seeds: Sequence[int]) -> list[Completion]:
        if len(chats) != len(seeds):
            raise ValueError(f"{len(chats)} chats and {len(seeds)} seeds; give one seed for each chat.")
        if not chats:
            return []
        self._open()
        requests = [self._request(chat, seed) for chat, seed in zip(chats, seeds, strict=True)]
        keys = [self._key(request, seed) for request, seed in zip(requests, seeds, strict=True)]
        stop = Event()
        with ThreadPoolExecutor(min(THREADS_PER_CALL * self.concurrency, len(chats))) as pool:
            # A question that stands there twice is asked once, so that its answer does not depend on the cache.
            waiting: dict[str, Future[Completion]] = {}
            for key, request in zip(keys, requests, strict=True):
                if key not in waiting:
                    waiting[key] = pool.submit(self._unless, stop, key, request)
            try:
                ended, _ = wait(waiting.values(), return_when=FIRST_EXCEPTION)
                if error := next((error for one in ended if (error := one.exception())), None):
                    raise error
                return [waiting[key].result() for key in keys]
            except BaseException:
                stop.set()  # what has not begun is not begun; what is under way is paid for and kept
                pool.shutdown(cancel_futures=True)
                self._hang_up()
                raise

    def figures(self) -> dict[str, float]:
        """``tally`` as plain numbers, and what all who share the cache have spent (``cost_so_far``)."""
        flat: dict[str, float] = {}
        with self._lock:
            for one in fields(self.tally):
                value = getattr(self.tally, one.name)
                counts = {f"{one.name}_{kind}": n for kind, n in value.items()} if isinstance(value, Counter) else None
                flat |= {one.name: value} if counts is None else counts
        if self._answers is not None:
            flat["cost_so_far"] = self._answers.cost()
        return {name: float(value) for name, value in flat.items()}

    def close(self) -> None:
        """Hang up; the next question connects again."""
        self._hang_up()
        if self._answers is not None:
            self._answers.close()
            self._answers = None

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    # ---- the connection -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._client is not None:
            return
        try:
            from openai import OpenAI
        except ImportError as error:
            raise EndpointError(
                f"model={self.model!r} is behind a server, and {error.name!r} is missing; run: pip install openai"
            ) from error
        url, key = self._address(), self._key_given()
        for library in ("openai", "httpx", "httpx2"):
            logging.getLogger(library).setLevel(logging.WARNING)  # they note every request, with its address
        if self._cache is not None:
            self._answers = Answers(self._cache)
        self._secrets = tuple({key, repr(key)[1:-1], json.dumps(key)[1:-1]} - {""})
        self._client = OpenAI(base_url=url, api_key=key or "none", timeout=self.timeout, max_retries=0)
        weakref.finalize(self, self._client.close).atexit = False  # whoever forgets to close it leaves no socket open

    def _address(self) -> str:
        address_variable, key_variable = self._variables
        url = os.environ.get(address_variable, "").strip()
        if not url and (address_variable not in _USUAL or not os.environ.get(key_variable)):
            raise EndpointError(
                f"model={self.model!r} is behind a server, and {address_variable} is not set in the environment; set "
                "it to the server's address, such as http://localhost:8000/v1"
                + (f", or {key_variable} to a key of OpenAI's." if address_variable in _USUAL else ".")
            )
        url = url or _USUAL[address_variable]
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise EndpointError(
                f"{address_variable} is no address of a server; give one such as http://localhost:8000/v1, without a "
                "name or password in it."
            )
        return url

    def _key_given(self) -> str:
        key = os.environ.get(self._variables[1], "").strip()
        if not (key.isascii() and key.isprintable()):
            raise EndpointError(f"{self._variables[1]} holds characters that no key has; set it anew.")
        return key

    def _clean(self, text: str) -> str:
        """``text`` without the key, and not too long."""
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return text[:300]

    # ---- one question ---------------------------------------------------------------------------------------------

    def _request(self, chat: Sequence[Message], seed: int) -> dict[str, Any]:
        body = {name: value for name, value in self._body.items() if value is not None}
        request = {"model": self.model, "messages": [dict(message) for message in chat], **body}
        return {**request, "seed": seed % (1 << 31)} if self.send_seed else request

    def _key(self, request: Mapping[str, Any], seed: int) -> str:
        """Names the answer: everything that it depends on, and where it is asked for."""
        assert self._client is not None
        asked = json.dumps([str(self._client.base_url), request, seed], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(asked.encode()).hexdigest()

    def _unless(self, stop: Event, key: str, request: Mapping[str, Any]) -> Completion:
        """The answer; the first to find that none can come stops the others."""
        try:
            return self._answer(stop, key, request)
        except BaseException:
            stop.set()
            raise

    def _answer(self, stop: Event, key: str, request: Mapping[str, Any]) -> Completion:
        with self._lock:
            self.tally.asked += 1
        if self._answers is not None and (known := self._answers.get(key)):
            with self._lock:
                self.tally.remembered += 1
            return Completion(known.text, known.tokens)
        jitter = random.Random(key)
        for attempt in range(1, self.attempts + 1):
            with self._under_way:
                if stop.is_set():
                    break
                self._check_cap()
                brought = self._ask(request)
                if brought.failure is None:
                    return self._keep(key, request, brought)
                self._pay_for(request, brought)
            if brought.failure not in _PASSING or attempt == self.attempts:
                return self._failed(brought, attempt)
            with self._lock:
                self.tally.retries[brought.failure.value] += 1
            stop.wait(min(LONGEST_PAUSE, brought.pause or self.pause * 2 ** (attempt - 1) * jitter.uniform(0.5, 1)))
        return Completion("", 0, "connection: not asked, since the endpoint stopped before")

    def _ask(self, request: Mapping[str, Any]) -> _Attempt:
        """One attempt. Whatever the client raises ends here: its errors may hold the key."""
        import openai

        assert self._client is not None
        model, messages = request["model"], request["messages"]
        body = {name: value for name, value in request.items() if name not in ("model", "messages")}
        deadline = time.monotonic() + self.timeout
        late = _Attempt(failure=Failure.TIMEOUT, what=f"no whole answer within {self.timeout:g} s")
        try:
            streamed = self._client.chat.completions.with_streaming_response
            with streamed.create(model=model, messages=messages, extra_body=body) as response:
                received = bytearray()
                for part in response.iter_bytes():
                    received += part
                    if time.monotonic() > deadline:
                        return late
        except openai.APITimeoutError:
            return late
        except openai.APIStatusError as error:
            return self._turned_down(error)
        except openai.APIConnectionError as error:
            return _Attempt(failure=Failure.CONNECTION, what=self._clean(f"{error} {error.__cause__ or ''}".strip()))
        except Exception as error:
            if _of_the_connection(error):
                return late if "Timeout" in type(error).__name__ else _hung_up(self._clean(str(error)))
            broken = f"{type(error).__name__}: {self._clean(str(error))}"
        else:
            return _read(bytes(received))
        raise EndpointError(f"The client can't ask model={self.model!r}: {broken}")

    def _turned_down(self, error: Any) -> _Attempt:
        """What a status code that is not a success means."""
        status, headers = error.status_code, error.response.headers
        said = self._clean(f"status {status}: {error}")
        if status == 429:
            return _Attempt(failure=Failure.RATE_LIMITED, what=said, pause=_retry_after(headers))
        if status in (408, 409) or status >= 500:
            kind = Failure.TIMEOUT if status == 408 else Failure.SERVER_ERROR
            return _Attempt(failure=kind, what=said, pause=_retry_after(headers))
        if "content_filter" in said or "content_policy" in said:
            return _Attempt(failure=Failure.REFUSED, what=said)
        # Some servers turn a single question down with 403; a wrong key turns down the first.
        fatal = status in (401, 402, 404) or (status == 403 and not self.tally.answered + self.tally.remembered)
        return _Attempt(failure=Failure.REJECTED, what=said, turned_down=fatal)

    def _failed(self, brought: _Attempt, attempts: int) -> Completion:
        assert brought.failure is not None
        times = f" in {attempts} attempts" if attempts > 1 else ""
        failure = f"{brought.failure.value}: {brought.what}{times}"
        with self._lock:
            self.tally.failures[brought.failure.value] += 1
            self._failed_in_a_row += 1
            in_a_row = self._failed_in_a_row
        address, key = self._variables
        if brought.turned_down:
            raise EndpointError(
                f"The endpoint turns model={self.model!r} down: {brought.what}. Check the model's name, {address} (it "
                f"ends with /v1 for most servers), {key}."
            )
        if in_a_row >= self.give_up_after:
            raise EndpointError(
                f"{in_a_row} questions in a row got no answer from model={self.model!r}, the last one: {failure}. "
                "Nothing more is asked. See to the server or to what it is asked for (max_new_tokens, extra), and the "
                "same command goes on."
            )
        return Completion("", 0, failure)

    # ---- what it costs --------------------------------------------------------------------------------------------

    def _check_cap(self) -> None:
        if self.max_cost is None:
            return
        assert self._answers is not None
        if (spent := self._answers.cost()) >= self.max_cost:
            raise SpendingCapError(
                f"${spent:.4f} are spent and max_cost={self.max_cost:g} is reached, so nothing more is asked. Raise "
                "max_cost, and the same command goes on; what was answered is kept and not paid for again."
            )

    def _keep(self, key: str, request: Mapping[str, Any], brought: _Attempt) -> Completion:
        completion, cost = self._booked(request, brought)
        with self._lock:
            self.tally.answered += 1
            self._failed_in_a_row = 0
        answer = Answer(brought.text, completion)
        if self._answers is not None:
            answer = self._answers.put(key, answer, cost)
        return Completion(answer.text, answer.tokens)

    def _pay_for(self, request: Mapping[str, Any], brought: _Attempt) -> None:
        """What was generated and can't be used."""
        if brought.generated:
            _, cost = self._booked(request, brought)
            if self._answers is not None:
                self._answers.pay(cost)

    def _booked(self, request: Mapping[str, Any], brought: _Attempt) -> tuple[int, float]:
        """The tokens of an answer and what it cost, after noting both."""
        told = brought.tokens
        prompt, completion = told or (
            -(-sum(len(message["content"]) for message in request["messages"]) // 3),
            -(-len(brought.text) // 3),
        )
        cost = (prompt * self._prices[0] + completion * self._prices[1]) / 1e6
        with self._lock:
            self.tally.estimated += told is None
            self.tally.prompt_tokens += prompt
            self.tally.completion_tokens += completion
            self.tally.cost += cost
        return completion, cost


def _read(received: bytes) -> _Attempt:
    """The words of a response and its tokens, or why there are no words that can be used."""
    try:
        body = json.loads(received)
        choice = body["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError):
        return _Attempt(failure=Failure.UNREADABLE, what="not an answer of the protocol")
    words, tokens = text if isinstance(text, str) else "", _tokens(body.get("usage"))
    writable = words.encode("utf-8", "replace").decode() == words  # JSON can spell half of a character
    if reason == "length":
        failure, what = Failure.TRUNCATED, "the answer was cut off at max_new_tokens"
    elif reason == "content_filter":
        failure, what = Failure.REFUSED, "the server's filter withheld the answer"
    elif not words.strip() or not writable:
        words, failure = "", Failure.UNREADABLE
        what = "the answer is empty" if writable else "the answer holds half a character"
    else:
        return _Attempt(words, tokens=tokens, generated=True)
    return _Attempt(words, failure, what, tokens=tokens, generated=True)


def _tokens(usage: Any) -> tuple[int, int] | None:
    """What a server tells of the tokens of question and answer; None where it does not, or tells nonsense."""
    told = usage if isinstance(usage, dict) else {}
    counts = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if type(count) is int and count >= 0 else None for count in counts)
    return None if prompt is None or completion is None or not prompt + completion else (prompt, completion)


def _of_the_connection(error: Exception) -> bool:
    """Whether the transport gave up while the answer was read: the client passes its errors on as they are."""
    return any(
        kind.__name__ in ("TransportError", "DecodingError", "OSError", "StreamError") for kind in type(error).__mro__
    )


def _hung_up(said: str) -> _Attempt:
    return _Attempt(failure=Failure.CONNECTION, what=f"the answer broke off ({said})")


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait; 0 where it does not say so in seconds."""
    try:
        seconds = float(headers.get("retry-after", 0))
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0
