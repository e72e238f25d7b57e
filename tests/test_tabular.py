"""Finite games, as tables and in words."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.rollout import rollout
from agents.tabular import TabularAgent
from envs.checks import check_conversation_env
from envs.conversation import Conversation, Turn
from envs.env import StopReason
from envs.games import (
    Game,
    RandomGame,
    RockPaperScissors,
    action_values,
    best_response,
    divergence,
    exploitability,
    normalised,
    payoff_against,
    spec_from_json,
    spec_to_json,
    stacked,
    visits,
    win_rate,
)
from envs.tabular import NOWHERE, Guide, TableJudge, TabularEnv, actions_taken, heard, preferences, rewards

SMALL = RandomGame(contexts=2, states=3, actions=2, horizon=2)
SPECS = [
    SMALL,
    RandomGame("transitive", 4, 3, 4, 3, 3, uniform_mu=False),
    RandomGame("cyclic", 5, 2, 5, 3, 2),
    RockPaperScissors(),
]


def some_policy(game: Game, seed: int = 0) -> np.ndarray:
    return normalised(2 * np.random.default_rng(seed).normal(size=game.mu.shape))


def two_steps() -> Game:
    """Layer 1: action 0 leads to state 0, action 1 to state 1. Layer 2: action 0 keeps the state, action 1 leads to
    state 0 or 1 with equal chances. Final state 0 is preferred with chance .9."""
    moves = np.zeros((1, 2, 2, 2, 2))
    moves[0, 0, :, 0, 0] = moves[0, 0, :, 1, 1] = 1.0
    moves[0, 1, 0, 0, 0] = moves[0, 1, 1, 0, 1] = 1.0
    moves[0, 1, :, 1, :] = 0.5
    mu = np.log(np.full((1, 2, 2, 2), 0.5))
    return Game(moves, np.array([[[0.5, 0.9], [0.1, 0.5]]]), mu, ("left", "right"))


# ---- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_a_game_is_one_of_chances_and_the_same_for_equal_specs(spec):
    game = spec.build()
    assert np.allclose(game.transitions.sum(-1), 1) and np.allclose(np.exp(game.mu).sum(-1), 1)
    assert np.array_equal(game.preference, 1 - game.preference.swapaxes(1, 2))
    assert replace(spec).build() is game


def test_general_and_cyclic_games_cycle_and_transitive_ones_do_not():
    def cycles(kind):
        table = RandomGame(kind, 0, contexts=30, states=3).build().preference
        one_way = (table[:, 0, 1] > 0.5) & (table[:, 1, 2] > 0.5) & (table[:, 2, 0] > 0.5)
        return (one_way | ((table[:, 1, 0] > 0.5) & (table[:, 2, 1] > 0.5) & (table[:, 0, 2] > 0.5))).sum()

    assert 0 < cycles("general") < 30
    assert cycles("cyclic") == 30
    assert cycles("transitive") == 0


def test_state_distributions_by_hand():
    # μ: half to each state, then half stay and half scatter: the final states are equally likely.
    game = two_steps()
    assert visits(game, game.mu)[0] == pytest.approx(np.array([[1, 0], [0.5, 0.5], [0.5, 0.5]]))
    # Right, then right: state 1, then either.
    always_right = normalised(np.broadcast_to(np.array([-50.0, 0.0]), game.mu.shape))
    assert visits(game, always_right)[0] == pytest.approx(np.array([[1, 0], [0, 1], [0.5, 0.5]]))


def test_values_by_hand():
    # Against μ the payoffs are .7 and .3. In layer 2: staying earns .7 or .3, scattering .5. Of μ: .6 and .4, then .5.
    game = two_steps()
    q, v = action_values(game, game.mu, payoff_against(game, game.mu), alpha=0.3)
    assert q[0, 1] == pytest.approx(np.array([[0.7, 0.5], [0.3, 0.5]]))
    assert q[0, 0, 0] == pytest.approx(np.array([0.6, 0.4]))
    assert v[0, 0, 0] == pytest.approx(0.5)


def test_the_penalty_of_this_state_and_the_next_is_in_q():
    # Left in layer 1 with chance .9: KL = .9 log 1.8 + .1 log .2, counted once in every Q of that state.
    game = two_steps()
    policy = game.mu.copy()
    policy[:, 0] = np.log([0.9, 0.1])
    cost = 0.9 * np.log(1.8) + 0.1 * np.log(0.2)
    q, _ = action_values(game, policy, payoff_against(game, game.mu), alpha=0.5)
    assert q[0, 0, 0] == pytest.approx(np.array([0.6, 0.4]) - 0.5 * cost)
    assert divergence(game, policy, game.mu) == pytest.approx([cost])


@pytest.mark.parametrize("spec", SPECS)
def test_games_are_symmetric(spec):
    game = spec.build()
    one, other = some_policy(game, 1), some_policy(game, 2)
    assert win_rate(game, one, one) == pytest.approx(np.full(game.contexts, 0.5))
    assert win_rate(game, one, other) + win_rate(game, other, one) == pytest.approx(np.ones(game.contexts))


def test_the_divergence_of_conversations_is_that_of_their_probabilities():
    # Lemma 3.1, against the sum over all conversations (actions and states) of a small game.
    game = SMALL.build()
    policy, other = some_policy(game, 1), some_policy(game, 2)

    def onwards(context, h, state, p, ratio):
        if h == game.horizon:
            return p * ratio
        said, heard_next = np.exp(policy[context, h, state]), game.transitions[context, h, state]
        ratios = ratio + policy[context, h, state] - other[context, h, state]
        return sum(
            onwards(context, h + 1, following, p * said[y] * heard_next[y, following], ratios[y])
            for y, following in np.ndindex(2, 3)
        )

    by_sum = [onwards(context, 0, 0, 1.0, 0.0) for context in range(game.contexts)]
    assert divergence(game, policy, other) == pytest.approx(by_sum)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_no_policy_earns_more_than_the_best_response(spec, alpha):
    game = spec.build()
    payoff = payoff_against(game, game.mu)
    best, value = best_response(game, payoff, alpha)
    reached = (visits(game, best)[:, -1] * payoff).sum(1) - (alpha * divergence(game, best, game.mu) if alpha else 0)
    assert reached == pytest.approx(value)
    for seed in range(20):
        policy = some_policy(game, seed)
        earned = (visits(game, policy)[:, -1] * payoff).sum(1) - alpha * divergence(game, policy, game.mu)
        assert (earned <= value + 1e-12).all()


def test_exploitability_is_what_the_best_response_wins():
    game = two_steps()
    # Against μ (final states equally likely), unregularised: reach state 0 for certain and win .7.
    assert exploitability(game, game.mu, 0.0) == pytest.approx([0.2])
    assert (exploitability(game, some_policy(game), 0.2) >= 0).all()


@pytest.mark.parametrize(("wrong", "named"), [
    (lambda: RandomGame(actions=9), "actions=9"),
    (lambda: RandomGame(horizon=0), "horizon=0"),
    (lambda: RandomGame(kind="fair"), "kind='fair'"),
    (lambda: RandomGame(concentration=0.0), "concentration=0.0"),
])  # fmt: skip
def test_a_game_that_can_not_be_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        wrong().build()


@pytest.mark.parametrize(("change", "named"), [
    ({"preference": np.full((1, 2, 2), 0.6)}, "preference is no table"),
    ({"mu": np.log(np.full((1, 2, 2, 2), 0.4))}, "mu is no table of chances"),
    ({"actions": ("left",)}, "1 names for 2 actions"),
    ({"reward": np.array([[-1.0, 0.0]])}, "value of -1"),
    ({"transitions": np.ones((1, 2, 2, 2))}, "transitions of shape"),
])  # fmt: skip
def test_tables_that_are_none_are_named(change, named):
    with pytest.raises(ValueError, match=named):
        replace(two_steps(), **change)


def test_two_of_three_numbers_are_not_enough():
    with pytest.raises(ValueError, match="give three numbers"):
        RockPaperScissors(mu=(0.5, 0.5))


def test_stacked_games_are_played_side_by_side():
    games = [RandomGame(kind, 2).build() for kind in ("general", "cyclic")]
    both = stacked(games)
    apart = [win_rate(game, some_policy(both)[i : i + 2], game.mu) for i, game in zip((0, 2), games, strict=True)]
    assert win_rate(both, some_policy(both), both.mu) == pytest.approx(np.concatenate(apart))


# ---- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_the_world_keeps_the_contract(spec):
    report = check_conversation_env(
        lambda **options: TabularEnv(game=spec, **options), utterances=[*spec.build().actions, "what?"]
    )
    assert report.ok, report


def test_a_conversation_goes_through_the_layers_to_a_final_state():
    env = TabularEnv(game=SMALL)
    seen, _ = env.reset(seed=5)
    context, place = heard(seen)
    assert (place.layer, place.state) == (0, 0)
    seen, reward, over, _, _ = env.step("left")
    assert heard(seen)[1].layer == 1 and not over and reward == 0.0
    _, reward, over, truncated, info = env.step(" Right. ")
    assert over and not truncated and info["stop_reason"] == "outcome"
    final = env.episode.memory.state
    assert reward == pytest.approx(rewards(SMALL)[context, final])


def test_what_is_no_action_leads_nowhere_and_loses():
    env = TabularEnv(game=SMALL)
    (advance,) = env.advance([env.begin(5)], ["leftish"])
    assert advance.terminated and advance.stop_reason is StopReason.AGENT_LEFT and advance.reward == 0.0
    assert advance.assessment.parts == {"final": NOWHERE}
    assert "nowhere" in advance.episode.turns[-1].text
    table = preferences(SMALL)
    assert (table[:, :-1, NOWHERE] == 1).all() and (table[:, NOWHERE, :-1] == 0).all()
    assert (table[:, NOWHERE, NOWHERE] == 0.5).all()
    assert (rewards(SMALL) >= 0).all()


def test_the_reward_without_one_is_the_chance_to_beat_mu():
    game = SMALL.build()
    mean = (visits(game, game.mu)[:, -1] * rewards(SMALL)).sum(1)
    assert mean == pytest.approx([0.5, 0.5])
    transitive = RandomGame("transitive")
    assert np.array_equal(rewards(transitive), transitive.build().reward)


def test_the_words_are_played_as_the_tables_are():
    game = SMALL.build()
    policy = some_policy(game)
    trajectories = rollout(TabularAgent(SMALL, policy), TabularEnv(game=SMALL), range(2000))
    counts = actions_taken(SMALL, trajectories)
    assert counts.sum() == 4000
    often = counts.sum(-1) > 200
    assert often.sum() >= 5
    shares = counts[often] / counts[often].sum(-1, keepdims=True)
    assert np.allclose(shares, np.exp(policy[often]), atol=0.1)
    finals = np.zeros((2, 3))
    for one in trajectories:
        finals[int(one.attributes["context"]), int(one.parts["final"])] += 1
    assert np.allclose(finals / finals.sum(1, keepdims=True), visits(game, policy)[:, -1], atol=0.06)


def test_the_judge_is_the_table():
    trajectories = rollout(TabularAgent(SMALL), TabularEnv(game=SMALL), range(40))
    first = next(one for one in trajectories if one.key == "context 1")
    pairs = [(first, one) for one in trajectories if one.key == "context 1"]
    judged = TableJudge().prefer(pairs)
    table = SMALL.build().preference[1]
    assert [one.probability for one in judged] == [
        table[int(a.parts["final"]), int(b.parts["final"])] for a, b in pairs
    ]
    swapped = TableJudge().prefer([(b, a) for a, b in pairs])
    assert [one.probability for one in swapped] == [one.swapped().probability for one in judged]


def test_the_judge_names_what_it_can_not_compare():
    first, second = rollout(TabularAgent(SMALL), TabularEnv(game=SMALL), range(2))
    other = replace(second, key="context 9", attributes={**first.attributes, "context": "9"})
    with pytest.raises(ValueError, match="two scenarios or two games"):
        TableJudge().prefer([(first, other)])
    foreign = replace(first, attributes={})
    with pytest.raises(ValueError, match="of no game in words"):
        TableJudge().prefer([(foreign, foreign)])
    failed = replace(first, judged=False, failure="asleep")
    (preference,) = TableJudge().prefer([(first, failed)])
    assert not preference.judged and "asleep" in preference.failure


@given(spec=st.builds(RandomGame, st.sampled_from(["general", "cyclic"]), st.integers(0, 99), st.integers(1, 3)))
def test_a_game_can_be_written_and_read(spec):
    assert spec_from_json(spec_to_json(spec)) == spec


def test_rock_paper_scissors_can_be_written_and_read_and_other_things_not():
    assert spec_from_json(spec_to_json(RockPaperScissors())) == RockPaperScissors()
    for text in ('{"game": "Chess"}', "RandomGame", '{"game": "RandomGame", "colour": 1}', "[1]"):
        with pytest.raises(ValueError, match="names no game"):
            spec_from_json(text)


def test_words_that_are_no_guides_are_named():
    with pytest.raises(ValueError, match="not what the guide of a game says"):
        heard(Conversation("", (Turn("user", "Good morning."),)))


def test_a_policy_of_another_game_is_named():
    with pytest.raises(ValueError, match="this game's are"):
        TabularAgent(SMALL, np.zeros((1, 1, 3, 3)))


def test_the_guide_does_not_mind_its_company():
    env = TabularEnv(Guide(), game=SMALL)
    episodes = [env.begin(seed) for seed in range(6)]
    together = env.advance(episodes, ["left"] * 6)
    alone = [env.advance([episode], ["left"])[0] for episode in episodes]
    assert [one.episode for one in together] == [one.episode for one in alone]
