"""Language models behind a server: any that speaks the OpenAI chat protocol, through the ``openai`` client.

Address and key come from the environment and from nowhere else, so that no key can get into a configuration, record,
log or cache. An answer that did not come is a failure of a named kind and never words; what can pass is tried again
with growing pauses, and everything is counted (``EndpointModel.tally``). Answers are kept on disk, so that a run that
was stopped goes on without paying twice, and a cap on spending stops it in time.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, fields
from pathlib import Path
from threading import BoundedSemaphore, Event, Lock
from typing import TYPE_CHECKING, Any, Final

from envs.answers import Answer, Answers
from envs.conversation import Message
from envs.language_models import Completion

if TYPE_CHECKING:
    from openai import OpenAI

LONGEST_PAUSE: Final = 60.0
"""Seconds between two attempts, at most, whatever the server asks for."""
THREADS_PER_CALL: Final = 4
"""So that those who pause before another attempt keep nobody from asking."""


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


class _AttemptError(Exception):
    """One attempt that brought no answer."""

    def __init__(self, kind: Failure, what: str, pause: float = 0.0, tokens: tuple[int, int] = (0, 0)):
        super().__init__(what)
        self.kind, self.what, self.pause = kind, what, pause
        self.tokens = tokens
        """Of the prompt and of the answer: what the server generated is paid for, even if it can't be used."""


@dataclass(slots=True)
class Tally:
    """What became of all questions so far, in this process."""

    asked: int = 0
    remembered: int = 0
    """Answered from the cache; they cost nothing."""
    answered: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    """Attempts that failed and were followed by another, by kind."""
    failures: Counter[str] = field(default_factory=Counter)
    """Questions that got no answer, by kind."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    """Answers whose tokens the server did not tell; they were estimated from characters."""
    cost: float = 0.0
    """Dollars, by the prices given."""


class EndpointModel:
    """A chat model behind an OpenAI-compatible server; a ``LanguageModel``.

    Args:
        model: its name there.
        base_url_variable, api_key_variable: environment variables with the server's address (such as
            ``http://localhost:8000/v1``; unset: the client's default) and key (unset: a server that asks for none).
        temperature: of sampling.
        max_new_tokens: longest answer, in tokens.
        timeout: seconds that one attempt may take.
        attempts: how often a question is asked before it has failed.
        pause: seconds before the second attempt; it doubles with each, with jitter. A server's ``Retry-After`` goes
            before it.
        concurrency: questions that are under way at once.
        give_up_after: questions in a row that failed although they were asked ``attempts`` times; then the server is
            taken for dead, and ``complete`` raises ``EndpointError`` instead of failing all that is left.
        send_seed: whether the server is told the seed. It keeps answers apart in the cache either way.
        cache: a file for the answers; None: none are kept.
        prompt_price, completion_price: dollars per million tokens.
        max_cost: dollars that may be spent by all processes that share the cache; None: no cap. It needs prices and a
            cache, and may be overdrawn by what is under way when it is reached.
        extra: further fields of the request, such as ``{"top_p": 0.9}``.

    Raises ``ValueError`` for values out of range, and from ``complete`` ``EndpointError`` where the server turns every
    question down (no such model, a wrong key) and ``SpendingCapError``.
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
        for name, value, low in (
            ("max_new_tokens", max_new_tokens, 1),
            ("attempts", attempts, 1),
            ("concurrency", concurrency, 1),
            ("give_up_after", give_up_after, 1),
            ("temperature", temperature, 0),
            ("pause", pause, 0),
            ("prompt_price", prompt_price, 0),
            ("completion_price", completion_price, 0),
        ):
            if value < low:
                raise ValueError(f"{name}={value}; give {low} or more.")
        if timeout <= 0:
            raise ValueError(f"timeout={timeout}; give seconds above 0.")
        if max_cost is not None and (cache is None or prompt_price + completion_price <= 0 or max_cost < 0):
            raise ValueError(
                f"max_cost={max_cost} needs a cache, which remembers what was spent, and prompt_price and "
                "completion_price in dollars per million tokens; give all of them, or max_cost=null."
            )
        self.model, self.attempts, self.pause, self.concurrency = model, attempts, pause, concurrency
        self.timeout, self.send_seed, self.give_up_after = timeout, send_seed, give_up_after
        self.max_cost = max_cost
        self._prices = (prompt_price, completion_price)
        self._variables = (base_url_variable, api_key_variable)
        self._request = {"temperature": temperature, "max_tokens": max_new_tokens, **(extra or {})}
        self._cache = cache
        self._answers: Answers | None = None
        self._client: OpenAI | None = None
        self._lock, self._under_way = Lock(), BoundedSemaphore(concurrency)
        self._failed_in_a_row = 0
        self.tally = Tally()

    def complete(self, chats: Sequence[Sequence[Message]], seeds: Sequence[int]) -> list[Completion]:
        if not chats:
            return []
        self._open()
        stop = Event()
        with ThreadPoolExecutor(min(THREADS_PER_CALL * self.concurrency, len(chats))) as pool:
            waiting = [pool.submit(self._unless, stop, chat, seed) for chat, seed in zip(chats, seeds, strict=True)]
            try:
                ended, _ = wait(waiting, return_when=FIRST_EXCEPTION)
                if error := next((error for one in ended if (error := one.exception())), None):
                    raise error
                return [one.result() for one in waiting]
            except BaseException:
                stop.set()  # what has not begun is not begun; what is under way is paid for and kept
                pool.shutdown(cancel_futures=True)
                raise

    def _unless(self, stop: Event, chat: Sequence[Message], seed: int) -> Completion:
        """The answer; the first to find that none can come stops the others."""
        try:
            return self._answer(chat, seed, stop)
        except BaseException:
            stop.set()
            raise

    def _open(self) -> None:
        if self._client is not None:
            return
        try:
            from openai import OpenAI
        except ImportError as error:
            raise EndpointError(
                f"model={self.model!r} is behind a server, and {error.name!r} is missing; run: pip install openai"
            ) from error
        url, key = (os.environ.get(variable) or None for variable in self._variables)
        if url is None and key is None:
            raise EndpointError(
                f"model={self.model!r} is behind a server, and neither {self._variables[0]} (its address, such as "
                f"http://localhost:8000/v1) nor {self._variables[1]} (its key) is set in the environment; set one."
            )
        self._client = OpenAI(base_url=url, api_key=key or "none", timeout=self.timeout, max_retries=0)
        self._answers = Answers(self._cache) if self._cache is not None else None

    def figures(self) -> dict[str, float]:
        """``tally`` as plain numbers, and what all who share the cache have spent."""
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
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._answers is not None:
            self._answers.close()
            self._answers = None

    # ---- one question ---------------------------------------------------------------------------------------------

    def _answer(self, chat: Sequence[Message], seed: int, stop: Event) -> Completion:
        request = {"model": self.model, "messages": [dict(message) for message in chat], **self._request}
        if self.send_seed:
            request["seed"] = seed % (1 << 31)
        key = self._key(request, seed)
        with self._lock:
            self.tally.asked += 1
        if self._answers is not None and (known := self._answers.get(key)):
            with self._lock:
                self.tally.remembered += 1
            return Completion(known.text, known.tokens)
        for attempt in range(1, self.attempts + 1):
            try:
                with self._under_way:
                    if stop.is_set():
                        return Completion("", 0, "connection: not asked, since the endpoint stopped before")
                    self._check_cap()
                    answer = self._ask(request)
                return self._keep(key, request, *answer)
            except _AttemptError as failed:
                self._pay(*failed.tokens)
                if failed.kind not in _PASSING or attempt == self.attempts:
                    return self._failed(failed, attempt)
                with self._lock:
                    self.tally.retries[failed.kind.value] += 1
                stop.wait(min(LONGEST_PAUSE, failed.pause or self.pause * 2 ** (attempt - 1) * random.uniform(0.5, 1)))
        raise AssertionError("the last attempt returns")

    def _failed(self, failed: _AttemptError, attempts: int) -> Completion:
        times = f" in {attempts} attempts" if attempts > 1 else ""
        failure = f"{failed.kind.value}: {self._without_key(failed.what)}{times}"
        with self._lock:
            self.tally.failures[failed.kind.value] += 1
            self._failed_in_a_row += failed.kind in _PASSING
            if self._failed_in_a_row >= self.give_up_after:
                raise EndpointError(
                    f"{self._failed_in_a_row} questions in a row got no answer from model={self.model!r}, the last "
                    f"one: {failure}. Nothing more is asked. See to the server, and the same command goes on."
                )
        return Completion("", 0, failure)

    def _key(self, request: Mapping[str, Any], seed: int) -> str:
        """Names the answer: everything that it depends on, and where it is asked for. The key has no part in it."""
        assert self._client is not None
        asked = json.dumps([str(self._client.base_url), request, seed], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(asked.encode()).hexdigest()

    def _ask(self, request: Mapping[str, Any]) -> tuple[str, int, int]:
        """One attempt: the answer, and the tokens of prompt and answer (0 where the server does not tell). Raises
        ``_AttemptError``, or ``EndpointError`` where no attempt can help."""
        import openai

        assert self._client is not None
        try:
            answer = self._client.chat.completions.create(**request)
        except openai.APITimeoutError:
            raise _AttemptError(Failure.TIMEOUT, f"no answer within {self.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise _AttemptError(Failure.CONNECTION, f"{error} {error.__cause__ or ''}".strip()) from None
        except openai.APIStatusError as error:
            raise self._turned_down(error) from None  # the client's own words may hold the key
        except (openai.APIError, ValueError, TypeError, AttributeError, LookupError) as error:
            raise _AttemptError(
                Failure.UNREADABLE, f"not an answer of the protocol ({type(error).__name__})"
            ) from error
        return _read(answer)

    def _turned_down(self, error: Any) -> Exception:
        """What a status code that is not a success means."""
        status, said = error.status_code, f"status {error.status_code}: {str(error)[:200]}"
        if status == 429:
            return _AttemptError(Failure.RATE_LIMITED, said, _retry_after(error.response.headers))
        if status in (408, 409) or status >= 500:
            kind = Failure.TIMEOUT if status == 408 else Failure.SERVER_ERROR
            return _AttemptError(kind, said, _retry_after(error.response.headers))
        if status in (401, 403, 404):
            address, key = self._variables
            return EndpointError(
                f"The endpoint turns model={self.model!r} down: {self._without_key(said)}. Check the model's name, "
                f"{address} (it ends with /v1 for most servers) and {key}."
            )
        return _AttemptError(Failure.REJECTED, said)

    def _without_key(self, text: str) -> str:
        key = os.environ.get(self._variables[1])
        return text.replace(key, "[key]") if key else text

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

    def _keep(self, key: str, request: Mapping[str, Any], text: str, prompt: int, completion: int) -> Completion:
        if not prompt + completion:
            prompt = -(-sum(len(message["content"]) for message in request["messages"]) // 3)
            completion = -(-len(text) // 3)
            with self._lock:
                self.tally.estimated += 1
        with self._lock:
            self.tally.answered += 1
            self._failed_in_a_row = 0
        self._pay(prompt, completion)
        if self._answers is not None:
            self._answers.put(key, Answer(text, completion))
        return Completion(text, completion)

    def _pay(self, prompt: int, completion: int) -> None:
        if not prompt + completion:
            return
        cost = (prompt * self._prices[0] + completion * self._prices[1]) / 1e6
        with self._lock:
            self.tally.prompt_tokens += prompt
            self.tally.completion_tokens += completion
            self.tally.cost += cost
        if self._answers is not None and cost:
            self._answers.pay(cost)


def _read(answer: Any) -> tuple[str, int, int]:
    """The words of a response and its tokens. Raises ``_AttemptError`` where there are no words that can be used."""
    try:
        choice = answer.choices[0]
        text, reason, usage = choice.message.content, choice.finish_reason, answer.usage
    except (AttributeError, LookupError, TypeError) as error:
        raise _AttemptError(Failure.UNREADABLE, "the response has no choice with a message") from error
    prompt, completion = (int(getattr(usage, name, 0) or 0) for name in ("prompt_tokens", "completion_tokens"))
    if reason == "length":
        raise _AttemptError(Failure.TRUNCATED, "the answer was cut off at max_new_tokens", tokens=(prompt, completion))
    if reason == "content_filter":
        raise _AttemptError(Failure.REFUSED, "the server's filter withheld the answer", tokens=(prompt, completion))
    if not isinstance(text, str) or not text.strip():
        raise _AttemptError(Failure.UNREADABLE, "the answer is empty", tokens=(prompt, completion))
    return text, prompt, completion


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait; 0 where it does not say so in seconds."""
    try:
        return max(0.0, float(headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
