"""Our PPO beside TRL's ``PPOTrainer``, on one single-turn problem: ``python -m benchmarks.trl_ppo --seeds 3``.

TRL had a PPOTrainer until 1.12.0, so this runs in an environment of its own::

    pip install -c constraints.txt -e . && pip install trl==1.12.0 requests

Both get the same policy (the start that ships), the same prompts (of 768 conversations of practice on
``parley/Sales-v0``, user=program), the same frozen Q as the reward, the same number of responses and passes. What comes
of it: the return of one improvement step on 1,000 scenarios, how much Q gained, how far the policy moved, core-seconds.

TRL wants the reward as a model with a score per token; ours reads Q where the user is given the turn. So the reward
model here puts the tokens that lie between behind the response and answers with what it reads there. Two things differ
that can't be set: TRL may sample tokens that are never spoken (role markers), which ours bans, and its advantages are
divided by their own deviation.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.chat_model import ChatModel
from agents.iterppo import IterPPO
from agents.packing import Prompts, pack
from agents.ppo import PPO, exact_kl, respond, token_logprobs
from agents.practice import Budget, Practice
from agents.q_function import QFunction
from agents.rollout import rollout
from agents.scripted import Scripted
from agents.speaker import Speaker
from envs.chat_format import USER
from envs.sales.env import make_sales
from results.tables import markdown_table

START = "envs/simulators/sales_seller"
ROUNDS, EPOCHS, PER_STEP = 2, 2, 80
"""Responses are sampled this often; passes over a round's; responses of a gradient step."""
TRAINED_ON = 768
"""Conversations whose prompts both are trained on; those of 256 more are measured on."""
LEARNING_RATE, CLIP, KL = 5e-4, 0.2, 0.05


class QAsReward(nn.Module):
    """Q(x, a) in its unit, as TRL asks a reward model: hidden states of ``backbone``, then ``score`` of the last."""

    base_model_prefix = "backbone"

    def __init__(self, q: QFunction, end: int, user: int):
        super().__init__()
        self.q = q
        self.backbone = _ReadBehind(q.trunk, end, user)

    def score(self, states: Tensor) -> Tensor:
        """[B, L, 1]"""
        flat = states.flatten(0, 1)
        return (self.q.unscaled(self.q.q_heads(flat)) / self.q.spread).view(*states.shape[:2], 1)


class VAsValue(nn.Module):
    """V of a conversation's beginning in Q's unit, which TRL trains on."""

    base_model_prefix = "backbone"

    def __init__(self, q: QFunction):
        super().__init__()
        self.backbone, self.heads = q.trunk, q.v_heads
        self.low, self.high = (bound.item() for bound in q.bounds)
        self.unit = q.spread.item()
        self.requires_grad_(True)

    def score(self, states: Tensor) -> Tensor:
        """[B, L, 1]"""
        values = self.heads(states.flatten(0, 1)).sigmoid().mean(0)
        return ((self.low + (self.high - self.low) * values) / self.unit).view(*states.shape[:2], 1)


class _ReadBehind(nn.Module):
    """A trunk whose state at every row's last token is that where the user is given the turn: at ``user``, behind
    ``end`` if the row does not end with that."""

    def __init__(self, trunk: nn.Module, end: int, user: int):
        super().__init__()
        self.trunk, self.end, self.user = trunk, end, user

    def forward(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, **_: Any) -> SimpleNamespace:
        every, width = torch.arange(len(input_ids)), input_ids.shape[1]
        last = width - 1 - attention_mask.flip(1).long().argmax(1)  # [B]
        open_ = input_ids[every, last] != self.end
        ids, mask, at = (nn.functional.pad(one, (0, 2)) for one in (input_ids, attention_mask, position_ids))
        for further, tokens in ((1, torch.where(open_, self.end, self.user)), (2, self.user)):
            ids[every, last + further], mask[every, last + further] = tokens, True
            at[every, last + further] = position_ids[every, last] + further
        states = self.trunk(input_ids=ids, attention_mask=mask, position_ids=at, use_cache=False).last_hidden_state
        answer = states[:, :width].clone()
        answer[every, last] = states[every, last + 1 + open_.long()]
        return SimpleNamespace(hidden_states=(answer,))


def problem(seed: int) -> tuple[ChatModel, QFunction, list[Prompts], np.random.Generator]:
    """A policy, a Q fitted to logged and practised conversations, and prompts that Q was not fitted on."""
    env, agent = make_sales("program"), IterPPO(START, PPO(), temperature=0.7, **_Q)
    practice = Practice(env, Budget(1792, 1792, 6000), seed, Scripted("behaviour", "envs.sales.sellers.SellerInWords"))
    agent.prepare(practice)
    conversations = [one for one in practice.converse(agent, 1792) if one.judged and one.steps]
    rng = np.random.default_rng(seed)
    agent.q.fit([agent.q.label(agent.policy, one) for one in conversations[:768]], rng, epochs=3.0)
    return agent.policy, agent.q, [agent.prompts_of(one) for one in conversations[768:]], rng


_Q: dict[str, Any] = {"q_learning_rate": 2e-3, "q_batch_size": 48, "warm_start": 5.0}


def ours(policy: ChatModel, q: QFunction, prompts: Sequence[Prompts], rng: np.random.Generator) -> None:
    """``agents.ppo``, as agent=iterppo has it."""
    per_conversation = sum(map(len, prompts)) / len(prompts)
    solver = PPO(
        rounds=ROUNDS, epochs=EPOCHS, batch_size=round(PER_STEP / per_conversation), learning_rate=LEARNING_RATE,
        clip=CLIP, kl_coef=KL,
    )  # fmt: skip
    solver.improve(policy, policy.clone(), q, prompts, rng)


def theirs(policy: ChatModel, q: QFunction, prompts: Sequence[Prompts], rng: np.random.Generator) -> None:
    """TRL's PPOTrainer: the same responses in all, with a value model that it trains along."""
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    single = [list(one.ids[: end + 1]) for one in prompts for end in one.ends.tolist()]
    steps = len(single) // ROUNDS // PER_STEP
    batch = steps * PER_STEP
    rows = [single[i] for i in rng.permutation(len(single))[: ROUNDS * batch]]
    tokenizer = policy.tokenizer
    tokenizer.padding_side = "left"
    (user,) = tokenizer.convert_tokens_to_ids([USER])
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            output_dir=folder, per_device_train_batch_size=batch, gradient_accumulation_steps=1,
            num_mini_batches=steps, num_ppo_epochs=EPOCHS, total_episodes=ROUNDS * batch,
            local_rollout_forward_batch_size=PER_STEP, response_length=policy.max_new_tokens, stop_token="eos",
            temperature=policy.temperature, kl_coef=KL, cliprange=CLIP, lam=1.0, gamma=1.0,
            learning_rate=LEARNING_RATE, lr_scheduler_type="constant", num_sample_generations=0, bf16=False,
            use_cpu=True, save_strategy="no", report_to="none", disable_tqdm=True, gradient_checkpointing=False,
            seed=int(rng.integers(2**31)),
        )  # fmt: skip
        gc.collect()
        gc.freeze()  # the trainer collects after every batch, which costs more than the small models do
        trainer = PPOTrainer(
            args=config, processing_class=tokenizer, model=policy.model, ref_model=policy.clone().model,
            reward_model=QAsReward(q, tokenizer.eos_token_id, user), value_model=VAsValue(_copied(q, policy)),
            train_dataset=Dataset.from_dict({"input_ids": rows}),
        )  # fmt: skip
        trainer.train()
    policy.model.eval()
    policy.forget()


def _copied(q: QFunction, policy: ChatModel) -> QFunction:
    other = QFunction(policy, np.random.default_rng(0), trunk_learning_rate=1e-3)
    other.load_state_dict(q.state_dict())
    return other


@torch.no_grad()
def measured(
    policy: ChatModel, start: ChatModel, q: QFunction, prompts: Sequence[Prompts], scenarios: int
) -> dict[str, float]:
    """Return; on prompts that it was not trained on, what Q thinks of its responses over V, and KL to the start per
    token."""
    trajectories = rollout(Speaker(policy), make_sales("program", "iid_test"), range(scenarios))
    gains, kl, tokens = [], 0.0, 0
    for i in range(0, len(prompts), 16):
        part = list(prompts[i : i + 16])
        said = [[one.tokens for one in row] for row in respond(policy, part, np.random.default_rng(i))]
        packed = pack(part, said, [[policy.tail(one) for one in row] for row in said])
        value, along = q.values(packed)
        gains += (along[packed.last] - value).tolist()
        each = exact_kl(token_logprobs(policy, packed), token_logprobs(start, packed))
        kl, tokens = kl + each.sum().item(), tokens + len(each)
    returns = [one.returns() for one in trajectories]
    return {"return": float(np.mean(returns)), "Q over V": float(np.mean(gains)), "KL per token": kl / tokens}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenarios", type=int, default=1000)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    try:
        import trl
        from trl.experimental.ppo import PPOTrainer  # noqa: F401
    except ImportError as error:
        print(f"No PPOTrainer here ({error}); install trl==1.12.0 and requests in an environment of its own.",
              file=sys.stderr)  # fmt: skip
        return 1
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        policy, q, prompts, _ = problem(seed)
        for name, improve in (("start", None), ("agents.ppo", ours), (f"PPOTrainer of TRL {trl.__version__}", theirs)):
            mine = policy.clone()
            began, wall = time.process_time(), time.monotonic()
            if improve:
                improve(mine, q, prompts[:TRAINED_ON], np.random.default_rng((seed, 1)))
            spent = {"core-seconds": time.process_time() - began, "seconds": time.monotonic() - wall}
            found.setdefault(name, []).append(
                measured(mine, policy, q, prompts[TRAINED_ON:], options.scenarios) | spent
            )
            print(f"seed {seed}, {name}: {found[name][-1]}", flush=True)
    rows = [{"solver": name} | {what: " / ".join(f"{one[what]:.3g}" for one in ones) for what in ones[0]}
            for name, ones in found.items()]  # fmt: skip
    print(markdown_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
