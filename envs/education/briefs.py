"""What either side is told before the lesson, in words, and what a teacher reads in its brief."""

from __future__ import annotations

from typing import Final

from envs.education.catalogue import ANALOGIES, MISCONCEPTIONS, TOPICS, UNSEEN_TOPICS
from envs.education.program import Profile

TEACHES: Final = {
    "lecture": "by giving a clear lecture",
    "discussion": "by talking it over together",
    "hands_on": "by trying things out with the hands",
    "story": "by telling a story",
}
"""The ways in words."""
_REACTS: Final = {
    "rude": "become rude",
    "disengaged": "lose interest",
    "frustrated": "get frustrated",
    "anxious": "become anxious",
    "adapts": "put up with it and try to follow all the same",
    "says_so": "say so and say what you would like instead",
}
_LIKES: Final = {
    "lecture": "listen to a lecture",
    "discussion": "talk things over",
    "hands_on": "try things out yourself",
    "story": "hear a story",
}
_BELIEVES: Final = {
    "reversed": "have cause and effect the wrong way round",
    "always": "believe that what is often so is so without exception",
    "mixed_up": "confuse two things that resemble each other",
    "literal": "take literally what is meant as an image",
}
_MOOD: Final = {1: " You are tired and not very interested today.", 2: ""}


def agent_brief(topic: str, teacher_way: str) -> str:
    """What the teacher is told: the same for every student of a topic."""
    wrong = "; ".join(f"one who {what} needs {ANALOGIES[name]}" for name, what in MISCONCEPTIONS.items())
    return (
        f"You teach {topic} in a lesson of eight exchanges; a test that you don't see follows. You yourself like to "
        f"teach {TEACHES[teacher_way]}, but every student has a way of its own: {'; '.join(TEACHES.values())}. Find it "
        "out, explain in that way, and see that what was understood is used and said again. Every student has got "
        f"something wrong, and one picture puts it right: {wrong}. Answers given away please the student and teach "
        "nothing. Say one short sentence at a time."
    )


def read_brief(brief: str) -> tuple[str | None, str | None]:
    """The topic and the teacher's own way, each None where the brief does not tell."""
    topics = [topic for topic in (*TOPICS, *UNSEEN_TOPICS) if f"You teach {topic} in" in brief]
    ways = [way for way, words in TEACHES.items() if f"like to teach {words}, but" in brief]
    return (topics[0] if topics else None), (ways[0] if ways else None)


def student_brief(profile: Profile) -> str:
    """The persona in words, for users that are told who they are."""
    prior = "a little" if profile.prior == "some" else "nothing"
    return (
        f"You have come for a lesson on {profile.topic}, of which you know {prior} yet. You learn best when you can "
        f"{_LIKES[profile.way]}; taught otherwise, you {_REACTS[profile.reaction]}. There is one mistake that you make "
        f"about it: you {_BELIEVES[profile.misconception]}. You are {profile.style} in manner."
        f"{_MOOD.get(profile.engagement, '')}"
    )
