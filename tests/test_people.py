"""Models that play people altogether: that they are trained, hardened and measured as the command says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.conversation import Turn
from envs.sales.env import make_sales
from envs.sales.moments import closes, moments, seller_tongue, taught
from envs.simulators import people
from envs.simulators.worlds import Figure, Taught, people_of
from envs.trajectory import Step, Trajectory, Utterance, write_jsonl

SALES = people_of("sales")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A world whose people learn from next to nothing; what was said to them is noted in the list."""
    heard: list[list[str]] = []

    def few(n: int, said: Sequence[str], rng: np.random.Generator) -> list[Taught]:
        heard.append(list(said))
        tongue = seller_tongue(said, nonsense=20)
        return [taught(one, rng) for one in moments(12, tongue, rng)] + closes(4, tongue, rng)

    tiny = replace(SALES, moments=few, person_moments=24, naive_conversations=6, compared=("random", "behaviour"))
    monkeypatch.setattr(people, "people_of", lambda world: tiny)
    monkeypatch.setattr(people, "SIZE", {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 48})
    monkeypatch.setattr(people, "parallel", lambda function, parts: [function(*part) for part in parts])
    return heard


def trajectories(path: Path, *texts: str) -> Path:
    steps = tuple(Step(Utterance(text), "Mhm.", 0.0) for text in texts)
    write_jsonl(path, [Trajectory(0, "", (Turn("user", "Hi."),), steps, False, "exchange_limit", False, True)])
    return path


def test_people_are_trained_hardened_and_play(small, tmp_path: Path):
    people.main(["sales", "--only", "person", "--out", str(tmp_path)])
    people.main(["sales", "--only", "naive", "--out", str(tmp_path)])
    assert not (tmp_path / "sales_person/said.txt").exists() and small == [[], []]
    before = (tmp_path / "sales_person/model.safetensors").read_bytes()
    said = trajectories(tmp_path / "a.jsonl", "Would you  like to\nbuy it?", "Wow wow.", "")
    people.main(["sales", "--only", "person", "--on", "--said", str(said), "--out", str(tmp_path)])
    assert (tmp_path / "sales_person/said.txt").read_text() == "Would you like to buy it?\nWow wow.\n"
    assert small[2:] == [["Would you like to buy it?", "Wow wow."]] * 2
    assert (tmp_path / "sales_person/model.safetensors").read_bytes() != before
    more = trajectories(tmp_path / "b.jsonl", "Anew.")
    people.main(["sales", "--only", "person", "--on", "--said", str(more), "--out", str(tmp_path)])
    assert (tmp_path / "sales_person/said.txt").read_text().splitlines() == [
        "Anew.",
        "Would you like to buy it?",
        "Wow wow.",
    ]
    for user in (SALES.person(tmp_path / "sales_person"), SALES.naive(tmp_path / "sales_naive_person")):
        env = make_sales(user)
        after = env.advance([env.begin(seed) for seed in range(5)], ["Hello."] * 5)
        assert all(one.failure is None and len(one.episode.turns) == 3 for one in after)


def test_the_gate_fails_who_fails_a_probe_and_writes_the_card(small, monkeypatch, tmp_path: Path, capsys):
    people.main(["sales", "--only", "person", "--out", str(tmp_path)])
    people.main(["sales", "--only", "naive", "--out", str(tmp_path)])
    good, bad = Figure("wit", 0.1, "< 0.2", True), Figure("charm", 0.3, "< 0.2", False)
    for figures, passes in (([good], True), ([good, bad], False)):
        tiny = replace(people.people_of("sales"), probes=lambda person, said, each, f=figures: list(f))
        monkeypatch.setattr(people, "people_of", lambda world, tiny=tiny: tiny)
        earned = iter([0.1, 0.1, 0.4, 0.38] * 2)
        monkeypatch.setattr(people, "mean_reward", lambda *_, earned=earned: next(earned))
        words = ["sales", "--only", "gate", "--out", str(tmp_path), "--scenarios", "7"]
        if passes:
            people.main(words)
        else:
            with pytest.raises(SystemExit, match="fails its gate"):
                people.main(words)
        card = (tmp_path / "sales_person/README.md").read_text()
        assert "| wit | 0.100 | < 0.2 | yes |" in card and ("| charm | 0.300 | < 0.2 | NO |" in card) != passes
        assert "behaviour: reward on the model - program (0.400 - 0.380) | 0.020" in card
        assert "the policies are in the program's order | 1.000" in card and SALES.person_card in card
        assert "python -m envs.simulators.people sales" in card
        naive = (tmp_path / "sales_naive_person/README.md").read_text()
        assert "for the record" in naive and "charm" not in naive and SALES.naive_card in naive


def test_an_order_that_differs_fails(small, monkeypatch, tmp_path: Path):
    earned = iter([0.3, 0.1, 0.2, 0.16])
    monkeypatch.setattr(people, "mean_reward", lambda *_: next(earned))
    tiny = replace(people.people_of("sales"), probes=lambda *_: [])
    found = people.figures(people.material_of("sales"), tiny, None, [], 1, 1)
    assert [figure.passed for figure in found] == [False, True, False]
    assert found[0].value == pytest.approx(0.2) and found[-1].value == 0.0


def test_what_trained_agents_said_is_probed_beside_the_phrasebook(small, monkeypatch):
    asked: list[object] = []

    def probes(person, said, each):
        asked.append(said)
        return [Figure("wit", 0.1, "< 0.2", True)]

    monkeypatch.setattr(people, "mean_reward", lambda *_: 0.5)
    tiny = replace(people.people_of("sales"), probes=probes)
    found = people.figures(people.material_of("sales"), tiny, None, ["Anew."], 1, 1)
    assert asked == [None, ["Anew."]] and found[1].name == "said by trained agents: wit"


def test_a_world_without_people_is_named():
    with pytest.raises(ValueError, match="world='chess' has no people"):
        people_of("chess")
