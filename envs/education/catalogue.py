"""The lesson: what is taught, how students like to learn and how they react, and the names of everything said there.

The four ways of learning and the six reactions are those of the published Education Dialogue data (arXiv 2405.14655).
"""

from __future__ import annotations

from typing import Final

from envs.acts import Act

TOPICS: Final = (
    "photosynthesis", "gravity", "fractions", "volcanoes", "electricity", "metaphors", "democracy", "evolution",
    "probability", "the water cycle", "the French Revolution", "the human heart",
)  # fmt: skip
"""What a lesson may be about. It is named in the teacher's brief and in the student's first words."""
UNSEEN_TOPICS: Final = ("magnetism", "the solar system", "irony")
"""Topics of the out-of-distribution split alone."""
WAYS: Final = ("lecture", "discussion", "hands_on", "story")
"""How a student may like to learn, and how a teacher may explain."""
REACTIONS: Final = ("rude", "disengaged", "frustrated", "anxious", "adapts", "says_so")
"""What a student does when it is taught in another way than it likes."""
MISCONCEPTIONS: Final = {
    "reversed": "takes the effect for the cause",
    "always": "takes what often holds for what always holds",
    "mixed_up": "takes two things that look alike for one",
    "literal": "takes a figure of speech or a picture for the thing itself",
}
"""What a student may have got wrong. Each is put right by an analogy of its own kind and by nothing else."""
ANALOGIES: Final = {
    "reversed": "a row of dominoes, of which the first must fall before the last",
    "always": "birds, of which most fly and a penguin does not",
    "mixed_up": "salt and sugar, which look alike and are two things",
    "literal": "a map, which is not the country that it shows",
}
PRIORS: Final = ("none", "some")
"""What a student knows of the topic beforehand."""
STYLES: Final = ("lively", "calm", "shy", "terse")
"""How a student talks. ``terse`` occurs only in the out-of-distribution split."""
LEVELS: Final = ("little", "half", "good")
"""How much a student shows when it is asked to say it in its own words."""

TEACHER_ACTS: Final = (
    Act("ask_way"),  # how do you like to learn?
    Act("probe"),  # what do you know or think about it already? Brings misconceptions to light
    *(Act("explain", way) for way in WAYS),
    Act("exercise"),
    *(Act("analogy", misconception) for misconception in MISCONCEPTIONS),
    Act("give_answer"),  # tells the answers of the exercises
    Act("encourage"),
    Act("check"),  # can you say it in your own words?
    Act("summarise"),
    Act("end"),
)

STUDENT_ACTS: Final = (
    Act("open"),  # "Hi, I'm here for the lesson on gravity."
    Act("open_new"),  # the same from a student that has never heard of it
    Act("open_some"),  # the same from a student that knows a little
    *(Act("tell_prior", prior) for prior in PRIORS),
    *(Act("tell_way", way) for way in WAYS),
    *(Act("tell_wrong", misconception) for misconception in MISCONCEPTIONS),
    Act("nothing_wrong"),  # probed after its misconception was put right
    Act("withhold"),  # asked, but does not say
    Act("follows"),  # the explanation got through
    Act("lost"),  # it was of the kind the student likes and did not get through
    Act("doubts"),  # it did not get through because it clashes with what the student believes
    *(Act("react", reaction) for reaction in REACTIONS),  # taught in another way than it likes
    Act("aha"),  # the analogy put the misconception right
    Act("so_what"),  # the analogy was about something else, or there is nothing to put right any more
    Act("solved"),  # the exercise went well
    Act("stuck"),  # it was too hard as yet
    *(Act("shows", level) for level in LEVELS),  # what it can say in its own words
    Act("thanks"),  # for answers given away
    Act("cheered"),
    Act("unmoved"),  # encouraged again, to no effect
    Act("noted"),  # the summary helped
    Act("too_early"),  # summed up or checked before there was anything to
    Act("confused"),  # did not understand the teacher
    Act("tired"),  # little engagement is left; only ever said beside another act
    Act("bye"),  # the lesson is over
    Act("leave"),  # walks out
)
