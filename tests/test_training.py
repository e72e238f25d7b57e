"""What the small models learn from: whose words, and in which phrasings."""

from __future__ import annotations

import numpy as np

from envs.act_parser import reframed
from envs.chat_format import decode, encode_chat
from envs.language_models import load_transformers
from envs.sales.catalogue import SELLER_ACTS, Act
from envs.sales.knowledge import Knowledge
from envs.sales.language import seller_phrasebook
from envs.sales.sellers import attentive
from envs.simulators.sft import IGNORED
from envs.simulators.train import FOLDER, own_words


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
