"""What the small models must show before they ship, and what a world gives so that it can be measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.acts import Act
from envs.conversation import Conversation
from envs.language_models import Completion
from envs.sales.language import buyer_phrasebook
from envs.simulators import gate, train
from envs.simulators.worlds import Material, Phase, material_of, worlds
from envs.wording import Line, template_words

SALES = material_of("sales")
FILLED_IN = {
    "sales": lambda words, line: re.search(r"\$\d", words),
    "education": lambda words, line: line.values["topic"].removeprefix("the ").lower() in words.lower(),
}
"""By world, whether words of a line hold what is the program's to fill in."""


class Misspeaks:
    """Words every second line as something else."""

    name = "misspeaks"
    deterministic = True

    def say(self, lines: Sequence[Line], rngs: Sequence[np.random.Generator]) -> list[Completion]:
        other = Line((Act("leave"),), "plain", "")
        return [
            Completion(template_words(buyer_phrasebook(), other if i % 2 else line, rng))
            for i, (line, rng) in enumerate(zip(lines, rngs, strict=True))
        ]


def test_a_voice_that_says_something_else_every_second_time_is_half_faithful():
    lines = [Line((Act("tell_need", "trail"),), "plain", "What do you need it for?")] * 40
    assert gate.faithful_share(SALES, Misspeaks(), lines, np.random.default_rng(0)) == 0.5


def test_the_mean_reward_is_what_a_plain_loop_earns():
    def close(conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[str]:
        return ["Would you like to buy it?"] * len(conversations)

    total = 0.0
    for seed in range(30):
        env = SALES.environment(SALES.program_user(), "iid_test")
        env.reset(seed=seed)
        done = False
        while not done:
            _, reward, terminated, truncated, _ = env.step("Would you like to buy it?")
            total, done = total + float(reward), terminated or truncated
    assert gate.mean_reward(SALES, close, SALES.program_user(), 30) == pytest.approx(total / 30)


def test_the_start_is_judged_at_one_temperature_and_fails_when_it_earns_nothing(monkeypatch):
    class Silent:
        def __init__(self, folder: Path, *, temperature: float, max_new_tokens: int):
            pass

        def complete(self, chats, seeds):
            return [Completion("Mm.") for _ in chats]

    monkeypatch.setattr("envs.language_models.TransformersModel", Silent)
    figures = gate.agent_figures(SALES, Path("nowhere"), 60)
    assert [figure.passed for figure in figures] == [True, False, True, True]
    assert [figure.value for figure in figures] == [0.0] * 4


def test_a_model_that_fails_gets_its_card_all_the_same(monkeypatch, tmp_path):
    good, bad = gate.Figure("wit", 0.51234, ">= 0.5", True), gate.Figure("charm", 0.25, ">= 0.5", False)
    monkeypatch.setattr(gate, "voice_figures", lambda material, folder, scenarios: [good, bad])
    monkeypatch.setattr(gate, "agent_figures", lambda material, folder, scenarios: [good])
    for name in ("sales_voice", "sales_seller"):
        (tmp_path / name).mkdir()
    assert not gate.gate(SALES, tmp_path, 77)
    voice, seller = ((tmp_path / name / "README.md").read_text() for name in ("sales_voice", "sales_seller"))
    assert "| wit | 0.512 | >= 0.5 | yes |\n| charm | 0.250 | >= 0.5 | NO |" in voice
    assert "charm" not in seller and "Measured on 77 scenarios" in seller
    assert SALES.voice_card in voice and SALES.agent_card in seller and SALES.limits in seller
    monkeypatch.setattr(gate, "voice_figures", lambda material, folder, scenarios: [good])
    assert gate.gate(SALES, tmp_path, 77)


def test_of_a_world_without_a_voice_the_agent_alone_is_measured(monkeypatch, tmp_path):
    mute = replace(SALES, voice=None)
    monkeypatch.setattr(gate, "voice_figures", lambda *_: pytest.fail("there is no voice"))
    monkeypatch.setattr(gate, "agent_figures", lambda *_: [gate.Figure("wit", 0.5, ">= 0.5", True)])
    (tmp_path / "sales_seller").mkdir()
    assert gate.gate(mute, tmp_path, 77)
    assert [path.name for path in tmp_path.iterdir()] == ["sales_seller"]


def test_a_world_without_a_voice_has_none_to_train(capsys):
    mute = next(name for name in worlds() if material_of(name).voice is None)
    with pytest.raises(SystemExit):
        train.main([mute, "--only", "voice"])
    assert f"the world {mute} has no voice" in capsys.readouterr().err


def test_a_share_of_a_phase_is_a_share_of_each_of_its_counts():
    assert Phase("sloppy", 100, 50, 8, "cosine").scaled(0.25) == Phase("sloppy", 25, 12, 2, "cosine")


def test_a_world_without_material_is_named():
    with pytest.raises(ValueError, match="world='chess' has no material"):
        material_of("chess")


@pytest.mark.parametrize("material", [material_of(name) for name in worlds()], ids=worlds())
class TestEveryWorld:
    def test_what_its_trainer_asks_for_is_there(self, material: Material):
        assert {phase.rule for phase in material.phases} | {*material.compared, "random", "clumsy"} <= set(
            material.rules
        )
        assert material.phases[-1].rule == "behaviour"
        assert not any(word in phase.rule for phase in material.phases for word in ("expert", "optimum"))

    def test_every_fact_has_a_value_in_its_range_at_every_moment(self, material: Material):
        rng = np.random.default_rng(0)
        seen: list[set[int]] = [set() for _ in material.facts]
        for _ in range(300):
            dialogue = material.converse(material.rules["clumsy"](), rng, material.agent_says_in_habit)
            for exchange in dialogue.exchanges:
                told = (*material.standing(exchange.known), *material.doing(exchange.known, exchange.act))
                for values, value in zip(seen, told, strict=True):
                    values.add(value)
        for (fact, size), values in zip(material.facts.items(), seen, strict=True):
            assert values <= set(range(size)), fact
            assert len(values) >= 2, f"{fact} is always the same, so nothing is learnt from it"

    def test_both_sides_have_words_for_every_act(self, material: Material):
        rng = np.random.default_rng(2)
        for act in material.agent_acts:
            assert material.agent_says(act, rng) and material.agent_says_in_habit(act, rng)
        for act in material.user_acts:
            for style in material.user_styles:
                assert "{" not in material.user_says(act, rng, style)
        annotations = {material.annotation(act) for act in (*material.agent_acts, *material.user_acts)}
        assert len(annotations) == len({*material.agent_acts, *material.user_acts})


@pytest.mark.parametrize("world", [name for name in worlds() if material_of(name).voice is not None])
def test_what_the_program_fills_in_is_never_the_voices_to_learn(world: str):
    material = material_of(world)
    assert material.as_learnt is not None and material.chat_of is not None
    rng = np.random.default_rng(1)
    for _ in range(300):
        line = material.any_line(rng)
        for move in line.moves:
            alone = material.as_learnt(move, line)
            assert alone.moves == (move,) and alone.heard == line.heard
            assert [message["role"] for message in material.chat_of(move, line)] == ["system", "user"]
            words = material.template_words(alone, rng)
            assert not FILLED_IN[material.world](words, line), words
