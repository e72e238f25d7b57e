"""Users that are small language models altogether: what they write to themselves, what the ledger makes of it, and what
they are taught and probed with. The models here are untrained, or a function that stands for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.acts import Act
from envs.chat_format import train_tokenizer
from envs.checks import check_conversation_env
from envs.decoding import small_model
from envs.language_models import Completion
from envs.learnt_person import LearntPerson, prompt_of
from envs.sales import people as sales_people
from envs.sales import program
from envs.sales.env import SalesEnv, make_sales
from envs.sales.judging import SaleTurns
from envs.sales.language import seller_parser
from envs.sales.moments import closes, logged, moments, seller_tongue, taught
from envs.sales.people import probes
from envs.sales.person import BuyersNotes, Decision, Notes
from envs.sales.program import Mind, Profile
from envs.sales.users import SellerParser
from envs.simulators.people import example
from envs.simulators.sft import IGNORED, _weighted_cross_entropy
from envs.simulators.tongue import Tongue

NOTES, DECISION = BuyersNotes(), Decision()
WORDS = ["You should try our Ridge, just right for rocky singletrack.", "I buy it for $PRICE, thank you.", "Hello."] * 5
PITCH, MARKDOWN, ASKS = WORDS[0], "I can give you a friendly markdown.", "Would you like to sign today?"
PROFILE = Profile("trail", "tight", "theft", 7, "plain")


@pytest.fixture(scope="module", params=[NOTES, DECISION], ids=["model", "naive_model"])
def untrained(request, tmp_path_factory) -> LearntPerson:
    """An untrained model with the markers of a channel."""
    tokenizer = train_tokenizer(WORDS, 600, keep_system=True, markers=request.param.markers())
    folder = tmp_path_factory.mktemp("person")
    small_model(tokenizer, hidden_size=32, intermediate_size=48, layers=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return LearntPerson("model", folder, request.param, SellerParser(), max_new_tokens=6)


class Plays(LearntPerson):
    """Writes and says what it is given."""

    def __init__(self, channel, *lines: tuple[dict[int, str], str]):
        super().__init__("model", "nowhere", channel, SellerParser())
        self.lines = list(lines)

    def answer(self, heard, rngs):
        changes, words = self.lines.pop(0)
        written = [slot[0] for slot in self.channel.slots]
        for slot, marker in changes.items():
            written[slot] = marker
        return [(tuple(written), Completion(words, 3)) for _ in heard]


def played(channel, *lines: tuple[dict[int, str], str], said: Sequence[str] = (PITCH, MARKDOWN, ASKS)):
    env = make_sales(Plays(channel, *lines), split="iid_test")
    env.reset(seed=3)
    for text in said:
        _, reward, terminated, truncated, _ = env.step(text)
        if terminated or truncated:
            break
    return env.episode, reward


# ---- the private channel --------------------------------------------------------------------------------------------


def test_before_each_reply_one_marker_per_slot_is_written_and_no_word_of_it_is_heard(untrained):
    env = SalesEnv(untrained)
    live = [env.begin(seed) for seed in range(40)]
    for _ in range(2):
        live = [one.episode for one in env.advance(live, ["Hello."] * len(live)) if not one.done]
    assert live
    markers = untrained.channel.markers()
    for episode in live:
        heard = str(episode.heard_by("agent"))
        assert "<|" not in heard and not any(marker in heard for marker in markers)
    written = untrained.answer([(untrained.channel.told(one), untrained.channel.chat(one)) for one in live],
                               [np.random.default_rng(i) for i in range(len(live))])  # fmt: skip
    for notes, words in written:
        assert len(notes) == len(untrained.channel.slots) and words.tokens >= len(notes) + 1
        assert all(note in slot for note, slot in zip(notes, untrained.channel.slots, strict=True))


def test_a_batch_gives_what_one_by_one_gives(untrained):
    env = SalesEnv(untrained)
    episodes = [env.begin(seed) for seed in range(12)]
    texts = [PITCH, "Hello.", "Bye now."] * 4
    together = env.advance(episodes, texts)
    alone = [env.advance([episode], [text])[0] for episode, text in zip(episodes, texts, strict=True)]
    assert [one.episode.memory for one in together] == [one.episode.memory for one in alone]
    assert [one.episode.turns for one in together] == [one.episode.turns for one in alone]


def test_no_text_spells_a_marker(untrained):
    _, tokenizer = untrained.loaded()
    markers = untrained.channel.markers()
    ids = set(tokenizer.convert_tokens_to_ids(markers))
    chat = [{"role": "user", "content": " ".join(markers)}]
    assert not ids & set(prompt_of(tokenizer, [], chat))
    assert set(tokenizer.convert_tokens_to_ids(markers[:3])) <= set(prompt_of(tokenizer, markers[:3], chat))


def test_the_chances_of_a_slot_are_those_it_is_drawn_by(untrained):
    env, rng = SalesEnv(untrained), np.random.default_rng(0)
    episode = env.begin(0).then("agent", "Hello.")
    heard = [(untrained.channel.told(episode), untrained.channel.chat(episode))] * 3000
    rngs = [np.random.default_rng(seed) for seed in rng.integers(2**63, size=len(heard))]
    (chances, *_) = untrained.chances(heard[:1], rngs[:1], 0)
    drawn = [written[0] for written, _ in untrained.answer(heard, rngs)]
    shares = [drawn.count(marker) / len(drawn) for marker in untrained.channel.slots[0]]
    assert chances.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(shares, chances, atol=4 * 0.5 / np.sqrt(len(drawn)))


def test_its_notes_are_told_to_it_again_and_before_that_those_of_one_who_has_walked_in():
    env = make_sales(Plays(NOTES, ({5: "<|trust 3|>"}, "Mhm.")))
    episode = env.begin(5)
    profile = episode.scenario.facts
    fresh = NOTES.told(episode)
    assert fresh[:2] == [f"<|need {profile.need}|>", f"<|budget {profile.budget}|>"]
    assert "<|trust 1|>" in fresh and f"<|left {profile.patience}|>" in fresh and "<|worried True|>" in fresh
    (after,) = env.advance([episode], ["Hello."])
    assert "<|trust 3|>" in NOTES.told(after.episode) and "<|trust 1|>" not in NOTES.told(after.episode)


def test_a_folder_without_the_markers_is_refused(tmp_path: Path):
    tokenizer = train_tokenizer(WORDS, 400)
    small_model(tokenizer, hidden_size=32, intermediate_size=48, layers=1).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not know"):
        LearntPerson("model", tmp_path, NOTES, SellerParser()).loaded()
    with pytest.raises(ValueError, match="temperature=0"):
        LearntPerson("model", tmp_path, NOTES, SellerParser(), temperature=0)


# ---- the ledger -----------------------------------------------------------------------------------------------------

BUYS, LEAVES = {1: "<|does buy|>"}, {1: "<|does leave|>"}
GOES_ON = ({1: "<|does chat|>"}, "Mhm.")


def test_who_buys_pays_the_ledgers_price_whatever_it_notes_of_discounts():
    bought = (BUYS | {6: "<|discounts 2|>"}, "I buy it for $PRICE, thank you.")
    episode, reward = played(NOTES, GOES_ON, GOES_ON, bought)
    assert reward == pytest.approx(0.85) and episode.memory.outcome == "bought" and episode.memory.discounts == 1
    assert episode.turns[-1].text == f"I buy it for ${590 * 0.85:.0f}, thank you."


def test_who_buys_when_nothing_is_offered_has_bought_nothing():
    episode, reward = played(NOTES, (BUYS, "I buy."), said=["Hello."])
    assert reward == 0 and episode.memory.outcome == "open" and episode.exchanges == 1


def test_who_leaves_is_gone_and_who_is_sent_away_too():
    episode, reward = played(NOTES, GOES_ON, (LEAVES, "Bye."))
    assert (reward, episode.memory.outcome, episode.exchanges) == (0, "left", 2)
    episode, reward = played(NOTES, (BUYS, "I buy."), said=["Goodbye, see you next time."])
    assert (reward, episode.memory.outcome) == (0, "sent_away")


def test_the_naive_one_decides_by_its_one_marker():
    on, buys, leaves = ({0: marker} for marker in DECISION.slots[0])
    episode, reward = played(DECISION, (on, "Mhm."), (on, "Mhm."), (buys, "Yes."))
    assert (reward, episode.memory.outcome) == (0.85, "bought")
    episode, reward = played(DECISION, (leaves, "Bye."))
    assert (reward, episode.memory.outcome) == (0, "left")


# ---- what it is taught ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tongue() -> Tongue:
    return seller_tongue(nonsense=300)


def test_the_notes_of_a_moment_by_hand():
    mind = Mind(trust=1, spent=2, shown="Ridge", greeted=True)
    (outcome,) = program.respond(PROFILE, mind, Act("reassure", "theft"))
    assert NOTES.written(PROFILE, Act("reassure", "theft"), outcome) == [
        "<|heard reassure theft|>", "<|does convinced|>", "<|besides nothing|>", "<|fit full|>", "<|worried False|>",
        "<|trust 2|>", "<|discounts 0|>", "<|begun True|>", "<|chatted False|>", "<|hurried False|>", "<|left 4|>",
    ]  # fmt: skip


def test_moments_cover_what_conversations_never_come_to_and_are_the_programs(tongue):
    found = moments(3000, tongue, np.random.default_rng(0))
    assert len(found) >= 3000
    kinds = {one.act.kind for one in found}
    assert kinds >= {"unclear", "close", "goodbye", "discount"}
    assert any(one.act.kind == "close" and one.mind.shown is None for one in found)
    assert {one.profile.style for one in found} >= {"curt"} and {one.profile.patience for one in found} >= {4}
    for one in found:
        assert one.outcome in program.respond(one.profile, one.mind, one.act)
    words = [one.utterance for one in found[::7]]
    heard = seller_parser().parse(words)
    assert np.mean([act == one.act for act, one in zip(heard, found[::7], strict=True)]) > 0.97
    markers = set(NOTES.markers())
    for one in found[:300]:
        lesson = taught(one, np.random.default_rng(0))
        assert {*lesson.told, *lesson.written} <= markers and lesson.words
        assert all(note in slot for note, slot in zip(lesson.written, NOTES.slots, strict=True))


def test_the_chances_of_a_close_sum_to_one_and_are_the_programs(tongue):
    found = closes(200, tongue, np.random.default_rng(1))
    total, bought = 0.0, 0.0
    for lesson in found:
        assert lesson.words is None and len(lesson.written) == 2 and lesson.written[0] == "<|heard close|>"
        total += lesson.weight
        bought += lesson.weight * (lesson.written[1] == "<|does buy|>")
    assert total == pytest.approx(200) and 20 < bought < 100


def test_trained_sellers_words_are_taught_with_what_the_parser_reads():
    odd = "Shall we say that you buy, perhaps, my friend of the mountain?"
    with_said = seller_tongue([odd, "May I ask, do you want to order it today?"], nonsense=10)
    acts = {seller_parser().parse([odd])[0], Act("close")}
    for act in acts:
        said = {with_said.say(act, np.random.default_rng(i)) for i in range(60)}
        assert odd in said or "May I ask, do you want to order it today?" in said


def test_the_naive_one_is_taught_by_whole_conversations():
    found = logged(60, np.random.default_rng(0))
    assert {lesson.written[0] for lesson in found} == set(DECISION.slots[0])
    assert all(lesson.chat[0]["role"] == "assistant" and lesson.chat[-1]["role"] == "user" for lesson in found)
    assert any("$PRICE" in lesson.words for lesson in found) and not any("$4" in lesson.words for lesson in found)


def test_an_example_learns_notes_fully_words_less_and_what_is_heard_not_at_all():
    tokenizer = train_tokenizer(WORDS, 600, keep_system=True, markers=NOTES.markers())
    (one, *_) = closes(1, seller_tongue(nonsense=10), np.random.default_rng(0))
    whole = example(tokenizer, replace(one, words="Hello.", weight=0.5), 0.3)
    spoken = len(whole.ids) - len(example(tokenizer, one, 0.3).ids)
    assert spoken >= 2 and whole.ids[-1] == tokenizer.eos_token_id
    assert whole.weights[-spoken:] == [0.15] * spoken and whole.weights[-spoken - 2 : -spoken] == [0.5, 0.5]
    heard = len(whole.ids) - spoken - 2
    assert set(whole.labels[:heard]) == {IGNORED} and IGNORED not in whole.labels[heard:]


# ---- probes ---------------------------------------------------------------------------------------------------------


FALLS_FOR = {
    "pitch": "<|does like|>",
    "reassure": "<|does convinced|>",
    "close": "<|does buy|>",
    "unclear": "<|does buy|>",
}


FALLS_FOR = {"pitch": "<|does like|>", "reassure": "<|does convinced|>"}


class AsTheProgram(LearntPerson):
    """Does what the program does; or, where ``wrong`` says so, something else."""

    def __init__(self, wrong: str | None = None):
        super().__init__("model", "nowhere", NOTES, SellerParser())
        self.wrong = wrong

    def chances(self, heard, rngs, slot):
        acts = seller_parser().parse([chat[-1]["content"] for _, chat in heard])
        return np.stack([self._chances(told, act, slot) for (told, _), act in zip(heard, acts, strict=True)])

    def _chances(self, told: Sequence[str], act: Act, slot: int) -> np.ndarray:
        values = dict(marker[2:-2].split(" ", 1) for marker in told)
        left = int(values["left"])
        profile = Profile(
            values["need"], values["budget"], values["worry"], left, values["style"], values["idle"] == "True"
        )
        shown = next((p for p in (None, *program.PRODUCTS) if program.fit(profile, p) == values["fit"]), None)
        mind = Mind(
            trust=int(values["trust"]), shown=shown, worried=values["worried"] == "True",
            discounts=int(values["discounts"]), hurried=values["hurried"] == "True",
        )  # fmt: skip
        markers = NOTES.slots[slot]
        row = np.zeros(len(markers))
        if self.wrong == act.kind and slot == 1:
            row[markers.index(FALLS_FOR.get(act.kind, "<|does buy|>"))] = 1
            return row
        for outcome in program.respond(profile, mind, act):
            row[markers.index(NOTES.written(profile, act, outcome)[slot])] += outcome.probability
        if self.wrong == "feelings" and slot == 5:
            row = np.roll(row, 1)  # it trusts more than it has reason to
        return row


@pytest.fixture
def few_words(monkeypatch: pytest.MonkeyPatch, tongue: Tongue) -> None:
    """Probes in fewer words, which take a while to make and to read."""
    monkeypatch.setattr(sales_people, "_tongue", lambda said: tongue)
    monkeypatch.setattr(sales_people, "_nonsense", lambda said: seller_tongue(nonsense=200, seed=99).nonsense[:200])


def test_the_program_itself_passes_every_probe(few_words):
    figures = probes(AsTheProgram(), None, 5)
    assert len(figures) == 9
    failed = [figure for figure in figures if not figure.passed]
    assert not failed, failed


@pytest.mark.parametrize(
    ("wrong", "caught"),
    [("feelings", {3, 4, 5}), ("pitch", {0}), ("reassure", {1}), ("close", {2, 6}), ("unclear", {7, 8})],
)
def test_who_falls_for_something_fails_the_probe_for_it(wrong, caught, few_words):
    figures = probes(AsTheProgram(wrong), None, 5)
    assert {i for i, figure in enumerate(figures) if not figure.passed} == caught


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_is_noted_of_a_mind_is_in_the_slots_and_tells_patience_from_patience(seed: int):
    rng = np.random.default_rng(seed)
    patience = int(rng.integers(4, 10))
    mind = Mind(trust=int(rng.integers(4)), spent=int(rng.integers(patience)), shown="Ridge", worried=bool(seed % 2))
    feeling = NOTES.feeling(replace(PROFILE, patience=patience), mind)
    assert all(note in slot for note, slot in zip(feeling, NOTES.slots[3:], strict=True))
    assert feeling[-1] == f"<|left {patience - mind.spent}|>"


def test_nobody_is_talked_out_of_its_mind(untrained):
    env = SalesEnv(untrained)
    episodes = [env.begin(seed) for seed in range(3)]
    for text in ("a b c d e " * 400, "\U0001f6b2" * 4000, ""):
        after = env.advance(episodes, [text] * 3)
        assert all(one.failure is None for one in after)
        episodes = [one.episode for one in after]
        if any(one.done for one in after):
            break


def test_a_batch_in_which_no_token_counts_has_no_loss():
    nothing = _weighted_cross_entropy(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert nothing.item() == 0.0
    logits, labels = torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 0])
    weighted = _weighted_cross_entropy(logits, labels, torch.tensor([1.0, 0.0]))
    assert weighted.item() == pytest.approx(np.log(2))


def test_the_judge_of_turns_refuses_a_mind_that_is_a_models():
    episode = replace(make_sales("program").begin(0), memory=Notes(shown="Ridge"))
    (foreseen,) = SaleTurns().foresee([episode], [ASKS])
    assert isinstance(foreseen, str) and "language model" in foreseen


def test_an_ear_that_fails_ends_the_conversation_unscored(untrained):
    class Deaf(SellerParser):
        def read(self, episodes):
            heard = super().read(episodes)
            return [heard[0], *(replace(one, failure="timeout: no answer") for one in heard[1:])]

    env = SalesEnv(LearntPerson("model", untrained.folder, untrained.channel, Deaf(), max_new_tokens=6))
    first, second = env.advance([env.begin(0), env.begin(1)], ["Hello.", "Hello."])
    assert first.failure is None and second.failure == "timeout: no answer" and np.isnan(second.reward)


@pytest.mark.parametrize("user", ["model", "naive_model"])
def test_the_shop_with_a_buyer_that_is_a_model_meets_the_conformance_kit(user):
    report = check_conversation_env(lambda **kwargs: make_sales(user, **kwargs), episodes=3)
    assert report.ok, str(report)
