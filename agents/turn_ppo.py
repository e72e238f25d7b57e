"""Turn-PPO (arXiv 2512.17008): PPO in which a decision is a whole turn of the agent.

The turn-MDP: a state s_n is all that was said before the agent's n-th turn, an action a_n the whole response, and the
reward is the world's. Per step:

1. Hold a batch of conversations with the current policy, each on a scenario of its own.
2. Advantages by GAE over turns, from a critic with one value per turn: δ_n = r_n + γ V(s_{n+1}) - V(s_n),
   Â_n = δ_n + γλ Â_{n+1}. All tokens of a turn share Â_n.
3. Several epochs of minibatches on min(ρ_n Â_n, clip(ρ_n, 1 ± ε) Â_n), one ratio per turn:
   ρ_n = exp(Σ over its tokens of log π - log π_old).
4. The critic is regressed on Â_n + V_old(s_n), at a larger learning rate than the policy's.

V(s_n) is read at the last token before the response: what is read after it, as some do, is no value of a state and
takes the action for its own baseline.

Not known of the paper and chosen here: ε, the size of batches and minibatches, epochs, where KL goes (here the loss,
exact over the vocabulary and summed over the turn; see ``agents.clipped_gradient``). ``learner.ratio=mean`` averages
the log-ratio over a turn's tokens, as one re-implementation does: the sum of a long turn leaves 1 ± ε at the smallest
change, and ``clip_fraction`` tells how often.

Departures: a few hundred gradient steps on small models instead of thousands on large ones, hence larger learning
rates; a critic of heads on the start's trunk and not a second model of the policy's size; KL is weighed per turn and
advantages are divided by the deviation of all returns so far, not of the batch (``agents.actor_critic``).
"""

from __future__ import annotations

from agents.actor_critic import ActorCritic


class TurnPPO(ActorCritic):
    """A chat model that learns by Turn-PPO; for its arguments see ``ActorCritic``."""

    level = "turn"
