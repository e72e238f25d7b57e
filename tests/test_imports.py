"""The arrows between the rooms, read from the source, and what importing ``envs`` costs."""

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest
import yaml

import envs

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "envs": set(),
    "agents": {"envs"},
    "results": set(),
    "benchmarks": {"agents", "envs", "results"},
}
"""The other rooms that a room may import from."""


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a source imports, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(ast.parse(path.read_text()))} & set(MAY_IMPORT)


def learners() -> set[str]:
    """The modules of the agents that learn: those that a YAML names."""
    targets = {yaml.safe_load(path.read_text())["_target_"] for path in (ROOT / "conf" / "agent").rglob("*.yaml")}
    return {target.rpartition(".")[0] for target in targets if pkgutil.resolve_name(target).learns}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room):
    for path in sources(room):
        wrong = rooms_imported(path) - MAY_IMPORT[room] - {room}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}; {room} may not"


def test_agent_files_do_not_import_learners():
    known = learners()
    assert {"agents.iterppo", "agents.mtpo"} <= known and "agents.scripted" not in known
    for path in sources("agents"):
        wrong = known & set(imported(ast.parse(path.read_text()))) - {f"agents.{path.stem}"}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}; put what both need into a shared file"


def test_no_file_of_the_rooms_is_named_like_a_test_package():
    assert not (ROOT / "tests" / "envs").exists()
    assert not (ROOT / "tests" / "agents").exists()


def in_a_fresh_python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_envs_needs_neither_torch_nor_transformers():
    heavy = "{'torch', 'transformers', 'scipy', 'pandas', 'requests', 'openai'}"
    assert in_a_fresh_python(f"import envs, sys; print(sorted({heavy} & set(sys.modules)))").strip() == "[]"


def test_importing_envs_costs_less_than_importing_gymnasium():
    program = (
        "import time; start = time.process_time(); import gymnasium; middle = time.process_time(); import envs; "
        "print((time.process_time() - middle) / (middle - start))"
    )
    assert min(float(in_a_fresh_python(program)) for _ in range(3)) < 1  # a tenth when it is quiet


def test_the_ids_are_registered_with_both_entry_points():
    spec = gymnasium.spec("parley/Sales-v0")
    assert spec.entry_point
    assert spec.vector_entry_point
    assert not spec.disable_env_checker


@pytest.mark.parametrize("name", ["Conversation", "ConversationEnv", "ConversationVectorEnv", "Trajectory", "Reply"])
def test_the_public_names_are_at_hand(name):
    assert getattr(envs, name).__name__ == name
