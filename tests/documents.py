"""Markdown files as their readers use them: sections, files that they give, commands, links and anchors."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def section(document: str, title: str) -> str:
    """The text under a heading of the second level, up to the next of its level."""
    return re.split(r"^## ", document.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def files(text: str) -> dict[str, str]:
    """Path → content of the files that a text gives: a path in backticks and a colon, then a block."""
    return dict(re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The lines of a text's shell blocks, as words."""
    shell = [block.replace("\\\n", " ") for language, block in blocks(text) if language == "sh"]
    lines = [line for block in shell for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def write(given: dict[str, str], folder: Path) -> None:
    """The files of a text, in ``folder``, as a reader has them."""
    for path, content in given.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")


def do(words: list[str], folder: Path) -> str:
    """Run a command of a document in ``folder``; returns what it prints."""
    assert words[0] == "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def prose(text: str) -> str:
    """A document without its fenced blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """What links to a document's headings may say after the #, as GitHub makes it of them."""
    found: dict[str, int] = {}
    made = set()
    fenced = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.*?)\s*$", fenced, flags=re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        made.add(anchor if not (n := found.get(anchor, 0)) else f"{anchor}-{n}")
        found[anchor] = n + 1
    return made


def links(text: str) -> list[str]:
    """Where a document's links lead that stay within the project."""
    found = re.findall(r"(?<!\\)\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", prose(text))
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def explained() -> set[str]:
    """The names in the tables of docs/metrics.md."""
    rows = re.findall(r"^\| (`[^|]*) \|", (ROOT / "docs/metrics.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}
