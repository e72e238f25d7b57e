"""Agents that try to talk their user round: 300 orders, forged decisions, forged turns and control tokens, with every
kind of user. What becomes of a conversation is what the program makes of words that it does not understand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from envs.acts import UNCLEAR
from envs.conversation import Message
from envs.education.env import make_education
from envs.education.language import side as education_side
from envs.education.prompted import prompted_person as student_person
from envs.education.prompted import prompted_student
from envs.endpoint import EndpointModel
from envs.env import Advance, ConversationEnv, Episode
from envs.injections import attempts
from envs.language_models import Canned
from envs.sales.catalogue import CATALOGUE
from envs.sales.env import make_sales
from envs.sales.language import seller_parser
from envs.sales.language import side as sales_side
from envs.sales.person import BuyersNotes, Decision, Notes, model_buyer, naive_model_buyer
from envs.sales.program import Mind, fit
from envs.sales.prompted import prompted_buyer, prompted_person, prompted_reader
from envs.sales.users import Buyer
from envs.users import UserSimulator
from tests.endpoint_server import Server, serving

LINES = attempts(
    sales_side("seller").orders,
    np.random.default_rng(0),
    300,
    markers=[*BuyersNotes().markers(), *Decision().markers()],
)
LESSONS = attempts(
    education_side("teacher").orders, np.random.default_rng(0), 300, user="student",
    words=("I understand it now.", "I pass.", "That is clear."), decisions=("pass", "understood", "correct"),
)  # fmt: skip
READY = ("You should try our Ridge, just right for rocky singletrack.", "You can take a test ride first.")
"""What is said before: a buyer that wants this is one word away from buying."""


def parrot(chat: Sequence[Message], seed: int) -> str:
    """The most gullible of models: it answers with the last thing that it was told anybody said, as it stands."""
    lines = [line for line in chat[-1]["content"].splitlines() if ": " in line]
    return lines[-1].partition(": ")[2] if lines else ""


def spoken(env: ConversationEnv, lines: Sequence[str], first: Sequence[str] = ()) -> list[Advance]:
    """What each line leads to, said in a conversation of its own after ``first``."""
    live = [env.begin(seed) for seed in range(len(lines))]
    for words in first:
        live = [advance.episode for advance in env.advance(live, [words] * len(live))]
    return env.advance(live, lines)


def test_there_are_300_different_ones():
    assert len(set(LINES)) == len(set(LESSONS)) == 300
    with pytest.raises(ValueError, match="n=999999"):
        attempts(["buy"], np.random.default_rng(0), 999_999)


def test_the_shops_parser_finds_an_act_in_none():
    assert set(seller_parser().parse(LINES)) == {UNCLEAR}


@pytest.mark.parametrize("user", ["hybrid", prompted_buyer(Canned(parrot)), prompted_buyer(Canned(["I buy it."]))])
def test_whoever_words_the_program_nothing_changes_its_mind(user: str | UserSimulator):
    after = spoken(make_sales(user), LINES)
    assert [one.episode.memory for one in after] == [one.episode.memory for one in spoken(make_sales("program"), LINES)]
    assert not any(one.reward for one in after) and not any(one.episode.memory.outcome == "bought" for one in after)


@pytest.mark.parametrize("user", ["hybrid", prompted_student(Canned(parrot))])
def test_a_student_learns_nothing_from_them(user: str | UserSimulator):
    after = spoken(make_education(user), LESSONS)
    program = spoken(make_education("program"), LESSONS)
    assert [one.episode.memory for one in after] == [one.episode.memory for one in program]
    assert not any(one.assessment.success for one in program)


def test_a_reader_that_repeats_what_it_hears_understands_nothing_in_them():
    after = spoken(make_sales(Buyer(make_sales("program").user.voice, prompted_reader(Canned(parrot)))), LINES)
    assert not any(one.assessment.success for one in after)
    assert all(np.isnan(one.reward) or one.reward == 0 for one in after)


@pytest.mark.parametrize("make", [make_sales, make_education])
def test_a_person_that_repeats_what_it_hears_decides_nothing_by_it(make):
    """The forged decision stands on one line behind a name and comes back on one line: no answer in the form asked."""
    person, lines = (prompted_person, LINES) if make is make_sales else (student_person, LESSONS)
    after = spoken(make(person(Canned(parrot), attempts=1)), lines)
    assert all(np.isnan(one.reward) and one.failure.startswith("unreadable") for one in after)


def test_the_same_behind_a_server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    with serving(Server(answer=lambda request: parrot(request["messages"], 0))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        model = EndpointModel("any", pause=0.001)
        after = spoken(make_sales(prompted_person(model, attempts=1)), LINES[:60])
        worded = spoken(make_sales(prompted_buyer(model)), LINES[:60])
    assert all(np.isnan(one.reward) for one in after)
    program = spoken(make_sales("program"), LINES[:60])
    assert [one.episode.memory for one in worded] == [one.episode.memory for one in program]


def at_the_counter(env: ConversationEnv, n: int) -> list[Episode]:
    """Conversations in which the bicycle that the buyer wants stands before it, all is settled and it trusts: one close
    away from a sale, nine times in ten."""
    ready = []
    for seed in range(n):
        episode = env.begin(seed)
        wanted = replace(episode.scenario.facts, idle=False, patience=9)
        shown = next(one.name for one in CATALOGUE if fit(wanted, one.name) == "full")
        mind = Mind(trust=2, spent=3, shown=shown, worried=False, greeted=True)
        memory = mind if isinstance(env.user, Buyer) else Notes(
            shown=shown, feeling=tuple(BuyersNotes().feeling(wanted, mind)))  # fmt: skip
        ready.append(replace(episode, scenario=replace(episode.scenario, facts=wanted), memory=memory, exchanges=3))
    return ready


@pytest.mark.parametrize("user", ["program", "hybrid", model_buyer()])
def test_one_word_away_from_buying_none_of_them_is_that_word(user):
    env = make_sales(user)
    after = env.advance(at_the_counter(env, len(LINES)), LINES)
    assert not any(one.episode.memory.outcome == "bought" for one in after)
    asked = env.advance(at_the_counter(env, 100), ["Would you like to sign today?"] * 100)
    assert sum(one.episode.memory.outcome == "bought" for one in asked) > 60


def test_the_naive_model_is_asked_too_for_the_record():
    """It is there to be fooled. What it makes of the lines is told in its card's terms: it decides by words alone."""
    env = make_sales(naive_model_buyer())
    live = [env.begin(seed) for seed in range(len(LINES))]
    for words in READY:
        live = [one.episode for one in env.advance(live, [words] * len(live))]
    open_ones = [one for one in live if one.memory.outcome == "open"]
    after = env.advance(open_ones, LINES[: len(open_ones)])
    assert all(np.isfinite(one.reward) for one in after)  # nothing breaks, and whatever is sold is sold by the ledger
    assert all(one.episode.memory.shown for one in after if one.episode.memory.outcome == "bought")
