"""A server of the OpenAI chat protocol for tests, which errs on purpose."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[Mapping[str, Any]], str]
FAULTS = ("429", "500", "hang", "cut", "garbage")


def echo(request: Mapping[str, Any]) -> str:
    return f"heard: {request['messages'][-1]['content']}"


@dataclass
class Server:
    """What the server does and has seen."""

    answer: Answer = echo
    faults: Sequence[str | None] = (None,)
    """The fault of each request in turn, over and over."""
    first_fails: bool = False
    """Every question is turned down the first time."""
    dies_after: int | None = None
    """It answers so many requests and then hangs up on everybody."""
    latency: float = 0.0
    hang: float = 2.0
    usage: Any = field(default_factory=lambda: {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15})
    dribble: float = 0.0
    """Seconds over which an answer comes, blank after blank."""
    finish: str = "stop"
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    erred: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    """The most requests that were under way at the same time."""
    url: str = ""
    port: int = 0
    dead: bool = False
    """Hangs up on whoever is still connected."""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, request: dict[str, Any], key: str | None) -> str | None:
        """Note a request; its fault."""
        with self._lock:
            fault = self.faults[len(self.requests) % len(self.faults)]
            if self.first_fails and request not in self.requests:
                fault = "429"
            self.requests.append(request)
            if len(self.requests) == self.dies_after:
                self.dead = True
            self.keys.append(key)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
            if fault:
                self.erred[fault] += 1
            return fault

    def done(self) -> None:
        with self._lock:
            self._now -= 1


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # more may connect at once than the library expects


class _Handler(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        state: Server = self.server.state
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if state.dead:
            self.close_connection = True
            return
        fault = state.take(request, self.headers.get("authorization"))
        try:
            time.sleep(state.latency)
            self._respond(state, request, fault)
        finally:
            state.done()

    def _respond(self, state: Server, request: Mapping[str, Any], fault: str | None) -> None:
        if fault == "hang":
            time.sleep(state.hang)
            self.close_connection = True
            return
        if fault and fault.isdigit():
            said = {"error": {"message": f"no, {self.headers.get('authorization')}", "type": "fault"}}
            self._send(int(fault), json.dumps(said).encode())
            return
        message = {"role": "assistant", "content": state.answer(request)}
        body: dict[str, Any] = {
            "id": "1", "object": "chat.completion", "created": 0, "model": request["model"],
            "choices": [{"index": 0, "finish_reason": state.finish, "message": message}],
        }  # fmt: skip
        if state.usage is not None:
            body["usage"] = state.usage
        whole = json.dumps(body).encode()
        if state.dribble:
            self._dribble(state.dribble, whole)
        elif fault == "garbage":
            self._send(200, b"<html>busy</html>")
        elif fault == "cut":
            self._send(200, whole, len(whole) // 2)
        else:
            self._send(200, whole)

    def _dribble(self, seconds: float, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body) + 20))
        self.end_headers()
        for _ in range(20):
            time.sleep(seconds / 20)
            self.wfile.write(b" ")
            self.wfile.flush()
        self.wfile.write(body)

    def _send(self, status: int, body: bytes, only: int | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if only is None else body[:only])
        if only is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(state: Server, port: int = 0) -> Iterator[Server]:
    """Serve until the block ends; afterwards nothing listens there. Port 0 is one that is free."""
    http = _Listening(("127.0.0.1", port), _Handler)
    http.state = state  # type: ignore[attr-defined]
    state.port = http.server_port
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.dead = True
        http.shutdown()
        http.server_close()
