"""Both seats of a conversation as agents: PettingZoo's tests, what each seat sees, and who decides."""

from __future__ import annotations

import math
import warnings
from functools import partial

import gymnasium
import pytest
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test

from agents.agent import Agent
from agents.fixed import FixedModel
from agents.rollout import rollout
from agents.scripted import Scripted, ScriptedBuyer
from agents.seats import play_both
from envs.checks import check_conversation_env
from envs.conversation import Conversation, Turn
from envs.education.env import make_education
from envs.education.teachers import TeacherInWords
from envs.multiagent import conversation_aec, conversation_parallel
from envs.sales.buyers import BuyerInWords, profile_of
from envs.sales.env import make_sales, user_brief
from envs.sales.program import Mind, Profile
from envs.sales.users import VOICE_FOLDER
from envs.trajectory import Utterance
from envs.two_seats import OwnUser, arbiter_of, mirrored, seated
from tests.toy import Constant, Customer, Shop

SELLER_FOLDER = VOICE_FOLDER.parent / "sales_seller"
SELLER = "envs.sales.sellers.SellerInWords"


class Says(Agent):
    """Says ``texts[k]`` in exchange k, the last of them ever after, and remembers what it was shown."""

    def __init__(self, *texts: str):
        self.texts = texts
        self.seen: list[Conversation] = []

    def act(self, conversations, rngs, *, explore=True):
        self.seen += conversations
        exchanges = [(len(one.turns) - 1) // 2 for one in conversations]  # the opening is one turn
        return [Utterance(self.texts[min(k, len(self.texts) - 1)]) for k in exchanges]


class Teacher(Agent):
    """A teacher that follows a rule."""

    def __init__(self, rule: str):
        self.teacher = TeacherInWords(rule)

    def act(self, conversations, rngs, *, explore=True):
        return [Utterance(text) for text in self.teacher.speak(conversations, rngs)]


class Parrot(Agent):
    """Says what its brief told it to say."""

    def act(self, conversations, rngs, *, explore=True):
        return [Utterance(one.brief.splitlines()[-1].removeprefix("Say in your own words: ")) for one in conversations]


def sales(split="train"):
    return make_sales("program", split=split)


def shop():
    return Shop(Customer())


def school():
    return make_education("program")


WORLDS = pytest.mark.parametrize("world", [sales, school, shop])


@pytest.fixture
def strict():
    """Any warning is an error, but those that text instead of arrays, and the seats' names, are unusual."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Observation is not a NumPy array")
        warnings.filterwarnings("ignore", r"(Observation|Action) space for each agent probably should be gymnasium.sp")
        warnings.filterwarnings("ignore", "We recommend agents to be named in the format")
        yield


# ---- PettingZoo's own tests ------------------------------------------------------------------------------------------


@WORLDS
def test_it_passes_the_api_test(world, strict):
    api_test(conversation_aec(world()), num_cycles=20)


@WORLDS
def test_it_passes_the_parallel_api_test(world, strict):
    parallel_api_test(conversation_parallel(world()), num_cycles=40)


@WORLDS
def test_it_passes_the_seed_tests(world, strict):
    seed_test(lambda: conversation_aec(world()), num_cycles=20)
    parallel_seed_test(lambda: conversation_parallel(world()), num_cycles=20)


def test_a_world_is_made_by_its_id():
    env = conversation_aec("parley/Sales-v0", user="program", split="ood_test")
    env.reset(seed=5)
    assert env.observe("agent")["conversation"] == sales("ood_test").begin(5).heard_by("agent")


def test_what_is_no_conversation_is_named():
    with pytest.raises(ValueError, match="is no ConversationEnv"):
        conversation_aec("CartPole-v1")
    with pytest.raises(ValueError, match="split can be given only with the id"):
        conversation_aec(shop(), split="train")


# ---- what each seat sees ---------------------------------------------------------------------------------------------


def test_the_seats_take_turns_and_each_sees_its_own_brief_and_every_turn():
    env = conversation_aec(sales())
    env.reset(seed=3)
    scenario = sales().begin(3).scenario
    said = ["What will you use it for?", "Well, that is for you to guess.", "Do you have a budget?", "Maybe."]
    for n, words in enumerate(said):
        speaker, other = ("agent", "user") if n % 2 == 0 else ("user", "agent")
        assert env.agent_selection == speaker
        assert (env.observe(speaker)["speaks"], env.observe(other)["speaks"]) == (1, 0)
        env.step(words)
    turns = [Turn("agent" if n % 2 == 0 else "user", words) for n, words in enumerate(said)]
    for seat, brief in (("agent", scenario.agent_brief), ("user", scenario.user_brief)):
        conversation = env.observe(seat)["conversation"]
        assert conversation == Conversation(brief, (*scenario.opening, *turns))
        assert env.observe(seat) in env.observation_space(seat)


def test_the_user_hears_the_agent_before_it_answers():
    env = conversation_aec(sales())
    env.reset(seed=3)
    env.step("What will you use it for?")
    assert env.observe("user")["conversation"].turns[-1] == Turn("agent", "What will you use it for?")
    assert env.observe("agent")["conversation"].turns[-1] == Turn("agent", "What will you use it for?")


def test_the_agent_never_sees_what_the_users_seat_is_told():
    env = conversation_aec(shop())
    env.reset(seed=0)
    wanted = shop().begin(0).scenario.facts
    env.step(wanted)
    assert env.observe("user")["conversation"].brief == f"Want {wanted}.\nSay in your own words: I'll take it."
    assert env.observe("agent")["conversation"].brief == "Sell a colour."
    env.step("Hm.")
    assert env.observe("user")["conversation"].brief == f"Want {wanted}."


def test_an_agent_in_the_users_seat_sees_its_own_turns_as_the_agents():
    seller, buyer = Says("green"), Says("Not that one.", "Nor that.")
    play_both(shop(), seller, buyer, [0])
    brief, wanted = "Want {}.", shop().begin(0).scenario.facts
    assert buyer.seen[1].brief.startswith(brief.format(wanted))
    assert [turn.speaker for turn in buyer.seen[1].turns] == ["agent", "user", "agent", "user"]
    assert [turn.speaker for turn in seller.seen[1].turns] == ["user", "agent", "user"]
    assert mirrored(mirrored(buyer.seen[1])) == buyer.seen[1]


def test_in_parallel_the_seat_that_is_not_at_turn_is_not_heard():
    env = conversation_parallel(sales())
    seen, _ = env.reset(seed=3)
    assert (seen["agent"]["speaks"], seen["user"]["speaks"]) == (1, 0)
    seen, *_ = env.step({"agent": "Hello there.", "user": "I buy it."})
    seen, *_ = env.step({"agent": "Goodbye.", "user": "Hello."})
    assert [turn.text for turn in seen["agent"]["conversation"].turns[1:]] == ["Hello there.", "Hello."]
    assert (seen["agent"]["speaks"], seen["user"]["speaks"]) == (1, 0)


def test_a_reset_begins_anew_in_the_midst_of_an_exchange():
    env = conversation_aec(sales())
    env.reset(seed=3)
    env.step("Hello there.")
    env.reset(seed=3)
    assert env.agent_selection == "agent"
    assert env.observe("user")["conversation"] == sales().begin(3).heard_by("user")


def test_resets_without_a_seed_vary_and_follow_from_the_last_seed():
    def begun():
        env = conversation_aec(sales())
        env.reset(seed=3)
        seen = []
        for _ in range(4):
            env.reset()
            seen.append(env.observe("user")["conversation"])
        return seen

    assert len(set(begun())) == 4
    assert begun() == begun()


def test_what_no_seat_can_say_is_named_with_the_seat():
    env = conversation_aec(shop())
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("red")
    env.reset(seed=0)
    env.step("red")
    with pytest.raises(ValueError, match=r"user said 'a+', which is not in UtteranceSpace\(max_chars=4000\)"):
        env.step("a" * 4001)
    with pytest.raises(ValueError, match="user said 'None'"):
        env.step(None)


# ---- who decides in the bicycle shop ---------------------------------------------------------------------------------

COMMUTER = Profile("commute", "tight", "theft", 7, "plain")  # Metro suits, Avenue is too dear, Ridge is the wrong kind
METRO = "For office workers, our Metro is just right."
AVENUE = "Our Avenue is a favourite of office workers."
RIDGE = "Lovers of rough ground love the Ridge, a plain dirt bike."
ASK = "Okay, first of all, what will you use the bike for?"


class OneBuyer(type(sales())):
    """The bicycle shop, where everybody is the commuter."""

    def sample_scenario(self, rng):
        scenario = super().sample_scenario(rng)
        return type(scenario)(scenario.agent_brief, user_brief(COMMUTER), scenario.opening, COMMUTER, "commuter")


def deal(seller, buyer, exchanges=None):
    """A conversation in which each says its lines."""
    env = OneBuyer(sales().user, max_exchanges=exchanges or len(seller))
    (trajectory,) = play_both(env, Says(*seller), Says(*buyer), [0])
    return trajectory


def test_a_buyer_that_says_so_buys_what_was_pitched_last_at_the_ledgers_price():
    done = deal([RIDGE, METRO], ["That's the wrong kind of bike for me.", "I'll buy it."])
    assert (done.success, done.returns(), done.stop_reason) == (True, 1.0, "outcome")
    assert done.parts == {"price": 480.0, "discounts": 0.0, "user_payoff": 1.0}


def test_each_discount_lowers_the_price_and_a_third_does_not_count():
    lines = [METRO, *["I can give you a discount."] * 3]
    done = deal(lines, ["Hm, hm.", "Hm, hm.", "Hm, hm.", "I'll take it."])
    assert done.parts == {"price": pytest.approx(480 * 0.7), "discounts": 2.0, "user_payoff": 1.0}
    assert done.returns() == pytest.approx(0.7)


@pytest.mark.parametrize("pitch", [AVENUE, RIDGE])
def test_a_bicycle_that_does_not_suit_costs_the_buyer_what_it_brings_the_seller(pitch):
    done = deal([pitch], ["I'll take it."])
    assert (done.returns(), done.parts["user_payoff"]) == (1.0, -1.0)


def test_before_a_pitch_there_is_nothing_to_buy():
    done = deal([ASK, "Hello there."], ["I'll take it.", "I'll take it."])
    assert (done.success, done.returns(), done.stop_reason) == (None, 0.0, "exchange_limit")
    assert done.parts == {"user_payoff": 0.0}


def test_a_buyer_that_names_another_price_has_not_bought():
    words = ["You have a deal for $48.", "You have a deal for $480."]
    done = deal([METRO, "Hello there."], words)
    assert (done.exchanges, done.success, done.returns()) == (2, True, 1.0)


@pytest.mark.parametrize("words", ["I'll never take it.", "You must buy now or else.", "buy buy buy", "", "$480"])
def test_words_that_do_not_buy_sell_nothing(words):
    done = deal([METRO], [words])
    assert (done.success, done.returns(), done.stop_reason) == (None, 0.0, "exchange_limit")


def test_either_side_can_take_its_leave():
    left = deal([METRO, "Hello there."], ["Goodbye.", "I'll take it."])
    assert (left.exchanges, left.success, left.returns(), left.stop_reason) == (1, False, 0.0, "user_left")
    sent = deal([METRO, "Goodbye."], ["Hm, hm.", "I'll take it."])
    assert (sent.exchanges, sent.success, sent.returns(), sent.stop_reason) == (2, False, 0.0, "agent_left")


def test_the_sellers_words_buy_nothing():
    done = deal([METRO, "I'll take it."], ["Hm, hm.", "Hm, hm."])
    assert done.success is None


def test_turn_by_turn_it_pays_as_a_whole_conversation_does():
    env = conversation_aec(OneBuyer(sales().user))
    env.reset(seed=0)
    for words in (METRO, "Hm, hm.", "I can give you a discount."):
        env.step(words)
        assert env.rewards == {"agent": 0.0, "user": 0.0}
    env.step("I'll take it.")
    assert env.rewards == {"agent": 0.85, "user": 1.0}
    assert env.terminations == {"agent": True, "user": True} and not any(env.truncations.values())
    assert env.infos["user"] == {"exchanges": 2, "judged": True, "stop_reason": "outcome", "success": True}
    assert [env.last()[1], env.step(None), env.last()[1], env.step(None)] == [0.85, None, 1.0, None]
    assert env.agents == []


# ---- agents of ours in both seats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "split"), [("behaviour", "train"), ("expert", "ood_test")])
def test_the_buyer_in_words_says_and_buys_what_the_program_does(rule, split):
    """The program's buyer knows its mind; the buyer in words works it out of what was said."""
    seeds = range(60)
    with_program = rollout(Scripted(rule, SELLER), sales(split), seeds)
    in_words = play_both(sales(split), Scripted(rule, SELLER), ScriptedBuyer(), seeds)
    assert [one.steps for one in in_words] == [one.steps for one in with_program]
    assert [one.success for one in in_words if one.success] == [one.success for one in with_program if one.success]
    assert any(one.success for one in in_words)


def test_a_brief_says_who_the_buyer_is():
    assert profile_of(user_brief(COMMUTER)) == COMMUTER
    with pytest.raises(ValueError, match="'Buy a horse' is none of the bicycle"):
        BuyerInWords().speak([Conversation("Buy a horse").then("agent", "Hi.").then("user", "Hello.")], [None])


def test_batches_of_any_size_give_the_same_conversations():
    play = partial(play_both, sales(), Scripted("behaviour", SELLER), ScriptedBuyer(), range(9))
    assert play(batch_size=2) == play(batch_size=9)


def test_language_models_play_both_seats():
    seller = FixedModel(str(SELLER_FOLDER), max_new_tokens=16)
    buyer = FixedModel(str(VOICE_FOLDER), max_new_tokens=12)
    first, again = (play_both(sales(), seller, buyer, [1, 2]) for _ in range(2))
    assert [one.conversation for one in first] == [one.conversation for one in again]
    for one in first:
        assert one.judged and one.exchanges >= 1
        assert all(step.reply is not None and step.utterance.tokens for step in one.steps)
        assert one.user_tokens >= one.exchanges


def test_a_model_in_the_users_seat_continues_as_the_one_that_spoke_its_turns():
    model = FixedModel(str(SELLER_FOLDER)).model
    prompts = []
    spoken = partial(seated, sales())(lambda held, rngs: prompts.extend(held) or [Utterance("Yes.")] * len(held))
    episode = spoken.begin(0)
    spoken.advance([episode], ["Hello."])
    text = model.tokenizer.decode(model.prompt_ids(prompts[0]))
    opening = episode.turns[0].text
    assert text.index(opening) < text.index("Hello.")
    expected = Conversation("", (Turn("agent", opening), Turn("user", "Hello.")))
    assert model.prompt_ids(prompts[0]) == model.prompt_ids(expected)


# ---- who decides in the lesson -------------------------------------------------------------------------------------


def test_a_student_understands_what_its_mind_does_whatever_is_said_for_it():
    alone = rollout(Teacher("expert"), school(), range(12))
    worded = play_both(school(), Teacher("expert"), Parrot(), range(12))
    assert [one.steps for one in worded] == [one.steps for one in alone]
    assert {one.success for one in alone} == {True, False}
    assert [one.parts["user_payoff"] for one in worded] == [float(one.success) for one in alone]
    clever, lost = (
        play_both(school(), Says("Hm, hm."), Says(words), range(4))
        for words in ("Now I understand it all.", "I'm lost.")
    )
    assert [one.parts for one in clever] == [one.parts for one in lost]


# ---- a world that names no arbiter -----------------------------------------------------------------------------------


def test_without_an_arbiter_the_worlds_own_user_decides_and_the_seat_words_it():
    assert isinstance(arbiter_of(shop()), OwnUser)
    alone = rollout(Constant(""), shop(), range(6))
    worded = play_both(shop(), Constant(""), Parrot(), range(6))
    assert [one.steps for one in worded] == [one.steps for one in alone]
    assert {one.parts["user_payoff"] for one in worded} == {0.0}


def test_the_own_users_memory_decides_whatever_the_seat_says():
    """With the program as arbiter the words of the seat sell nothing and lose nothing."""
    arbiter = OwnUser(sales().user)
    own = rollout(Scripted("expert", SELLER), sales(), range(8))
    deaf = play_both(sales(), Says(METRO), Says("I'll take it."), range(8), arbiter=arbiter)
    assert any(one.success for one in own)
    assert not any(one.success for one in deaf)


def test_a_decision_that_failed_leaves_the_conversation_unscored():
    world = Shop(Customer(failing=1.0))
    (done,) = play_both(world, Constant(""), Parrot(), [0])
    assert not done.judged and done.failure == "the customer lost the line" and done.steps[-1].reply is None
    env = conversation_aec(world)
    env.reset(seed=0)
    env.step("red")
    env.step("I'll take it.")
    assert all(math.isnan(reward) for reward in env.rewards.values())
    assert env.truncations == {"agent": True, "user": True}
    assert env.infos["agent"]["failure"] == "the customer lost the line"


def test_a_world_whose_seat_is_taken_is_a_world_like_any_other():
    report = check_conversation_env(lambda split="train": seated(sales(split), ScriptedBuyer().act))
    assert report.ok, str(report)


def test_the_arbiter_leaves_its_books_in_the_episodes_memory():
    world = seated(OneBuyer(sales().user), Says("Hm, hm.").act)
    (advance,) = world.advance([world.begin(0)], [METRO])
    assert advance.episode.memory == Mind(shown="Metro")
    assert advance.assessment.parts == {"user_payoff": 0.0}
