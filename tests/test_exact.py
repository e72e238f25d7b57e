"""MTPO and its kin computed exactly, Iterative PPO's step, and the claims that are judged by them."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.rollout import rollout
from agents.tabular import TabularAgent
from benchmarks.studies.cycle import (
    Run,
    draw,
    exact_runs,
    finds_the_mixed_equilibrium,
    mixed_equilibrium,
    sampled_run,
    unregularised_exploitability,
)
from benchmarks.studies.exact import (
    bradley_terry,
    equilibrium,
    fixed,
    fixed_point_error,
    gradient,
    mtpo,
    mtpo_tau,
    q_bound,
    rate_bound,
    self_play,
    value_difference_error,
)
from benchmarks.studies.improvement import DIRECTIONS, Mdps, improve, objective, penalty
from benchmarks.studies.open_questions import at_divergence, claim_21, drawn, mirror_term, noisy, preference_noise
from benchmarks.studies.theory import claim_1, claim_2, claim_8, slope
from envs.games import (
    Game,
    RandomGame,
    RockPaperScissors,
    best_response,
    divergence,
    exploitability,
    normalised,
    win_rate,
)
from envs.tabular import TabularEnv


def duel(p: float = 0.75, mu: float = 0.5) -> Game:
    """One turn, two actions, each leading to its own final state; the first state is preferred with chance ``p``."""
    moves = np.zeros((1, 1, 2, 2, 2))
    moves[..., 0, 0] = moves[..., 1, 1] = 1.0
    return Game(
        moves,
        np.array([[[0.5, p], [1 - p, 0.5]]]),
        np.log(np.broadcast_to([mu, 1 - mu], (1, 1, 2, 2))).copy(),
        ("a", "b"),
    )


def random_game(kind="general", games=4, **options) -> Game:
    return RandomGame(kind, 3, games, 3, 3, 3, uniform_mu=False, **options).build()


def nth(policies, t):
    """π_t, counted from 1."""
    return next(islice(policies, t - 1, None))


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_a_duel_has_the_equilibrium_in_closed_form():
    # Whoever the opponent is, Q(a) - Q(b) = p - 1/2 (the rows of the table differ by that in both columns), so
    # π*(a) / π*(b) = μ(a) / μ(b) · exp((p - 1/2) / α) = (0.5 / 0.5) · exp(0.25 / 0.25) = e.
    nash = equilibrium(duel(), alpha=0.25)
    assert np.exp(nash[0, 0, 0, 0]) == pytest.approx(np.e / (1 + np.e), abs=1e-12)


def test_the_first_steps_of_a_duel_are_those_of_the_formula():
    # η_1 = 2 / (3 α): π_2(a)/π_2(b) = exp(η_1 · 1/4) = exp(2/3 · 0.25 / 0.25) from equal chances.
    # η_2 = 2 / (4 α): the log-ratio becomes (1 - 1/2) · 2/3 + 1/2 · 1 = 5/6.
    game = duel()
    ratios = [policy[0, 0, 0, 0] - policy[0, 0, 0, 1] for policy in islice(mtpo(game, 0.25), 3)]
    assert ratios == pytest.approx([0.0, 2 / 3, 5 / 6], abs=1e-12)


def test_the_first_step_of_mtpo_tau_is_that_of_the_formula():
    # π^α_2 = π_2^{1 - 1/2} μ^{1/2}: half the log-ratio of π_2, which is that of MTPO's; then + η_2 · 1/4 = 1/2.
    (_, _), (second, mixture), (third, _) = islice(mtpo_tau(duel(), 0.25), 3)
    ratio = [policy[0, 0, 0, 0] - policy[0, 0, 0, 1] for policy in (second, mixture, third)]
    assert ratio == pytest.approx([2 / 3, 1 / 3, 5 / 6], abs=1e-12)


def test_without_the_mirror_term_a_duel_is_solved_at_once():
    assert np.allclose(nth(mtpo(duel(), 0.25, mirror=False), 2), equilibrium(duel(), 0.25))


def test_the_reward_of_a_duel_is_the_log_odds():
    # One pair: σ(r_a - r_b) = p, whatever μ plays; the lower one is 0.
    assert bradley_terry(duel(0.8, mu=0.3), duel(0.8, mu=0.3).mu)[0] == pytest.approx([np.log(4), 0.0], abs=1e-9)


def test_transitive_games_are_explained_by_their_own_reward():
    game = RandomGame("transitive", 1, contexts=3).build()
    fitted = bradley_terry(game, game.mu)
    assert np.allclose(fitted, game.reward - game.reward.min(1, keepdims=True), atol=1e-6)


def test_a_preference_without_doubt_has_no_reward():
    with pytest.raises(ValueError, match="no Bradley–Terry reward"):
        bradley_terry(duel(1.0), duel(1.0).mu)


def test_one_gradient_step_of_a_duel_is_that_of_the_loss():
    # ∂/∂z_a = π(a) (q_a - mean) with q_a - q_b = 1/4 and π = 1/2: logits move by ± lr · 1/2 · 1/8, apart by lr / 8.
    policy = nth(gradient(duel(), 0.25, learning_rate=0.4), 2)
    assert policy[0, 0, 0, 0] - policy[0, 0, 0, 1] == pytest.approx(0.05, abs=1e-12)


def test_at_one_step_per_q_the_mirror_term_does_nothing():
    game = random_game()
    plain, kept = (nth(gradient(game, 0.05, learning_rate=2.0, mirror=one), 30) for one in (0.0, 5.0))
    assert np.array_equal(plain, kept)


# ---- the theory of MTPO ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["general", "transitive", "cyclic"])
@pytest.mark.parametrize("alpha", [0.02, 0.5])
def test_the_equilibrium_is_a_fixed_point_that_nothing_exploits(kind, alpha):
    game = random_game(kind)
    nash = equilibrium(game, alpha)
    assert fixed_point_error(game, nash, alpha).max() <= 1e-8
    assert abs(exploitability(game, nash, alpha)).max() <= 1e-8
    assert (divergence(game, nash, game.mu) <= 1 / (2 * alpha)).all()


def test_mtpo_and_mtpo_tau_come_to_the_equilibrium_and_rlhf_to_its_own():
    game, alpha = random_game(), 0.2
    nash = equilibrium(game, alpha)
    assert divergence(game, nash, nth(mtpo(game, alpha), 800)).max() < 1e-10
    assert divergence(game, nash, nth(mtpo_tau(game, alpha), 800)[0]).max() < 1e-4
    reward = bradley_terry(game, game.mu)
    best, _ = best_response(game, reward, alpha)
    assert divergence(game, best, nth(mtpo(game, alpha, fixed(reward)), 800)).max() < 1e-10
    assert divergence(game, nash, best).min() > 1e-3


def test_an_equilibrium_that_is_not_found_is_an_error():
    with pytest.raises(ValueError, match=r"alpha=0\.01; raise max_steps"):
        equilibrium(RockPaperScissors().build(), 0.01, max_steps=300)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0.0, 2.0), kind=st.sampled_from(["general", "transitive", "cyclic"]))
def test_the_value_difference_lemma_holds_for_any_policies(seed, alpha, kind):
    game, rng = RandomGame(kind, seed % 50, 3, 4, 3, 2).build(), np.random.default_rng(seed)
    policy, other, opponent = (normalised(3 * rng.normal(size=game.mu.shape)) for _ in range(3))
    assert value_difference_error(game, policy, other, opponent, alpha).max() <= 1e-12


def test_the_bounds_are_the_papers():
    # Q ≤ max{4 α H log(1/μ_min), 1}: 4 · 0.5 · 1 · log 2 = 1.386; 32 · 1 · 1.386² / (0.25 · 4) at t = 3.
    assert q_bound(duel(), 0.5) == pytest.approx(2 * np.log(2))
    assert q_bound(duel(), 0.01) == 1.0
    assert rate_bound(duel(), 0.5, 3, factor=32) == pytest.approx(32 * (2 * np.log(2)) ** 2)


def test_claim_8_holds_on_small_games():
    verdicts = claim_8(games=2, alphas=(0.1, 1.0), steps=200)
    assert [verdict.verdict for verdict in verdicts] == ["holds"] * 12
    assert "0 of 2400 above" in verdicts[0].measured


def test_a_slope_is_found_and_a_short_path_has_none():
    t = np.arange(1, 101)
    assert slope(3.0 * t**-2.0) == pytest.approx(-2.0)
    assert np.isnan(slope(1e-20 * t**-2.0))


# ---- what the theory leaves open -------------------------------------------------------------------------------------


def test_flipped_labels_are_a_larger_alpha():
    game = random_game()
    heard = noisy(game, 0.3)  # α / (1 - 0.6)
    assert np.allclose(np.exp(equilibrium(heard, 0.1)), np.exp(equilibrium(game, 0.25)), atol=1e-9)


def test_drawn_labels_are_unbiased_and_symmetric():
    game = random_game(games=1)
    payoff = drawn(game, np.random.default_rng(0))
    shares = np.mean([payoff(game.mu) for _ in range(4000)], axis=0)
    assert np.allclose(shares, self_play(game)(game.mu), atol=0.03)


def test_at_equal_divergence_no_reward_beats_the_equilibrium():
    game = random_game(games=10)
    nash = equilibrium(game, 0.05)
    far = divergence(game, nash, game.mu)
    alphas, policy = at_divergence(game, bradley_terry(game, game.mu), 0.05, far)
    assert np.allclose(divergence(game, policy, game.mu), far, rtol=1e-6)
    assert (win_rate(game, nash, policy) >= 0.5 - 1e-9).all()
    assert (alphas > 0.05).all()


def test_the_verdicts_on_open_questions_say_what_was_found():
    noise = preference_noise(levels=(0.4,), games=3, steps=100)
    assert [one.verdict for one in noise] == ["holds", *["measured", "fails"] * 3, "holds"]  # at the same α RLHF wins
    assert [one.verdict for one in claim_21(games=4, alphas=(0.05,))] == ["holds"] * 3
    term = mirror_term(games=4, alphas=(0.01,), steps=200)
    assert term[0].verdict == "holds" and "8 games" in term[0].note


# ---- Iterative PPO's step --------------------------------------------------------------------------------------------


def one_state(gamma: float = 0.5) -> Mdps:
    """One state, two actions, rewards 1 and 0."""
    return Mdps(np.ones((1, 1, 2, 1)), np.array([[[1.0, 0.0]]]), gamma)


def test_values_of_one_state_are_a_geometric_series():
    q, v = one_state().values(np.log([[[0.25, 0.75]]]))
    assert v == pytest.approx(np.array([[0.25 / 0.5]]))
    assert q == pytest.approx(np.array([[[1 + 0.25, 0.25]]]))
    assert one_state().occupancy(np.log([[[0.25, 0.75]]])) == pytest.approx(np.ones((1, 1, 1)))


def test_the_step_is_the_closed_form():
    q, start = np.array([[[1.0, 0.0]]]), np.log([[[0.5, 0.5]]])
    reverse = improve(q, start, 0.5, "reverse")  # exp(1 / 0.5) to 1
    assert np.exp(reverse[0, 0, 0]) == pytest.approx(1 / (1 + np.exp(-2)))
    forward = improve(q, start, 0.5, "forward")
    # m = λ - 1 solves .25/m + .25/(m+1) = 1: m² + m/2 - 1/4 = 0, m = (√5 - 1)/4.
    assert np.exp(forward[0, 0, 0]) == pytest.approx(0.25 / ((np.sqrt(5) - 1) / 4))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_no_policy_has_a_higher_objective_than_the_step(direction):
    rng = np.random.default_rng(0)
    mdps = Mdps.random(rng, 20, 5, 4, 0.9)
    policy = mdps.random_policy(rng)
    q, _ = mdps.values(policy)
    best = objective(q, improve(q, policy, 0.3, direction), policy, 0.3, direction)
    for width in (0.01, 0.1, 3.0):
        near = normalised(improve(q, policy, 0.3, direction) + width * rng.normal(size=q.shape))
        assert (objective(q, near, policy, 0.3, direction) <= best + 1e-12).all()


def test_penalties_are_zero_at_the_reference_and_differ_between_the_directions():
    one, other = np.log([[[0.5, 0.5]]]), np.log([[[0.9, 0.1]]])
    assert penalty(one, one, "forward") == penalty(one, one, "reverse") == 0
    assert penalty(other, one, "forward")[0, 0] == pytest.approx(0.5 * np.log(25 / 9))
    assert penalty(other, one, "reverse")[0, 0] == pytest.approx(0.9 * np.log(1.8) + 0.1 * np.log(0.2))


def test_claim_1_no_value_falls_with_the_current_policy_as_reference_and_some_do_with_a_fixed_one():
    moving, resting = claim_1(steps=300)
    assert moving.verdict == resting.verdict == "holds"
    assert moving.measured.startswith("0 of 600 steps (0 with forward KL and 0 with reverse KL)")
    assert not resting.measured.startswith("0 of")


def test_claim_2_the_bound_holds_and_errors_can_outweigh_it():
    verdicts = claim_2(noises=(0.0, 0.3, 10.0), slacks=(0.0, 0.1), mdps=30)
    assert [verdict.verdict for verdict in verdicts] == ["holds", *["measured"] * 4]
    assert verdicts[0].measured.startswith("0 of 11520 below")
    assert "from eps_Q = 10 spreads" in verdicts[-1].measured


# ---- the cycle -------------------------------------------------------------------------------------------------------


def test_the_mixed_equilibrium_of_unequal_duels_by_hand():
    # Lopsidedness .4, .2, .3 of the duels won by rock, paper, scissors: (.3, .4, .2) / .9.
    spec = RockPaperScissors()
    assert mixed_equilibrium(spec) == pytest.approx([1 / 3, 4 / 9, 2 / 9])
    assert unregularised_exploitability(spec, mixed_equilibrium(spec)[None]) == pytest.approx([0.0], abs=1e-12)


def test_always_paper_is_exploited_by_scissors():
    spec, always_paper = RockPaperScissors(), np.array([[0.0, 1.0, 0.0]])
    assert unregularised_exploitability(spec, always_paper) == pytest.approx([0.3])  # .8 - 1/2
    mu = np.array([spec.mu])
    assert unregularised_exploitability(spec, mu) == pytest.approx(exploitability(spec.build(), spec.build().mu, 0)[:1])


def test_mtpo_finds_the_mixed_equilibrium_and_a_reward_does_not():
    assert [one.verdict for one in finds_the_mixed_equilibrium(steps=1000)] == ["holds", "holds"]
    ends = {run.name.split()[0]: run.policies[-1] for run in exact_runs(RockPaperScissors(), 0.03, 1000)}
    assert ends["MTPO"].min() > 0.15
    assert ends["multi-turn"].max() > 0.99


def test_a_run_is_counted_from_conversations():
    spec = RockPaperScissors()
    said = np.log(np.broadcast_to([1e-9, 1 - 2e-9, 1e-9], spec.build().mu.shape))
    batches = {
        1.0: rollout(TabularAgent(spec), TabularEnv(game=spec), range(400)),
        9.0: rollout(TabularAgent(spec, said), TabularEnv(game=spec), range(20)),
    }
    run = sampled_run("sampled", spec, batches, "#000000")
    assert run.iterations.tolist() == [1.0, 9.0]
    assert np.allclose(run.policies, [[0.6, 0.3, 0.1], [0, 1, 0]], atol=0.08)
    with pytest.raises(ValueError, match="has no move of rock, paper, scissors"):
        sampled_run("silent", spec, {1.0: []}, "#000000")


def test_runs_from_elsewhere_are_drawn_beside_the_exact_ones(tmp_path):
    spec = RockPaperScissors()
    sampled = Run("sampled", np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]]), np.array([1.0, 50.0]), "#E69F00", "v")
    paths = draw([*exact_runs(spec, 0.05, 50), sampled], spec, 0.05, tmp_path)
    assert [path.name for path in paths] == ["cycle.png", "cycle.svg"]
    assert all(path.stat().st_size > 10_000 for path in paths)
    assert "#e69f00" in paths[1].read_text()
