"""Rebuild the small models that ship with Parley, from nothing: ``python -m envs.simulators.train sales``.

Steps: a tokenizer from the phrasebooks, the wording model (``sales_voice``) on lines worded by the phrasebook, the
starting seller (``sales_seller``) on conversations of the behaviour seller; then ``envs.simulators.gate`` measures both
and writes the figures into their model cards. Progress is printed; about an hour on two cores (the two models train
side by side with ``--only voice`` and ``--only seller`` in two terminals).
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.simulators.sft import IGNORED, Example, sft, small_config

FOLDER = Path(__file__).parent
VOCAB_SIZE = 2048
SELLER_DIALOGUES, VOICE_LINES = 36_000, 60_000


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
        texts += [line.heard, template_words(line, rng), chat_of(line)[0]["content"]]
        texts.append(seller_phrasebook().say(SELLER_ACTS[i % len(SELLER_ACTS)], rng))
    return texts


def build_tokenizer(keep_system: bool, seed: int = 0) -> Any:
    """The tokenizer of both models; the voice's keeps the system message, which tells it what to say."""
    from envs.chat_format import train_tokenizer

    return train_tokenizer(texts_for_tokenizer(20_000, np.random.default_rng(seed)), VOCAB_SIZE, keep_system=keep_system)


def seller_examples(tokenizer: Any, n: int, rng: np.random.Generator) -> list[Example]:
    """Conversations of the behaviour seller; every token is learnt, the buyer's too, so that the seller understands it."""
    from envs.chat_format import encode_chat
    from envs.sales.corpus import converse
    from envs.sales.sellers import RULES

    rule = RULES["behaviour"]()
    conversations = (converse(rule, rng).conversation for _ in range(n))
    rows = [encode_chat(tokenizer, c.messages("agent"), add_generation_prompt=False) for c in conversations]
    return [Example(ids, ids) for ids in rows]


def voice_examples(tokenizer: Any, n: int, rng: np.random.Generator) -> list[Example]:
    """Lines as conversations have them and, half of them, drawn evenly over all there is to say; only the reply is learnt."""
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
        priced = Line(line.moves, line.style, PRICE if line.price else None, line.heard)
        prompt = encode_chat(tokenizer, chat_of(priced))
        reply = [*encode_text(tokenizer, template_words(priced, rng)), tokenizer.eos_token_id]
        examples.append(Example([*prompt, *reply], [IGNORED] * len(prompt) + reply))
    return examples


def train(name: str, epochs: float, learning_rate: float, seed: int, size: int | None, target: Path) -> None:
    """Train ``voice`` or ``seller`` and write its folder whole."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    rng = np.random.default_rng((seed, 1))
    start = time.perf_counter()
    tokenizer = build_tokenizer(keep_system=name == "voice")
    make = voice_examples if name == "voice" else seller_examples
    examples = make(tokenizer, size or (VOICE_LINES if name == "voice" else SELLER_DIALOGUES), rng)
    tokens = sum(len(example.ids) for example in examples)
    print(f"{name}: {len(examples)} examples, {tokens} tokens, vocabulary {len(tokenizer)}, "
          f"made in {time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = LlamaForCausalLM(small_config(len(tokenizer), **ends))
    loss = sft(model, tokenizer, examples, epochs=epochs, learning_rate=learning_rate, batch_size=32, seed=seed)
    save(model, tokenizer, target)
    print(f"{name}: loss {loss:.4f} nats per token, {time.perf_counter() - start:.0f} s, written to {target}", flush=True)


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
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--examples", type=int, help="how many conversations or lines to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the model folders go")
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    for name in ("voice", "seller"):
        if options.only in (None, name):
            target = options.out / f"{options.world}_{name}"
            train(name, options.epochs, options.learning_rate, options.seed, options.examples, target)
    if options.only in (None, "gate"):
        from envs.simulators.gate import gate

        gate(options.out)


if __name__ == "__main__":
    main()
