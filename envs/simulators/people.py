"""Train, measure and harden people that are language models altogether: ``python -m envs.simulators.people sales``.

Two models of a world: ``WORLD_person`` (``user=model``), taught by moments of every kind, with the words it hears and
says weighing less than what it notes; and ``WORLD_naive_person`` (``user=naive_model``), taught by logged conversations
as they came. The first must pass a gate of relational probes, also in words that agents found who learnt with it and
that it was not hardened with (``--only gate --said FILE …``). The second passes none and is shipped as what it is.

Hardening: learners find what a model takes for something else. ``--on --said FILE …`` adds what sellers that learnt
with the model have said (the trajectory files of their runs) to its material, each utterance with what the world's
parser reads in it, and goes on training from the model that is there. The utterances are kept in the model's folder
(``said.txt``), so that the next round, and whoever rebuilds the model, has them.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.learnt_person import LearntPerson
from envs.simulators.gate import SCENARIOS, card, mean_reward
from envs.simulators.sft import IGNORED, Example, sft
from envs.simulators.train import FOLDER, VOCAB_SIZE, new_model, report, save, texts_for_tokenizer
from envs.simulators.worlds import Figure, Material, People, Taught, material_of, people_of, worlds

SIZE = {"hidden_size": 96, "num_hidden_layers": 3, "intermediate_size": 256}
WORDS = 0.3
"""How much a token of its own words counts where a token of its notes counts 1. What it hears counts nothing."""
SAID = "said.txt"


def example(tokenizer: Any, one: Taught, words: float) -> Example:
    """A reply as a sequence: what it is told and hears is read; what it notes, and its words, are learnt."""
    from envs.chat_format import encode_text
    from envs.learnt_person import prompt_of

    prompt = prompt_of(tokenizer, one.told, one.chat)
    notes = tokenizer.convert_tokens_to_ids(list(one.written))
    spoken = [] if one.words is None else [*encode_text(tokenizer, one.words), tokenizer.eos_token_id]
    weights = [0.0] * len(prompt) + [one.weight] * len(notes) + [one.weight * words] * len(spoken)
    return Example([*prompt, *notes, *spoken], [IGNORED] * len(prompt) + notes + spoken, weights=weights)


def parallel(function: Callable[..., Any], parts: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The function of each part, a process each."""
    with multiprocessing.get_context("fork").Pool(len(parts)) as pool:
        return pool.starmap(function, parts)


def _taught(world: str, n: int, said: Sequence[str], seed: int) -> list[Taught]:
    return people_of(world).moments(n, said, np.random.default_rng(seed))


def person_examples(world: str, tokenizer: Any, n: int, said: Sequence[str], seed: int) -> list[Example]:
    """``n`` moments, made by two processes."""
    parts = parallel(_taught, [(world, n // 2, said, 2 * seed + k) for k in range(2)])
    return [example(tokenizer, one, WORDS) for part in parts for one in part]


def person_tokenizer(material: Material, markers: Sequence[str]) -> Any:
    """The tokenizer of both people: the words of the world and the markers of their private channels."""
    from envs.chat_format import train_tokenizer

    texts = texts_for_tokenizer(material, 20_000, np.random.default_rng(0))
    return train_tokenizer(texts, VOCAB_SIZE, keep_system=True, markers=markers)


def train_person(world: str, options: argparse.Namespace, target: Path) -> None:
    """Teach ``user=model``, from nothing or on from what is there, with what was said to it."""
    material, people = material_of(world), people_of(world)
    known = _read(target / SAID)
    new = said_in(options.said) - known
    said = sorted(known | new)
    if options.on:
        from envs.language_models import load_transformers

        model, tokenizer = load_transformers(target)
    else:
        tokenizer = person_tokenizer(material, people.person_channel.markers())
        model = new_model(tokenizer, options.seed, **SIZE)
    n = round((people.person_moments // (3 if options.on else 1)) * options.scale)
    print(f"person: {n} moments; {len(said)} utterances of trained agents, {len(new)} of them new", flush=True)
    examples = person_examples(world, tokenizer, n, said, options.seed)
    rate = 1e-3 if options.on else 3e-3
    report("person", sft(model, tokenizer, examples, epochs=1.0, batch_size=32, learning_rate=rate,
                         seed=options.seed), examples)  # fmt: skip
    save(model, tokenizer, target, beside={SAID: "\n".join(said) + "\n"} if said else {})


def train_naive(world: str, options: argparse.Namespace, target: Path) -> None:
    """Teach ``user=naive_model`` by logged conversations, every token of its replies alike."""
    material, people = material_of(world), people_of(world)
    tokenizer = person_tokenizer(material, people.naive_channel.markers())
    model = new_model(tokenizer, options.seed, **SIZE)
    taught = people.logged(round(people.naive_conversations * options.scale), np.random.default_rng(options.seed))
    examples = [example(tokenizer, one, 1.0) for one in taught]
    report("naive person", sft(model, tokenizer, examples, epochs=1.0, batch_size=32, learning_rate=3e-3,
                               seed=options.seed), examples)  # fmt: skip
    save(model, tokenizer, target)


def said_in(files: Sequence[Path]) -> set[str]:
    """What agents say in trajectory files."""
    from envs.trajectory import read_jsonl

    texts = {" ".join(step.utterance.text.split()) for path in files for one in read_jsonl(path) for step in one.steps}
    return texts - {""}


def _read(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()


# ---- the gate -------------------------------------------------------------------------------------------------------

REWARD = 0.05
"""The most that a scripted policy may earn more or less on the person than on the program."""


def figures(
    material: Material, people: People, person: LearntPerson, said: Sequence[str], each: int, scenarios: int
) -> list[Figure]:
    """What a person shows: probes in the phrasebook's words, the same in those of trained agents, and rewards."""
    found = people.probes(person, None, each)
    if said:
        found += [replace(one, name=f"said by trained agents: {one.name}")
                  for one in people.probes(person, said, each)]  # fmt: skip
    rewards = earned(material, people, person, scenarios)
    for rule, (on_model, on_program) in rewards.items():
        passed = abs(on_model - on_program) <= REWARD
        found.append(Figure(_reward(rule, on_model, on_program), on_model - on_program, f"|.| <= {REWARD}", passed))
    models, programs = zip(*rewards.values(), strict=True)
    alike = bool((np.argsort(models) == np.argsort(programs)).all())
    found.append(Figure("the policies are in the program's order", float(alike), "= 1", alike))
    return found


def earned(material: Material, people: People, person: LearntPerson, scenarios: int) -> dict[str, tuple[float, float]]:
    """Mean rewards of the scripted policies, on the person and on the program."""
    program = material.program_user()
    return {
        rule: (
            mean_reward(material, material.speaker(rule), person, scenarios),
            mean_reward(material, material.speaker(rule), program, scenarios),
        )
        for rule in people.compared
    }


def _reward(rule: str, on_model: float, on_program: float) -> str:
    return f"{rule}: reward on the model - program ({on_model:.3f} - {on_program:.3f})"


def gate(world: str, folder: Path, name: str, fresh: set[str], each: int, scenarios: int) -> bool:
    """Measure one person, print the figures and write its card; True if all passes.

    ``fresh`` is what agents said that learnt with it; what it was hardened with is left out of that.
    """
    material, people = material_of(world), people_of(world)
    if name.endswith("_naive_person"):
        what, person = people.naive_card, people.naive(folder / name)
        shown = [Figure(_reward(rule, *pair), pair[0] - pair[1], "for the record", True)
                 for rule, pair in earned(material, people, person, scenarios).items()]  # fmt: skip
    else:
        what, person = people.person_card, people.person(folder / name)
        said = sorted(fresh - _read(folder / name / SAID))
        shown = figures(material, people, person, said, each, scenarios)
    for figure in shown:
        verdict = "pass" if figure.passed else "FAIL"
        print(f"{verdict}  {name}: {figure.name}: {figure.value:.4f} ({figure.bar})", flush=True)
    written = card(material, name, what, shown, scenarios, command="people")
    (folder / name / "README.md").write_text(written, encoding="utf-8")
    return all(figure.passed for figure in shown)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=worlds("people"))
    parser.add_argument("--only", choices=["person", "naive", "gate"], help="one step instead of all")
    parser.add_argument("--on", action="store_true", help="train the person on, from what is there")
    parser.add_argument(
        "--said", nargs="*", type=Path, default=[], help="trajectory files of agents that learnt with it"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the data to train on, for a quick try")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the model folders go")
    parser.add_argument("--each", type=int, default=200, help="cases a cell of a probe")
    parser.add_argument("--scenarios", type=int, default=SCENARIOS, help="that rewards are measured on")
    options = parser.parse_args(arguments)
    if missing := [str(path) for path in options.said if not path.is_file()]:
        parser.error(f"--said: there is no file {', '.join(missing)}; give files below a run's trajectories/")

    import torch

    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    names = {"person": f"{options.world}_person", "naive": f"{options.world}_naive_person"}
    for only, train in (("naive", train_naive), ("person", train_person)):
        if options.only in (None, only):
            train(options.world, options, options.out / names[only])
    if options.only in (None, "gate"):
        fresh = said_in(options.said) if options.only == "gate" else set()
        measured = (options.each, options.scenarios)
        passed = [gate(options.world, options.out, name, fresh, *measured) for name in names.values()]
        if not all(passed):
            raise SystemExit("A model fails its gate; see the lines marked FAIL.")


if __name__ == "__main__":
    main()
