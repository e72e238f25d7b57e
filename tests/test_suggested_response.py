"""``parley/SuggestedResponse-v0``: what becomes of a suggestion; without a business it is the wrapped world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401 - registers the ids
from agents.rollout import rollout
from agents.scripted import Scripted
from envs.acts import UNCLEAR as UNCLEAR_ACT
from envs.acts import Act
from envs.checks import check_conversation_env
from envs.education.env import make_education
from envs.env import ConversationEnv, Episode
from envs.sales.catalogue import SELLER_ACTS
from envs.sales.env import make_sales
from envs.sales.knowledge import Knowledge
from envs.sales.language import seller_phrasebook
from envs.sales.program import Mind, respond
from envs.sales.sellers import SellerInWords
from envs.suggested_response import education, sales
from envs.suggested_response.business import HABITS, Business, Suggestion, modes, trust_after
from envs.suggested_response.env import SuggestedResponseEnv, make_suggested_response
from envs.suggested_response.judging import SuggestedTurns
from envs.suggested_response.sending import distribution, own_acts, sending
from envs.suggested_response.transcript import Exchange, exchanges_of, read, shown
from envs.suggested_response.users import AutoReply, BusinessUser, Talk, auto_reply_user
from envs.suggested_response.world import named_world
from envs.users import Reply, UserSimulator
from envs.wording import Heard

ADVISER = "envs.suggested_response.advisers.sales_adviser"
TEACHER = "envs.education.teachers.TeacherInWords"
SELLER = "envs.sales.sellers.SellerInWords"
ORDINARY, DISLIKED, UNCLEAR, NONE = (
    Suggestion(),
    Suggestion(disliked=True),
    Suggestion(understood=False),
    Suggestion(abstains=True),
)


@pytest.fixture(scope="module")
def env() -> SuggestedResponseEnv:
    return make_suggested_response(split="iid_test")


# ---- the business ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("habit", "trust", "suggestion", "expected"),
    [
        # accepts .8 · .7 = .56, of which .6 word for word; of the other .44, .4 are influenced
        ("steady", 1, ORDINARY, (0.336, 0.224, 0.176, 0.264)),
        # .8: .48 and .32; of the other .2, .08 and .12
        ("steady", 3, ORDINARY, (0.48, 0.32, 0.08, 0.12)),
        # .97: .873 and .097; the other .03 in halves
        ("eager", 3, ORDINARY, (0.873, 0.097, 0.015, 0.015)),
        # .55 · .02 = .011 in halves; of the other .989, .2967 and .6923
        ("wary", 0, ORDINARY, (0.0055, 0.0055, 0.2967, 0.6923)),
        # .8 · .9 · .1 = .072: .0432 and .0288; of the other .928, .3712 and .5568
        ("steady", 2, DISLIKED, (0.0432, 0.0288, 0.3712, 0.5568)),
        ("eager", 3, UNCLEAR, (0.02, 0.0, 0.0, 0.98)),
        ("eager", 3, NONE, (0.0, 0.0, 0.0, 1.0)),
    ],
)
def test_the_probabilities_of_the_modes_by_hand(habit, trust, suggestion, expected):
    assert tuple(modes(Business(habit, "promises"), trust, suggestion).values()) == pytest.approx(expected)


def test_the_probabilities_of_the_modes_always_sum_to_one():
    for habit, trust, suggestion in product(HABITS, range(4), (ORDINARY, DISLIKED, UNCLEAR, NONE)):
        chances = modes(Business(habit, "promises"), trust, suggestion)
        assert sum(chances.values()) == pytest.approx(1.0) and min(chances.values()) >= 0


def test_trust_grows_with_what_was_done_and_welcomed_and_is_gone_with_what_offends():
    assert trust_after(1, ORDINARY, True, 1) == 2
    assert trust_after(1, ORDINARY, True, -1) == 0
    assert trust_after(1, ORDINARY, False, 1) == 1  # not the adviser's merit
    assert trust_after(3, DISLIKED, False, 1) == trust_after(3, DISLIKED, True, 1) == 0
    assert trust_after(2, UNCLEAR, False, 0) == 1
    assert trust_after(1, NONE, False, -1) == 1
    assert trust_after(3, ORDINARY, True, 1) == 3 and trust_after(0, ORDINARY, True, -1) == 0  # it stays in 0…3


def test_what_happens_is_as_likely_as_the_program_says(env: SuggestedResponseEnv):
    episodes = [env.begin(seed) for seed in range(1200)]
    chosen = [e for e in episodes if e.scenario.facts.business == Business("steady", "pressure")]
    words = seller_phrasebook().say(Act("ask_need"), np.random.default_rng(0))
    found = Counter(one.episode.memory.modes[0] for one in env.advance(chosen, [words] * len(chosen)))
    for mode, p in modes(Business("steady", "pressure"), 2, ORDINARY).items():
        error = (p * (1 - p) / len(chosen)) ** 0.5
        assert found[mode] / len(chosen) == pytest.approx(p, abs=4 * error)


def test_a_business_sends_each_act_as_often_as_sending_says(env: SuggestedResponseEnv):
    episodes = [env.begin(seed) for seed in range(1200)]
    chosen = [e for e in episodes if e.scenario.facts.business.habit == "wary" and len(e.turns[0].text) < 45]
    words = seller_phrasebook().say(Act("discount"), np.random.default_rng(0))
    found, expected = Counter[str](), Counter[str]()
    speaker = SellerInWords("behaviour")
    for episode, advance in zip(chosen, env.advance(chosen, [words] * len(chosen)), strict=True):
        _, (exchange,) = exchanges_of(advance.episode.heard_by("agent"))
        heard = sales.world().reader.read([episode.then("agent", exchange.sent)])[0].act
        found[heard.kind if exchange.sent else "nothing"] += 1
        own = own_acts(speaker, speaker.know(episode.heard_by("agent")))
        sent = sending(sales.world(), episode.scenario.facts.business, 2, Act("discount"), own)
        assert sum(sent.acts.values()) + sent.nothing == pytest.approx(1.0)
        expected["nothing"] += sent.nothing
        for act, p in sent.acts.items():
            expected[act.kind] += p
    assert set(found) <= set(expected) | {"unclear"}
    for kind in expected:
        assert found[kind] == pytest.approx(expected[kind], abs=4 * expected[kind] ** 0.5 + 2), kind


def test_a_rule_is_followed_through_everything_it_may_draw():
    def rule(rng):
        u = rng.random()
        if u < 0.3:
            return "a"
        if u < 0.8:
            return "b" if rng.random() < 0.5 else "c"
        return ("d", "e", "f")[int(rng.integers(3))]

    # .3; .5 in halves; .2 in thirds
    expected = {"a": 0.3, "b": 0.25, "c": 0.25, "d": 0.2 / 3, "e": 0.2 / 3, "f": 0.2 / 3}
    assert distribution(rule) == pytest.approx(expected)


def test_what_the_business_writes_by_itself_by_hand():
    # Behaviour in a fitting state without a worry: a quarter of the time one of 23 acts, else a discount if u < .25,
    # else to close.
    known = Knowledge(need="trail", budget="tight", fit="full", mind=Mind(shown="Ridge", worried=False), exchanges=3)
    own = own_acts(SellerInWords("behaviour"), known)
    assert own[Act("close")] == pytest.approx(0.25 / 23 + 0.75 * 0.75)
    assert own[Act("discount")] == pytest.approx(0.25 / 23 + 0.75 * 0.25)
    assert own[Act("greet")] == pytest.approx(0.25 / 23) and Act("goodbye") not in own
    assert len(own) == len(SELLER_ACTS) - 1 and sum(own.values()) == pytest.approx(1.0)


# ---- auto-reply -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world", "wrapped", "scripted"), [("sales", make_sales, SELLER), ("education", make_education, TEACHER)]
)
def test_auto_reply_is_the_wrapped_world_step_by_step(world, wrapped, scripted):
    ours = make_suggested_response("auto_reply", world=world, reward="world", split="iid_test")
    theirs = wrapped("program", split="iid_test")
    speaker = Scripted("behaviour", scripted)
    for seed in range(12):
        one, other = ours.reset(seed=seed), theirs.reset(seed=seed)
        assert one == other
        done = False
        while not done:
            exchange = theirs.episode.exchanges
            (said,) = speaker.act([one[0]], [np.random.default_rng((seed, exchange))])
            text = "" if seed % 4 == 3 and exchange == 1 else said.text  # nothing is sent as nothing
            one, other = ours.step(text), theirs.step(text)
            assert one == other
            done = one[2] or one[3]


def test_the_reward_is_one_for_a_sale_at_whatever_price():
    ours = rollout(Scripted("behaviour", ADVISER), make_suggested_response("auto_reply", split="iid_test"), range(60))
    theirs = rollout(Scripted("behaviour", SELLER), make_sales("program", split="iid_test"), range(60))
    assert [t.returns() for t in ours] == [float(bool(t.success)) for t in theirs]
    assert any(0 < t.returns() < 1 for t in theirs)  # there were discounts
    assert all(sum(step.reward for step in t.steps[:-1]) == 0 for t in ours)


def test_returns_are_discounted_as_in_the_paper():
    trajectories = rollout(
        Scripted("expert", ADVISER), make_suggested_response("auto_reply", split="iid_test"), range(9)
    )
    sold = next(t for t in trajectories if t.success)
    k = sold.exchanges  # the purchase is r_k, so G_1 = γ^{k-1}
    assert sold.returns(0.9) == pytest.approx(0.9 ** (k - 1)) and k > 1
    assert sold.returns_to_go(0.5)[-2:] == [0.5, 1.0]
    lost = next(t for t in trajectories if not t.success)
    assert lost.returns(0.9) == 0.0


# ---- what the agent sees --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exchange",
    [
        Exchange("Hello.", "Hello.", "Hi."),
        Exchange("Hello.", "Good day.", "Hi."),
        Exchange("", "Good day.", "Hi.\nHow are you?"),
        Exchange("Hello.", "", ""),
        Exchange("Hello.", "Hello.", "I said: buy\nit."),
        Exchange("Hello.", "Hello.", "I said nothing."),
        Exchange("Hello.", "Good day.", ""),
    ],
)
def test_what_is_shown_is_read_back(exchange):
    assert read(exchange.suggested, shown(exchange)) == exchange


def test_the_agent_sees_what_it_suggested_and_what_was_sent(env: SuggestedResponseEnv):
    sent_otherwise = 0
    for t in rollout(Scripted("expert", ADVISER), env, range(40)):
        _, exchanges = exchanges_of(t.conversation)
        assert [one.suggested for one in exchanges] == [step.utterance.text for step in t.steps]
        assert sum(one.verbatim for one in exchanges) == t.parts["verbatim"]
        sent_otherwise += sum(not one.verbatim for one in exchanges)
    assert sent_otherwise > 40


def test_the_customer_hears_what_was_sent_and_no_suggestion(env: SuggestedResponseEnv):
    episode = env.begin(5)
    for _ in range(3):
        (advance,) = env.advance([episode], ["I suggest nothing that anybody understands."])
        episode = advance.episode
    inner = episode.memory.episode
    opening, exchanges = exchanges_of(episode.heard_by("agent"))
    said = [(one.sent, one.answer) for one in exchanges]
    assert inner.turns[: len(opening)] == opening
    assert [(a.text, b.text) for a, b in zip(inner.turns[1::2], inner.turns[2::2], strict=True)] == said


def test_nothing_of_the_business_reaches_the_agent(env: SuggestedResponseEnv):
    begun = [env.begin(seed) for seed in range(60)]
    assert len({e.scenario.facts.business for e in begun}) == 9
    assert len({e.heard_by("agent").brief for e in begun}) == 1
    for episode, advance in zip(begun, env.advance(begun, ["What do you need?"] * len(begun)), strict=True):
        business = episode.scenario.facts.business
        told = " ".join(map(str, advance.info.values()))
        assert business.habit not in told and business.dislikes not in told and "verbatim" not in told
        assert all(word not in episode.heard_by("agent").brief for word in (*HABITS, "verbatim"))
        assert episode.scenario.attributes["habit"] == business.habit


@pytest.mark.parametrize("arguments", [{}, {"user": "auto_reply"}, {"world": "education"}])
def test_it_passes_the_conformance_kit(arguments):
    report = check_conversation_env(lambda **more: make_suggested_response(**arguments, **more), episodes=4)
    assert report.ok, str(report)


def test_it_is_made_by_its_id_alone_and_in_numbers():
    env = gymnasium.make("parley/SuggestedResponse-v0", world="education")
    conversation, _ = env.reset(seed=3)
    assert conversation.turns[0].speaker == "user"
    vector = gymnasium.make_vec("parley/SuggestedResponse-v0", num_envs=3)
    observations, _ = vector.reset(seed=3)
    assert len(observations) == 3
    vector.step(["Hello."] * 3)


def test_a_business_of_a_habit_that_training_never_shows_is_kept_for_the_last_split():
    found = {
        split: {make_suggested_response(split=split).begin(seed).scenario.attributes["habit"] for seed in range(80)}
        for split in ("train", "iid_test", "ood_test")
    }
    assert found["train"] == found["iid_test"] == {"eager", "steady", "wary"} and found["ood_test"] == {"stubborn"}


# ---- abstaining and silence -----------------------------------------------------------------------------------------


def test_who_abstains_lets_the_business_write_and_loses_no_trust(env: SuggestedResponseEnv):
    episodes = [env.begin(seed) for seed in range(40)]
    for text, abstained in (("", 1), (" \n", 1), ("Colourless green ideas sleep furiously.", 0)):
        talks = [one.episode.memory for one in env.advance(episodes, [text] * len(episodes))]
        assert {talk.abstained for talk in talks} == {abstained}
        going = [talk for talk in talks if not talk.silent]
        assert len(going) > 30
        assert max(talk.trust for talk in going) == (2 if abstained else 1)
        assert not abstained or {talk.modes for talk in talks} == {("ignored",)}


class Mute(UserSimulator):
    """A customer that never says a word."""

    name = "mute"

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        return [Reply("", Mind()) for _ in episodes]


class Speechless:
    """A business that never finds words of its own."""

    def __init__(self, rule: str):
        self.rule = lambda known, rng: Act("greet")

    def know(self, conversation):
        return None

    def speak(self, conversations, rngs) -> list[str]:
        return [""] * len(conversations)


@pytest.mark.parametrize(
    ("user", "shown_as"),
    [
        (BusinessUser(replace(sales.world(), speaker=Speechless), make_sales("program").user), "I said nothing."),
        (AutoReply(sales.world(), Mute()), ""),
    ],
)
def test_the_silence_of_either_side_ends_the_conversation(user, shown_as):
    env: ConversationEnv = SuggestedResponseEnv(user)
    episode = env.begin(0)
    (advance,) = env.advance([episode], [""])
    assert advance.terminated and advance.reward == 0.0 and advance.assessment.success is False
    assert advance.info["stop_reason"] == "user_left" and advance.episode.turns[-1].text == shown_as


class Lost(UserSimulator):
    """A customer whose line is dead."""

    name = "lost"

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        return [Reply("", tokens=2, failure="timeout: no answer") for _ in episodes]


class Deaf:
    """A reader that nobody answers."""

    name, deterministic = "deaf", True

    def read(self, episodes: Sequence[Episode]) -> list[Heard]:
        return [Heard(UNCLEAR_ACT, tokens=3, failure="timeout: no answer") for _ in episodes]


def test_a_suggestion_that_could_not_be_read_leaves_the_conversation_unscored():
    env = SuggestedResponseEnv(BusinessUser(replace(sales.world(), reader=Deaf()), make_sales("program").user))
    (advance,) = env.advance([env.begin(0)], ["What do you need?"])
    assert np.isnan(advance.reward) and advance.info["failure"] == "timeout: no answer" and advance.user_tokens == 3


@pytest.mark.parametrize("kind", [BusinessUser, AutoReply])
def test_a_customer_that_fails_leaves_the_conversation_unscored(kind):
    env = SuggestedResponseEnv(kind(sales.world(), Lost()))
    (advance,) = env.advance([env.begin(0)], ["What do you need?"])
    assert np.isnan(advance.reward) and advance.info["failure"] == "timeout: no answer" and advance.user_tokens == 2


# ---- the judge of single turns, and what is wrong -------------------------------------------------------------------


def test_what_an_abstention_brings_is_foreseen_through_the_business(env: SuggestedResponseEnv):
    episode = next(e for e in map(env.begin, range(99)) if e.scenario.facts.business.habit == "wary")
    (foreseen,) = SuggestedTurns().foresee([episode], [""])
    profile, speaker = Talk.of(episode).episode.scenario.facts, SellerInWords("behaviour")
    own = own_acts(speaker, speaker.know(episode.heard_by("agent")))
    pleased = {act: sum(o.probability * o.satisfaction for o in respond(profile, Mind(), act)) for act in own}
    # wary businesses fall silent 3% of the time where they write themselves
    assert foreseen["satisfaction"] == pytest.approx(0.97 * sum(p * pleased[act] for act, p in own.items()))


def test_with_auto_reply_the_judge_of_turns_is_the_wrapped_world_s():
    ours, theirs = make_suggested_response("auto_reply"), make_sales("program")
    said = ["What do you need?", "Shall I take something off the price?"]
    for world in ("sales",):
        judge = SuggestedTurns(world)
        (mine,) = judge.prefer_turns([ours.begin(3)], said[:1], said[1:])
        (other,) = named_world(world).turn_judge().prefer_turns([theirs.begin(3)], said[:1], said[1:])
        assert mine == other


def test_what_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"user='robot'.*business, auto_reply"):
        make_suggested_response("robot")
    with pytest.raises(ValueError, match=r"customer='robot'.*program"):
        auto_reply_user("education", "robot")
    with pytest.raises(ValueError, match=r"world='chess'.*sales or education"):
        make_suggested_response(world="chess")
    with pytest.raises(ValueError, match=r"reward='money'.*outcome or world"):
        make_suggested_response(reward="money")
    with pytest.raises(ValueError, match="no business with a customer"):
        SuggestedResponseEnv(make_sales("program").user)
    with pytest.raises(ValueError, match=r"habit='shy'.*eager"):
        modes(Business("shy", "promises"), 1, ORDINARY)


@pytest.mark.parametrize("world", [sales.world(), education.world()], ids=["sales", "education"])
def test_every_act_drifts_to_acts_that_the_world_has_itself_among_them(world):
    acts = set(own_acts(world.speaker("random"), None))
    for act in acts:
        assert act in world.drift(act) and set(world.drift(act)) <= acts
    kinds = {act.kind for act in acts}
    assert all(dislike.kinds <= kinds for dislike in world.dislikes.values())
    assert not world.welcome & world.unwelcome
