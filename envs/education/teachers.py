"""Teachers as rules: which act to do, given what is known. The yardsticks of ``parley/Education-v0``.

- ``random``: any act. The floor of all.
- ``behaviour``: a sloppy teacher that makes the logged data: asks sometimes, explains in the way that it likes itself
  more often than in the student's, gives answers away, ends too soon, and does something at random a quarter of the
  time.
- ``sloppy``: the same without the random quarter.
- ``attentive``: explains in the way it heard of and puts right what it heard is wrong, and then has no plan: it never
  brings a student further than that.
- ``clumsy``: finds out first, and then does the fitting thing or another, by the toss of a coin. Its lessons are for
  learning to read: in those of the others a wrong answer is rare.
- ``give_away``: gives the answers away first, and then does as the sloppy one does.
- ``myopic``: the best possible teacher for the student's satisfaction with the next exchange alone.
- ``expert``: asks, explains, probes, puts right, explains, lets exercises be done, by a fixed plan.
- ``optimum``: acts by dynamic programming on the information state (``envs.education.planner``).

``TeacherInWords`` gives a rule ears and a mouth: it reads the student's words back into moves and words its own acts.
``python -m envs.education.teachers`` prints what each rule achieves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

from envs.acts import Act
from envs.conversation import Conversation
from envs.education.briefs import read_brief
from envs.education.catalogue import MISCONCEPTIONS, TEACHER_ACTS, TOPICS, WAYS
from envs.education.knowledge import Knowledge, begin, learn
from envs.education.language import student_parser, teacher_parser, teacher_phrasebook
from envs.education.planner import Planner, Pleaser
from envs.education.program import MAX_ANSWERS, MAX_CONSOLIDATED, UNDERSTOOD
from envs.odds import Choice, chosen

Rule = Callable[[Knowledge, np.random.Generator], Act]
NOISE = 0.25
"""Share of the behaviour teacher's acts that are random."""
_WRONG_IDEAS = tuple(MISCONCEPTIONS)


def random(known: Knowledge, rng: np.random.Generator) -> Act:
    """Any act at all."""
    return TEACHER_ACTS[int(rng.integers(len(TEACHER_ACTS)))]


def _noise(rng: np.random.Generator) -> Act:
    return TEACHER_ACTS[int(rng.integers(len(TEACHER_ACTS) - 1))]  # all but end


def myopic() -> Rule:
    """What pleases the student most, now."""
    pleaser = Pleaser()
    return lambda known, rng: pleaser.best(known)


def expert(known: Knowledge, rng: np.random.Generator) -> Act:
    """Ask for the way, explain, probe until told, put right, explain, let exercises be done, end."""
    mind = known.mind
    if known.way is None and not known.not_ways and known.exchanges < 2:
        return Act("ask_way")
    if mind.grasp == 0:
        return Act("explain", known.candidate_way())
    if mind.misled:
        probes = known.misconception is None and not known.not_misconceptions and known.exchanges < 5
        return Act("probe") if probes else Act("analogy", known.candidate_misconception())
    if mind.grasp < UNDERSTOOD:
        return Act("explain", known.candidate_way())
    return Act("exercise") if mind.consolidated < MAX_CONSOLIDATED else Act("end")


def behaviour(known: Knowledge, rng: np.random.Generator) -> Act:
    """A sloppy teacher that a quarter of the time does anything at all but end the lesson."""
    return _noise(rng) if rng.random() < NOISE else sloppy(known, rng)


def sloppy(known: Knowledge, rng: np.random.Generator) -> Act:
    """The behaviour teacher without its noise: it does what it means to do, which is not much."""
    u, mind = rng.random(), known.mind
    if known.way is None and u < 0.65:
        return Act("ask_way")
    if mind.misled and mind.grasp > 0:
        return _sloppy_probe(known, rng)
    if mind.grasp < UNDERSTOOD:
        if u < 0.85:
            return Act("explain", _some_way(known, rng))
        return (Act("encourage"), Act("give_answer"), Act("check"))[int(rng.integers(3))]
    if mind.consolidated < MAX_CONSOLIDATED and u < 0.75:
        return (Act("exercise"), Act("check"), Act("summarise"))[int(rng.integers(3))]
    return Act("give_answer") if u < 0.9 and mind.answers < MAX_ANSWERS else Act("end")


def _sloppy_probe(known: Knowledge, rng: np.random.Generator) -> Act:
    u = rng.random()
    if known.misconception is not None and u < 0.75:
        return Act("analogy", known.misconception)
    if known.misconception is None and u < 0.6:
        return Act("probe")
    if u < 0.7:
        return Act("analogy", _WRONG_IDEAS[int(rng.integers(len(_WRONG_IDEAS)))])
    return Act("explain", _some_way(known, rng)) if u < 0.9 else Act("give_answer")


def _some_way(known: Knowledge, rng: np.random.Generator) -> str:
    """The student's way if it is known and thought of, else the teacher's own or any."""
    if known.way is not None and rng.random() < 0.85:
        return known.way
    return known.teacher_way or WAYS[int(rng.integers(len(WAYS)))]


def attentive(known: Knowledge, rng: np.random.Generator) -> Act:
    """Explains in the way it was told and puts right what it was told, and has no plan.

    It shows a small model what belongs together (which picture puts which mistake right) without showing how to teach:
    it stops explaining where a student could begin to understand, and nothing is ever practised.
    """
    u, mind = rng.random(), known.mind
    if known.way is None:
        return Act("ask_way") if u < 0.85 else Act("encourage")
    if mind.grasp == 0 and mind.misled:
        return Act("explain", known.way)
    if mind.misled:
        return Act("probe") if known.misconception is None else Act("analogy", known.misconception)
    return (Act("encourage"), Act("ask_way"), Act("probe"), Act("give_answer"))[int(rng.integers(4))]


def clumsy(known: Knowledge, rng: np.random.Generator) -> Act:
    """Finds out first, and then does the fitting thing or another one of its kind about equally often."""
    u, mind = rng.random(), known.mind
    some_way = Act("explain", WAYS[int(rng.integers(len(WAYS)))])
    some_analogy = Act("analogy", _WRONG_IDEAS[int(rng.integers(len(_WRONG_IDEAS)))])
    if rng.random() < 0.1:
        return _noise(rng)
    if known.way is None:
        return Act("ask_way") if u < 0.7 else some_way
    explains = Act("explain", known.way) if rng.random() < 0.6 else some_way
    if mind.misled and mind.grasp > 0:
        if known.misconception is None:
            return Act("probe") if u < 0.75 else some_analogy if u < 0.9 else explains
        return Act("analogy", known.misconception) if u < 0.4 else some_analogy if u < 0.85 else explains
    if mind.grasp < UNDERSTOOD:
        return explains if u < 0.8 else (Act("exercise"), Act("check"), Act("summarise"))[int(rng.integers(3))]
    consolidates = (Act("exercise"), Act("check"), Act("summarise"), Act("give_answer"), some_analogy, explains)
    return consolidates[int(rng.integers(len(consolidates)))]


def give_away(known: Knowledge, rng: np.random.Generator) -> Act:
    """Gives the answers away first, and then does as the sloppy teacher does."""
    return Act("give_answer") if known.mind.answers < MAX_ANSWERS else sloppy(known, rng)


def optimum() -> Rule:
    """The optimal rule, which solves states as it meets them."""
    planner = Planner()
    return lambda known, rng: planner.best(known)


RULES: dict[str, Callable[[], Rule]] = {
    "random": lambda: random,
    "behaviour": lambda: behaviour,
    "sloppy": lambda: sloppy,
    "attentive": lambda: attentive,
    "clumsy": lambda: clumsy,
    "give_away": lambda: give_away,
    "myopic": myopic,
    "expert": lambda: expert,
    "optimum": optimum,
}


HABITS = 4
"""How many phrasings of each act a teacher with habits uses."""


def in_habit(act: Act, rng: np.random.Generator, topic: str | None = None) -> str:
    """An act in the words of a teacher with habits: one of the ``HABITS`` shortest phrasings, with all their variants.

    Every person has a manner of speaking; the behaviour teacher, whose lessons are logged, has this one. It never names
    the topic, whatever ``topic`` is, so a small model that imitates it need not spell what it has never met. The
    phrasebook has many more phrasings, all of which the student understands.
    """
    pattern = _habits(act)[int(rng.integers(len(_habits(act))))]
    return teacher_phrasebook().say_pattern(act, pattern, rng)


@cache
def _habits(act: Act) -> list[int]:
    patterns = teacher_phrasebook().patterns(act)
    nameless = [i for i, pattern in enumerate(patterns) if "_on}" not in pattern and "{topic}" not in pattern]
    return sorted(nameless, key=lambda i: (len(patterns[i]), patterns[i]))[:HABITS]


def in_any_words(act: Act, rng: np.random.Generator, topic: str | None = None) -> str:
    """An act in any words of the phrasebook. Without a ``topic`` any is taken."""
    topic = topic or TOPICS[int(rng.integers(len(TOPICS)))]
    return teacher_phrasebook().say(act, rng, values={"topic": topic})


class TeacherInWords:
    """A rule that hears and speaks: what it knows, it knows from its brief and the conversation's words alone.

    It mishears when a wording is unclear. What it has worked out of a conversation is remembered until the next call,
    which is only a short cut: a conversation it has not met is worked out from its first turn.
    """

    def __init__(self, rule: str):
        if rule not in RULES:
            raise ValueError(f"rule={rule!r} is not a rule of the scripted teacher; choose one of {', '.join(RULES)}.")
        self.rule = RULES[rule]()
        self.say = in_habit if rule == "behaviour" else in_any_words
        self._known: dict[tuple[str, ...], Knowledge] = {}

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[str]:
        """What the teacher says next in each conversation. Raises ``ValueError`` when a brief names no topic."""
        heard = self._hear(conversations)
        return [self.say(self.rule(known, rng), rng, topic) for (known, topic), rng in zip(heard, rngs, strict=True)]

    def choices(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[Choice]:
        """The act behind what ``speak`` says, given generators in the same state, and how likely the rule does it."""
        heard = self._hear(conversations)
        return [chosen(partial(self.rule, known), rng) for (known, _), rng in zip(heard, rngs, strict=True)]

    def _hear(self, conversations: Sequence[Conversation]) -> list[tuple[Knowledge, str]]:
        """What is known in each conversation, and its topic."""
        remembered, heard = {}, []
        for conversation in conversations:
            topic, way = read_brief(conversation.brief)
            if topic is None:
                raise ValueError(
                    f"The brief {conversation.brief[:60]!r} names no topic that is taught; a scripted teacher needs "
                    "that of parley/Education-v0."
                )
            words = (conversation.brief, *(turn.text for turn in conversation.turns))
            remembered[words] = known = self._know(words, way)
            heard.append((known, topic))
        self._known = remembered
        return heard

    def know(self, conversation: Conversation) -> Knowledge:
        """What is known after the conversation's turns, and from the brief."""
        words = (conversation.brief, *(turn.text for turn in conversation.turns))
        return self._know(words, read_brief(conversation.brief)[1])

    def _know(self, words: tuple[str, ...], way: str | None) -> Knowledge:
        """What is known after these words: the brief, and the turns, the student's opening first."""
        if words in self._known:
            return self._known[words]
        if len(words) < 4:
            opening = student_parser().parse_moves([words[1]])[0][0] if len(words) > 1 else Act("open")
            return begin(opening, teacher_way=way)
        before = self._know(words[:-2], way)
        (act,), (moves,) = teacher_parser().parse([words[-2]]), student_parser().parse_moves([words[-1]])
        return learn(before, act, moves)


def achieved(rule: Rule, lessons: int, seed: int = 0) -> tuple[float, float]:
    """Share of lessons after which the test is passed, and mean satisfaction per exchange, act by act (no words)."""
    from envs.education.corpus import play

    rng = np.random.default_rng(seed)
    played = [play(rule, rng) for _ in range(lessons)]
    pleased = [step.outcome.satisfaction for lesson in played for step in lesson.steps]
    return float(np.mean([lesson.passed for lesson in played])), float(np.mean(pleased))


def _main(lessons: int = 4000) -> None:
    print(f"{'rule':10} {'passed':>7} {'satisfaction':>13}   ({lessons} lessons, standard error at most .008)")
    for name, make in RULES.items():
        passed, pleased = achieved(make(), lessons)
        print(f"{name:10} {passed:7.3f} {pleased:13.3f}", flush=True)


if __name__ == "__main__":
    _main()
