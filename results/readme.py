"""The tables of README.md, from the published leaderboard: ``python -m results.readme``.

A table stands between ``<!-- table: ENV USER BUDGET -->``, the section of results/leaderboard.csv that it shows, and
``<!-- table end -->``. What is between them is written anew.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, str]

_TABLE = re.compile(r"(<!-- table: (\S+) (\S+) (\S+) -->\n).*?(<!-- table end -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 with a message when a file can't be read or a section is not there."""
    parser = argparse.ArgumentParser(prog="python -m results.readme", description=__doc__)
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="the document")
    parser.add_argument("--table", type=Path, default=Path("results/leaderboard.csv"), help="the leaderboard")
    options = parser.parse_args(arguments)
    try:
        with options.table.open(encoding="utf-8", newline="") as file:
            leaderboard = list(csv.DictReader(file))
        text = with_tables(options.readme.read_text(encoding="utf-8"), leaderboard)
        temporary = options.readme.with_name(f".{options.readme.name}.new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(options.readme)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        print(f"{error}. Give it with --readme or --table." if missing else error, file=sys.stderr)
        return 1
    return 0


def with_tables(text: str, leaderboard: Sequence[Row]) -> str:
    """``text`` with every table as ``leaderboard`` has it. Raises ``ValueError`` if that lacks a section."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{table(leaderboard, *found.group(2, 3, 4))}\n{found[5]}", text)


def table(leaderboard: Sequence[Row], env: str, user: str, budget: str) -> str:
    """A section's rows, the highest return first: with the training user on the first split, then the scores on the
    other splits and with the other users."""
    rows = [row for row in leaderboard if (row["env"], row["trained_with"], row["budget"]) == (env, user, budget)]
    if not rows:
        raise ValueError(f"The leaderboard has no section {env} {user} {budget}.")
    split = rows[0]["split"]
    splits, users = (dict.fromkeys(row[name] for row in rows) for name in ("split", "user"))
    others = {(user, one): f"… on `{one}`" for one in splits if one != split}
    others |= {(one, split): f"… with `{one}`" for one in users if one != user}
    lines = [["agent", "seeds", "return", "score", *others.values()], ["---"] * (4 + len(others))]
    at = {(_label(row), row["user"], row["split"]): row for row in rows}
    first = [row for (_, *condition), row in at.items() if condition == [user, split]]
    for row in sorted(first, key=lambda row: -float(row["return"])):
        seeds = str(len(row["training_seeds"].split())) if row["learns"] == "True" else "–"
        elsewhere = [_number(at[_label(row), *other]["score"], 2) for other in others]
        lines.append([f"`{_label(row)}`", seeds, _interval(row, "return", 3), _interval(row, "score", 2), *elsewhere])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _label(row: Row) -> str:
    return f"{row['agent']} {row['variant']}".rstrip()


def _interval(row: Row, name: str, digits: int) -> str:
    """The value, and its interval unless that is a point."""
    value, low, high = (_number(row[key], digits) for key in (name, f"{name}_low", f"{name}_high"))
    return value if row[f"{name}_low"] == row[f"{name}_high"] else f"{value} [{low}, {high}]"


def _number(written: str, digits: int) -> str:
    """Without the 0 before the point; - for what is not known."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{round(float(written), digits) + 0.0:.{digits}f}") if written else "-"


if __name__ == "__main__":
    sys.exit(main())
