"""Packed runs are the runs themselves, as far as tables are made of them."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from results import leaderboard
from results.published import main, pack, unpack
from results.record import Record, RecordError
from tests.run_folders import write_run, write_runs


def packed(runs: Path, archives: Path) -> list[tuple[str, int, int]]:
    return [(path.name, added, total) for path, added, total in pack(runs, archives)]


def test_unpacked_runs_make_the_same_tables(tmp_path: Path):
    runs = write_runs(tmp_path / "runs")
    assert packed(runs, tmp_path / "packed") == [("elsewhere.tar.xz", 4, 4), ("shop.tar.xz", 4, 4)]
    assert unpack(tmp_path / "packed", tmp_path / "again") == (8, 0)
    for name in ("runs", "again"):
        assert leaderboard.main(["--runs", str(tmp_path / name), "--out", str(tmp_path / f"tables-{name}")]) == 0
    tables = [sorted((tmp_path / f"tables-{name}").glob("*.[cm]*")) for name in ("runs", "again")]
    assert len(tables[0]) >= 3 and [one.read_bytes() for one in tables[0]] == [one.read_bytes() for one in tables[1]]


def test_conversations_and_checkpoints_stay_where_they_are(tmp_path: Path):
    write_run(tmp_path / "runs/shop/echo/seed0", "echo")
    (tmp_path / "runs/shop/echo/seed0/config.yaml").write_text("seed: 0\n")
    (tmp_path / "runs/shop/echo/seed0/checkpoints").mkdir()
    (tmp_path / "runs/shop/echo/seed0/checkpoints/policy.pt").write_bytes(b"weights")
    packed(tmp_path / "runs", tmp_path / "packed")
    unpack(tmp_path / "packed", tmp_path / "again")
    (folder,) = (tmp_path / "again/shop").rglob("seed0")
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "record.json"]


def test_where_a_run_lay_is_not_told(tmp_path: Path):
    words = ["agent=echo", "seed=0", "results=/home/somebody/runs"]
    command = "python -m benchmarks.run " + " ".join(words)
    write_run(tmp_path / "runs/shop/echo/seed0", "echo", overrides=words)
    folder = tmp_path / "runs/shop/echo/seed0"
    record = replace(Record.load(folder / "record.json"), command=command)
    (folder / "record.json").write_text(record.to_json())
    (folder / "overrides.json").write_text(json.dumps({"command": command, "overrides": words}))
    packed(tmp_path / "runs", tmp_path / "packed")
    unpack(tmp_path / "packed", tmp_path / "again")
    again = Record.load(tmp_path / "again/shop/echo/seed0/record.json")
    assert again.command == "python -m benchmarks.run agent=echo seed=0" and again.overrides == words[:2]
    told = json.loads((tmp_path / "again/shop/echo/seed0/overrides.json").read_text())
    assert told == {"command": again.command, "overrides": again.overrides}


def test_what_is_there_is_left_alone_by_unpacking_and_renewed_by_packing(tmp_path: Path):
    own = write_run(tmp_path / "runs/shop/echo/seed0", "echo")
    packed(tmp_path / "runs", tmp_path / "packed")
    changed = replace(own, date="2031-01-01T00:00:00+00:00")
    (tmp_path / "runs/shop/echo/seed0/record.json").write_text(changed.to_json())
    assert unpack(tmp_path / "packed", tmp_path / "runs") == (0, 1)
    assert Record.load(tmp_path / "runs/shop/echo/seed0/record.json") == changed
    packed(tmp_path / "runs", tmp_path / "packed")
    unpack(tmp_path / "packed", tmp_path / "again")
    assert Record.load(tmp_path / "again/shop/echo/seed0/record.json") == changed


def test_runs_are_added_to_those_packed_and_the_same_runs_give_the_same_bytes(tmp_path: Path):
    write_run(tmp_path / "first/shop/echo/seed0", "echo")
    write_run(tmp_path / "second/shop/bandit/seed1", "bandit", 1)
    assert packed(tmp_path / "first", tmp_path / "packed") == [("shop.tar.xz", 1, 1)]
    assert packed(tmp_path / "second", tmp_path / "packed") == [("shop.tar.xz", 1, 2)]
    assert packed(tmp_path / "second", tmp_path / "other") == [("shop.tar.xz", 1, 1)]
    assert packed(tmp_path / "first", tmp_path / "other") == [("shop.tar.xz", 1, 2)]
    assert (tmp_path / "packed/shop.tar.xz").read_bytes() == (tmp_path / "other/shop.tar.xz").read_bytes()
    assert [path.name for path in (tmp_path / "packed").iterdir()] == ["shop.tar.xz"]


@pytest.mark.parametrize("name", ["../../outside/record.json", "/outside/record.json", "shop/echo/seed0/run.sh"])
def test_an_archive_that_holds_anything_else_puts_nothing_anywhere(tmp_path: Path, name: str, capsys):
    with tarfile.open(tmp_path / "shop.tar.xz", "w:xz") as archive:
        one = tarfile.TarInfo(name)
        one.size = 2
        archive.addfile(one, io.BytesIO(b"{}"))
    with pytest.raises(RecordError, match="is no part of a run"):
        unpack(tmp_path, tmp_path / "a" / "b" / "runs")
    assert main(["unpack", "--archives", str(tmp_path), "--runs", str(tmp_path / "a" / "b" / "runs")]) == 1
    assert name in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["shop.tar.xz"]


def test_a_broken_archive_an_empty_folder_and_no_runs_are_told_in_a_sentence(tmp_path: Path, capsys):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/shop.tar.xz").write_bytes(b"no archive")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad/run").mkdir(parents=True)
    (tmp_path / "bad/run/record.json").write_text("{")
    for words in (
        ["unpack", "--archives", str(tmp_path / "broken"), "--runs", str(tmp_path / "runs")],
        ["unpack", "--archives", str(tmp_path / "empty"), "--runs", str(tmp_path / "runs")],
        ["pack", "--archives", str(tmp_path / "empty"), "--runs", str(tmp_path / "empty")],
        ["pack", "--archives", str(tmp_path / "empty"), "--runs", str(tmp_path / "nowhere")],
        ["pack", "--archives", str(tmp_path / "empty"), "--runs", str(tmp_path / "bad")],
    ):
        assert main(words) == 1
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and str(tmp_path) in said and "--skip-bad" not in said  # which it lacks


def test_a_place_that_can_t_be_written_is_told_with_the_option_that_names_it(tmp_path: Path, capsys):
    packed(write_runs(tmp_path / "runs", ["shop"]), tmp_path / "archives")
    (tmp_path / "file").touch()
    assert main(["unpack", "--archives", str(tmp_path / "archives"), "--runs", str(tmp_path / "file/runs")]) == 1
    assert "Give another place with --runs FOLDER." in capsys.readouterr().err
    assert main(["pack", "--archives", str(tmp_path / "file/archives"), "--runs", str(tmp_path / "runs")]) == 1
    assert "Give another place with --archives FOLDER." in capsys.readouterr().err
    (tmp_path / "odd/shop.tar.xz").mkdir(parents=True)
    assert main(["unpack", "--archives", str(tmp_path / "odd"), "--runs", str(tmp_path / "new")]) == 1
    assert "shop.tar.xz can't be read" in (said := capsys.readouterr().err) and "--runs" not in said
