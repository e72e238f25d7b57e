"""A person in one of the two seats: ``python -m benchmarks.play env=sales``.

    python -m benchmarks.play env=sales                        # you sell, to the env's first user
    python -m benchmarks.play env=education user=program       # you teach
    python -m benchmarks.play env=sales seat=user agent=expert # you are the customer of an agent

Every conversation that comes to its end is kept as a trajectory below ``folder``. An empty line asks for help,
``/quit`` leaves; what was left is not kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig

from agents.agent import Agent
from agents.rollout import rollout
from agents.seats import play_both
from benchmarks.build import CONF, Experiment
from benchmarks.learn import use_threads
from benchmarks.progress import RunError, quieten_libraries, readable_errors, say
from envs.conversation import Conversation
from envs.env import ConversationEnv
from envs.trajectory import Trajectory, Utterance, write_jsonl
from envs.two_seats import PAYOFF

HELP = "Say what you want to say, in one line. /quit leaves the conversation."


class LeftError(Exception):
    """The person has left the conversation."""


class Person(Agent):
    """Somebody at a keyboard, in either seat.

    Args:
        accepts: whether an utterance is one that the world takes.
        ask: shows a prompt and returns a line; raises ``EOFError`` where there is no more.
    """

    def __init__(self, accepts: Callable[[str], bool], ask: Callable[[str], str] = input):
        self._accepts, self._ask = accepts, ask
        self._told = ""

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(self._answer(conversation)) for conversation in conversations]

    def _answer(self, conversation: Conversation) -> str:
        brief, _, note = conversation.brief.partition("\n")  # what is told for one turn alone stands below
        if brief != self._told:
            self._told = brief
            say(f"\n[{brief}]\n")
            for turn in conversation.turns[:-1]:
                say(f"You:  {turn.text}" if turn.speaker == "agent" else f"They: {turn.text}")
        if conversation.turns:
            say(f"They: {conversation.turns[-1].text}")
        if note:
            say(f"      [{note}]")
        while True:
            try:
                said = self._ask("You:  ").strip()
            except EOFError:
                raise LeftError from None
            if said == "/quit":
                raise LeftError
            if said and self._accepts(said):
                return said
            say(HELP if not said else "That is too long, or has characters that can't be written; say it otherwise.")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="play_config")
@readable_errors
def main(config: DictConfig) -> None:
    """Seat the person, talk, keep what was said."""
    if config.seat == "agent":
        config.agent = None  # whom the person replaces need not be there: a world may have no model to start from
    experiment = Experiment.of(config)
    options = experiment.config
    if options["seat"] not in ("agent", "user"):
        raise RunError(f"seat={options['seat']} is no seat; choose agent or user.")
    if not isinstance(options["conversations"], int) or options["conversations"] < 1:
        raise RunError(f"conversations={options['conversations']}; give 1 or more.")
    if options["scenario"] is not None and (not isinstance(options["scenario"], int) or options["scenario"] < 0):
        raise RunError(f"scenario={options['scenario']}; give the seed of one, 0 or more, or null.")
    experiment.check()
    use_threads(options["threads"])
    env = experiment.build_env(experiment.build_user(experiment.user), options["split"] or experiment.splits[0])
    agent = experiment.build_agent() if options["seat"] == "user" else None
    if agent is not None and agent.learns:
        raise RunError(
            f"agent={experiment.agent} has not learnt anything here; what a run has learnt speaks as agent=start "
            "agent.folder=RUN/checkpoints/NNNNNN/agent/policy."
        )
    quieten_libraries()
    folder = _ready(options["folder"], Path(experiment.env, options["seat"]))
    rng = np.random.default_rng(options["seed"] or None)
    for _ in range(options["conversations"]):
        seed = options["scenario"] if options["scenario"] is not None else int(rng.integers(1 << 31))
        try:
            trajectory = talk(env, Person(env.action_space.contains), agent, seed)
        except (LeftError, KeyboardInterrupt):
            say("\nYou left; this conversation is not kept.")
            sys.exit(0)
        path = keep(trajectory, folder)
        say(f"\n{told(trajectory, options['seat'])}\n{path}")


def _ready(root: str, place: Path) -> Path:
    """``root / place``, made and tried: nobody shall talk for nothing. Raises ``RunError`` if it can't be written."""
    try:
        (root / place).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root / place):
            return root / place
    except OSError as error:
        raise RunError(f"folder={root} can't be written: {error}. Give another place with folder=….") from error


def talk(env: ConversationEnv, person: Agent, agent: Agent | None, seed: int) -> Trajectory:
    """One conversation: the person with the world's user, or with ``agent`` in the user's seat."""
    if agent is None:
        (trajectory,) = rollout(person, env, [seed])
    else:
        (trajectory,) = play_both(env, agent, person, [seed])
    last = trajectory.steps[-1]
    if agent is None and last.reply is not None:
        say(f"They: {last.reply}")
    return trajectory


def told(trajectory: Trajectory, seat: str) -> str:
    """How it ended, and whom the person talked with or was."""
    if not trajectory.judged:
        return f"It could not be scored: {trajectory.failure}."
    who = ", ".join(f"{name} {value}" for name, value in trajectory.attributes.items())
    earned = f"the agent earned {trajectory.returns():.2f}"
    if seat == "user" and PAYOFF in trajectory.parts:
        earned += f", you {trajectory.parts[PAYOFF]:.2f}"
    return f"It ended ({trajectory.stop_reason}): {earned}. The user was: {who}."


def keep(trajectory: Trajectory, folder: Path) -> Path:
    """Write the transcript to a file of its own; returns where."""
    path = folder / f"{datetime.now():%Y%m%d-%H%M%S-%f}-seed{trajectory.seed}.jsonl"
    write_jsonl(path, [trajectory])
    return path


if __name__ == "__main__":
    main()
