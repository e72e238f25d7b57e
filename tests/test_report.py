"""The page's data: what is embedded, what is left out, and what is said when something can't be read."""

from __future__ import annotations

import base64
import json
import re
import zlib

import numpy as np
import pytest

from results import report
from results.report_conversations import evenly, pack_chunk
from results.report_data import Column, preferred, profile
from results.statistics import Estimate, scenario_weights
from tests.run_folders import SCRIPT, conversation, write_run, write_runs


@pytest.fixture
def runs(tmp_path):
    return write_runs(tmp_path / "runs", ["shop"])


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[str, dict]:
    """The page of two worlds, and its data."""
    folder = tmp_path_factory.mktemp("usual")
    write_runs(folder / "runs")
    return made(folder)


def made(tmp_path, *options: str) -> tuple[str, dict]:
    """The page of ``tmp_path / runs`` and its data."""
    out = tmp_path / "page/report.html"
    assert report.main(["--runs", str(tmp_path / "runs"), "--out", str(out), "--no-plots", *options]) == 0
    page = out.read_text(encoding="utf-8")
    return page, json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def unpacked(chunk: str) -> dict:
    return json.loads(zlib.decompress(base64.b64decode(chunk)))


def of(part: dict, key: str) -> list:
    return next(column["values"] for column in part["columns"] if column["key"] == key)


def test_the_leaderboard_is_columns_with_a_value_per_row(usual):
    _, data = usual
    part = next(one for one in data["sections"] if one["env"] == "shop")
    assert [row["agent"] for row in part["rows"]] == ["echo", "bandit", "always_red"]
    # five scored scenarios a seed: bandit returns 1, .25, 1, .25, 1, so .7; the references return 0 and 1
    assert [value[0] for value in of(part, "return")] == [1.0, 0.7, 0.0]
    assert [value[0] for value in of(part, "score")] == [1.0, 0.7, 0.0]
    assert [value[0] for value in of(part, "success")] == [1.0, 0.6, 0.0]
    assert of(part, "seeds") == [1, 2, 1]
    assert of(part, "letter")[0] and of(part, "improvement")[1][0] == 1.0  # both seeds of the bandit beat the start
    # of five scored scenarios both seeds succeed on three; the others have one run
    assert [value and value[0] for value in of(part, "pass_2")] == [None, 0.6, None]
    assert [value[0] for value in of(part, "lost:ood_test")] == [0.0, 0.0, 0.0]
    assert of(part, "unscored") == [4, 8, 4]  # a conversation per user and split, and seed
    assert of(part, "conversations") == [None, 240.0, None]
    assert all(len(column["values"]) == 3 and column["explanation"].endswith(".") for column in part["columns"])


def test_rows_name_their_runs_and_commands(usual):
    _, data = usual
    part = next(one for one in data["sections"] if one["env"] == "shop")
    bandits = [data["runs"][number] for number in part["rows"][1]["runs"]]
    assert [(run["path"], run["seed"]) for run in bandits] == [("shop/bandit/seed0", 0), ("shop/bandit/seed1", 1)]
    assert bandits[1]["command"] == "python -m benchmarks.run agent=bandit seed=1"


def test_win_rates_count_a_tie_as_one_half(usual):
    _, data = usual
    (wins,) = [one for one in data["sections"][0]["wins"] if one["condition"] == "training user, iid_test"]
    # echo against bandit on five scored scenarios: three ties at 1, two won: (3 / 2 + 2) / 5
    assert wins["table"][0][1] == pytest.approx(0.7) and wins["table"][1][0] == pytest.approx(0.3)
    assert wins["table"][0][0] is None
    assert wins["missing"] == 5  # scenario 5 of each pair of runs: echo-bandit 2, echo-red 1, bandit-red 2


def test_who_returns_more_is_preferred_and_the_unscored_are_not_judged():
    one, other = [1.0, 0.5, 0.1, np.nan], [0.5, 0.5 + 1e-12, 0.2, 1.0]
    table = preferred(np.array([one, other]))
    np.testing.assert_array_equal(table[0, 1], [1.0, 0.5, 0.0, np.nan])
    np.testing.assert_array_equal(table[1, 0], [0.0, 0.5, 1.0, np.nan])


def test_a_profile_is_the_share_of_conversations_above_each_return():
    returns = np.array([[0.0, 0.5, 1.0, np.nan], [1.0, 1.0, 0.5, 0.0]])
    weights = scenario_weights(["a", "b", "c", "d"], np.random.default_rng(0), 50)
    found = profile(returns, np.array([0.0, 0.5, 1.0]), weights)
    assert found["share"] == pytest.approx([5 / 7, 3 / 7, 0.0])  # seven are scored
    assert all(
        low <= share <= high for share, low, high in zip(*(found[k] for k in ("share", "low", "high")), strict=True)
    )


def test_returns_of_two_values_have_no_profile(tmp_path):
    """It would be the success rate, whatever τ."""
    write_run(tmp_path / "runs/shop/echo/seed0", "echo", env="shop")
    write_run(tmp_path / "runs/shop/always_red/seed0", "always_red", env="shop")
    _, data = made(tmp_path)
    assert [part["profiles"] for part in data["sections"]] == [{}]


def test_every_agent_has_a_place_with_every_user_and_split(usual):
    _, data = usual
    transfer = data["sections"][0]["transfer"]
    assert [(one["user"], one["split"]) for one in transfer["columns"]] == [
        ("plain", "iid_test"), ("plain", "ood_test"), ("moody", "iid_test"), ("moody", "ood_test"),
    ]  # fmt: skip
    assert [[cell[0] for cell in row] for row in transfer["return"]] == [[1.0] * 4, [0.7] * 4, [0.0] * 4]


def test_several_environments_have_an_interquartile_mean(usual):
    _, data = usual
    (across,) = data["across"]
    assert {row["agent"]: row["estimates"]["IQM of scores"][0] for row in across["rows"]} == {
        "echo": 1.0,
        "bandit": 0.7,
        "always_red": 0.0,
    }


def test_estimates_that_are_not_numbers_are_null():
    nothing = Column("x", "X", "A column.", "estimate", "result", [Estimate(float("nan"), 0.0, 1.0), Estimate(1, 0, 2)])
    assert nothing.data()["values"] == [None, [1, 0, 2]]


# ---- conversations ---------------------------------------------------------------------------------------------------


def test_a_chunk_holds_what_was_said():
    talk = conversation("bandit", "plain", "iid_test", 1)
    chunk = unpacked(pack_chunk([json.loads(talk.to_json())]))
    assert chunk["briefs"] == ["You sell colours."]
    assert chunk["conversations"] == [
        [
            0,
            [["user", "Hello, I am number 1."]],
            [["What do you like?", "Something green, in iid_test.", 0.0], [SCRIPT, "The plain one says no.", 0.25]],
            {"parts": {"price": 2.5}},
        ]
    ]


def test_the_index_has_what_filters_need(usual):
    _, data = usual
    index = data["conversations"]
    assert (index["held"], index["found"]) == (2 * 4 * 4 * 6, 2 * 4 * 4 * 6)
    file = next(
        one for one in index["files"]
        if data["runs"][one["run"]]["path"] == "shop/bandit/seed0"
        and (one["user"], one["split"]) == ("moody", "ood_test")
    )  # fmt: skip
    assert file["returns"] == [1.0, 0.25, 1.0, 0.25, 1.0, None]
    assert file["outcomes"] == "010102"
    assert [index["stops"][i] for i in file["stops"]] == ["outcome", "user_left"] * 2 + ["outcome", "user_failed"]
    table = index["tables"][file["table"]]
    assert [table["seeds"][row] for row in file["rows"]] == list(range(6))
    assert table["attributes"][file["rows"][1]] == {"colour": "green", "mood": "cross"}


def test_a_critique_beside_the_conversations_is_carried(usual):
    page, data = usual
    (file,) = [one for one in data["conversations"]["files"] if one["critique"]]
    text = re.search(rf'id="chunk-{file["chunk"]}">([^<]*)<', page)[1]
    assert unpacked(text)["conversations"][0][3]["critique"] == [[0.25, 0.5], [0.75, None], [0.5, None]]


def test_scenarios_of_one_seed_that_differ_are_not_laid_side_by_side(tmp_path):
    """As after a change of the world: seed 0 then means somebody else."""
    write_run(tmp_path / "runs/a", "echo")
    write_run(tmp_path / "runs/b", "always_red")
    path = tmp_path / "runs/b/trajectories/plain-iid_test.jsonl"
    path.write_text(path.read_text().replace('"colour": "red"', '"colour": "white"'))
    _, data = made(tmp_path)
    files = [one for one in data["conversations"]["files"] if (one["user"], one["split"]) == ("plain", "iid_test")]
    assert files[0]["table"] != files[1]["table"]


def test_of_too_many_conversations_the_same_scenarios_of_every_run_are_kept(runs, tmp_path):
    _, data = made(tmp_path, "--conversations", "40")
    index = data["conversations"]
    assert index["held"] == 32 and index["found"] == 96  # two of six scenarios of 16 files
    kept = {tuple(index["tables"][one["table"]]["seeds"][row] for row in one["rows"]) for one in index["files"]}
    assert kept == {(0, 3)}
    assert "32 of 96 conversations are on this page" in index["notes"][0]


def test_an_even_sample_takes_no_more_than_is_wanted():
    assert evenly(list(range(10)), 3) == [0, 3, 6]
    assert evenly([5, 6], 2) == [5, 6]


def test_a_page_without_conversations_has_its_results(runs, tmp_path):
    page, data = made(tmp_path, "--conversations", "0")
    assert data["conversations"]["held"] == 0 and "chunk-0" not in page and len(data["sections"]) == 1


def test_evaluations_without_conversations_are_counted(runs, tmp_path):
    (runs / "shop/echo/seed0/trajectories/plain-iid_test.jsonl").unlink()
    _, data = made(tmp_path)
    assert data["conversations"]["notes"] == ["1 evaluations have no file of conversations beside their record."]


# ---- the file --------------------------------------------------------------------------------------------------------


def test_no_text_can_end_the_element_it_stands_in(runs, tmp_path):
    """A profile that is markup stands in the index, which is not packed."""
    path = runs / "shop/echo/seed0/trajectories/plain-iid_test.jsonl"
    path.write_text(path.read_text().replace('"mood": "calm"', '"mood": "</script><script>alert(1)</script>"'))
    page, data = made(tmp_path)
    assert "alert(1)</script>" not in page and SCRIPT not in page
    moods = {one["mood"] for table in data["conversations"]["tables"] for one in table["attributes"]}
    assert "</script><script>alert(1)</script>" in moods


def test_the_page_asks_nobody_for_anything(usual):
    page, _ = usual
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//[^"')\s]+""", page)
    assert links == []
    assert "default-src 'none'" in page


def test_a_page_that_would_be_too_large_is_split(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "MAX_BYTES", 1000)
    page, data = made(tmp_path)
    assert data["apart"] == "report-conversations" and "chunk-0" not in page
    folder = tmp_path / "page/report-conversations"
    assert "must stay beside it" in capsys.readouterr().out
    text = re.fullmatch(r'parleyChunk\(0,"(.*)"\)\n', (folder / "0.js").read_text())[1]
    assert unpacked(text)["briefs"] == ["You sell colours."]
    monkeypatch.undo()
    made(tmp_path)  # small again: nothing of the folder is left
    assert not folder.exists()


# ---- errors ----------------------------------------------------------------------------------------------------------


def failed(capsys, *arguments: str) -> str:
    assert report.main(list(arguments)) == 1
    return capsys.readouterr().err


def test_without_runs_it_is_said_how_to_make_one(tmp_path, capsys):
    assert "is no folder" in failed(capsys, "--runs", str(tmp_path / "nowhere"))
    assert "Make one: python -m benchmarks.run" in failed(capsys, "--runs", str(tmp_path))


def test_an_environment_without_records_is_named(runs, capsys):
    assert "no records of env=moon" in failed(capsys, "--runs", str(runs), "--env", "moon")


def test_a_bad_record_is_named_and_can_be_left_out(runs, tmp_path, capsys):
    (runs / "shop/echo/seed0/record.json").write_text("{}")
    assert "shop/echo/seed0/record.json can't be read" in failed(capsys, "--runs", str(runs))
    _, data = made(tmp_path, "--skip-bad")
    assert len(data["runs"]) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"schema_version": 2, "seed": 0}', "schema version 2; this release reads version 1"),
        ('{"schema_version": 1, "seed": 0, "st', "line 1 can't be read"),
        ("[]", "line 1 can't be read"),
        ('{"schema_version": 1, "seed": 0}', "it has no brief, judged, opening, steps, stop_reason, success"),
    ],
)
def test_a_bad_line_of_conversations_is_named(runs, capsys, line, message):
    path = runs / "shop/echo/seed0/trajectories/plain-iid_test.jsonl"
    path.write_text(line + "\n")
    said = failed(capsys, "--runs", str(runs))
    assert str(path) in said and message in said and "--conversations 0" in said


def test_fewer_than_no_conversations_are_refused(runs, capsys):
    with pytest.raises(SystemExit):
        report.main(["--runs", str(runs), "--conversations", "-1"])
    assert "--conversations -1: give 0 or more" in capsys.readouterr().err


def test_the_figures_are_written_beside_the_page(runs, tmp_path):
    out = tmp_path / "page/report.html"
    assert report.main(["--runs", str(runs), "--out", str(out), "--env", "shop"]) == 0
    names = {path.name for path in out.parent.iterdir()}
    for stem in ("learning-curve", "profiles", "winrates-returns", "users", "cost"):
        assert {f"{stem}-shop-plain-tiny.png", f"{stem}-shop-plain-tiny.svg"} <= names
