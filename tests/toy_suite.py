"""A suite of the toys: who always says red, and a learner with two seeds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TOYS = Path(__file__).parent / "conf"


def write_suite(folder: Path, bandit: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The toys' configuration into ``folder``, with the suite ``toys``; returns what that says. ``bandit``: overrides
    of the learner."""
    shutil.copytree(TOYS, folder)
    (folder / "suite").mkdir()
    toys = {
        "title": "Toys",
        "common": {"budget": "tiny"},
        "worlds": {"shop": {}},
        "agents": {"always_red": {"seeds": [0]}, "bandit": bandit},
        "seeds": [0, 1],
    }
    (folder / "suite/toys.yaml").write_text(yaml.safe_dump(toys))
    return toys
