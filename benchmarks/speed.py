"""How fast things go here: ``python -m benchmarks.speed <what>``.

Every figure is a ratio of two ways of doing one thing, timed in turns in one run on one thread; CPU seconds, so that
neighbours on the machine matter less. Absolute figures depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from agents.agent import Agent
from agents.chat_model import ChatModel, TrajectoryTokens
from agents.ppo import exact_kl
from agents.q_function import Labelled, QFunction
from agents.rollout import rollout
from agents.token_batch import token_batch, token_logprobs
from envs.chat_format import encode_chat, never_spoken, train_tokenizer
from envs.conversation import Conversation, Speaker
from envs.decoding import Decoder, small_model
from envs.env import Assessment, ConversationEnv, Episode, Scenario
from envs.trajectory import Utterance
from envs.users import Reply, UserSimulator

# ---- rollouts: two language models talking ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Talk:
    """The conversations that are timed: lengths are geometric, cut at ``max_new_tokens``."""

    conversations: int = 256
    exchanges: int = 6
    agent_tokens: float = 9.0
    user_tokens: float = 10.0
    max_new_tokens: int = 24
    hidden_size: int = 96
    vocabulary: int = 2048


def rollouts(talk: Talk, repeats: int, slow: bool) -> dict[str, float]:
    """Conversations per CPU second of ``rollout`` through an environment, of the bare models with the cache kept, and
    (if ``slow``) of a loop around ``model.generate`` that resends the history; and their ratios."""
    agent, user, env = _parties(talk)
    speaker, seeds = _Speaker(agent), range(talk.conversations)
    ways: dict[str, Callable[[], object]] = {
        "rollout": lambda: rollout(speaker, env, seeds),
        "bare": lambda: _bare_loop(agent, user, talk),
    }
    if slow:
        ways["generate"] = lambda: _generate_loop(agent, user, talk)
    taken = _times(ways, repeats)
    figures = {f"{way}_conversations_per_s": talk.conversations / statistics.median(s) for way, s in taken.items()}
    figures["rollout_over_bare"] = _ratio(taken["rollout"], taken["bare"])
    if slow:
        figures["generate_over_rollout"] = _ratio(taken["generate"], taken["rollout"])
    trajectories = rollout(speaker, env, seeds)
    said = [len(step.utterance.tokens) for t in trajectories for step in t.steps]
    return {
        **figures,
        "agent_tokens_per_utterance": statistics.mean(said),
        "user_tokens_per_reply": sum(t.user_tokens for t in trajectories) / len(said),
    }


def _parties(talk: Talk) -> tuple[ChatModel, ChatModel, ConversationEnv]:
    """An agent and a user, both random models, and the environment in which the agent meets that user."""
    tokenizer = _tokenizer(talk.vocabulary)
    agent, user = (
        ChatModel(_talker(tokenizer, mean, talk, seed), tokenizer, max_new_tokens=talk.max_new_tokens)
        for seed, mean in enumerate((talk.agent_tokens, talk.user_tokens))
    )
    return agent, user, _TalkEnv(_ModelUser(user), max_exchanges=talk.exchanges)


def _times(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each way, ``repeats`` times after one warm-up, the ways taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if turn:
                taken[name].append(time.process_time() - start)
    return taken


def _ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """The median of the ratios of neighbours in time, which a neighbour on the machine slows alike."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer most of whose tokens are whole words with their space."""
    rng = np.random.default_rng(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = {"".join(rng.choice(syllables, size=2)) for _ in range(2 * vocabulary)}
    return train_tokenizer([" " + word for word in sorted(words)] * 4, vocabulary)


def _talker(tokenizer: PreTrainedTokenizerFast, mean_tokens: float, talk: Talk, seed: int) -> LlamaForCausalLM:
    """A random model that says whole words, and ends its turn after ``mean_tokens`` tokens on average.

    One direction, the same in all embeddings, carries what a bias would: the end of the turn gets the probability it
    should have, and what is no word gets next to none. The amount of computing is that of a trained model.
    """
    model = small_model(tokenizer, hidden_size=talk.hidden_size, seed=seed)
    words = torch.tensor([token.startswith("Ġ") and len(token) > 3 for token in _tokens(tokenizer)])
    direction = torch.ones(talk.hidden_size) / talk.hidden_size**0.5
    with torch.no_grad():
        model.model.embed_tokens.weight += 5 * direction  # outweighs what the layers add
        head = 0.05 * torch.randn(len(tokenizer), talk.hidden_size, generator=torch.Generator().manual_seed(seed))
        head -= torch.outer(head @ direction, direction)
        head[~words] = -3 * direction
        odds = float(words.sum()) / (mean_tokens - 1)
        head[tokenizer.eos_token_id] = direction * np.log(odds) / talk.hidden_size**0.5
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(head)
    return model


def _tokens(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return tokenizer.convert_ids_to_tokens(range(len(tokenizer)))


class _Speaker(Agent):
    def __init__(self, model: ChatModel):
        self._model = model

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return self._model.speak(conversations, rngs, greedy=not explore)


class _ModelUser(UserSimulator):
    """Speaks from the user's seat, which is the assistant's in its own chat."""

    name = "model"

    def __init__(self, model: ChatModel):
        self._model, self._decoder = model, Decoder(model.model, model.tokenizer)

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        model = self._model
        sampled = self._decoder.generate(
            [encode_chat(model.tokenizer, episode.heard_by("user").messages("user")) for episode in episodes],
            np.stack([rng.random(model.max_new_tokens) for rng in rngs]),
            max_new_tokens=model.max_new_tokens,
            banned=model.banned,
        )
        texts = model.tokenizer.batch_decode([one.tokens for one in sampled], skip_special_tokens=True)
        return [Reply(text, tokens=len(one.tokens)) for text, one in zip(texts, sampled, strict=True)]


class _TalkEnv(ConversationEnv):
    """No purpose and no end but the exchange limit."""

    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        return Scenario("", "")

    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        return [Assessment()] * len(episodes)


def _bare_loop(agent: ChatModel, user: ChatModel, talk: Talk) -> None:
    """The two models alone, in token ids: no text, no environment, no records."""
    own, other, _, end = agent.tokenizer.convert_tokens_to_ids(["<|agent|>", "<|user|>", "<|system|>", "<|end|>"])
    seats: list[Any] = [(model, Decoder(model.model, model.tokenizer), [[] for _ in range(talk.conversations)])
             for model in (agent, user)]  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(talk.exchanges):
        for seat, (model, decoder, heard) in enumerate(seats):
            said = decoder.generate(
                [[*ids, own] for ids in heard],
                rng.random((talk.conversations, talk.max_new_tokens)),
                max_new_tokens=talk.max_new_tokens,
                banned=model.banned,
            )
            for mine, theirs, one in zip(heard, seats[1 - seat][2], said, strict=True):
                words = one.tokens if one.tokens[-1] == end else (*one.tokens, end)
                mine += (own, *words)
                theirs += (other, *words)


def _generate_loop(agent: ChatModel, user: ChatModel, talk: Talk) -> None:
    """The usual loop: each turn, the whole history as text through the chat template and ``model.generate``."""
    conversations = [Conversation() for _ in range(talk.conversations)]
    torch.manual_seed(0)
    for _ in range(talk.exchanges):
        sides: tuple[tuple[Speaker, ChatModel], ...] = (("agent", agent), ("user", user))
        for seat, model in sides:
            inputs = model.tokenizer.apply_chat_template(
                [conversation.messages(seat) for conversation in conversations],
                add_generation_prompt=True,
                padding=True,
                return_tensors="pt",
                return_dict=True,
                tokenizer_kwargs={"padding_side": "left"},
            )
            with torch.inference_mode():
                out = model.model.generate(
                    **inputs,
                    do_sample=True,
                    top_k=0,
                    max_new_tokens=talk.max_new_tokens,
                    suppress_tokens=list(never_spoken(model.tokenizer)),
                )
            new = out[:, inputs["input_ids"].shape[1] :]
            texts = model.tokenizer.batch_decode(new, skip_special_tokens=True)
            conversations = [c.then(seat, text) for c, text in zip(conversations, texts, strict=True)]


# ---- Q: all turns of a conversation in one pass ----------------------------------------------------------------------


def q_fit(talk: Talk, repeats: int) -> dict[str, float]:
    """Conversations per CPU second of one pass of ``QFunction.fit`` over whole conversations, of the same fit with a
    row for every turn (what was said up to there), both with as many optimizer steps; and their ratio. Then the same
    with a trunk that stays as it is."""
    agent, _, env = _parties(talk)
    trajectories = rollout(_Speaker(agent), env, range(talk.conversations))

    def q(batch_size: int, trunk_learning_rate: float = 1e-3) -> QFunction:
        rng = np.random.default_rng(0)
        return QFunction(agent, rng, batch_size=batch_size, trunk_learning_rate=trunk_learning_rate)

    label = q(1).label
    whole = [label(agent, trajectory) for trajectory in trajectories]
    rows = [row for one in whole for row in _row_per_turn(one)]
    ways: dict[str, Callable[[], object]] = {
        "whole": lambda: q(8).fit(whole, np.random.default_rng(0)),
        "rows": lambda: q(8 * talk.exchanges).fit(rows, np.random.default_rng(0)),
        "whole_trunk_stays": lambda: q(8, 0.0).fit(whole, np.random.default_rng(0)),
        "rows_trunk_stays": lambda: q(8 * talk.exchanges, 0.0).fit(rows, np.random.default_rng(0)),
    }
    taken = _times(ways, repeats)
    figures = {f"{way}_conversations_per_s": talk.conversations / statistics.median(s) for way, s in taken.items()}
    ratios = {
        f"rows_over_whole{kind}": _ratio(taken[f"rows{kind}"], taken[f"whole{kind}"]) for kind in ("", "_trunk_stays")
    }
    return {**figures, **ratios}


def _row_per_turn(one: Labelled) -> list[Labelled]:
    """A conversation as rows that end with an utterance each, the return predicted at the tokens of that turn alone."""
    rows = []
    for turn, end in enumerate(one.reads.tolist()):
        places = one.places[one.turns == turn]
        first = np.zeros(len(places), dtype=np.int64)
        rows.append(Labelled(one.ids[: end + 1], places, first, one.returns[turn : turn + 1], np.array([end])))
    return rows


# ---- the policy gradient: all turns of a conversation in one pass ---------------------------------------------------


def turns(talk: Talk, repeats: int) -> dict[str, float]:
    """Turns per CPU second of the policy's gradient (``agents.turn_gradient``) over whole conversations, of the same
    with a row for every turn (its prompt and its utterance), in batches of as many turns; and their ratio. Both have
    the same gradient, which is a test."""
    agent, _, env = _parties(talk)
    reference = agent.clone()
    whole = [
        agent.trajectory_tokens(trajectory) for trajectory in rollout(_Speaker(agent), env, range(talk.conversations))
    ]
    rows = [row for one in whole for row in _turn_per_row(one)]

    def learn(conversations: Sequence[TrajectoryTokens], batch_size: int) -> None:
        for i in range(0, len(conversations), batch_size):
            batch = token_batch(conversations[i : i + batch_size])
            logprobs = token_logprobs(agent, batch)
            with torch.no_grad():
                others = token_logprobs(reference, batch)
            chosen = logprobs.gather(1, batch.tokens[:, None])[:, 0]
            loss = -chosen.sum() + 0.01 * exact_kl(logprobs, others).sum()
            agent.model.zero_grad(set_to_none=True)
            loss.backward()

    ways: dict[str, Callable[[], object]] = {
        "whole": lambda: learn(whole, 16),
        "rows": lambda: learn(rows, 16 * talk.exchanges),
    }
    taken = _times(ways, repeats)
    figures = {f"{way}_turns_per_s": len(rows) / statistics.median(s) for way, s in taken.items()}
    return {**figures, "rows_over_whole": _ratio(taken["rows"], taken["whole"])}


def _turn_per_row(one: TrajectoryTokens) -> list[TrajectoryTokens]:
    """A conversation as rows that end with an utterance each, of which alone is learnt."""
    rows = []
    for start, end in zip(one.prompt_ends.tolist(), one.turn_ends.tolist(), strict=True):
        agent = np.zeros(end + 1, dtype=bool)
        agent[start + 1 :] = True
        rows.append(TrajectoryTokens(one.ids[: end + 1], agent, np.array([start]), np.array([end])))
    return rows


# ---- the command -----------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("rollouts", help=rollouts.__doc__)
    one.add_argument("--conversations", type=int, default=256)
    one.add_argument("--exchanges", type=int, default=6)
    one.add_argument("--hidden-size", type=int, default=96)
    one.add_argument("--repeats", type=int, default=3)
    one.add_argument("--no-generate", action="store_true", help="leave out the slow loop around model.generate")
    one.set_defaults(
        run=lambda a: rollouts(
            Talk(conversations=a.conversations, exchanges=a.exchanges, hidden_size=a.hidden_size),
            a.repeats,
            not a.no_generate,
        )
    )
    two = commands.add_parser("q_fit", help=q_fit.__doc__)
    two.add_argument("--conversations", type=int, default=256)
    two.add_argument("--exchanges", type=int, default=8)
    two.add_argument("--hidden-size", type=int, default=64)
    two.add_argument("--repeats", type=int, default=3)
    two.set_defaults(
        run=lambda a: q_fit(
            Talk(conversations=a.conversations, exchanges=a.exchanges, hidden_size=a.hidden_size), a.repeats
        )
    )
    three = commands.add_parser("turns", help=turns.__doc__)
    three.add_argument("--conversations", type=int, default=256)
    three.add_argument("--exchanges", type=int, default=8)
    three.add_argument("--hidden-size", type=int, default=64)
    three.add_argument("--repeats", type=int, default=3)
    three.set_defaults(
        run=lambda a: turns(
            Talk(conversations=a.conversations, exchanges=a.exchanges, hidden_size=a.hidden_size), a.repeats
        )
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps({name: round(value, 3) for name, value in arguments.run(arguments).items()}, indent=2))


if __name__ == "__main__":
    main()
