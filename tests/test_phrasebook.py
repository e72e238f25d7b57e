"""What the phrasebooks say, and how much of it there is."""

from __future__ import annotations

import re

import numpy as np
import pytest

from envs.acts import Act
from envs.phrasebook import Phrasebook
from envs.sales.catalogue import BUYER_ACTS, PRODUCTS, SELLER_ACTS, STYLES
from envs.sales.language import buyer_phrasebook, seller_phrasebook

SIDES = {"seller": (seller_phrasebook, SELLER_ACTS), "buyer": (buyer_phrasebook, BUYER_ACTS)}
PRICE = {"price": "$590"}
SMALL = """
# a comment
@thing = lock | bell |
@use.trail = on mountain trails
@use.commute = in the (busy|quiet) city
[greet]
hello (there|)
hello, have a {thing}
[tell_need]
I'd ride {use}
[buy]
I'll take it for {price}
[style chatty]
well, {}
[style curt buy]
{}, done
"""


@pytest.fixture(params=SIDES)
def side(request):
    load, acts = SIDES[request.param]
    return load(), acts


def small() -> Phrasebook:
    return Phrasebook.parse(SMALL)


def test_alternations_and_lists_are_spelled_out_and_tidied():
    expected = {"Hello there.", "Hello.", "Hello, have a lock.", "Hello, have a bell.", "Hello, have a."}
    assert small().utterances(Act("greet")) == expected


def test_a_keyed_list_follows_what_the_act_is_about():
    book = small()
    assert book.utterances(Act("tell_need", "trail")) == {"I'd ride on mountain trails."}
    assert book.count(Act("tell_need", "commute")) == 2
    assert book.keyed["in the busy city"] == ("use", "commute")


def test_a_value_that_is_missing_is_named():
    with pytest.raises(ValueError, match="price"):
        small().say(Act("buy"), np.random.default_rng(0))


def test_an_act_without_phrasings_is_named():
    with pytest.raises(ValueError, match="dance"):
        small().say(Act("dance"), np.random.default_rng(0))
    with pytest.raises(ValueError, match="held-out"):
        small().say(Act("greet"), np.random.default_rng(0), held_out=True)


@pytest.mark.parametrize("line", ["hello (there", "bike(s|)", "hello | there", "a {Name}", "e-bike", "hello {}"])
def test_a_malformed_line_is_refused_with_its_number(line):
    with pytest.raises(ValueError, match="line 2"):
        Phrasebook.parse(f"[greet]\n{line}")


def test_a_pattern_twice_in_a_section_is_refused():
    with pytest.raises(ValueError, match="twice"):
        Phrasebook.parse("[greet]\nhello\nhello")


def test_the_wrapper_of_a_style_is_used_only_where_it_fits():
    book = small()
    rng = np.random.default_rng(0)
    said = {book.say(Act("tell_need", "trail"), rng, style="chatty") for _ in range(50)}
    assert said == {"I'd ride on mountain trails.", "Well, I'd ride on mountain trails."}
    assert "Hello." in {book.say(Act("greet"), rng, style="curt") for _ in range(50)}
    assert "I'll take it for $590, done." in {book.say(Act("buy"), rng, style="curt", values=PRICE) for _ in range(50)}


def test_equal_generators_say_equal_things(side):
    book, acts = side
    said = [
        [book.say(act, np.random.default_rng(seed), style="chatty", values=PRICE) for act in acts for seed in range(5)]
        for _ in range(2)
    ]
    assert said[0] == said[1]


def test_every_utterance_is_one_short_sentence(side):
    book, acts = side
    rng = np.random.default_rng(1)
    for act in acts:
        for number in range(120):
            style = STYLES[number % len(STYLES)]
            text = book.say(act, rng, style=style, held_out=number % 5 == 0, values=PRICE)
            assert re.fullmatch(r"[A-Z][A-Za-z$0-9', ]*[a-z0-9][.?!]", text), text
            assert not re.search(r"  | ,|,,|, [.?!]|\b(\w+) \1\b(?<!bye bye)", text), text
            assert len(text.split()) <= 15, text


def test_utterances_are_of_one_act_only(side):
    book, acts = side
    said: set[str] = set()
    for act in acts:
        texts = book.utterances(act) | book.utterances(act, held_out=True)
        assert not said & texts, (act, said & texts)
        said |= texts


def test_there_is_enough_to_say(side):
    book, acts = side
    assert sum(book.count(act) for act in acts) >= 10_000
    assert len(book.vocabulary()) >= 700
    assert all(len(book.patterns(act)) + len(book.patterns(act, held_out=True)) >= 15 for act in acts)


def test_both_sides_together_have_a_thousand_words():
    assert len(seller_phrasebook().vocabulary() | buyer_phrasebook().vocabulary()) >= 1_000


def test_some_fifteen_percent_of_the_patterns_are_held_out_and_never_said(side):
    book, acts = side
    patterns = [pattern for section in book.sections.values() for pattern in section]
    assert 0.1 < np.mean([pattern.held_out for pattern in patterns]) < 0.2
    rng = np.random.default_rng(2)
    for act in acts:
        kept_back = book.utterances(act, held_out=True) - book.utterances(act)
        assert kept_back
        assert not kept_back & {book.say(act, rng, values={"price": "{price}"}) for _ in range(100)}


def test_what_is_held_out_does_not_depend_on_the_order_of_lines():
    lines = [f"hello {name}" for name in ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gil")]
    orders = [Phrasebook.parse("\n".join(["[greet]", *order])) for order in (lines, lines[::-1])]
    assert orders[0].patterns(Act("greet"), True) == orders[1].patterns(Act("greet"), True) != ()


def test_a_frame_that_two_acts_share_is_held_out_of_each_by_itself():
    frames = [f"{word}, {{say}}" for word in ("well", "look", "see", "oh", "ah", "hm", "so", "now", "yes", "no")]
    lists = ["@say.greet = hello", "@say.close = deal"]
    book = Phrasebook.parse("\n".join([*lists, "[greet]", *frames, "[close]", *frames]))
    assert set(book.patterns(Act("greet"), True)) != set(book.patterns(Act("close"), True))


def test_an_act_can_be_said_in_the_frame_of_another():
    rng = np.random.default_rng(0)
    said = seller_phrasebook().say_frame(Act("close"), "please remember that {say}, {ask}", rng)
    assert said is None  # closing has no {say}
    said = seller_phrasebook().say_frame(Act("greet"), "please remember that {ask}?", rng)
    assert said is not None
    assert said.removeprefix("Please remember that ").rstrip("?") + "?" in {
        text[0].lower() + text[1:] for text in seller_phrasebook().utterances(Act("greet"))
    } | {said.removeprefix("Please remember that ")}


def test_the_book_contains_what_it_says_and_nothing_else(side):
    book, acts = side
    rng = np.random.default_rng(3)
    for act in acts:
        for number in range(12):
            style = STYLES[number % len(STYLES)]
            text = book.say(act, rng, style=style, held_out=number % 3 == 0, values=PRICE)
            assert book.contains(act, text), text
            assert not book.contains(act, text.lower()), text
            assert not book.contains(act, text[:-1]), text
            assert not book.contains(act, f"{text} {text}"), text
    assert not book.contains(acts[0], "")


def test_a_pitch_names_its_product_and_no_other_price():
    book = seller_phrasebook()
    for product in PRODUCTS.values():
        texts = book.utterances(Act("pitch", product.name))
        assert all(product.name in text for text in texts)
        assert {price for text in texts for price in re.findall(r"\$\d+", text)} == {f"${product.price}"}


def test_a_purchase_may_name_the_price_and_may_not():
    said = {buyer_phrasebook().say(Act("buy"), np.random.default_rng(seed), values=PRICE) for seed in range(40)}
    assert {"$590" in text for text in said} == {True, False}


def test_a_curt_buyer_says_less():
    book, rng = buyer_phrasebook(), np.random.default_rng(4)
    lengths = {
        style: np.mean(
            [len(book.say(act, rng, style=style, values=PRICE).split()) for act in BUYER_ACTS for _ in range(40)]
        )
        for style in STYLES
    }
    assert lengths["curt"] < lengths["plain"] < lengths["chatty"]
