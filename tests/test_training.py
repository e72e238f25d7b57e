"""What the small models learn from: whose words, and in which phrasings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml
from transformers import LlamaForCausalLM

from envs.act_parser import reframed
from envs.acts import Act
from envs.chat_format import decode, encode_chat, train_tokenizer
from envs.education import knowledge as lessons
from envs.education import reading as lesson_reading
from envs.language_models import load_transformers
from envs.sales.catalogue import SELLER_ACTS
from envs.sales.knowledge import Knowledge
from envs.sales.language import seller_phrasebook
from envs.sales.reading import FACTS, doing, standing
from envs.sales.sellers import attentive
from envs.simulators.gate import LEARNERS
from envs.simulators.sft import IGNORED, Example, FactHeads, sft, small_config
from envs.simulators.train import FOLDER, agent_examples, own_words
from envs.simulators.worlds import Phase, material_of

ROOT = Path(__file__).parent.parent


def test_the_seller_learns_its_own_words_and_their_end_and_none_of_the_buyers():
    _, tokenizer = load_transformers(FOLDER / "sales_seller")
    chat = [
        {"role": "user", "content": "Hi, I need a bike."},
        {"role": "assistant", "content": "What do you need the bike for?"},
        {"role": "user", "content": "For riding to work."},
    ]
    ids = encode_chat(tokenizer, chat, add_generation_prompt=False)
    labels = own_words(tokenizer, ids)
    learnt = [token for token in labels if token != IGNORED]
    assert all(label in (IGNORED, token) for label, token in zip(labels, ids, strict=True))
    assert decode(tokenizer, [learnt]) == ["What do you need the bike for?"]
    assert learnt[-1] == tokenizer.eos_token_id


def test_what_was_told_and_what_goes_with_it_are_facts_at_the_turns_ends():
    _, tokenizer = load_transformers(FOLDER / "sales_seller")
    known = Knowledge(need="trail", budget="ample", worry="theft", fit="full")
    told = dict(zip(FACTS, (*standing(known), *doing(known, Act("pitch", "Ridge"))), strict=True))
    # Ridge is the basic bicycle for trails; an ample budget asks for the premium one.
    assert (told["need_match"], told["tier_match"], told["worry_match"]) == (1, 2, 0)
    assert doing(known, Act("reassure", "theft"))[1:] == (0, 0, 1)
    assert doing(known, Act("reassure", "upkeep"))[1:] == (0, 0, 2)
    assert doing(Knowledge(), Act("pitch", "Ridge"))[1:] == (0, 0, 0)

    examples = agent_examples(material_of("sales"), tokenizer, Phase("behaviour", 9, 7, 1, "cosine"), seed=0)
    agent, user = tokenizer.convert_tokens_to_ids(["<|agent|>", "<|user|>"])
    imitated = [any(label != IGNORED for label in one.labels) for one in examples]
    assert imitated == [True] * 9 + [False] * 7 + [True]
    for one in examples[:16]:
        assert [one.ids[place] for place in one.places] == [agent, user] * (len(one.places) // 2)
        assert all(
            0 <= value < size for values in one.facts[1::2] for value, size in zip(values, FACTS.values(), strict=True)
        )


def test_in_a_lesson_too_what_was_told_and_what_goes_with_it_are_facts():
    known = lessons.Knowledge(way="story", misconception="always")
    stands = dict(zip(lesson_reading.STANDING, lesson_reading.standing(known), strict=True))
    # Of ways story is the last of four, of misconceptions "always" the second; a student may know a little.
    told = {"way": 4, "misconception": 2, "reaction": 0, "prior": 0, "misled": 1, "least_grasp": 0, "most_grasp": 1}
    assert told.items() <= stands.items()

    def matches(act: Act, known: lessons.Knowledge = known) -> tuple[int, ...]:
        return lesson_reading.doing(known, act)[1:]

    assert matches(Act("explain", "story")) == (1, 0, 0)
    assert matches(Act("explain", "lecture")) == (2, 0, 0)
    assert matches(Act("analogy", "always")) == (0, 1, 0)
    assert matches(Act("analogy", "literal")) == (0, 2, 0)
    assert matches(Act("exercise")) == (0, 0, 2)
    assert matches(Act("explain", "story"), lessons.Knowledge()) == (0, 0, 0)
    asks, explains, follows = Act("ask_way"), Act("explain", "story"), Act("follows")
    heard = lessons.learn(lessons.begin(Act("open")), asks, (Act("tell_way", "story"),))
    assert lesson_reading.standing(heard)[0] == 4
    # A student that knew a little and holds a misconception would have doubted, so this one knew nothing.
    after = lessons.learn(heard, explains, (follows,))
    assert dict(zip(lesson_reading.STANDING, lesson_reading.standing(after), strict=True))["prior"] == 1


def test_a_trunk_learns_the_facts_and_the_model_keeps_no_heads():
    torch.manual_seed(0)
    config = small_config(20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model, heads = LlamaForCausalLM(config), FactHeads(16, [2, 3])
    rng = np.random.default_rng(0)
    examples = []
    for first in rng.integers(5, 7, 400):  # the first token decides the one fact; the other is never asked for
        ids = [int(first), *rng.integers(7, 20, 4).tolist()]
        examples.append(Example(ids, [IGNORED] * 5, [4], [[int(first) - 5, IGNORED]]))
    names = set(model.state_dict())
    sft(model, train_tokenizer(["a b"] * 9, 300), examples[:320], epochs=4, batch_size=8, heads=heads, progress=False)
    assert heads.accuracy(model, examples[320:])[0] > 0.95
    assert set(model.state_dict()) == names


def test_the_start_is_judged_at_the_temperature_that_every_learner_samples_at():
    learners = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "agent").glob("*.yaml")}
    sampling = {name: values["temperature"] for name, values in learners.items() if "temperature" in values}
    of_learners = {name: t for name, t in sampling.items() if name not in ("start_warm", "start_cool")}
    assert {"iterppo", "imitation", "start"} <= of_learners.keys()
    assert set(of_learners.values()) == {LEARNERS}


def test_no_frame_that_is_lent_to_an_act_is_one_of_its_own():
    book = seller_phrasebook()
    lent = reframed(book, SELLER_ACTS, np.random.default_rng(0), 30, {"price": ["$590"]})
    assert len(lent) > 200
    for example in lent:
        own = {*book.patterns(example.act), *book.patterns(example.act, held_out=True)}
        assert example.phrasing not in own


def test_the_attentive_seller_never_asks_to_buy():
    rng = np.random.default_rng(0)
    states = [Knowledge(), Knowledge(need="trail"), Knowledge(need="trail", fit="full", worry="theft")]
    said = {attentive(known, rng) for known in states for _ in range(100)}
    assert Act("close") not in said
    assert {Act("ask_need"), Act("pitch", "Ridge"), Act("pitch", "Summit"), Act("reassure", "theft")} <= said
