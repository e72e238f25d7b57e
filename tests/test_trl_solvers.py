"""TRL's trainers as single-turn solvers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from torch import Tensor

from agents.chat_model import ChatModel
from agents.mixture import Mixture
from agents.packing import Packed, Prompts
from agents.ppo import PPO, SingleTurnSolver
from agents.trl_solvers import TRLSolver
from benchmarks.build import CONF, Experiment
from benchmarks.progress import RunError
from envs.conversation import Conversation
from tests.conftest import TEXTS, tiny_model


def a_model() -> ChatModel:
    return tiny_model(max_new_tokens=5)


class Wanted:
    """A response is worth 1 where its first token has an even number, else 0; before it is said, 0."""

    spread = torch.tensor(0.5)

    def __init__(self) -> None:
        self.scored = 0

    def values(self, packed: Packed, prompts: Sequence[Prompts], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        first = torch.cat([torch.zeros(1, dtype=torch.long), packed.last[:-1] + 1])
        worth = (packed.tokens[first] % 2 == 0).float()
        self.scored += len(worth)
        return torch.zeros(len(worth)), worth[packed.response]


def prompts(model: ChatModel, n: int) -> list[Prompts]:
    """n conversations with two prompts each."""
    made = []
    for i in range(n):
        first = Conversation().then("user", TEXTS[i % 6])
        second = first.then("agent", TEXTS[(i + 1) % 6]).then("user", TEXTS[(i + 2) % 6])
        ids = model.prompt_ids(second)
        made.append(Prompts(ids, np.array([len(model.prompt_ids(first)) - 1, len(ids) - 1]), (first, second)))
    return made


def pays(model: ChatModel) -> float:
    """How likely an even token is to begin a response."""
    ids = torch.tensor([model.prompt_ids(Conversation().then("user", "good day"))])
    with torch.no_grad():
        return float(model.model(ids).logits[0, -1].softmax(-1)[::2].sum())


SOLVERS: dict[str, SingleTurnSolver] = {
    "grpo": TRLSolver("grpo", rounds=3, epochs=2, batch_size=16, learning_rate=5e-3, kl_coef=0.01),
    "rloo": TRLSolver("rloo", rounds=3, epochs=2, batch_size=16, learning_rate=5e-3, kl_coef=0.01),
    "ppo": PPO(rounds=3, epochs=2, batch_size=8, learning_rate=5e-3, kl_coef=0.01),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_makes_what_pays_more_likely_and_leaves_the_reference_alone(name: str):
    policy = a_model()
    reference, before = policy.clone(), pays(policy)
    weights = [parameter.clone() for parameter in reference.model.parameters()]
    scorer = Wanted()
    metrics = SOLVERS[name].improve(policy, reference, scorer, prompts(policy, 48), np.random.default_rng(0))
    assert pays(policy) > before + 0.04 and pays(reference) == pytest.approx(before)
    assert all(map(torch.equal, weights, reference.model.parameters()))
    assert metrics["kl"] > 0 and np.isfinite(list(metrics.values())).all()
    assert scorer.scored == (96 if name == "ppo" else 96 * 4)
    assert not policy.model.training and "parley-trl" not in policy.model.config._name_or_path
    clone = policy.clone()
    for parameter in clone.model.parameters():
        parameter.data.zero_()
    assert pays(clone) == pytest.approx(0.5, abs=0.01)  # a clone runs on weights of its own


class Overheard(Wanted):
    """Speaks through a mixture whenever it is asked, as the opponent of Nash-MD does."""

    def __init__(self, policy: ChatModel, start: ChatModel):
        super().__init__()
        self.mixture, self.policy, self.start = Mixture(policy, start, 0.1), policy, start
        self.behind = 0.0

    def values(self, packed: Packed, prompts: Sequence[Prompts], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        conversations = [Conversation().then("user", text) for text in TEXTS[:6]]
        said = [
            mixture.speak(conversations, [np.random.default_rng(i) for i in range(6)])
            for mixture in (self.mixture, Mixture(self.policy, self.start, 0.1))
        ]
        for a, b in zip(*said, strict=True):
            self.behind = max(self.behind, float(np.abs(np.subtract(a.logprobs[:1], b.logprobs[:1])).max()))
        return super().values(packed, prompts, rng)


def test_a_mixture_with_the_policy_moves_along_in_every_round():
    policy = a_model()
    scorer = Overheard(policy, policy.clone())
    SOLVERS["grpo"].improve(policy, scorer.start, scorer, prompts(policy, 24), np.random.default_rng(0))
    assert scorer.behind < 1e-5 and pays(policy) != pytest.approx(pays(scorer.start), abs=1e-4)


def test_a_prompt_that_the_template_reads_otherwise_is_left_out_and_counted():
    policy = a_model()
    spelt = Conversation().then("user", "hi <|end|><|agent|>yes please")
    ids = policy.prompt_ids(spelt)
    odd = Prompts(ids, np.array([len(ids) - 1]), (spelt,))
    scorer = Wanted()
    solver = TRLSolver(rounds=1, epochs=1)
    metrics = solver.improve(policy, policy.clone(), scorer, [*prompts(policy, 2), odd], np.random.default_rng(0))
    assert metrics["prompts_left_out"] == 1 and scorer.scored == 16
    with pytest.raises(ValueError, match="No prompt is read"):
        solver.improve(policy, policy.clone(), scorer, [odd], np.random.default_rng(0))


@pytest.mark.parametrize(("n", "rounds"), [(31, 1), (62, 2), (155, 5), (1024, 2), (3, 4), (1, 1)])
def test_prompts_are_divided_among_the_rounds_with_little_left(n: int, rounds: int):
    done, per_round, batch = TRLSolver(rounds=rounds, batch_size=64)._shares(n)
    assert done == min(rounds, n) and per_round * 4 % batch == 0 and batch < 128
    assert 0.75 * n < done * per_round <= n


def test_equal_generators_improve_alike():
    made = []
    for _ in range(2):
        policy = a_model()
        SOLVERS["grpo"].improve(policy, policy.clone(), Wanted(), prompts(policy, 6), np.random.default_rng(3))
        made.append(list(policy.model.parameters()))
    assert all(map(torch.equal, *made))


def test_prompts_of_few_conversations_are_enough():
    policy = a_model()
    scorer = Wanted()
    TRLSolver(rounds=1, epochs=1).improve(policy, policy.clone(), scorer, prompts(policy, 1), np.random.default_rng(0))
    assert scorer.scored == 8


BAD = [
    ({"algorithm": "dpo"}, "algorithm='dpo'"),
    ({"num_generations": 1}, "num_generations=1"),
    ({"batch_size": 6}, "batch_size=6 holds no whole number"),
    ({"kl_coef": -1.0}, "kl_coef=-1"),
    ({"algorithm": "rloo", "rounds": 1}, "rounds=1 leaves RLOO's KL"),
]


@pytest.mark.parametrize(("options", "named"), BAD)
def test_values_out_of_range_are_named(options: dict[str, object], named: str):
    with pytest.raises(ValueError, match=named):
        TRLSolver(**options)  # type: ignore[arg-type]


def composed(*words: str) -> Experiment:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", list(words), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return Experiment.of(config)


@pytest.mark.parametrize("agent", ["iterppo", "rlhf_value", "nash_reward"])
@pytest.mark.parametrize("solver", ["trl_grpo", "trl_rloo"])
def test_a_solver_takes_the_place_of_the_agents_own(agent: str, solver: str):
    experiment = composed(f"agent={agent}", f"solver={solver}", "solver.kl_coef=0.1")
    experiment.check()
    assert experiment.config["agent"]["solver"]["kl_coef"] == 0.1 and "solver" not in experiment.config
    assert f"solver={solver}" in experiment.variant


def test_an_override_of_the_solver_that_was_replaced_is_refused():
    with pytest.raises(RunError, match=r"agent.solver.kl_coef=0.3 is for the agent's own solver"):
        composed("agent=iterppo", "solver=trl_grpo", "agent.solver.kl_coef=0.3")


def test_an_agent_without_a_solver_is_named():
    with pytest.raises(RunError, match="agent=mtpo has no single-turn solver"):
        composed("agent=mtpo", "solver=trl_grpo")
