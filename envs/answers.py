"""Answers of language models on disk: what was asked once is not paid for again.

One SQLite file, which many processes may share. A failed answer is never kept.
"""

from __future__ import annotations

import sqlite3
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
    """A file of answers by key. Raises ``OSError`` where the file can't be made or is none of these."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        try:
            self._connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text TEXT NOT NULL, tokens INTEGER NOT NULL)"
            )
            self._connection.execute("CREATE TABLE IF NOT EXISTS payments (cost REAL NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise OSError(f"{self.path} can't be used as a cache of answers ({error}); name another file.") from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def get(self, key: str) -> Answer | None:
        with self._lock:
            row = self._connection.execute("SELECT text, tokens FROM answers WHERE key = ?", (key,)).fetchone()
        return Answer(*row) if row else None

    def put(self, key: str, answer: Answer) -> None:
        """Keep ``answer``; one that is there already stays."""
        with self._lock, self._connection:
            self._connection.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", (key, answer.text, answer.tokens)
            )

    def pay(self, cost: float) -> None:
        """Note that ``cost`` dollars were spent."""
        with self._lock, self._connection:
            self._connection.execute("INSERT INTO payments VALUES (?)", (cost,))

    def cost(self) -> float:
        """Dollars spent so far by all who share the file."""
        with self._lock:
            return float(self._connection.execute("SELECT COALESCE(SUM(cost), 0) FROM payments").fetchone()[0])
