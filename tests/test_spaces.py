"""Spaces that hold what is emitted, and can be sampled."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Space
from gymnasium.vector.utils import batch_space, iterate
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.conversation import Conversation, Turn
from envs.spaces import ConversationSpace, UtteranceSpace

encodable = st.characters(exclude_categories=["Cs"])
texts = st.text(encodable, max_size=30)
turns = st.lists(st.builds(Turn, st.sampled_from(["agent", "user"]), texts), max_size=5).map(tuple)
conversations = st.builds(Conversation, texts, turns)


@settings(max_examples=40, deadline=None)
@given(texts)
def test_any_text_of_the_length_is_an_utterance(text):
    assert text in UtteranceSpace(30)
    assert (text in UtteranceSpace(10)) == (len(text) <= 10)


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3))
def test_text_that_utf8_cannot_encode_is_no_utterance(text):
    assert text not in UtteranceSpace()
    assert Conversation("", (Turn("user", text),)) not in ConversationSpace()


@settings(max_examples=40, deadline=None)
@given(conversations)
def test_any_conversation_of_such_turns_is_in_the_space(conversation):
    assert conversation in ConversationSpace(30)
    too_long = any(len(turn.text) > 10 for turn in conversation.turns)
    assert (conversation in ConversationSpace(10)) == (not too_long)


@pytest.mark.parametrize(
    "other",
    [
        None,
        "a text",
        [],
        Conversation("", [Turn("user", "hi")]),
        Conversation("", (("user", "hi"),)),
        Conversation("", (Turn("judge", "hi"),)),
        Conversation("", (Turn("user", None),)),
        Conversation(None, ()),
    ],
)
def test_nothing_else_is_a_conversation(other):
    assert other not in ConversationSpace()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 50))
def test_samples_are_in_the_space_and_repeat_with_the_seed(seed, max_chars):
    for kind in (UtteranceSpace, ConversationSpace):
        space, twin = kind(max_chars, seed=seed), kind(max_chars, seed=np.random.Generator(np.random.PCG64(seed)))
        samples = [space.sample() for _ in range(3)]
        assert all(sample in space for sample in samples)
        assert [twin.sample() for _ in range(3)] == samples


@settings(max_examples=40, deadline=None)
@given(conversations)
def test_conversations_go_through_json_and_back(conversation):
    space = ConversationSpace()
    rows = json.loads(json.dumps(space.to_jsonable([conversation])))
    assert space.from_jsonable(rows) == [conversation]


@pytest.mark.parametrize("space", [UtteranceSpace(9), ConversationSpace(9)], ids=repr)
def test_gymnasium_batches_them_as_a_tuple(space: Space):
    batch = batch_space(space, 3)
    sample = batch.sample()
    assert len(sample) == 3
    assert all(item in space for item in iterate(batch, sample))
    assert sample in batch
    assert len({str(item) for item in batch_space(UtteranceSpace(), 8).sample()}) > 1


def test_spaces_of_the_same_length_are_equal_and_have_a_short_repr():
    assert UtteranceSpace(7) == UtteranceSpace(7) != UtteranceSpace(8)
    assert ConversationSpace(7) == ConversationSpace(7) != ConversationSpace(8)
    assert UtteranceSpace(7) != ConversationSpace(7)
    assert repr(ConversationSpace(7)) == "ConversationSpace(max_chars=7)"


@pytest.mark.parametrize("space", [UtteranceSpace(), ConversationSpace()], ids=repr)
def test_masks_are_refused(space):
    assert not space.is_np_flattenable
    with pytest.raises(ValueError, match="neither a mask"):
        space.sample(mask=np.ones(1))
