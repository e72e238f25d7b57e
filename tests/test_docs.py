"""What docs/ says: every world and agent has its page, every number its words, every link its end, every command a run.

The tutorials are done here from their first block to their last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from agents.practice import Budget, Practice
from agents.trl_solvers import _LOGGED
from benchmarks.learn import improve, prepare
from envs.judges import BradleyTerry, Preference
from results.record import Record
from tests.conftest import AnyColour
from tests.documents import ROOT, anchors, blocks, commands, do, explained, files, links, write
from tests.toy import Customer, Shop

DOCS = ROOT / "docs"
INDEX = (DOCS / "README.md").read_text(encoding="utf-8")
CONF = ROOT / "conf"
NOT_OURS = ("runs", "demo", "play", "data")
"""Folders below results/ and tests/ that hold what was made, not written."""


def named(path: Path, below: Path) -> str:
    """What the command line calls a YAML."""
    return path.relative_to(below).with_suffix("").as_posix()


WORLDS = sorted(named(path, CONF / "env") for path in (CONF / "env").rglob("*.yaml"))
AGENTS = sorted(named(path, CONF / "agent") for path in (CONF / "agent").rglob("*.yaml"))
PAGES = sorted(path for path in DOCS.rglob("*.md") if path != DOCS / "README.md")
MARKDOWN = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in NOT_OURS for part in path.relative_to(ROOT).parts[:-1])
)


# ---- pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", WORLDS)
def test_every_world_has_a_page_with_everything_a_page_has(world):
    text = (DOCS / "worlds" / f"{world}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    for wanted in (
        "rewarded",
        "Splits and attributes",
        "hidden",
        "Known figures",
        "Traps",
        "Source",
        "example",
        "Use it",
    ):
        assert any(wanted in heading for heading in headings), f"no section on {wanted!r}"
    assert re.search(rf"\benv={world}\b", text) and "```python" in text


@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_has_one_page_which_names_its_yaml(agent):
    link = f"(../../conf/agent/{agent}.yaml)"
    (page,) = [path for path in (DOCS / "agents").glob("*.md") if link in path.read_text(encoding="utf-8")]
    assert re.search(rf"agent=(?:[\w/,]+,)?{agent}\b", page.read_text(encoding="utf-8")) or page.stem in (
        "start",
        "scripted",
    )
    assert re.search(rf"\b{agent}\b[^\]\n]*\]\(agents/{page.stem}\.md\)", INDEX), (
        f"docs/README.md does not name {agent}"
    )


def value_of(agent: str, key: str) -> object:
    """What the agent's YAML has under a key such as ``solver.kl_coef``."""
    found = yaml.safe_load((CONF / "agent" / f"{agent}.yaml").read_text(encoding="utf-8"))
    for part in key.split("."):
        found = found[part]
    return found


@pytest.mark.parametrize("page", sorted((DOCS / "agents").glob("*.md")), ids=lambda path: path.stem)
def test_the_values_on_an_agents_page_are_those_of_its_yaml(page):
    rows = re.findall(r"^\| `([\w., ]+)` \| ([^|]+) \| ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert rows or page.stem in ("start", "scripted", "hub")
    for keys, values in rows:
        if page.stem in AGENTS and page.stem != "start":
            for key, value in zip(keys.split(", "), values.split(", "), strict=True):
                assert yaml.safe_load(re.sub(r"^(\d+)e-", r"\1.0e-", value)) == value_of(page.stem, key), key


def test_the_index_names_every_page():
    indexed = {(DOCS / link).resolve() for link in links(INDEX)}
    assert [path for path in PAGES if path.resolve() not in indexed] == []


@pytest.mark.parametrize("document", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_within_the_project_lead_somewhere(document):
    for link in links(document.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        path = document.parent / target if target else document
        assert path.exists(), f"{link} leads nowhere"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{link}: there is no such heading"


def test_anchors_are_those_that_github_makes():
    text = (
        "# One page\n## MTPO, MTPO-τ, multi-turn RLHF\n## Again\n## Again\n```sh\n# none\n```\n### `a_b`: [see](x.md)\n"
    )
    assert anchors(text) == {"one-page", "mtpo-mtpo-τ-multi-turn-rlhf", "again", "again-1", "a_b-see"}


# ---- numbers --------------------------------------------------------------------------------------------------------


class Alphabetical:
    """Prefers, of two utterances, the one that comes first in the alphabet."""

    name = "alphabetical"

    def prefer_turns(self, moments: Sequence, first: Sequence[str], second: Sequence[str]) -> list[Preference]:
        return [Preference(0.5 if a == b else 0.9 if a < b else 0.1) for a, b in zip(first, second, strict=True)]


FEWER_STEPS = {"archer": {"critic_epochs": 0.1, "actor_steps": 2}}
"""What takes long and changes no number's name."""
LEARNERS = [name for name in AGENTS if (CONF / "agent" / f"{name}.yaml").read_text().count("learning_rate")]


@pytest.mark.parametrize("name", LEARNERS)
def test_every_number_that_a_learner_logs_is_explained(name, colour_start):
    """Its own YAML, on a toy world and with a budget of four dozen conversations."""
    text = (CONF / "agent" / f"{name}.yaml").read_text(encoding="utf-8").replace("${env.start}", colour_start)
    agent = instantiate(yaml.safe_load(text) | FEWER_STEPS.get(name, {}), _convert_="all")
    world = {"judge": BradleyTerry(5.0), "turn_judge": Alphabetical()}
    practice = Practice(Shop(Customer()), Budget(48, 24, 32), 0, AnyColour(), **world)
    prepare(agent, practice)
    logged: set[str] = set()
    while not practice.exhausted:
        logged |= set(improve(agent, practice))
    assert logged and logged <= explained(), f"docs/metrics.md does not explain {sorted(logged - explained())}"


def test_the_numbers_of_trls_trainers_are_explained():
    assert {*_LOGGED.values(), "prompts_left_out", "q_gain", "q_spread"} <= explained()


# ---- commands and tutorials -----------------------------------------------------------------------------------------

RUNS = {
    tuple(words)
    for path in PAGES
    for words in commands(path.read_text(encoding="utf-8"))
    if words[1:3] == ["-m", "benchmarks.run"] and "--config-dir" not in words
}


def composed(words: Sequence[str]) -> None:
    """Compose what a command runs; of a sweep, every value of every word once."""
    overrides = [word for word in words[3:] if "=" in word and not word.startswith(("hydra.", "hydra/", "+hydra."))]
    swept = [word for word in overrides if "," in word and "[" not in word]
    for word in swept or [""]:
        rest = [one.split(",")[0] if one in swept else one for one in overrides if one != word]
        key, _, values = word.partition("=")
        for value in values.split(","):
            compose("config", [*rest, f"{key}={value}"] if key else rest)


def test_the_runs_of_the_pages_are_configurations_that_exist():
    assert len(RUNS) > 30
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for words in sorted(RUNS):
            composed(words)


def test_the_modules_that_the_pages_run_exist():
    run = {words[2] for path in PAGES for words in commands(path.read_text()) if words[:2] == ["python", "-m"]}
    missing = [one for one in run if not (ROOT / one.replace(".", "/")).with_suffix(".py").is_file()]
    assert run and missing == []


@pytest.mark.parametrize("world", WORLDS)
def test_the_python_of_a_worlds_page_runs(world, capsys):
    text = (DOCS / "worlds" / f"{world}.md").read_text(encoding="utf-8")
    for language, block in blocks(text):
        if language == "python":
            exec(compile(block, f"{world}.md", "exec"), {})
    assert "user:" in capsys.readouterr().out


def done(name: str, folder: Path) -> list[str]:
    """Do everything that a tutorial says, in order; what its commands print."""
    text = (DOCS / name).read_text(encoding="utf-8")
    given = files(text)
    write(given, folder)
    said = []
    for language, block in blocks(text):
        if block in given.values():
            continue
        assert language in ("sh", "python"), f"nobody runs a block of {language!r}"
        if language == "python":
            (folder / "snippet.py").write_text(block, encoding="utf-8")
            said.append(do(["python", "snippet.py"], folder))
        else:
            said += [do(words, folder) for words in commands(f"```sh\n{block}```\n")]
    return said


def test_your_first_method_ends_with_a_row_on_the_table(tmp_path):
    done("first_method.md", tmp_path)
    table = (tmp_path / "results/mine/leaderboard.md").read_text(encoding="utf-8")
    (row,) = [line for line in table.splitlines() if re.match(r"\| *weighted +\| program +\|", line)]
    assert re.search(r"-?\d\.\d\d \[-?\d\.\d\d, -?\d\.\d\d\]", row)  # its score, with an interval
    (path,) = tmp_path.glob("results/runs/twenty_questions/program/weighted/smoke/seed0/record.json")
    assert Record.load(path).spent.conversations == 16


def test_your_first_world_is_learnt_in_and_passes_the_conformance_kit(tmp_path):
    report = done("first_world.md", tmp_path)[-1]
    assert report.count(" passed ") == len(report.splitlines()) >= 20
    runs = tmp_path / "results/runs/lost_property/visitor"
    records = {name: Record.load(runs / name / "smoke/seed0/record.json") for name in ("clerk", "careful", "reinforce")}
    assert records["reinforce"].spent.conversations == 16
    (careful,) = [one for one in records["careful"].evaluations if one.split == "test"]
    assert set(careful.returns) == {1.1 - 0.1 * 3}  # two questions, then the umbrella
