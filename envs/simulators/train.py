"""Rebuild the small models of a world that ship with Parley, from nothing: ``python -m envs.simulators.train sales``.

Steps: a tokenizer from the phrasebooks, the wording model (``sales_voice``) on lines worded by the phrasebook, the
starting policy (``sales_seller``) on conversations of scripted ones, the behaviour policy last and longest; then
``envs.simulators.gate`` measures both and writes the figures into their model cards. Progress is printed. The two
models can train side by side, with ``--only voice`` and ``--only agent`` in two terminals. What differs from world to
world stands in ``envs/NAME/material.py``; a world may have no voice, and is then played by its program alone.

Each model that ships is the outcome of one run of its step.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.simulators.gate import SCENARIOS, gate
from envs.simulators.sft import IGNORED, Example, FactHeads, sft, small_config
from envs.simulators.worlds import Material, Phase, material_of, worlds

FOLDER = Path(__file__).parent
VOCAB_SIZE = 2048
SIZE = {"hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 192}
"""Small, because a learner's run passes over each conversation some ten times and hears the voice in all."""


def texts_for_tokenizer(material: Material, n: int, rng: np.random.Generator) -> list[str]:
    """What both sides say, and what the voice is told."""
    texts = []
    for i in range(n):
        line = material.any_line(rng)
        told = [material.chat_of(line.moves[0], line)[0]["content"]] if material.chat_of else []
        texts += [line.heard, material.template_words(line, rng), *told]
        act = material.agent_acts[i % len(material.agent_acts)]
        texts += [material.agent_says(act, rng), material.annotation(act)]
        texts += [f" {placeholder}" for placeholder in material.placeholders]
    return texts


def build_tokenizer(material: Material, keep_system: bool, seed: int = 0) -> Any:
    """The tokenizer of both models; the voice's keeps the system message, which tells it what to say."""
    from envs.chat_format import train_tokenizer

    texts = texts_for_tokenizer(material, 20_000, np.random.default_rng(seed))
    return train_tokenizer(texts, VOCAB_SIZE, keep_system=keep_system)


def agent_examples(material: Material, tokenizer: Any, phase: Phase, seed: int) -> list[Example]:
    """The conversations of one phase: those of a scripted policy with habits, those of the clumsy one, and runs of
    annotated utterances.

    Only the agent's own words are learnt, and the annotations: what the user says is read, and predicting its many
    wordings would take up most of a small model. The annotations ground the words before the conversations need them:
    after an utterance stands the system marker and what the utterance does, with the names of what goes with it (the
    bicycles that a need is served by). The marker never occurs in a conversation, so annotations are never said.

    All conversations carry the world's facts. The clumsy one's are for these alone: none of its words is learnt.
    """
    rng = np.random.default_rng((seed, phase.imitated))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        parts = [(name, size, int(rng.integers(2**63)))
                 for name, many in ((phase.rule, phase.imitated), ("clumsy", phase.read))
                 for size in [many // 8] * 7 + [many - 7 * (many // 8)]]  # fmt: skip
        dialogues = pool.starmap(_dialogues, [(material.world, *part) for part in parts])
    examples = [
        _example(material, tokenizer, dialogue, imitated=name == phase.rule)
        for (name, *_), part in zip(parts, dialogues, strict=True)
        for dialogue in part
    ]
    for _ in range(phase.annotated):
        ids = _annotated(material, tokenizer, rng)
        examples.append(Example(ids, own_words(tokenizer, ids)))
    return examples


def _dialogues(world: str, rule: str, n: int, seed: int) -> list[Any]:
    material = material_of(world)
    rng, decide = np.random.default_rng(seed), material.rules[rule]()
    return [material.converse(decide, rng, material.agent_says_in_habit) for _ in range(n)]


def _example(material: Material, tokenizer: Any, dialogue: Any, imitated: bool) -> Example:
    """A conversation and its facts: how things stand where the agent is given the turn, and what it has done besides
    where the user is given it."""
    from envs.chat_format import AGENT, USER, encode_chat

    ids = encode_chat(tokenizer, dialogue.conversation.messages("agent"), add_generation_prompt=False)
    agent, user = tokenizer.convert_tokens_to_ids([AGENT, USER])
    before = [i for i, token in enumerate(ids) if token == agent]
    after = [i for i, token in enumerate(ids) if token == user][1:]  # the first is the opening's
    places: list[int] = []
    facts: list[tuple[int, ...]] = []
    for i, j, exchange in zip(before, after, dialogue.exchanges, strict=True):
        stands = material.standing(exchange.known)
        not_yet = [IGNORED] * (len(material.facts) - len(stands))
        places += [i, j]
        facts += [(*stands, *not_yet), (*stands, *material.doing(exchange.known, exchange.act))]
    return Example(ids, own_words(tokenizer, ids) if imitated else [IGNORED] * len(ids), places, facts)


def own_words(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """The labels of a conversation [T]: all that the agent says and all annotations; its own markers are given."""
    from envs.chat_format import AGENT, SYSTEM, USER

    agent, user, system = tokenizer.convert_tokens_to_ids([AGENT, USER, SYSTEM])
    labels, speaker = [], user
    for token in ids:
        if token in (agent, user, system):
            speaker = token
        labels.append(IGNORED if speaker == user or token == speaker else token)
    return labels


def _annotated(material: Material, tokenizer: Any, rng: np.random.Generator) -> list[int]:
    """Eight utterances of either side, each with what it does."""
    from envs.chat_format import AGENT, SYSTEM, USER, encode_text

    agent, user, system = tokenizer.convert_tokens_to_ids([AGENT, USER, SYSTEM])
    ids: list[int] = []
    for _ in range(8):
        if rng.random() < 0.7:
            act = material.user_acts[int(rng.integers(len(material.user_acts)))]
            style = material.user_styles[int(rng.integers(len(material.user_styles)))]
            text, marker = material.user_says(act, rng, style), user
        else:
            act = material.agent_acts[int(rng.integers(len(material.agent_acts)))]
            text, marker = material.agent_says_in_habit(act, rng), agent
        ids += [marker, *encode_text(tokenizer, text), system]
        ids += [*encode_text(tokenizer, material.annotation(act)), tokenizer.eos_token_id]
    return ids


def voice_examples(material: Material, tokenizer: Any, n: int, rng: np.random.Generator) -> list[Example]:
    """Lines, half as conversations have them, half drawn evenly over all there is to say; only the reply is learnt."""
    from envs.chat_format import encode_chat, encode_text

    assert material.chat_of is not None and material.as_learnt is not None
    rules = [material.rules[name]() for name in ("random", "behaviour", "expert")]
    lines: list[Any] = []
    while len(lines) < n // 2:
        lines += [exchange.line for exchange in material.converse(rules[len(lines) % len(rules)], rng).exchanges]
    lines += [material.any_line(rng) for _ in range(n - len(lines))]
    examples = []
    for line in lines:
        move = line.moves[int(rng.integers(len(line.moves)))]
        prompt = encode_chat(tokenizer, material.chat_of(move, line))
        words = material.template_words(material.as_learnt(move, line), rng)
        reply = [*encode_text(tokenizer, words), tokenizer.eos_token_id]
        examples.append(Example([*prompt, *reply], [IGNORED] * len(prompt) + reply))
    return examples


def train_voice(material: Material, options: argparse.Namespace, target: Path) -> None:
    """Train the wording model and write its folder whole."""
    tokenizer = build_tokenizer(material, keep_system=True)
    model = new_model(tokenizer, options.seed, **SIZE)
    rng = np.random.default_rng((options.seed, 1))
    examples = voice_examples(material, tokenizer, round(material.voice_lines * options.scale), rng)
    fit = {"epochs": 1.0, "batch_size": 32, "learning_rate": 3e-3, "seed": options.seed}
    report("voice", sft(model, tokenizer, examples, **fit), examples)
    save(model, tokenizer, target)


def train_agent(material: Material, options: argparse.Namespace, target: Path) -> None:
    """Train the starting policy and write its folder whole.

    First on conversations of one that answers what it hears: the relations between words (which bicycle serves the
    need that was told) come last in learning, and hardly at all from conversations in which they are rare. Then on the
    behaviour policy without its noise, and on the behaviour policy, until the model earns what that one does. The
    attentive one never brings a conversation to its end. The expert, the optimum and returns have no part in it.

    All the while it learns to read: linear heads, thrown away afterwards, tell from its hidden states what is known and
    whether what was just said goes with it. A model that learnt only to talk has that nowhere in its states, and a
    critic on them is blind to it. The facts are nearly all that an agent can know in the world; their labels come from
    the rules of the world. Nothing of what will come, or of what would be wise, is among them.
    """
    tokenizer = build_tokenizer(material, keep_system=False)
    model = new_model(tokenizer, options.seed, **SIZE)
    model.config.learnt_to_read = True
    heads = FactHeads(model.config.hidden_size, list(material.facts.values()))
    for phase in material.phases:
        examples = agent_examples(material, tokenizer, phase.scaled(options.scale), options.seed)
        fit = {"epochs": 1.0, "batch_size": 16, "learning_rate": 3e-3, "schedule": phase.schedule, "seed": options.seed}
        report(f"{material.role}, {phase.rule}", sft(model, tokenizer, examples, heads=heads, **fit), examples)
        save(model, tokenizer, target)
    reading = Phase("clumsy", round(1000 * options.scale), 0, 0, "")
    fresh = agent_examples(material, tokenizer, reading, options.seed + 1)
    for fact, share in zip(material.facts, heads.accuracy(model, fresh).tolist(), strict=True):
        print(f"{material.role}, told from its states in conversations it has not met: {fact} {share:.3f}", flush=True)


def new_model(tokenizer: Any, seed: int, **size: Any) -> Any:
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return LlamaForCausalLM(small_config(len(tokenizer), **ends, **size))


def report(name: str, loss: float, examples: Sequence[Example]) -> None:
    tokens = sum(len(example.ids) for example in examples)
    print(f"{name}: {len(examples)} sequences, {tokens} tokens, loss {loss:.4f}", flush=True)


def save(model: Any, tokenizer: Any, target: Path, beside: Mapping[str, str] | None = None) -> None:
    """Write a Hugging Face folder, with texts ``beside``; it appears whole or not at all. A model card already there is
    kept."""
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    for name, text in (beside or {}).items():
        (fresh / name).write_text(text, encoding="utf-8")
    if (target / "README.md").exists():
        shutil.copy(target / "README.md", fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=worlds())
    parser.add_argument("--only", choices=["voice", "agent", "gate"], help="one step instead of all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the data to train on, for a quick try")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the model folders go")
    parser.add_argument("--scenarios", type=int, default=SCENARIOS, help="that the gate measures on")
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    material = material_of(options.world)
    if material.voice is None and options.only == "voice":
        parser.error(f"the world {options.world} has no voice; train its agent with --only agent")
    options.out.mkdir(parents=True, exist_ok=True)
    if material.voice is not None and options.only in (None, "voice"):
        train_voice(material, options, options.out / material.voice_name)
    if options.only in (None, "agent"):
        train_agent(material, options, options.out / material.agent_name)
    if options.only in (None, "gate") and not gate(material, options.out, options.scenarios):
        raise SystemExit("A model fails its gate; see the lines marked FAIL.")


if __name__ == "__main__":
    main()
