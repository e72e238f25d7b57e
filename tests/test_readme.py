"""What the README says can be done is done here, word by word: its files are written, its commands run."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from results.record import Record

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES = 60
"""An environment is one file and one YAML of so many lines together."""


def section(title: str) -> str:
    """The text under a heading, up to the next of its level."""
    return re.split(r"^## ", README.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def files(text: str) -> dict[str, str]:
    """Path → content of the files that a text gives: a path in backticks and a colon, then a block."""
    return dict(re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))


def commands(text: str) -> list[list[str]]:
    """The lines of a text's shell blocks, as words."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line]


ENVIRONMENT, AGENT = section("Add an environment"), section("Add an agent")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the files of both tutorials, as a reader has it."""
    folder = tmp_path_factory.mktemp("reader")
    for path, content in (files(ENVIRONMENT) | files(AGENT)).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")
    return folder


def do(words: list[str], folder: Path) -> str:
    """Run a command of the README in ``folder``; returns what it prints."""
    assert words[0] == "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def the_command(text: str, *words: str) -> list[str]:
    """The one command of a text that has all of ``words``."""
    (found,) = [command for command in commands(text) if set(words) <= set(command)]
    return found


def test_an_environment_is_one_file_and_one_yaml_of_at_most_sixty_lines():
    given = files(ENVIRONMENT)
    assert sorted(Path(path).suffix for path in given) == [".py", ".yaml"]
    assert sum(len(content.splitlines()) for content in given.values()) <= MOST_LINES


def test_an_agent_is_one_file_and_one_yaml():
    assert sorted(Path(path).suffix for path in files(AGENT)) == [".py", ".yaml"]


def test_the_environment_of_the_readme_passes_the_conformance_kit(folder):
    report = do(the_command(ENVIRONMENT, "envs.checks"), folder)
    assert report.count(" passed ") == len(report.splitlines()) >= 20


def test_iterative_ppo_trains_in_the_environment_of_the_readme(folder):
    do(the_command(ENVIRONMENT, "benchmarks.run"), folder)
    (path,) = folder.glob("results/runs/cafe/*/iterppo/smoke/seed0/record.json")
    record = Record.load(path)
    assert record.variant == [] and record.spent.conversations == record.config["budget"]["conversations"]
    assert [one.split for one in record.evaluations] == ["test"]
    logged = {
        key for line in (path.parent / "metrics.jsonl").read_text().splitlines() for key in json.loads(line)["agent"]
    }
    explained = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert logged and logged <= explained, f"docs/metrics.md does not explain {sorted(logged - explained)}"


def test_the_agent_of_the_readme_learns(folder):
    do(the_command(AGENT, "env=cafe"), folder)
    (path,) = folder.glob("results/runs/cafe/*/keep_best/smoke/seed0/record.json")
    assert Record.load(path).spent.conversations > 0


def test_the_python_of_the_readme_runs(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", section("From Python"), flags=re.MULTILINE | re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "What will you use the bicycle for?" in capsys.readouterr().out


RUNS = [words for words in commands(README) if words[1:3] == ["-m", "benchmarks.run"] and "--config-dir" not in words]


@pytest.mark.parametrize("words", RUNS, ids=" ".join)
def test_the_runs_of_the_readme_are_configurations_that_exist(words):
    overrides = [word for word in words[3:] if "=" in word]
    several = [override for override in overrides if "," in override]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for override in several or [""]:
            key, _, values = override.partition("=")
            rest = [word.split(",")[0] for word in overrides if word != override]
            for value in values.split(","):
                compose("config", [*rest, f"{key}={value}"] if key else rest)


def test_the_modules_that_the_readme_runs_exist():
    modules = {words[2] for words in commands(README) if words[:2] == ["python", "-m"]} - {"pytest"}
    assert modules >= {"benchmarks.run", "results.leaderboard", "envs.checks"}
    missing = [name for name in modules if not (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()]
    assert not missing


def test_the_tree_names_files_that_exist():
    (tree,) = re.findall(r"^```text\n(.*?)^```$", section("Where things are"), flags=re.MULTILINE | re.DOTALL)
    room = ROOT
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            room = ROOT / name
            assert room.is_dir(), name
        else:
            assert (room / name).exists(), f"{room.name}/{name}"
        assert len(line.split()) > 1, f"{name} has no phrase"


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_within_the_repository_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert all((ROOT / link.partition("#")[0]).exists() for link in links), links


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_what_is_to_be_made_can_be_made(document):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(
        re.findall(r"^(?:.*`)?make ([\w-]+)", (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert named and named <= targets


def test_there_is_one_place_for_measured_results():
    assert re.findall(r"<!-- results:(\w+) -->", README) == ["start", "end"]
