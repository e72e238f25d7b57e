"""Best of n: the start speaks, a learnt critic chooses, and no weight of the policy ever changes.

At each turn n utterances are sampled from the start, and the one with the highest Q is said. CHAI (arXiv 2204.08426)
speaks so; as a baseline in the code of ArCHer (arXiv 2402.19446, chai_agent.py) it says the best of 5 under the lesser
of two target critics.

Per iteration, conversations are held and Q is fitted to their returns and to those of the last iterations. Q is that of
Iterative PPO (``agents.q_function``), by Monte-Carlo regression, where CHAI's is learnt by bootstrapping. So what this
agent reaches is what that critic alone is worth, without the improvement of the policy that Iterative PPO adds.

Who holds the conversations of practice is open: the agent itself (``speaker: self``), so that Q is that of whoever
chooses by it and choosing improves on itself again and again; or the start (``start``), so that choosing is one step of
improvement on the start, by an ever better estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.agent import Critique, Metrics, check_range
from agents.behaviour import behaviour_metrics
from agents.chat_learner import ChatLearner
from agents.packing import Prompts, pack
from agents.practice import Practice
from agents.q_function import Labelled, QFunction
from agents.reader import trunk_rate
from agents.speaker import Speaker
from envs.conversation import Conversation
from envs.trajectory import Trajectory, Utterance, read_jsonl, write_jsonl

_AT_ONCE = 64
"""Conversations whose candidates are scored in one pass; results do not depend on it beyond rounding."""


class BestOfN(ChatLearner):
    """The start's utterances, chosen by a critic that learns.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``.
        n: utterances sampled at each turn; at 1 it is the start.
        speaker: who holds the conversations of practice, ``self`` or ``start``.
        gamma, q_learning_rate, q_trunk_learning_rate, q_batch_size, q_width, q_members: of Q (``QFunction``; the
            trunk's rate None: ``trunk_rate``).
        q_epochs: passes over the window per iteration.
        window: how many of the latest batches Q is fitted on.
        warm_start: passes over the logged data before the first iteration; 0 leaves it out.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(
        self,
        start: str | None,
        *,
        n: int = 5,
        speaker: Literal["self", "start"] = "self",
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        gamma: float = 1.0,
        q_learning_rate: float = 2e-3,
        q_trunk_learning_rate: float | None = None,
        q_batch_size: int = 48,
        q_width: int = 64,
        q_members: int = 4,
        q_epochs: float = 3.0,
        window: int = 3,
        warm_start: float = 5.0,
        **loading: Any,
    ):
        whole = {"n": n, "window": window, "q_batch_size": q_batch_size, "q_width": q_width, "q_members": q_members}
        for name, value in whole.items():
            check_range(name, value, 1)
        check_range("gamma", gamma, 0.0, 1.0)
        check_range("warm_start", warm_start, 0.0)
        check_range("q_epochs", q_epochs, 0.0)
        if speaker not in ("self", "start"):
            raise ValueError(f"speaker={speaker!r}; choose self or start.")
        self.n, self.speaker = n, speaker
        self.q_epochs, self.window, self.warm_start = q_epochs, window, warm_start
        self._trunk_rate = q_trunk_learning_rate
        self._fitting: dict[str, Any] = {
            "learning_rate": q_learning_rate,
            "batch_size": q_batch_size,
            "width": q_width,
            "members": q_members,
            "gamma": gamma,
        }
        self._batches: list[list[Trajectory]] = []
        self._q: QFunction | None = None
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    @property
    def q(self) -> QFunction:
        """The critic. Raises ``RuntimeError`` before there is one."""
        if self._q is None:
            raise RuntimeError("Best of n has no critic to choose by before prepare(practice).")
        return self._q

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given, begin Q there, and fit it to the logged data."""
        super().prepare(practice)
        (rng,) = practice.rng.spawn(1)  # a stream of its own: the first iteration begins with practice.rng itself
        self._q = self._new_q(rng)
        if self.warm_start and practice.budget.logged:
            self.q.fit(self._labelled(practice.logged()), rng, epochs=self.warm_start)

    def _new_q(self, rng: np.random.Generator) -> QFunction:
        rate = trunk_rate(self.start) if self._trunk_rate is None else self._trunk_rate
        return QFunction(self.start, rng, trunk_learning_rate=rate, **self._fitting)

    # ---- speaking -------------------------------------------------------------------------------------------------

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        """The best of n samples by Q; of equal ones the first. ``explore`` changes nothing: the choice is its best
        guess."""
        every = [np.random.default_rng(seed) for rng in rngs for seed in rng.integers(2**63, size=self.n)]
        said = self.policy.speak([one for one in conversations for _ in range(self.n)], every)
        candidates = [said[i : i + self.n] for i in range(0, len(said), self.n)]
        scores = self.scores(conversations, candidates)
        return [row[int(np.argmax(of_row))] for row, of_row in zip(candidates, scores, strict=True)]

    def scores(
        self, conversations: Sequence[Conversation], candidates: Sequence[Sequence[Utterance]]
    ) -> list[np.ndarray]:
        """[n] Q of each candidate in each conversation; -inf for one without a token, which Q cannot read."""
        found: list[np.ndarray] = []
        for i in range(0, len(conversations), _AT_ONCE):
            found += self._scored(conversations[i : i + _AT_ONCE], candidates[i : i + _AT_ONCE])
        return found

    def _scored(
        self, conversations: Sequence[Conversation], candidates: Sequence[Sequence[Utterance]]
    ) -> list[np.ndarray]:
        scores = [np.full(len(row), -np.inf) for row in candidates]
        rows: list[Prompts] = []
        said: list[list[tuple[int, ...]]] = []
        places: list[tuple[int, list[int]]] = []
        for b, (conversation, row) in enumerate(zip(conversations, candidates, strict=True)):
            different = {one.tokens: k for k, one in reversed(list(enumerate(row))) if one.tokens}
            if different:
                ids = self.policy.prompt_ids(conversation)
                rows.append(Prompts(ids, np.full(len(different), len(ids) - 1), (conversation,) * len(different)))
                said.append(list(different))
                places.append((b, list(different.values())))
        if rows:
            packed = pack(rows, said, [[self.policy.tail(tokens) for tokens in row] for row in said])
            _, along = self.q.values(packed)
            following = iter(along[packed.last].tolist())
            for b, kept in places:
                for k in kept:
                    scores[b][k] = next(following)
        return scores

    # ---- learning -------------------------------------------------------------------------------------------------

    def improve(self, practice: Practice) -> Metrics:
        rng = practice.rng
        self.policy.forget()  # a restored agent remembers nothing of what it read; reading is exact to rounding only
        trajectories = practice.converse(self if self.speaker == "self" else Speaker(self.start))
        judged = [one for one in trajectories if one.judged and one.steps]
        if not judged:
            raise RuntimeError(
                f"Of {len(trajectories)} conversations none was scored, and nothing can be learnt; see why the user or "
                "the judge fails."
            )
        figures = self.q.calibration(self._labelled(judged))  # on what it has not been fitted on yet
        self._batches = [*self._batches, judged][-self.window :]
        data = self._labelled([one for batch in self._batches for one in batch])
        loss = self.q.fit(data, rng, epochs=self.q_epochs)
        return {**behaviour_metrics(trajectories), "q_loss": loss} | {f"q_{name}": x for name, x in figures.items()}

    def _labelled(self, trajectories: Sequence[Trajectory]) -> list[Labelled]:
        return [self.q.label(self.policy, one) for one in trajectories if one.judged and one.steps]

    def critique(self, trajectories: Sequence[Trajectory]) -> Critique:
        """Q and V, in units of the return."""
        return self.q.critique(self.policy, trajectories)

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.q.save(folder)
        for i, batch in enumerate(self._batches):
            write_jsonl(folder / f"window{i:04d}.jsonl", batch)

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self._q = self._new_q(np.random.default_rng(0))  # whose weights are read in the next line
        self.q.restore(folder)
        self._batches = [list(read_jsonl(path)) for path in sorted(folder.glob("window*.jsonl"))]
