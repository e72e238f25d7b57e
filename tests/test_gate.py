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
from envs.simulators import gate
from envs.simulators.train import main, texts_for_tokenizer
from envs.simulators.worlds import Material, Phase, material_of, worlds
from envs.wording import Line, template_words

MATERIALS = [material_of(name) for name in worlds()]
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
    monkeypatch.setattr(gate, "voice_figures", lambda material, voicing, folder, scenarios: [good, bad])
    monkeypatch.setattr(gate, "agent_figures", lambda material, folder, scenarios: [good])
    for name in ("sales_voice", "sales_seller"):
        (tmp_path / name).mkdir()
    assert not gate.gate(SALES, tmp_path, 77)
    voice, seller = ((tmp_path / name / "README.md").read_text() for name in ("sales_voice", "sales_seller"))
    assert "| wit | 0.512 | >= 0.5 | yes |\n| charm | 0.250 | >= 0.5 | NO |" in voice
    assert "charm" not in seller and "Measured on 77 scenarios" in seller
    assert SALES.voicing.card in voice and SALES.agent_card in seller and SALES.limits in seller
    monkeypatch.setattr(gate, "voice_figures", lambda material, voicing, folder, scenarios: [good])
    assert gate.gate(SALES, tmp_path, 77)


def test_a_world_without_a_voice_has_its_start_measured_alone(monkeypatch, tmp_path):
    (tmp_path / "sales_seller").mkdir()
    good = gate.Figure("wit", 0.51234, ">= 0.5", True)
    monkeypatch.setattr(gate, "agent_figures", lambda material, folder, scenarios: [good])
    assert gate.gate(replace(SALES, voicing=None), tmp_path, 77)
    assert [path.parent.name for path in tmp_path.glob("*/README.md")] == ["sales_seller"]
    with pytest.raises(SystemExit):
        main(["twenty_questions", "--only", "voice", "--out", str(tmp_path)])


def test_shares_are_measured_from_the_worlds_floor_on(monkeypatch):
    monkeypatch.setattr("envs.language_models.TransformersModel", lambda folder, **_: None)
    earned = iter([-14.0, -17.0, -14.5, -12.8, -20.0])  # behaviour, then four temperatures
    monkeypatch.setattr(gate, "mean_reward", lambda *_: next(earned))
    figures = gate.agent_figures(replace(SALES, floor=-20.0), Path("nowhere"))
    assert [figure.value for figure in figures] == pytest.approx([3 / 6, 5.5 / 6, 7.2 / 6, 0.0])
    assert figures[1].passed


def test_a_tokenizer_without_a_voice_knows_what_both_sides_say():
    material = material_of("twenty_questions")
    texts = " ".join(texts_for_tokenizer(material, 400, np.random.default_rng(0)))
    assert all(words in texts for words in ("Is it a kite?", "I don't understand", "Aha, ", "my friend", " guess kite"))
    assert "wasn't listening" not in texts  # which training never shows


def test_a_share_of_a_phase_is_a_share_of_each_of_its_counts():
    assert Phase("sloppy", 100, 50, 8, "cosine").scaled(0.25) == Phase("sloppy", 25, 12, 2, "cosine")


def test_a_world_without_material_is_named():
    with pytest.raises(ValueError, match="world='chess' has no material"):
        material_of("chess")


@pytest.mark.parametrize("material", [one for one in MATERIALS if one.voicing], ids=lambda one: one.world)
def test_what_the_program_fills_in_is_never_the_voices_to_learn(material: Material):
    voicing, rng = material.voicing, np.random.default_rng(1)
    for _ in range(300):
        line = voicing.any_line(rng)
        for move in line.moves:
            alone = voicing.as_learnt(move, line)
            assert alone.moves == (move,) and alone.heard == line.heard
            assert [message["role"] for message in voicing.chat_of(move, line)] == ["system", "user"]
            words = voicing.template_words(alone, rng)
            assert not FILLED_IN[material.world](words, line), words


@pytest.mark.parametrize("material", MATERIALS, ids=lambda one: one.world)
class TestEveryWorld:
    def test_what_its_trainer_asks_for_is_there(self, material: Material):
        needed = {phase.rule for phase in material.phases} | {"random", "behaviour", "expert", "clumsy"}
        assert needed | set(material.voicing.compared if material.voicing else ()) <= set(material.rules)
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
