"""A person in either seat, at a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envs.trajectory import read_jsonl

ROOT = Path(__file__).parent.parent


def at_a_terminal(lines: list[str], *words: str) -> tuple[int, str]:
    """Type ``lines``, each when asked for it; the exit status, and all that the screen showed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "benchmarks.play", "user=program", "scenario=3", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    screen, typed, deadline = b"", 0, time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other side has closed
            break
        if not part:
            break
        screen += part
        if screen.endswith(b"You:  ") and typed < len(lines):
            os.write(ours, lines[typed].encode() + b"\n")
            typed += 1
    os.close(ours)
    return process.wait(30), screen.decode(errors="replace")


def test_a_person_sells_and_the_transcript_is_kept(tmp_path: Path):
    lines = ["Hello there!", "", "You should try our Ridge, just right for rocky singletrack.", "Goodbye for now."]
    status, screen = at_a_terminal(lines, "env=sales", f"folder={tmp_path}")
    assert status == 0 and "You sell bicycles." in screen and "Say what you want to say" in screen
    assert "It ended (agent_left): the agent earned 0.00. The user was: need cargo" in screen
    (path,) = (tmp_path / "sales" / "agent").glob("*.jsonl")
    (kept,) = read_jsonl(path)
    assert [step.utterance.text for step in kept.steps] == [line for line in lines if line]
    assert all(step.reply in screen for step in kept.steps if step.reply)


@pytest.mark.parametrize(("env", "brief"), [("sales", "You want a bicycle for"), ("education", "You have come for a")])
def test_a_person_sits_in_the_users_seat_against_any_agent(tmp_path: Path, env: str, brief: str):
    words = [f"env={env}", "seat=user", "agent=expert", f"folder={tmp_path}"]
    status, screen = at_a_terminal(["Hm, let me think."] * 9, *words)
    assert status == 0 and brief in screen and "It ended (" in screen
    (path,) = (tmp_path / env / "user").glob("*.jsonl")
    (kept,) = read_jsonl(path)
    assert kept.judged and {step.reply for step in kept.steps if step.reply} == {"Hm, let me think."}
    assert all(step.utterance.text in screen for step in kept.steps)


def test_a_conversation_that_was_left_is_not_kept(tmp_path: Path):
    status, screen = at_a_terminal(["Hello there!", "/quit"], "env=sales", f"folder={tmp_path}")
    assert status == 0 and "not kept" in screen and not list(tmp_path.rglob("*.jsonl"))


def test_whom_the_person_replaces_need_not_be_there(tmp_path: Path):
    """``agent=start``, the default, can't be had where there is no model to start from."""
    status, screen = at_a_terminal(["/quit"], "user=null", "env=cycle", f"folder={tmp_path}")
    assert status == 0 and "They: Game 1 begins." in screen


def test_nobody_talks_before_it_is_known_that_the_transcript_can_be_kept(tmp_path: Path):
    (tmp_path / "file").touch()
    status, screen = at_a_terminal([], "env=sales", f"folder={tmp_path / 'file'}")
    assert status == 1 and "can't be written" in screen and f"folder={tmp_path / 'file'} can't" in screen


def test_a_learner_that_has_not_learnt_is_not_seated(tmp_path: Path):
    status, screen = at_a_terminal([], "env=sales", "seat=user", "agent=iterppo", f"folder={tmp_path}")
    assert status == 1 and "agent=iterppo has not learnt anything here" in screen


def test_a_seat_that_is_none_is_named(tmp_path: Path):
    status, screen = at_a_terminal([], "env=sales", "seat=judge", f"folder={tmp_path}")
    assert status == 1 and "seat=judge is no seat; choose agent or user." in screen
