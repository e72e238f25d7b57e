"""What is installed is what is needed: dependencies, pins, data files, and the commands that install them."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROOMS = ("envs", "agents", "benchmarks", "results")
DISTRIBUTIONS = {"yaml": "pyyaml", "hydra": "hydra-core"}
"""Import names that differ from the name of what is installed."""
IMPORTED_BY_OTHERS = {"accelerate"}
"""Dependencies that we don't import ourselves: TRL's trainers fail without."""

IMPORTED_WHERE_NEEDED = {"minari", "openai", "peft", "trackio", "wandb"}
"""Extras and trackers, whose absence is told in a sentence by what needs them."""


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(one.name): one for one in map(Requirement, lines)}


CORE = requirements(PROJECT["dependencies"])
EXTRAS = requirements([line for lines in PROJECT["optional-dependencies"].values() for line in lines])
PINS = requirements(
    [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
)


def imports(folder: Path) -> set[str]:
    """The top-level names that a folder's sources import, as distributions."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    own = {*ROOMS, "tests", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    return {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in names - own - sys.stdlib_module_names}


def test_what_the_rooms_import_is_declared_and_what_is_declared_is_imported():
    imported = set().union(*(imports(ROOT / room) for room in ROOMS))
    assert imported - set(CORE) == IMPORTED_WHERE_NEEDED
    assert set(CORE) - imported == IMPORTED_BY_OTHERS


def test_what_the_tests_import_is_declared():
    assert imports(ROOT / "tests") - set(CORE) - set(EXTRAS) == set()


@pytest.mark.parametrize("name", [name for name in {**CORE, **EXTRAS} if name != "parley-gym"])
def test_the_pin_of_a_dependency_lies_within_its_range(name):
    (pin,) = PINS[name].specifier
    assert pin.operator == "=="
    assert pin.version in {**EXTRAS, **CORE}[name].specifier


def test_what_checks_a_change_installs_every_extra_so_that_the_pins_are_seen_to_fit_together():
    extras, seen, todo = PROJECT["optional-dependencies"], set(), {"dev"}
    while todo:
        seen |= todo
        ours = [Requirement(line) for name in todo for line in extras[name] if line.startswith("parley-gym")]
        todo = {name for one in ours for name in one.extras} - seen
    assert seen == set(extras)


def test_the_versions_of_python_are_the_same_everywhere():
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    makefile, readme = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "README.md"))
    assert "(3, 11) <= sys.version_info[:2] < (3, 14)" in makefile
    assert "Python 3.11, 3.12 or 3.13" in makefile and "Python 3.11, 3.12 or 3.13" in readme


def test_the_licence_is_the_one_that_is_declared():
    assert PROJECT["license"] == "Apache-2.0"
    words = " ".join((ROOT / "LICENSE").read_text(encoding="utf-8").split())
    assert "Apache License Version 2.0, January 2004" in words and "END OF TERMS AND CONDITIONS" in words


def test_the_check_of_a_change_runs_what_the_readme_says():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\w+)", script.read_text(), flags=re.MULTILINE) == ["lint", "test"]


def test_every_rule_that_is_switched_off_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ruff = text[text.index("[tool.ruff.lint]") : text.index("[tool.mypy]")]
    off = [line for line in ruff.splitlines() if re.search(r'"[A-Z]+\d{3}"', line)]
    assert off and all("#" in line for line in off), off


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    """The names of the files that a wheel built from this tree holds."""
    tree = tmp_path_factory.mktemp("tree")
    for name in (*ROOMS, "conf"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "runs", "demo"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tree / "dist")], cwd=tree, check=True, capture_output=True)
    (built,) = (tree / "dist").glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_a_wheel_holds_every_source_phrasebook_model_and_configuration(wheel):
    paths = [path for room in ("envs", "agents", "benchmarks", "conf") for path in (ROOT / room).rglob("*")]
    paths += [*(ROOT / "results").glob("*.py"), *(ROOT / "results/page").iterdir()]
    needed = {str(path.relative_to(ROOT)) for path in paths if path.is_file() and "__pycache__" not in path.parts}
    assert needed - wheel == set()


def test_a_wheel_holds_nothing_else(wheel):
    others = {name for name in wheel if name.split("/")[0] not in (*ROOMS, "conf") and ".dist-info/" not in name}
    assert others == set()
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
