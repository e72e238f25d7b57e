"""Does the optimum differ when a business decides? ``python -m envs.suggested_response.comparison``, some minutes.

For the bicycle shop and a purchase as the reward: the best adviser of a business that sends everything, and the best
one that reckons with a business, each evaluated both ways. What is expected is computed, act by act, in the training
split's prior; planners average over the customer's style as if it were drawn afresh at every question, which promises a
little more than can be had. The others are means of conversations in words, on the training split, with standard
errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from envs.suggested_response.advisers import AUTO_REPLY, PlanningAdviser, planner
from envs.suggested_response.business import START_TRUST
from envs.suggested_response.env import SuggestedResponseEnv, make_suggested_response
from envs.suggested_response.planner import Planner, at_the_start


def expected() -> list[tuple[str, float, float]]:
    """Policies with their values with businesses (a mean over those of training) and in auto-reply."""
    told = at_the_start(planner())
    auto_reply = Planner(planner().businesses, follow=lambda known: planner().best(known, AUTO_REPLY, START_TRUST))
    ours = at_the_start(auto_reply)
    return [
        ("auto_reply_optimum", float(ours[:AUTO_REPLY].mean()), float(ours[AUTO_REPLY])),
        ("told whom it deals with", float(told[:AUTO_REPLY].mean()), float(told[AUTO_REPLY])),
    ]


def played(adviser: PlanningAdviser, env: SuggestedResponseEnv, seeds: Sequence[int]) -> tuple[float, float, float]:
    """The mean return of an adviser, its standard error, and its share of suggestions that abstain."""
    live = [env.begin(seed) for seed in seeds]
    returns: list[float] = []
    suggestions = abstentions = 0
    while live:
        rngs = [np.random.default_rng((episode.seed, episode.exchanges, 0xADB1CE)) for episode in live]
        said = adviser.speak([episode.heard_by("agent") for episode in live], rngs)
        suggestions, abstentions = suggestions + len(said), abstentions + said.count("")
        advances = env.advance(live, said)
        returns += [advance.reward for advance in advances if advance.done]
        live = [advance.episode for advance in advances if not advance.done]
    return float(np.mean(returns)), float(np.std(returns) / len(returns) ** 0.5), abstentions / suggestions


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--conversations", type=int, default=1000)
    n = parser.parse_args().conversations
    print(f"{'adviser':32} {'business':>18} {'auto-reply':>18}")
    for name, business, auto_reply in expected():
        print(f"{name:32} {business:9.3f} expected {auto_reply:9.3f} expected", flush=True)
    for name in ("auto_reply", "business"):
        row = [
            played(PlanningAdviser(name), make_suggested_response(user), range(n))
            for user in ("business", "auto_reply")
        ]
        cells = " ".join(f"{mean:12.3f} ±{error:.3f}" for mean, error, _ in row)
        print(f"{name + '_optimum, in words':32} {cells}   abstains {row[0][2]:.3f}, {row[1][2]:.3f}", flush=True)


if __name__ == "__main__":
    _main()
