"""One list of turns, seen from either side."""

import copy
import pickle

from hypothesis import given, settings
from hypothesis import strategies as st

from envs.conversation import Conversation, Turn

TALK = Conversation("Sell a bicycle.").then("user", "Hi.").then("agent", "Hello!").then("user", "A bike?")

turns = st.lists(st.builds(Turn, st.sampled_from(["agent", "user"]), st.text(max_size=20)), max_size=6).map(tuple)
conversations = st.builds(Conversation, st.text(max_size=20), turns)


def test_each_side_sits_in_the_assistants_seat_of_its_own_view():
    assert TALK.messages("agent") == [
        {"role": "system", "content": "Sell a bicycle."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "A bike?"},
    ]
    assert [message["role"] for message in TALK.messages("user")] == ["system", "assistant", "user", "assistant"]


def test_an_empty_brief_is_no_message():
    assert Conversation().then("agent", "Hello!").messages("agent") == [{"role": "assistant", "content": "Hello!"}]


def test_then_leaves_the_conversation_as_it_was():
    before = copy.deepcopy(TALK)
    longer = TALK.then("agent", "Yes.")
    assert before == TALK
    assert longer.turns == (*TALK.turns, Turn("agent", "Yes."))


def test_last_is_the_latest_turn_of_that_speaker():
    assert TALK.last("user") == "A bike?"
    assert TALK.last("agent") == "Hello!"
    assert Conversation().last("agent") is None


def test_as_text_it_is_a_script_without_the_brief():
    assert str(TALK) == " user: Hi.\nagent: Hello!\n user: A bike?"


@settings(max_examples=40, deadline=None)
@given(conversations)
def test_the_two_views_swap_assistant_and_user_and_nothing_else(conversation):
    swap = {"system": "system", "assistant": "user", "user": "assistant"}
    mirrored = [{**message, "role": swap[message["role"]]} for message in conversation.messages("agent")]
    assert mirrored == conversation.messages("user")


@settings(max_examples=40, deadline=None)
@given(conversations)
def test_equal_conversations_are_one_key_and_survive_pickling(conversation):
    again = pickle.loads(pickle.dumps(conversation))
    assert again == conversation
    assert hash(again) == hash(conversation)
