"""Finite layered games with exact transitions and preferences, and their exact evaluation.

The formalism of arXiv 2405.14655, §2: in context ``c`` a conversation starts in state 0 of layer 1; in each of ``H``
layers the agent chooses an action and the next state is drawn; two final states of one context are compared by a table
P(x ≻ x' | c), which need not come from a reward. Contexts are equally likely.

A policy is a table of log-probabilities ``[C, H, X, Y]`` (contexts, layers, states, actions); layer h of the paper is
index h-1. A payoff is a number per final state, ``[C, X]``: the chance to beat an opponent, or a reward.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Kind = Literal["general", "transitive", "cyclic"]

WORDS = ("left", "right", "up", "down", "stay", "jump", "wait", "dig")
"""The actions' names, in order."""
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """A game as arrays, which are not to be changed. Raises ``ValueError`` for tables that are none."""

    transitions: Floats
    """Chance of the next state, [C, H, X, Y, X]."""
    preference: Floats
    """P(x ≻ x' | c) of two final states, [C, X, X]; P + Pᵀ = 1."""
    mu: Floats
    """Log-probabilities of the reference policy, [C, H, X, Y]; all finite."""
    actions: tuple[str, ...]
    """What the actions are called, Y names."""
    reward: Floats | None = None
    """A reward of final states, [C, X], not below 0, where the preference comes from one."""

    def __post_init__(self) -> None:
        if self.transitions.ndim != 5 or self.transitions.shape[2] != self.transitions.shape[4]:
            raise ValueError(f"transitions of shape {self.transitions.shape}; give [C, H, X, Y, X].")
        contexts, _, states, actions, _ = self.transitions.shape
        for name, array, shape in (
            ("preference", self.preference, (contexts, states, states)),
            ("mu", self.mu, self.transitions.shape[:4]),
            ("reward", self.reward, (contexts, states)),
        ):
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} of shape {array.shape}; with these transitions give {list(shape)}.")
        if len(self.actions) != actions:
            raise ValueError(f"{len(self.actions)} names for {actions} actions; give one for each.")
        _check_chances("transitions", self.transitions)
        _check_chances("mu", np.exp(self.mu))
        if not np.isfinite(self.mu).all():
            raise ValueError(
                "mu gives an action no chance at all; every action needs one, for divergences to be finite."
            )
        if self.preference.min() < 0 or abs(self.preference + self.preference.swapaxes(1, 2) - 1).max() > _TOLERANCE:
            raise ValueError("preference is no table of chances with P(x, x') + P(x', x) = 1.")
        if self.reward is not None and self.reward.min() < 0:
            raise ValueError(f"reward has a value of {self.reward.min():g}; shift it so that none is below 0.")

    @property
    def contexts(self) -> int:
        return self.transitions.shape[0]

    @property
    def horizon(self) -> int:
        return self.transitions.shape[1]

    @property
    def states(self) -> int:
        return self.transitions.shape[2]


def _check_chances(name: str, table: Floats) -> None:
    if table.min() < 0 or abs(table.sum(-1) - 1).max() > _TOLERANCE:
        raise ValueError(f"{name} is no table of chances: its last axis must be non-negative and sum to 1.")


# ---- games to be had -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RandomGame:
    """A game drawn from a seed: Dirichlet transitions, and a preference of a kind.

    - ``general``: every pair of final states has its own chance, uniform in [0, 1]; in general no reward explains them.
    - ``transitive``: Bradley–Terry on a reward, which the game then has.
    - ``cyclic``: final states in a ring, each better (with chances in [.6, .95]) than the half that goes before it.
    """

    kind: Kind = "general"
    seed: int = 0
    contexts: int = 2
    states: int = 3
    """Per layer, the final one included."""
    actions: int = 3
    horizon: int = 3
    uniform_mu: bool = True
    """Whether the reference policy chooses uniformly; otherwise it is drawn, with no chance below .05 / actions."""
    concentration: float = 0.3
    """Of the Dirichlet distribution that transitions are drawn from: the smaller, the more an action decides."""

    def build(self) -> Game:
        """The game; made once. Raises ``ValueError`` for a size or kind that it can't have."""
        return _random_game(self)


@dataclass(frozen=True, slots=True)
class RockPaperScissors:
    """One turn, and the action is the final state. The contexts are all alike."""

    mu: tuple[float, ...] = (0.6, 0.3, 0.1)
    """How often the reference policy plays rock, paper, scissors."""
    strengths: tuple[float, ...] = (0.9, 0.7, 0.8)
    """The chance with which rock beats scissors, paper rock, and scissors paper."""
    contexts: int = 2

    def __post_init__(self) -> None:
        for name in ("mu", "strengths"):
            values = tuple(getattr(self, name))  # a list in YAML
            if len(values) != 3:
                raise ValueError(f"{name}={values}; give three numbers: of rock, paper and scissors.")
            object.__setattr__(self, name, values)

    def build(self) -> Game:
        """The game; made once."""
        return _rock_paper_scissors(self)


GameSpec = RandomGame | RockPaperScissors
"""A small value that names a game: equal specs are the same game."""


def spec_to_json(spec: GameSpec) -> str:
    return json.dumps({"game": type(spec).__name__, **asdict(spec)})


def spec_from_json(text: str) -> GameSpec:
    """Reads what ``spec_to_json`` wrote; raises ``ValueError`` for anything else."""
    known: dict[str, type[GameSpec]] = {one.__name__: one for one in (RandomGame, RockPaperScissors)}
    try:
        values = json.loads(text)
        return known[values.pop("game")](**values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{text!r} names no game of {', '.join(known)}: {error!r}.") from error


@cache
def _random_game(spec: RandomGame) -> Game:
    if not 1 <= spec.actions <= len(WORDS):
        raise ValueError(f"actions={spec.actions}; give 1 to {len(WORDS)}, for so many have a name.")
    if not 0.01 <= spec.concentration <= 100:
        raise ValueError(
            f"concentration={spec.concentration}; give .01 (almost no chance) to 100 (nothing but chance)."
        )
    if min(spec.contexts, spec.horizon) < 1 or not 1 <= spec.states <= 99 or spec.horizon > 25:
        raise ValueError(f"{spec} is too small or too large: 1 context or more, 1 to 99 states, 1 to 25 layers.")
    rng = np.random.default_rng(spec.seed)
    shape = (spec.contexts, spec.horizon, spec.states, spec.actions)
    transitions = rng.dirichlet(np.full(spec.states, spec.concentration), shape)
    drawn = 0.95 * rng.dirichlet(np.ones(spec.actions), shape[:3]) + 0.05 / spec.actions
    mu = np.full(shape, 1 / spec.actions) if spec.uniform_mu else drawn
    preference, reward = _preference(spec, rng)
    return _frozen(Game(transitions, preference, np.log(mu), WORDS[: spec.actions], reward))


def _preference(spec: RandomGame, rng: np.random.Generator) -> tuple[Floats, Floats | None]:
    """The chances [C, X, X] of a kind of game, and the reward [C, X] they come from, if any."""
    table = (spec.contexts, spec.states, spec.states)
    if spec.kind == "transitive":
        reward = rng.uniform(0, 4, table[:2])
        return _symmetric(sigmoid(reward[:, :, None] - reward[:, None, :])), reward
    if spec.kind == "general":
        return _symmetric(rng.uniform(0, 1, table)), None
    if spec.kind == "cyclic":
        ahead = (np.arange(spec.states)[:, None] - np.arange(spec.states)) % spec.states  # [X, X]
        better, even = 2 * ahead < spec.states, 2 * ahead == spec.states
        strength = rng.uniform(0.6, 0.95, table)
        return _symmetric(np.where(even, 0.5, np.where(better, strength, 1 - strength))), None
    raise ValueError(f"kind={spec.kind!r} is no kind of game; choose general, transitive or cyclic.")


def _symmetric(table: Floats) -> Floats:
    """The upper triangle of ``table`` [C, X, X], below it 1 minus that to the last bit, and a diagonal of ½."""
    lower = np.tril(1 - table.swapaxes(1, 2), -1)
    upper = np.triu(1 - lower.swapaxes(1, 2), 1)  # not ``table``: 1 − (1 − p) can differ from p in the last bit
    return lower + upper + 0.5 * np.eye(table.shape[-1])


@cache
def _rock_paper_scissors(spec: RockPaperScissors) -> Game:
    if spec.contexts < 1:
        raise ValueError(f"contexts={spec.contexts}; give 1 or more.")
    rock, paper, scissors = spec.strengths
    preference = _symmetric(np.array([[[0.5, 1 - paper, rock], [paper, 0.5, 1 - scissors], [1 - rock, scissors, 0.5]]]))
    transitions, mu = np.tile(np.eye(3), (1, 1, 3, 1, 1)), np.tile(np.log(np.array(spec.mu)), (1, 1, 3, 1))
    one = Game(transitions, preference, mu, ("rock", "paper", "scissors"))
    return stacked([one] * spec.contexts)


def stacked(games: Sequence[Game]) -> Game:
    """One game with the contexts of all, which must have the same layers, states and actions; the reward is dropped."""
    arrays = {
        name: np.concatenate([getattr(game, name) for game in games]) for name in ("transitions", "preference", "mu")
    }
    return _frozen(Game(**arrays, actions=games[0].actions))


def _frozen(game: Game) -> Game:
    for array in (game.transitions, game.preference, game.mu, game.reward):
        if array is not None:
            array.setflags(write=False)
    return game


def sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * x))


# ---- exact evaluation ------------------------------------------------------------------------------------------------


def normalised(scores: Floats) -> Floats:
    """Log-probabilities over the last axis, proportional to exp(scores)."""
    top = scores.max(-1, keepdims=True)
    return scores - top - np.log(np.exp(scores - top).sum(-1, keepdims=True))


def divergence_at(policy: Floats, other: Floats) -> Floats:
    """KL(policy ‖ other)[x] over the last axis, in nats; an action that ``policy`` never takes adds nothing."""
    chances = np.exp(policy)
    with np.errstate(invalid="ignore"):
        return np.where(chances > 0, chances * (policy - other), 0.0).sum(-1)


def visits(game: Game, policy: Floats) -> Floats:
    """The chance to be in each state of each layer, the final one included, [C, H + 1, X]."""
    chances = np.zeros((game.contexts, game.horizon + 1, game.states))
    chances[:, 0, 0] = 1.0
    for h in range(game.horizon):
        acting = chances[:, h, :, None] * np.exp(policy[:, h])  # [C, X, Y]
        flat = game.transitions[:, h].reshape(game.contexts, -1, game.states)  # [C, X·Y, X]
        chances[:, h + 1] = (acting.reshape(game.contexts, 1, -1) @ flat)[:, 0]
    return chances


def payoff_against(game: Game, opponent: Floats) -> Floats:
    """P(x ≻ opponent | c) of each final state, [C, X]; the opponent plays from the initial state."""
    return (game.preference @ visits(game, opponent)[:, -1, :, None])[..., 0]


def win_rate(game: Game, policy: Floats, opponent: Floats) -> Floats:
    """P(policy ≻ opponent | c), [C]."""
    return (visits(game, policy)[:, -1] * payoff_against(game, opponent)).sum(-1)


def divergence(game: Game, policy: Floats, other: Floats) -> Floats:
    """KL_p(policy ‖ other | c) between the distributions of whole conversations, [C]; by Lemma 3.1 the sum over layers
    of the expected divergence in the state."""
    return (visits(game, policy)[:, :-1] * divergence_at(policy, other)).sum((1, 2))


def action_values(game: Game, policy: Floats, payoff: Floats, alpha: float) -> tuple[Floats, Floats]:
    """Q_α [C, H, X, Y] and V_α [C, H + 1, X] of ``policy`` by the recursion of §2.1 of the module's paper:
    V(x_{H+1}) = payoff, Q(x, y) = E V(x') − α KL(policy ‖ μ)[x], V(x) = E_{y~policy} Q(x, y)."""
    q = np.empty_like(policy)
    v = np.empty((game.contexts, game.horizon + 1, game.states))
    v[:, -1] = payoff
    chances, cost = np.exp(policy), alpha * divergence_at(policy, game.mu)
    for h in reversed(range(game.horizon)):
        q[:, h] = _expected(game, h, v[:, h + 1]) - cost[:, h, :, None]
        v[:, h] = (chances[:, h] * q[:, h]).sum(-1)
    return q, v


def _expected(game: Game, h: int, v: Floats) -> Floats:
    """E v(x') after each action in layer h, [C, X, Y]."""
    return (game.transitions[:, h] @ v[:, None, :, None])[..., 0]


def best_response(game: Game, payoff: Floats, alpha: float) -> tuple[Floats, Floats]:
    """The policy that maximises E payoff − α KL_p(· ‖ μ), and its value in each context, [C].

    By backward induction: π(y|x) ∝ μ(y|x) exp(E V(x') / α). With ``alpha=0`` the best actions, in equal parts.
    """
    policy, v = np.empty_like(game.mu), payoff
    for h in reversed(range(game.horizon)):
        expected = _expected(game, h, v)
        if alpha > 0:
            policy[:, h] = normalised(game.mu[:, h] + expected / alpha)
            v = alpha * _log_sum_exp(game.mu[:, h] + expected / alpha)
        else:
            v = expected.max(-1)
            policy[:, h] = normalised(np.where(expected >= v[..., None] - _TOLERANCE, 0.0, -np.inf))
    return policy, v[:, 0]


def _log_sum_exp(scores: Floats) -> Floats:
    top = scores.max(-1)
    return top + np.log(np.exp(scores - top[..., None]).sum(-1))


def exploitability(game: Game, policy: Floats, alpha: float) -> Floats:
    """max_π' P_α(π' ≻ policy) − ½ in each context, [C]: what a best response gains in the regularised game, in which
    P_α(π ≻ π') = P(π ≻ π') − α KL_p(π ‖ μ) + α KL_p(π' ‖ μ). Not below 0, and 0 at the equilibrium alone."""
    _, value = best_response(game, payoff_against(game, policy), alpha)
    paid = alpha * divergence(game, policy, game.mu) if alpha > 0 else 0.0
    return value + paid - 0.5
