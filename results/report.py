"""The page: ``python -m results.report [--runs results/runs] [--out results/mine/report.html]``.

One HTML file that opens from disk, without a server or a network: the leaderboard with its figures, and the
conversations behind it, to read, to lay side by side and to label. Its parts lie in ``results/page``. Figures are
written beside it as PNG and SVG as well.

The page carries ``--conversations`` conversations at most, the same scenarios of every run, packed. Where that makes it
larger than ``MAX_BYTES``, the conversations go into a folder beside it that must be kept with it.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.leaderboard import SKIP, collect_folders, placed
from results.record import Record, RecordError
from results.report_conversations import ConversationError, Packed, Run, pack
from results.sections import Entry, Section, sections_of

PARTS = Path(__file__).parent / "page"
SCRIPTS = (
    "base.js",
    "table.js",
    "plots.js",
    "results.js",
    "store.js",
    "browse.js",
    "labels.js",
    "compare.js",
    "main.js",
)
"""In the order in which they are read; together they are one script."""
MAX_BYTES = 10_000_000
CONVERSATIONS = 20_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; 0, or 1 with a message when there is nothing to write or something can't be read."""
    options = _options(arguments)
    try:
        records = _records(options.runs, options.env, options.skip_bad)
        sections = sections_of(records.values())
        data, packed = gather(records, sections, options.runs, options.conversations)
        data["command"] = shlex.join(
            ["python", "-m", "results.report", *(sys.argv[1:] if arguments is None else arguments)]
        )
        with placed("--out FILE"):
            for line in write(data, packed, options.out):
                print(line)
            if not options.no_plots:
                _draw(sections, options.out.parent)
    except (RecordError, ConversationError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m results.report", description="One HTML page from run folders.")
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="where the run folders lie")
    parser.add_argument("--env", help="this environment only")
    parser.add_argument("--out", type=Path, default=Path("results/mine/report.html"), help="the page")
    parser.add_argument(
        "--conversations", type=int, default=CONVERSATIONS, metavar="N",
        help=f"carry about N conversations, the same scenarios of every run (default {CONVERSATIONS}; 0 for none)",
    )  # fmt: skip
    parser.add_argument("--no-plots", action="store_true", help="don't write the figures as PNG and SVG beside it")
    parser.add_argument("--skip-bad", action="store_true", help="leave out records that can't be read, with a warning")
    options = parser.parse_args(arguments)
    if options.conversations < 0:
        parser.error(f"--conversations {options.conversations}: give 0 or more")
    return options


def _records(runs: Path, env: str | None, skip_bad: bool) -> dict[Path, Record]:
    """The records of ``runs`` by their folders."""
    records = {folder: one for folder, one in collect_folders(runs, skip_bad, SKIP).items() if env in (None, one.env)}
    if not records:
        of = f" of env={env}" if env else ""
        raise RecordError(
            f"There are no records{of} below {runs}. Make one: python -m benchmarks.run agent=… env=… seed=0"
        )
    return records


def gather(
    records: dict[Path, Record], sections: Sequence[Section], root: Path, conversations: int
) -> tuple[dict[str, Any], Packed]:
    """What the page embeds: results and the index, and the packed conversations apart.

    Raises ``ConversationError`` for a file of conversations that can't be read.
    """
    from results.report_data import across, commit, section_data  # matplotlib takes a second to import

    runs = runs_of(records, root)
    run_of = {id(run.record): number for number, run in enumerate(runs)}
    packed = pack(runs, conversations)
    data = {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "sections": [section_data(section, run_of) for section in sections],
        "across": across(sections),
        "runs": [
            {
                "path": run.path, "agent": run.agent, "world": run.world, "env": run.record.env,
                "seed": run.record.seed, "user": run.record.user, "budget": run.record.budget,
                "learns": run.record.learns, "command": run.record.command, "date": run.record.date,
                "commit": commit(run.record),
            }
            for run in runs
        ],
        "conversations": packed.index | {"held": packed.held, "found": packed.found, "notes": packed.notes},
    }  # fmt: skip
    return data, packed


def runs_of(records: dict[Path, Record], root: Path) -> list[Run]:
    """The runs with the names of their agents and worlds; worlds of one name that differ are numbered."""
    names: dict[str, list[str]] = {}
    runs = []
    for folder, record in records.items():
        entry = Entry((record,))
        name = " ".join([record.env, *entry.env_settings])
        alike = names.setdefault(name, [])
        settings = repr(record.config.get("env"))
        if settings not in alike:
            alike.append(settings)
        number = alike.index(settings) + 1
        world = name if number == 1 else f"{name} ({number})"
        runs.append(Run(folder.relative_to(root).as_posix(), folder, record, entry.agent, world))
    return runs


# ---- the file --------------------------------------------------------------------------------------------------------


def write(data: dict[str, Any], packed: Packed, out: Path) -> list[str]:
    """Write the page, and the folder beside it where it would be too large; returns what to tell."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f"{out.stem}-conversations")
    _clear(folder)
    data["apart"] = None
    page = render(data, packed.chunks)
    if len(page) > MAX_BYTES:
        data["apart"] = folder.name
        page = render(data, [])
        folder.mkdir(exist_ok=True)
        for number, chunk in enumerate(packed.chunks):
            (folder / f"{number}.js").write_text(f'parleyChunk({number},"{chunk}")\n', encoding="ascii")
    out.write_bytes(page)
    told = [f"{out}: {len(page) / 1e6:.1f} MB, {packed.held:,} of {packed.found:,} conversations"]
    if data["apart"]:
        told.append(f"{folder}: its conversations, which must stay beside it ({len(packed.chunks)} files)")
    return told + packed.notes


def _clear(folder: Path) -> None:
    """Remove what an earlier page left."""
    if folder.is_dir():
        for path in folder.glob("*.js"):
            path.unlink()
        folder.rmdir()


def render(data: dict[str, Any], chunks: Sequence[str]) -> bytes:
    """The page as UTF-8: its parts, the data and the chunks in one document.

    The browser runs the one script whose digest the page names, and asks no server for anything (its content security
    policy); ``<`` in the data is written so that no text can end the element it stands in.
    """
    script = "\n".join((PARTS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f"(() => {{\n{script}\n}})();\n"
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "digest": digest,
        "sources": " file: 'self'" if data["apart"] else "",
        "style": (PARTS / "page.css").read_text(encoding="utf-8"),
        "data": text,
        "script": script,
        "chunks": "\n".join(f'<script type="text/plain" id="chunk-{i}">{one}</script>' for i, one in enumerate(chunks)),
    }
    page = (PARTS / "page.html").read_text(encoding="utf-8")
    pieces = re.split(r"<!-- (\w+) -->", page)  # at once, so that what is put in is never searched for places
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces)).encode("utf-8")


def _draw(sections: Sequence[Section], out: Path) -> None:
    from results.report_plots import draw_all

    plots = draw_all(sections, out)
    print(f"{len(plots)} figures in {out}")


if __name__ == "__main__":
    sys.exit(main())
