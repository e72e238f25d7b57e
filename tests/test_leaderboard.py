"""The leaderboard: who is compared with whom, what the table says, and what it says when something is missing."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from results.across import across
from results.curves import curve_table, spread
from results.leaderboard import main
from results.record import CurvePoint, Evaluation, Record
from results.sections import entries_of, sections_of
from tests.test_record import RECORD

CELLS = [(user, split) for user in ("plain", "moody") for split in ("iid_test", "ood_test")]


def record(agent: str, value: float, seed: int = 0, scenarios: int = 20, **changes) -> Record:
    """A record whose returns alternate around ``value``: value - 0.1, value + 0.1, …; moody users give half."""
    wave = [-0.1 if i % 2 == 0 else 0.1 for i in range(scenarios)]
    evaluations = [
        Evaluation(
            user, split, list(range(scenarios)), [str(i) for i in range(scenarios)],
            [(value + w) * (0.5 if user == "moody" else 1) for w in wave], [value > 0.5] * scenarios, 2.0, 0,
        )
        for user, split in CELLS
    ]  # fmt: skip
    curve = [CurvePoint(i, 40 * i, value * i / 2, 0.5, 0) for i in range(3)]
    return replace(RECORD, agent=agent, seed=seed, evaluations=evaluations, curve=curve, **changes)


LEARNT = [record("bandit", 0.6, seed=0), record("bandit", 0.8, seed=1)]
FIXED = [record("always_red", 0.2, learns=False), record("echo", 1.2, learns=False)]


@pytest.fixture
def board(tmp_path, capsys):
    """Writes records as runs, makes the leaderboard; returns its Markdown, its CSV and what was said."""

    def go(records, *options: str, wanted: int = 0) -> tuple[str, pd.DataFrame | None, str]:
        for n, one in enumerate(records):
            folder = tmp_path / "runs" / str(n)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "record.json").write_text(one if isinstance(one, str) else one.to_json())
        assert main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), *options]) == wanted
        said = capsys.readouterr().err
        if wanted:
            return "", None, said
        out = tmp_path / "out"
        return (out / "leaderboard.md").read_text(), pd.read_csv(out / "leaderboard.csv", keep_default_na=False), said

    return go


def rows(markdown: str, table: int = 0) -> list[list[str]]:
    """The cells of a table on the page, without its head: of a section, 0 is the main one and 1 that of the details."""
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    lines = [line for line in blocks[table] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_seeds_of_one_agent_are_one_row_and_rows_are_sorted_by_score(board):
    markdown, _, _ = board(LEARNT + FIXED)
    assert [row[:4] for row in rows(markdown)] == [
        ["echo", "-", "1", "1.00 [1.00, 1.00]"],
        # (0.7 - 0.2) / (1.2 - 0.2); its seeds have 0.4 and 0.6, so s / √2 = 0.1, and t of 1 degree of freedom is 12.7
        ["bandit", "plain", "2", "0.50 [-0.77, 1.77]"],
        ["always_red", "-", "1", "0.00 [0.00, 0.00]"],
    ]


def test_the_csv_has_a_line_per_agent_user_and_split(board):
    _, table, _ = board(LEARNT + FIXED)
    assert len(table) == 3 * 4
    one = table[(table.agent == "bandit") & (table.user == "moody") & (table.split == "ood_test")].iloc[0]
    assert one["return"] == pytest.approx(0.35) and float(one.score) == pytest.approx(0.5)
    assert (one.success, one.training_seeds, one.conversations) == (1.0, "0 1", 240.0)


def test_without_the_references_there_are_returns_and_the_command_that_makes_them(board):
    markdown, table, _ = board(LEARNT)
    assert [row[3] for row in rows(markdown)] == ["-"] and "0.700 [" in markdown
    assert "`python -m benchmarks.run agent=echo env=shop user=plain budget=tiny` makes it" in markdown
    assert (table.score == "").all()


def test_references_of_a_larger_evaluation_are_compared_on_the_common_scenarios(board):
    larger = [record("always_red", 0.2, scenarios=60, learns=False, budget="big")]
    larger += [record("echo", 1.2, scenarios=60, learns=False, budget="big")]
    markdown, table, _ = board(LEARNT + larger)
    assert rows(markdown)[1][3].startswith("0.50") and set(table.scenarios) == {20}


def test_references_of_a_smaller_evaluation_do_not_serve(board):
    smaller = [record(agent, 0.2, scenarios=10, learns=False, budget="small") for agent in ("always_red", "echo")]
    markdown, _, _ = board(LEARNT + smaller)
    assert [row[0] for row in rows(markdown)] == ["bandit"] and "No record of the start" in markdown


@pytest.mark.parametrize("agents", [["ant", "bee"], ["bee", "ant"]])
def test_agents_with_equal_means_stand_in_the_order_of_their_names(agents):
    (section,) = sections_of([record(agent, 0.6, seed) for agent in [*agents, "cow"] for seed in (0, 1)])
    assert [entry.agent for entry in section.ranked] == ["ant", "bee", "cow"]


def test_a_mean_that_differs_by_the_order_of_its_sum_ranks_as_equal():
    ant, bee = 0.3, 0.1 + 0.2  # the greater of the two would otherwise stand first
    assert bee > ant
    (section,) = sections_of([record("bee", bee), record("ant", ant)])
    assert [entry.agent for entry in section.ranked] == ["ant", "bee"]


def test_another_training_user_or_budget_is_another_section():
    sections = sections_of(LEARNT + FIXED + [record("bandit", 0.5, user="moody"), record("bandit", 0.5, budget="big")])
    assert [section.title for section in sections] == [
        "shop, trained with moody, budget tiny",
        "shop, trained with plain, budget big",
        "shop, trained with plain, budget tiny",
    ]
    assert all({"echo", "always_red"} <= {entry.agent for entry in section.entries} for section in sections)


def test_differently_set_environments_are_not_compared():
    set_otherwise = {"config": {"env": {"max_exchanges": 1}}, "variant": ["env.max_exchanges=1"]}
    others = [replace(one, **set_otherwise) for one in FIXED]
    usual, special = sections_of([*LEARNT, FIXED[0], *others])
    assert usual.references["optimum"] is None and "agent=echo" in usual.notes[0]
    assert special.title == "shop, trained with plain, budget tiny, env.max_exchanges=1"
    assert [entry.agent for entry in special.ranked] == ["echo", "always_red"]
    assert special.references["optimum"] is special.ranked[0]
    assert usual.name != special.name


def test_a_variant_is_a_row_of_its_own():
    entries = entries_of([*LEARNT, record("bandit", 0.5, variant=["agent.rate=1"])])
    assert [(entry.agent, len(entry.records)) for entry in entries] == [("bandit", 2), ("bandit agent.rate=1", 1)]


def test_agents_that_are_told_apart_have_letters_of_their_own(board):
    learnt = [record("bandit", value, seed) for seed, value in enumerate((0.60, 0.62, 0.64))]
    other = [record("other", value, seed) for seed, value in enumerate((0.58, 0.62, 0.66))]
    markdown, table, _ = board([*learnt, *other, *FIXED, record("once", 0.9)])
    assert {row[0]: row[4] for row in rows(markdown)} == {
        "echo": "a", "bandit": "b", "other": "b", "always_red": "c", "once": "-",
    }  # fmt: skip
    main = table[(table.user == "plain") & (table.split == "iid_test")].set_index("agent")
    assert dict(main.letter) == {"echo": "a", "bandit": "b", "other": "b", "always_red": "c", "once": ""}
    assert "no letter compares it: once" in markdown
    assert "Smallest detectable difference" in markdown and "splits: 6" in markdown


def test_the_second_table_tells_what_is_lost_and_how_sure_it_is_to_be_better_than_the_start(board):
    markdown, table, _ = board(LEARNT + FIXED)
    echo, bandit, start = rows(markdown, 1)
    # both seeds are better: Wilson's interval of two of two begins at 2 / (2 + 1.96²). Two of two succeed everywhere.
    # Moody users halve all returns, so the score stays.
    assert bandit[:2] == ["bandit", "1.00 [0.34, 1.00]"]
    assert [bandit[2].split()[0], echo[2]] == ["100%", "-"]
    assert bandit[3:5] == ["0.00 [0.00, 0.00]"] * 2
    assert echo[1] == start[1] == "-"
    line = table[(table.agent == "bandit") & (table.user == "plain") & (table.split == "iid_test")].iloc[0]
    assert (float(line.improvement), float(line.pass_2), float(line.lost_other_users)) == pytest.approx((1, 1, 0))


def test_groups_and_health_are_shown_where_records_have_them(board, tmp_path):
    def told(one: Record) -> Record:
        cells = [
            replace(
                cell, attributes={"mood": ["sad"] * 30 + ["gay"] * 30}, health={"role_flips": 0.25},
                returns=[r - 0.2 * (i < 30) for i, r in enumerate(cell.returns)],
            )
            for cell in one.evaluations
        ]  # fmt: skip
        return replace(one, evaluations=cells)

    markdown, table, _ = board([told(record("bandit", 0.6, seed, scenarios=60)) for seed in range(2)])
    assert "p < .001; mood: sad < gay" in markdown and "| 25.0%" in markdown
    assert float(table.group_gap_seen.iloc[0]) == pytest.approx(0.2) and set(table.role_flips) == {0.25}
    groups = pd.read_csv(tmp_path / "out/leaderboard-groups.csv")
    assert len(groups) == 2 * 4
    assert groups[(groups.value == "sad") & (groups.user == "plain")]["return"].tolist() == pytest.approx([0.4, 0.4])


def test_pairs_and_the_noise_floor_are_stored_beside_the_table(board, tmp_path):
    seeds = [record("bandit", value, seed) for seed, value in enumerate((0.5, 0.6, 0.7, 0.8))]
    board(seeds + FIXED)
    pairs = pd.read_csv(tmp_path / "out/leaderboard-pairs.csv")
    assert list(pairs.kind) == ["pair"] * 3 + ["A/A"] * 3
    first = pairs.iloc[0]
    assert (first["first"], first["second"], first.difference) == ("echo", "bandit", pytest.approx(1.2 - 0.65))
    twins = pairs[pairs.kind == "A/A"]
    assert list(twins["first"]) == [f"bandit (seeds {half})" for half in ("0 1", "0 2", "0 3")]
    assert list(twins.difference) == pytest.approx([-0.2, -0.1, 0.0])


def test_unscored_conversations_are_counted_and_left_out(board):
    one = record("bandit", 0.6)
    cell = one.evaluations[0]
    half = [None if i % 2 == 0 else 0.9 for i in range(20)]
    damaged = replace(cell, returns=half, successes=[None if r is None else True for r in half], unscored=10)
    _, table, _ = board([replace(one, evaluations=[damaged, *one.evaluations[1:]]), *FIXED])
    line = table[(table.agent == "bandit") & (table.user == "plain") & (table.split == "iid_test")].iloc[0]
    assert (line["return"], line.unscored, line.success) == (pytest.approx(0.9), 10, 1.0)


def test_one_environment_can_be_asked_for(board):
    elsewhere = [replace(one, env="elsewhere") for one in LEARNT]
    _, table, _ = board([*LEARNT, *elsewhere], "--env", "elsewhere")
    assert set(table.env) == {"elsewhere"}
    _, table, _ = board([*LEARNT, *elsewhere], "--env", "shop", "elsewhere")
    assert set(table.env) == {"elsewhere", "shop"}
    _, _, said = board(LEARNT, "--env", "shop", "nowhere", wanted=1)
    assert "There are no records of nowhere below" in said and "There are some of elsewhere with budget tiny" in said


def test_one_budget_can_be_asked_for_and_keeps_the_references_of_another(board):
    bigger = [record("bandit", 0.5, budget="big")]
    _, table, _ = board([*LEARNT, *FIXED, *bigger], "--budget", "big")
    assert set(table.budget[table.learns]) == {"big"} and set(table.agent) == {"bandit", "echo", "always_red"}
    _, _, said = board([*LEARNT, *bigger], "--budget", "huge", "--env", "shop", wanted=1)
    assert "no records of huge below" in said and "shop with budget big, shop with budget tiny" in said


def test_a_table_that_can_t_be_written_is_told_with_the_option_that_names_its_place(board, tmp_path):
    (tmp_path / "file").touch()
    _, _, said = board(LEARNT, "--out", str(tmp_path / "file/out"), wanted=1)
    assert "Give another place with --out FOLDER." in said and len(said.splitlines()) == 1


def test_several_environments_have_an_interquartile_mean(board):
    elsewhere = [replace(one, env="elsewhere") for one in LEARNT + FIXED]
    markdown, _, _ = board(LEARNT + FIXED + elsewhere)
    assert "## All environments, budget tiny" in markdown
    # Runs score 0.4 and 0.6 in both environments; of the four the middle two are left. Two runs are drawn as far from
    # their mean as makes up for their number, 0.5 ± 0.1 √2; of 16 draws of four, 5 have the lower in the middle, 5 the
    # upper. All four are above the start: Wilson's interval begins at 4 / (4 + 1.96²).
    assert rows(markdown)[1] == [
        "bandit", "2", "0.500 [0.359, 0.641]", "0.500 [0.359, 0.641]", "1.000 [0.510, 1.000]",
    ]  # fmt: skip


def test_environments_are_put_together_where_learners_have_them_in_common():
    both, third = [*LEARNT, *(record("late", 0.5, seed) for seed in (0, 1))], [record("bandit", 0.5)]
    records = [replace(one, env=env) for env in ("shop", "elsewhere") for one in [*both, *FIXED]]
    records += [replace(one, env="far") for one in [*third, *FIXED]]
    (only,) = across(sections_of(records))  # nobody but the bandit is in all three
    assert only.title == "elsewhere and shop, budget tiny" and only.names == ("elsewhere", "shop")
    assert [one.agent for one in only.aggregates] == ["echo", "bandit", "late", "always_red"]

    records += [
        replace(record("late", 0.5), env="far"),
        *(replace(record("new", 0.4), env=env) for env in ("far", "shop")),
    ]
    whole, part = across(sections_of(records))
    assert whole.title == "All environments, budget tiny" and part.title == "far and shop, budget tiny"
    assert {one.agent for one in whole.aggregates} == {"echo", "bandit", "late", "always_red"}
    assert {one.agent for one in part.aggregates} == {"echo", "bandit", "late", "new", "always_red"}


def test_learners_that_share_a_part_of_their_environments_are_compared_on_it():
    where = {"ant": "abc", "bee": "bcd", "cow": "de", "dog": "de"}
    records = [replace(record(agent, 0.5), env=env) for agent, own in where.items() for env in own]
    records += [replace(one, env=env) for env in "abcde" for one in FIXED]
    found = [
        ("".join(one.names), {a.agent for a in one.aggregates if a.learns}) for one in across(sections_of(records))
    ]
    assert found == [("bc", {"ant", "bee"}), ("de", {"cow", "dog"})]


def test_one_learner_alone_is_put_together_over_all_it_has():
    records = [replace(one, env=env) for env in ("shop", "elsewhere") for one in [*LEARNT, *FIXED]]
    (only,) = across(sections_of(records))
    assert only.title == "All environments, budget tiny"
    apart = [replace(one, env="far") for one in [record("other", 0.3), *FIXED]]
    (only,) = across(sections_of(records + apart))
    assert only.title == "elsewhere and shop, budget tiny"
    assert across(sections_of([*LEARNT, *FIXED, *apart])) == []


def test_a_bad_record_is_named_and_can_be_skipped(board, tmp_path):
    bad = LEARNT[0].to_json()[:300]
    _, _, said = board([*LEARNT, bad], wanted=1)
    assert str(tmp_path / "runs/2/record.json") in said and "--skip-bad" in said
    markdown, _, said = board([*LEARNT, bad], "--skip-bad")
    assert "left out" in said and "bandit" in markdown


def test_runs_that_were_moved_aside_are_left_out(board, tmp_path):
    aside = tmp_path / "runs/seed0.aside-20260101"
    aside.mkdir(parents=True)
    (aside / "record.json").write_text("{")
    assert "bandit" in board(LEARNT)[0]


def test_published_tables_are_left_alone_unless_they_are_named(board, tmp_path, monkeypatch):
    board(LEARNT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "leaderboard.md").write_text("published")
    assert main(["--runs", "runs"]) == 0
    assert "bandit" in (tmp_path / "results/mine/leaderboard.md").read_text()
    assert (tmp_path / "results/leaderboard.md").read_text() == "published"


def test_no_records_at_all_is_said(board, tmp_path, capsys):
    assert main(["--runs", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is no folder" in capsys.readouterr().err


def test_what_a_reader_must_know_is_noted(board):
    markdown, _, _ = board([replace(LEARNT[0], dirty=True), *FIXED])
    assert "One training seed only" in markdown and "uncommitted source: bandit" in markdown


def test_curves_are_drawn_for_learners(board, tmp_path):
    board(LEARNT + FIXED)
    out = tmp_path / "out"
    assert (out / "learning-curve-shop-plain-tiny.png").read_bytes().startswith(b"\x89PNG")
    drawing = (out / "learning-curve-shop-plain-tiny.svg").read_text()
    assert drawing.startswith("<?xml") and not list(out.glob("*moody*"))
    x, table = curve_table(entries_of(LEARNT)[0])
    np.testing.assert_allclose(table, [[0, 0.3, 0.6], [0, 0.4, 0.8]])
    np.testing.assert_array_equal(x, [0, 40, 80])


def test_labels_are_moved_apart_by_no_more_than_needed():
    assert spread([0.0, 5.0], 1.0) == [0.0, 5.0]
    assert spread([0.0, 0.0], 1.0) == [-0.5, 0.5]
    assert spread([0.0, 0.5, 3.0], 1.0) == pytest.approx([-0.25, 0.75, 3.0])
    moved = spread(sorted(np.random.default_rng(0).uniform(0, 5, 20)), 0.3)
    assert min(np.diff(moved)) >= 0.3 - 1e-9


def test_the_results_package_imports_no_other_of_ours():
    for path in Path("results").glob("*.py"):
        words = path.read_text().split()
        after = {after for word, after in pairwise(words) if word in ("from", "import")}
        assert not {"envs", "agents", "benchmarks"} & {name.split(".")[0] for name in after}, path


def test_the_same_figure_is_the_same_file(board, tmp_path):
    drawn = []
    for _ in range(2):
        board(LEARNT + FIXED)
        paths = sorted((tmp_path / "out").glob("learning-curve-*"))
        drawn.append([path.read_bytes() for path in paths])
    assert len(drawn[0]) == 2 and drawn[0] == drawn[1] and not list((tmp_path / "out").glob(".*"))
