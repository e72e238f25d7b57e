"""What the README says can be done is done here, word by word: its files are written, its commands run."""

import csv
import json
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from results.readme import with_tables
from results.record import Record
from tests.documents import ROOT, commands, do, explained, files, section, write

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES = 60
"""An environment is one file and one YAML of so many lines together."""


ROOMS = ("envs", "agents", "benchmarks", "results")
ENVIRONMENT, AGENT = section(README, "Add an environment"), section(README, "Add an agent")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the files of both tutorials, as a reader has it."""
    folder = tmp_path_factory.mktemp("reader")
    write(files(ENVIRONMENT) | files(AGENT), folder)
    return folder


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
    assert logged and logged <= explained(), f"docs/metrics.md does not explain {sorted(logged - explained())}"


def test_the_agent_of_the_readme_learns(folder):
    do(the_command(AGENT, "env=cafe"), folder)  # as it stands there, with few conversations: whether it runs
    assert list(folder.glob("results/runs/cafe/*/keep_best/smoke/seed0/record.json"))
    more = {"logged": 64, "conversations": 192, "per_iteration": 96, "curve.scenarios": 200}
    do([*the_command(AGENT, "env=cafe"), *(f"budget.{key}={value}" for key, value in more.items())], folder)
    (path,) = folder.glob("results/runs/cafe/*/keep_best/smoke/seed0-*/record.json")
    curve = [point.mean_return for point in Record.load(path).curve]
    assert curve[-1] > curve[0] + 0.05


def test_the_python_of_the_readme_runs(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", section(README, "From Python"), flags=re.MULTILINE | re.DOTALL)
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


def test_the_data_that_the_readme_makes_is_enough_for_the_run_that_reads_it():
    made, read = (the_command(section(README, "Offline data"), word) for word in ("benchmarks.data", "benchmarks.run"))
    said = dict(word.split("=", 1) for word in made + read if "=" in word)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", [word for word in read if "=" in word])
    assert int(said["n"]) >= config.budget.logged and said["out"] == config.logged


def test_the_tree_names_files_that_exist():
    (tree,) = re.findall(r"^```text\n(.*?)^```$", section(README, "Where things are"), flags=re.MULTILINE | re.DOTALL)
    room, named = ROOT, set()
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            room = ROOT / name
            assert room.is_dir(), name
        else:
            assert (room / name).exists(), f"{room.name}/{name}"
        named.add(f"{room.name}/{name}")
        assert len(line.split()) > 1, f"{name} has no phrase"
    modules = {f"{path.parent.name}/{path.name}" for name in ROOMS for path in (ROOT / name).glob("[a-z]*.py")}
    assert len(modules) > 100 and not modules - named


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_what_is_to_be_made_can_be_made(document):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(
        re.findall(r"^(?:.*`)?make ([\w-]+)", (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert named and named <= targets


def test_the_tables_are_those_of_the_published_leaderboard():
    with (ROOT / "results/leaderboard.csv").open(encoding="utf-8", newline="") as file:
        assert "<!-- table: sales program default -->" in README
        assert with_tables(README, list(csv.DictReader(file))) == README


def test_there_is_one_place_for_measured_results():
    assert re.findall(r"<!-- results:(\w+) -->", README) == ["start", "end"]
