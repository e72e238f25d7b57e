"""Rebuild the small models that ship with Parley, from nothing: ``python -m envs.simulators.train sales``.

Steps: a tokenizer from the phrasebooks, the wording model (``sales_voice``) on lines worded by the phrasebook, the
starting seller (``sales_seller``) on conversations of scripted sellers, the behaviour seller last and longest; then
``envs.simulators.gate`` measures both and writes the figures into their model cards. Progress is printed. The two
models can train side by side, with ``--only voice`` and ``--only seller`` in two terminals.

Each model that ships is the outcome of one run of its step.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.simulators.sft import IGNORED, Example, FactHeads, sft, small_config

FOLDER = Path(__file__).parent
VOCAB_SIZE = 2048
VOICE_LINES = 180_000
SELLER_PHASES = (
    ("attentive", (16_000, 8_000, 6_000), "constant_with_warmup"),
    ("sloppy", (12_000, 8_000, 1_000), "constant_with_warmup"),
    ("behaviour", (40_000, 12_000, 1_000), "cosine"),
)
"""Whose conversations the starting seller learns from and how many, how many of the clumsy seller's it reads and how
many rows of annotated utterances it gets beside them, and the schedule of the learning rate."""
SIZE = {"hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 192}
"""Small, because a learner's run passes over each conversation some ten times and hears the voice in all."""


def texts_for_tokenizer(n: int, rng: np.random.Generator) -> list[str]:
    """What both sides say, and what the voice is told."""
    from envs.sales.catalogue import SELLER_ACTS
    from envs.sales.corpus import any_line
    from envs.sales.language import seller_phrasebook
    from envs.sales.users import template_words
    from envs.sales.voice import chat_of

    texts = []
    for i in range(n):
        line = any_line(rng)
        texts += [line.heard, template_words(line, rng), chat_of(line.moves[0], line)[0]["content"]]
        act = SELLER_ACTS[i % len(SELLER_ACTS)]
        texts += [seller_phrasebook().say(act, rng), annotation(act)]
    return texts


def build_tokenizer(keep_system: bool, seed: int = 0) -> Any:
    """The tokenizer of both models; the voice's keeps the system message, which tells it what to say."""
    from envs.chat_format import train_tokenizer

    texts = texts_for_tokenizer(20_000, np.random.default_rng(seed))
    return train_tokenizer(texts, VOCAB_SIZE, keep_system=keep_system)


def seller_examples(tokenizer: Any, rule: str, n: int, read: int, annotated: int, seed: int) -> list[Example]:
    """``n`` conversations of a scripted seller with habits, ``read`` of the clumsy one, ``annotated`` runs of annotated
    utterances.

    Only the seller's own words are learnt, and the annotations: what the buyer says is read, and predicting its many
    wordings would take up most of a small model. The annotations ground the words before the conversations need them:
    after an utterance stands the system marker and what the utterance does, with the names of the bicycles that a need
    is served by. The marker never occurs in a conversation, so annotations are never said.

    All conversations carry the facts of ``envs.sales.reading``. The clumsy seller's are for these alone: none of its
    words is learnt.
    """
    rng = np.random.default_rng((seed, n))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        parts = [(name, size, int(rng.integers(2**63))) for name, many in ((rule, n), ("clumsy", read))
                 for size in [many // 8] * 7 + [many - 7 * (many // 8)]]  # fmt: skip
        dialogues = pool.starmap(_dialogues, parts)
    examples = [
        _example(tokenizer, dialogue, imitated=name == rule)
        for (name, *_), part in zip(parts, dialogues, strict=True)
        for dialogue in part
    ]
    for _ in range(annotated):
        ids = _annotated(tokenizer, rng)
        examples.append(Example(ids, own_words(tokenizer, ids)))
    return examples


def _dialogues(rule: str, n: int, seed: int) -> list[Any]:
    from envs.sales.corpus import converse
    from envs.sales.sellers import RULES, in_habit

    rng, decide = np.random.default_rng(seed), RULES[rule]()
    return [converse(decide, rng, in_habit) for _ in range(n)]


def _example(tokenizer: Any, dialogue: Any, imitated: bool) -> Example:
    """A conversation and its facts: how things stand where the seller is given the turn, and what it has done besides
    where the buyer is given it."""
    from envs.chat_format import AGENT, USER, encode_chat
    from envs.sales.reading import DOING, doing, standing

    ids = encode_chat(tokenizer, dialogue.conversation.messages("agent"), add_generation_prompt=False)
    agent, user = tokenizer.convert_tokens_to_ids([AGENT, USER])
    before = [i for i, token in enumerate(ids) if token == agent]
    after = [i for i, token in enumerate(ids) if token == user][1:]  # the first is the opening's
    places: list[int] = []
    facts: list[tuple[int, ...]] = []
    for i, j, exchange in zip(before, after, dialogue.exchanges, strict=True):
        stands = standing(exchange.known)
        places += [i, j]
        facts += [(*stands, *[IGNORED] * len(DOING)), (*stands, *doing(exchange.known, exchange.act))]
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


def _annotated(tokenizer: Any, rng: np.random.Generator) -> list[int]:
    """Eight utterances of either side, each with what it does."""
    from envs.chat_format import AGENT, SYSTEM, USER, encode_text
    from envs.sales.catalogue import BUYER_ACTS, SELLER_ACTS, STYLES
    from envs.sales.language import buyer_phrasebook
    from envs.sales.sellers import in_habit

    agent, user, system = tokenizer.convert_tokens_to_ids([AGENT, USER, SYSTEM])
    ids: list[int] = []
    for _ in range(8):
        if rng.random() < 0.7:
            act = BUYER_ACTS[int(rng.integers(len(BUYER_ACTS)))]
            style = STYLES[int(rng.integers(3))]
            text, marker = buyer_phrasebook().say(act, rng, style=style, values={"price": "$590"}), user
        else:
            act = SELLER_ACTS[int(rng.integers(len(SELLER_ACTS)))]
            text, marker = in_habit(act, rng), agent
        ids += [marker, *encode_text(tokenizer, text), system]
        ids += [*encode_text(tokenizer, annotation(act)), tokenizer.eos_token_id]
    return ids


def annotation(act: Any) -> str:
    """What an utterance does, in words: the act, what it is about, and which bicycles or needs go with that."""
    from envs.sales.catalogue import CATALOGUE, PRODUCTS

    words = [act.kind, *([act.about] if act.about else [])]
    words += [product.name for product in CATALOGUE if product.need == act.about]
    if act.about in PRODUCTS:
        words += [PRODUCTS[act.about].need, PRODUCTS[act.about].tier]
    return " ".join(["", *words])


def voice_examples(tokenizer: Any, n: int, rng: np.random.Generator) -> list[Example]:
    """Lines, half as conversations have them, half drawn evenly over all there is to say; only the reply is learnt."""
    from envs.chat_format import encode_chat, encode_text
    from envs.sales.corpus import any_line, converse
    from envs.sales.sellers import RULES
    from envs.sales.users import Line, template_words
    from envs.sales.voice import PRICE, chat_of

    rules = [RULES[name]() for name in ("random", "behaviour", "expert")]
    lines: list[Line] = []
    while len(lines) < n // 2:
        lines += [exchange.line for exchange in converse(rules[len(lines) % len(rules)], rng).exchanges]
    lines += [any_line(rng) for _ in range(n - len(lines))]
    examples = []
    for line in lines:
        move = line.moves[int(rng.integers(len(line.moves)))]
        priced = Line((move,), line.style, PRICE if line.price else None, line.heard)
        prompt = encode_chat(tokenizer, chat_of(move, line))
        reply = [*encode_text(tokenizer, template_words(priced, rng)), tokenizer.eos_token_id]
        examples.append(Example([*prompt, *reply], [IGNORED] * len(prompt) + reply))
    return examples


def train_voice(options: argparse.Namespace, target: Path) -> None:
    """Train the wording model and write its folder whole."""
    tokenizer = build_tokenizer(keep_system=True)
    model = _new_model(tokenizer, options.seed, **SIZE)
    rng = np.random.default_rng((options.seed, 1))
    examples = voice_examples(tokenizer, round(VOICE_LINES * options.scale), rng)
    fit = {"epochs": 1.0, "batch_size": 32, "learning_rate": 3e-3, "seed": options.seed}
    _report("voice", sft(model, tokenizer, examples, **fit), examples)
    save(model, tokenizer, target)


def train_seller(options: argparse.Namespace, target: Path) -> None:
    """Train the starting seller and write its folder whole.

    First on conversations of a seller that answers what it hears: the relations between words (which bicycle serves the
    need that was told) come last in learning, and hardly at all from conversations in which they are rare. Then on the
    behaviour seller without its noise (which earns .26 where the behaviour seller earns .16), and on the behaviour
    seller, until the model sells as that one does. The attentive one never sells. The expert, the optimum and returns
    have no part in it.

    All the while it learns to read: linear heads, thrown away afterwards, tell from its hidden states what is known and
    whether what was just said goes with it. A model that learnt only to talk has that nowhere in its states, and a
    critic on them is blind to it. The facts are nearly all that a seller can know in this world, trust and fit
    included; their labels come from the rules of the world. Nothing of what will come, or of what would be wise, is
    among them.
    """
    from envs.sales.reading import FACTS

    tokenizer = build_tokenizer(keep_system=False)
    model = _new_model(tokenizer, options.seed, **SIZE)
    model.config.learnt_to_read = True
    heads = FactHeads(model.config.hidden_size, list(FACTS.values()))
    for rule, counts, schedule in SELLER_PHASES:
        imitated, read, annotated = (round(count * options.scale) for count in counts)
        examples = seller_examples(tokenizer, rule, imitated, read, annotated, options.seed)
        fit = {"epochs": 1.0, "batch_size": 16, "learning_rate": 3e-3, "schedule": schedule, "seed": options.seed}
        _report(f"seller, {rule}", sft(model, tokenizer, examples, heads=heads, **fit), examples)
        save(model, tokenizer, target)
    fresh = seller_examples(tokenizer, "clumsy", round(1000 * options.scale), 0, 0, options.seed + 1)
    for fact, share in zip(FACTS, heads.accuracy(model, fresh).tolist(), strict=True):
        print(f"seller, told from its states in conversations it has not met: {fact} {share:.3f}", flush=True)


def _new_model(tokenizer: Any, seed: int, **size: Any) -> Any:
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return LlamaForCausalLM(small_config(len(tokenizer), **ends, **size))


def _report(name: str, loss: float, examples: Sequence[Example]) -> None:
    tokens = sum(len(example.ids) for example in examples)
    print(f"{name}: {len(examples)} sequences, {tokens} tokens, loss {loss:.4f}", flush=True)


def save(model: Any, tokenizer: Any, target: Path) -> None:
    """Write a Hugging Face folder; it appears whole or not at all. A model card already there is kept."""
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    if (target / "README.md").exists():
        shutil.copy(target / "README.md", fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=["sales"])
    parser.add_argument("--only", choices=["voice", "seller", "gate"], help="one step instead of all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the data to train on, for a quick try")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the model folders go")
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, step in (("voice", train_voice), ("seller", train_seller)):
        if options.only in (None, name):
            step(options, options.out / f"{options.world}_{name}")
    if options.only in (None, "gate"):
        from envs.simulators.gate import gate

        if not gate(options.out):
            raise SystemExit("A model fails its gate; see the lines marked FAIL.")


if __name__ == "__main__":
    main()
