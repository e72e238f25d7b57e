"""Answers of language models on disk: what was asked once is not paid for again.

One SQLite file, which many processes may share. A failed answer is never kept, but what it cost is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered."""

    text: str
    tokens: int
    """Tokens of the text."""


class Answers:
    """A file of answers by key. Raises ``OSError`` where the file can't be made, read or written."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        with self._errors_named():
            self._connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # a stopped machine may lose the last; no file breaks
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text TEXT NOT NULL, tokens INTEGER)"
                )
                self._connection.execute("CREATE TABLE IF NOT EXISTS spent (id INTEGER PRIMARY KEY, cost REAL)")
                self._connection.execute("INSERT OR IGNORE INTO spent VALUES (0, 0.0)")

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OSError(f"{self.path} can't be used as a cache of answers ({error}); name another file.") from error

    def get(self, key: str) -> Answer | None:
        with self._lock, self._errors_named():
            row = self._connection.execute("SELECT text, tokens FROM answers WHERE key = ?", (key,)).fetchone()
        return Answer(*row) if row else None

    def put(self, key: str, answer: Answer, cost: float = 0.0) -> Answer:
        """Keep ``answer`` and what it cost, in dollars; one that is there already stays. Returns what stands there."""
        with self._lock, self._errors_named(), self._connection:
            row = (key, answer.text, answer.tokens)
            self._connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", row)
            self._connection.execute("UPDATE spent SET cost = cost + ?", (cost,))
            stands = self._connection.execute("SELECT text, tokens FROM answers WHERE key = ?", (key,)).fetchone()
        return Answer(*stands)

    def pay(self, cost: float) -> None:
        """Note what was spent, in dollars, on an answer that can't be kept."""
        with self._lock, self._errors_named(), self._connection:
            self._connection.execute("UPDATE spent SET cost = cost + ?", (cost,))

    def cost(self) -> float:
        """Dollars spent so far by all who share the file."""
        with self._lock, self._errors_named():
            return float(self._connection.execute("SELECT cost FROM spent").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()
