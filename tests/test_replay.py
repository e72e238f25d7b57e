"""Transcripts said again, runs compared, rows made again, and what keeps a folder off the leaderboard."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import replay, reproduce, same
from benchmarks.run import main as run
from results.leaderboard import main as leaderboard
from results.record import Record
from results.validation import check
from tests.test_record import RECORD

TOYS = Path(__file__).parent / "conf"
PLACE = "twenty_questions/program/random/smoke/seed0"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Runs of two agents that need no model, and their leaderboard."""
    folder = tmp_path_factory.mktemp("replay")
    with pytest.MonkeyPatch.context() as patch:
        for agent in ("random", "behaviour"):
            words = [f"agent={agent}", "env=twenty_questions", "budget=smoke", f"results={folder / 'runs'}"]
            patch.setattr(sys, "argv", ["run.py", *words])
            run()
    assert leaderboard(["--runs", str(folder / "runs"), "--out", str(folder / "tables")]) == 0
    return folder


@pytest.fixture
def runs(made, tmp_path) -> Path:
    """The same, to be spoilt."""
    return shutil.copytree(made / "runs", tmp_path / "runs")


def spoil(runs: Path, change: Callable[[list[dict]], object], split: str = "iid_test") -> None:
    """Change the transcripts of one evaluation."""
    path = runs / PLACE / "trajectories" / f"program-{split}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---- said again -----------------------------------------------------------------------------------------------------


def test_transcripts_that_are_what_they_say_agree(made, capsys):
    assert replay.main([str(made / "runs")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4 and all(line.endswith("agrees (8 conversations)") for line in said)


def test_a_better_reward_is_found_out(runs, capsys):
    def better(rows):
        rows[3]["steps"][0]["reward"] = 5.0

    spoil(runs, better)
    assert replay.main([str(runs)]) == 1
    said = capsys.readouterr().out
    assert "program-iid_test: DISAGREES" in said and "seed 3, exchange 0: reward 5.0 there, -1.0 here" in said
    assert "seed 3: return -20.0" in said  # the record has what the agent really reached


def test_what_an_agent_did_not_say_is_found_out(runs, capsys):
    def silent(rows):
        rows[0]["steps"] = rows[0]["steps"][:2]

    spoil(runs, silent)
    assert replay.main([str(runs), "--conversations", "1"]) == 1
    assert re.search(r"seed 0, exchange 1: \w+, success \w+ there, it goes on here", capsys.readouterr().out)


def test_another_scenario_is_found_out(runs, capsys):
    spoil(runs, lambda rows: rows[1].update(key="kite/plain"))
    assert replay.main([str(runs)]) == 1
    assert "seed 1: another scenario: kite/plain there, " in capsys.readouterr().out


def test_a_reply_in_other_words_is_counted_and_does_not_disagree(runs, capsys):
    def reworded(rows):
        rows[2]["steps"][0]["reply"] = "Hm, no, not at all."

    spoil(runs, reworded)
    assert replay.main([str(runs)]) == 0
    assert "agrees (8 conversations, 1 replies in other words)" in capsys.readouterr().out


def test_conversations_that_ended_unscored_are_left_out_and_counted(runs, capsys):
    def fail(rows):
        rows[4].update(judged=False, success=None, failure="timeout: no answer")

    spoil(runs, fail)
    assert replay.main([str(runs)]) == 1  # the record has a score there
    assert "DISAGREES (8 conversations, 1 unscored, left out)" in capsys.readouterr().out


def test_an_update_writes_what_is_derived_and_nothing_else(runs):
    path = runs / PLACE / "record.json"
    record = Record.load(path)
    old = json.loads(path.read_text())
    for one in old["evaluations"]:
        one |= {"health": {}, "attributes": {}, "stop_reasons": {}}
    path.write_text(json.dumps(old))
    assert Record.load(path) != record
    assert replay.main([str(runs), "--update"]) == 0
    assert Record.load(path) == record


def test_what_is_configured_in_a_strangers_folder_is_not_run(runs, capsys):
    path = runs / PLACE / "record.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "variant": ["env._target_=os.system"]}))
    assert replay.main([str(runs / PLACE)]) == 1
    assert "is no plain value; runs that are set so are not replayed" in capsys.readouterr().out
    path.write_text(json.dumps({**values, "env": "elsewhere"}))
    assert replay.main([str(runs / PLACE)]) == 1
    assert "env=elsewhere user=program is not known here" in capsys.readouterr().out


def test_worlds_of_ones_own_are_replayed_with_their_configuration(tmp_path, monkeypatch, capsys):
    words = [f"--config-dir={TOYS}", "agent=always_red", "env=shop", "budget=tiny", f"results={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    run()
    capsys.readouterr()
    assert replay.main([str(tmp_path), "--config-dir", str(TOYS)]) == 0
    assert "moody-iid_test: agrees (20 conversations, " in capsys.readouterr().out


# ---- compared -------------------------------------------------------------------------------------------------------


def test_runs_that_came_out_the_same_are_equal_and_a_missing_one_is_named(made, runs, capsys):
    assert same.main([str(made / "runs"), str(runs)]) == 0
    shutil.rmtree(runs / "twenty_questions/program/behaviour")
    spoil(runs, lambda rows: rows[0].update(take=1))
    assert same.main([str(made / "runs"), str(runs)]) == 1
    said = capsys.readouterr().out
    assert f"behaviour/smoke/seed0: missing below {runs}" in said
    assert f"{PLACE}: DIFFERS\n  trajectories/program-iid_test.jsonl" in said
    (runs / PLACE / "record.json").write_text("{")
    assert same.main([str(made / "runs"), str(runs)]) == 1
    assert (
        f"{PLACE}: DIFFERS\n  can't be compared: {runs / PLACE / 'record.json'} can't be read"
        in capsys.readouterr().out
    )


def test_runs_that_were_moved_aside_are_no_runs(made, runs, capsys):
    shutil.copytree(runs / PLACE, (runs / PLACE).with_name("seed0.aside-20260101-000000"))
    assert same.main([str(made / "runs"), str(runs)]) == 0
    (aside,) = runs.rglob("*.aside-*")
    assert same.main([str(aside), str(runs / PLACE)]) == 0  # unless they are named
    assert leaderboard(["validate", str(runs)]) == 0  # which replays them
    assert "2 runs, the files are in order" in capsys.readouterr().out


# ---- made again -----------------------------------------------------------------------------------------------------


def test_a_row_is_made_again_and_is_the_same(made, tmp_path, capsys):
    table = made / "tables" / "leaderboard.csv"
    words = ["twenty_questions/random", "--table", str(table), "--results", str(tmp_path)]
    (tmp_path / "another").mkdir()
    (tmp_path / "another/record.json").write_text("{")  # a row made again earlier, and spoilt: it is left out
    assert reproduce.main(words) == 0
    said = capsys.readouterr().out
    assert said.count("here: the same") == 2 and said.endswith("The row agrees.\n")


def test_a_row_whose_interval_the_runs_miss_does_not_agree(made, tmp_path, capsys):
    lines = pd.read_csv(made / "tables" / "leaderboard.csv")
    lines[["return", "return_low", "return_high"]] = [-5.0, -6.0, -4.0]
    lines.to_csv(tmp_path / "boasting.csv", index=False)
    words = ["twenty_questions/random", "--table", str(tmp_path / "boasting.csv"), "--results", str(made / "runs")]
    assert reproduce.main(words) == 1
    said = capsys.readouterr().out
    assert "program, iid_test: -5.0000 [-6.0000, -4.0000] there, " in said and "DISAGREES" in said


def test_a_single_seed_is_compared_with_what_it_returned():
    line = {"user": "program", "split": "iid_test", "return": 0.5, "return_low": 0.3, "return_high": 0.8}
    row = pd.DataFrame([{**line, "training_seeds": "0 1", "returns_by_seed": "0.4 0.6"}])
    one = RECORD.evaluations[0]
    record = Record.from_json(RECORD.to_json().replace('"plain"', '"program"').replace('"seed": 0', '"seed": 1'))
    (found,) = reproduce.compare(row, [record], whole=False)
    # The second seed returned .6: .2 below and .3 above belong to the row's interval.
    assert (found.there, round(found.low, 9), round(found.high, 9)) == (0.6, 0.4, 0.9)
    assert found.here == one.returns[0] == 0.5 and found.agrees


def test_a_row_that_is_not_there_is_told_with_those_that_are(made, capsys):
    table = ["--table", str(made / "tables" / "leaderboard.csv")]
    assert reproduce.main(["sales/iterppo", *table]) == 2
    assert "No row is called sales/iterppo; nearest of the 2 are twenty_questions/" in capsys.readouterr().err
    assert reproduce.main(["twenty_questions", *table]) == 2
    assert "2 rows are called twenty_questions" in capsys.readouterr().err
    assert reproduce.main(["twenty_questions/random", *table, "--seeds", "7"]) == 2
    assert "--seeds 7 is none of the row's; it has 0." in capsys.readouterr().err
    assert reproduce.main(["twenty_questions/random", "--table", "nowhere.csv"]) == 2
    assert "--table nowhere.csv is not there; give the leaderboard.csv" in capsys.readouterr().err


# ---- handed in ------------------------------------------------------------------------------------------------------


def test_a_folder_in_order_is_valid(made, capsys):
    assert leaderboard(["validate", str(made / "runs")]) == 0
    said = capsys.readouterr().out
    assert "2 runs, the files are in order" in said


def errors(runs: Path) -> list[str]:
    return check(sorted(runs.rglob("record.json"))).errors


def test_what_keeps_a_folder_off_the_leaderboard_is_named(runs):
    assert errors(runs) == []
    (runs / PLACE / "config.yaml").unlink()
    spoil(runs, lambda rows: rows.pop())
    spoil(runs, lambda rows: rows[0].update(schema_version=9), "ood_test")
    first, second, third = errors(runs)
    assert first.endswith("config.yaml is missing; hand in the run folder as the run has left it")
    assert second.endswith("program-iid_test.jsonl: its conversations are not those of the record, in its order")
    assert third.endswith("transcripts of schema version 9; this release reads version 1")
    shutil.rmtree(runs / PLACE / "trajectories")
    assert any("iid_test.jsonl is missing; hand in runs with their conversations" in error for error in errors(runs))


def test_transcripts_that_pay_otherwise_than_the_record_are_an_error(runs):
    def better(rows):
        rows[3]["steps"][0]["reward"] += 3.0

    spoil(runs, better)
    (error,) = errors(runs)
    assert "program-iid_test.jsonl: seed 3 returned " in error and "; the record says " in error


def test_other_scenarios_than_the_others_had_are_an_error(runs):
    path = runs / PLACE / "record.json"
    values = json.loads(path.read_text())
    for one in values["evaluations"]:
        one["keys"][0] = "kite/plain"
    path.write_text(json.dumps(values))
    for split in ("iid_test", "ood_test"):
        spoil(runs, lambda rows: rows[0].update(key="kite/plain"), split)
    assert errors(runs) == ["runs of env=twenty_questions user=program budget=smoke were evaluated on 2 different sets"]


def test_a_record_of_another_schema_and_an_empty_folder_are_told(runs, tmp_path, capsys):
    path = runs / PLACE / "record.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    assert leaderboard(["validate", str(runs), "--no-replay"]) == 1
    assert "ERROR: " in (said := capsys.readouterr().out) and "schema version 99" in said
    assert leaderboard(["validate", str(tmp_path / "nowhere")]) == 1
    assert "There is no record.json below" in capsys.readouterr().err
