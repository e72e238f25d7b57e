"""The card of offline data: what it is, how it was made, and figures measured from it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence

import numpy as np
import yaml
from hydra.core.hydra_config import HydraConfig

from benchmarks.build import Experiment
from benchmarks.collect import Part
from benchmarks.provenance import commit, dirty, versions
from envs.dataset import KINDS, Logged

_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M")
_MESSAGES = "as chat messages: the brief is the system's, the agent the assistant"
_ORIGIN = {"policy": "who spoke for the agent", "seed": "the scenario; conversations of one seed are about the same"}
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "conversations": {
        "schema_version": "of the format",
        "seed": "which scenario of the split",
        "take": "which of several conversations on it",
        "brief": "what the agent was told beforehand",
        "opening": "the turns before its first",
        "steps": "per exchange: the agent's utterance (its text, and tokens and their log-probabilities where a model "
        "spoke), the user's reply (null where the user failed) and the reward",
        "terminated": "whether it came to an end of its own; otherwise it was truncated",
        "stop_reason": "why it ended",
        "success": "whether its purpose was reached; null when undecided",
        "judged": "false where user or judge failed: the return is null, and means leave it out",
        "failure": "why it could not be scored",
        "key": "names the scenario up to chance",
        "attributes": "the user's profile, which the agent was not told",
        "parts": "named numbers behind the reward",
        "user_tokens": "tokens that a language model generated to play the user",
        "policy": _ORIGIN["policy"],
        "split": "whose scenarios",
        "return": "sum of the rewards",
        "turn_mask": "per message of `messages`: 1 where the agent speaks, whose words are to be learnt, else 0",
        "acts": "per turn of the agent: what its utterance does; null for speakers without acts",
        "logprob_of": "what `logprobs` are of. `act`: of what was done, given what the speaker knew, under its rule (0 "
        "where the rule leaves no choice); how it was worded is not counted. `tokens`: of all tokens of the utterance, "
        "as they were sampled. null: nobody can say",
        "logprobs": "per turn of the agent: the log-probability under the policy that spoke",
        "user_states": "per exchange: the user's private state after it. **For analysis alone; no agent may see it**",
    },
    "pairs": {
        "first": "a conversation, with the columns of `conversations` down to `user_tokens`",
        "second": "another one on the same scenario",
        "policies": "who spoke in each",
        "probability": "the judge's, that the first is preferred; a tie counts as half",
        "tie": "the judge's probability that they are called equal",
        "label": "drawn from these: 1 for the first, 0 for the second, 0.5 for a tie, null where the judge failed",
        "judge": "who compared them",
        "failure": "why it could not",
    },
    "messages": {
        "messages": f"a scored conversation {_MESSAGES}",
        "turn_mask": "per message: 1 where the agent speaks, else 0",
        "return": "sum of the rewards",
        "success": "whether its purpose was reached",
        **_ORIGIN,
    },
    "prompt_completion": {
        "prompt": f"what was said before a turn of the agent in a scored conversation, {_MESSAGES}",
        "completion": "what it said, as one message",
        "reward": "of this exchange",
        "return_to_go": "sum of the rewards from this exchange on",
        "exchange": "which turn of the agent, from 0",
        **_ORIGIN,
    },
    "preferences": {
        "prompt": f"what was said before a turn of the agent, {_MESSAGES}",
        "chosen": "the utterance whose continuation was preferred, as one message",
        "rejected": "the other",
        "probability": "the judge's, that the continuation of `chosen` is preferred; which one is `chosen` was drawn",
        "exchange": "which turn of the agent, from 0",
        **_ORIGIN,
    },
}
"""What every column means."""


def card(experiment: Experiment, parts: Sequence[Part]) -> str:
    """Markdown with the Hugging Face Hub's front matter."""
    front = yaml.safe_dump(_front(experiment, parts), sort_keys=False, allow_unicode=True)
    return "\n".join([f"---\n{front}---\n", *_body(experiment, parts)]) + "\n"


def _front(experiment: Experiment, parts: Sequence[Part]) -> dict[str, object]:
    configs = [
        {"config_name": kind, "data_files": [{"split": p.split, "path": f"{kind}/{p.split}.jsonl"} for p in filled]}
        for kind in KINDS
        if (filled := [part for part in parts if _rows(part)[kind]])
    ]
    total = sum(len(part.logged) for part in parts)
    return {
        "pretty_name": f"Parley conversations: {experiment.env}",
        "license": "apache-2.0",
        "language": ["en"],
        "task_categories": ["text-generation"],
        "size_categories": [_SIZES[min(max(int(math.log10(total)) - 2, 0), len(_SIZES) - 1)]],
        "tags": ["conversation", "reinforcement-learning", "offline-rl", "preferences", "synthetic", "parley"],
        "configs": [{**one, "default": True} if one["config_name"] == "messages" else one for one in configs],
    }


def _rows(part: Part) -> dict[str, int]:
    """How many lines there are of each kind."""
    scored = [one.trajectory for one in part.logged if one.trajectory.judged]
    return {
        "conversations": len(part.logged),
        "pairs": len(part.pairs),
        "messages": len(scored),
        "prompt_completion": sum(one.exchanges for one in scored),
        "preferences": sum(one.decided for one in part.partings),
    }


def _body(experiment: Experiment, parts: Sequence[Part]) -> list[str]:
    words = [word for word in HydraConfig.get().overrides.task if not word.startswith("out=")]
    source = (commit() or "no commit")[:9] + (" and uncommitted changes" if dirty() else "")
    libraries = ", ".join(f"{name} {version}" for name, version in versions().items() if version)
    users = experiment.config["env"]["users"]
    words_of = "" if experiment.user in users else (
        f" The words of user={experiment.user} are a language model's, whose own terms may say more."
    )  # fmt: skip
    return [
        f"# Parley conversations: {experiment.env}",
        "",
        f"Conversations of behaviour policies with a simulated user (`{experiment.user}`) of the world "
        f"`{experiment.env}`. All of them are generated; no person speaks in them.",
        "",
        "## How it was made",
        "",
        f"- `{shlex.join(['python', '-m', 'benchmarks.data', *words, 'out=FOLDER'])}`",
        f"- Source: {source}, with {libraries}. The same source, libraries and seed give the same files.",
        "- The scenarios' seeds are those of logged data: no run is trained or evaluated on them.",
        "",
        *_figures(parts),
        "## Columns",
        "",
        *_columns(),
        "## Licence",
        "",
        f"Apache-2.0, as the program that generated it.{words_of}",
    ]


def _figures(parts: Sequence[Part]) -> list[str]:
    lines = [
        "## Figures",
        "",
        "Means over scored conversations, with the standard error of the return.",
        "",
        "| split | policy | conversations | agent's turns | mean return | success rate | unscored | log-probability |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for part in parts:
        for name in dict.fromkeys(one.policy for one in part.logged):
            lines.append(_figure_row(part.split, name, [one for one in part.logged if one.policy == name]))
    lines += [
        "",
        "| split | " + " | ".join(KINDS) + " | pairs that are ties | pairs without a label | partings undecided |",
    ]
    lines += ["|---" * (len(KINDS) + 4) + "|"]
    for part in parts:
        labels = np.array([one.label for one in part.pairs])
        undecided = sum(not one.decided for one in part.partings)
        numbers = [*_rows(part).values(), int((labels == 0.5).sum()), int(np.isnan(labels).sum()), undecided]
        lines.append(f"| {part.split} | " + " | ".join(map(str, numbers)) + " |")
    return [*lines, ""]


def _columns() -> list[str]:
    lines = []
    for kind, columns in COLUMNS.items():
        lines += [f"`{kind}`", "", "| column | what |", "|---|---|"]
        lines += [f"| `{name}` | {what} |" for name, what in columns.items()]
        lines.append("")
    return lines


def _figure_row(split: str, policy: str, logged: Sequence[Logged]) -> str:
    scored = [one.trajectory for one in logged if one.trajectory.judged]
    returns, turns = [one.returns() for one in scored], sum(one.trajectory.exchanges for one in logged)
    mean = f"{np.mean(returns):.3f}" if scored else "-"
    if len(scored) > 1:
        mean += f" ± {np.std(returns, ddof=1) / math.sqrt(len(scored)):.3f}"
    success = f"{np.mean([bool(one.success) for one in scored]):.3f}" if scored else "-"
    kinds = ", ".join(dict.fromkeys(one.logprob_of or "nobody can say" for one in logged))
    cells = [split, policy, len(logged), turns, mean, success, len(logged) - len(scored), kinds]
    return "| " + " | ".join(map(str, cells)) + " |"
