"""Studies: which cells there are, that they run, resume and fail by themselves, and what claims are judged to be."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks.cells import Cell, choose
from benchmarks.judging import load_judge
from benchmarks.progress import RunError
from benchmarks.run import CONF
from benchmarks.studies.claims import (
    best_setting_smaller,
    equal,
    preferred,
    recovers,
    returns_alike,
    returns_more,
    spread_larger,
)
from benchmarks.studies.evidence import Comparison, Evidence
from benchmarks.study import Study, main
from results.record import Evaluation, Record
from results.statistics import Estimate
from results.study_page import CellRow, Page, Table, csv, markdown, method_table
from results.verdict import Verdict, above, beside, share, within
from tests.test_record import RECORD

TOYS = Path(__file__).parent / "conf"
STUDIES = sorted(path.stem for path in (CONF / "study").glob("*.yaml"))

# ---- verdicts by hand ----------------------------------------------------------------------------------------------


def test_a_claim_is_decided_only_if_the_whole_interval_is_on_one_side():
    assert above(Estimate(0.6, 0.51, 0.7), 0.5) == "holds"
    assert above(Estimate(0.4, 0.3, 0.49), 0.5) == "fails"
    assert above(Estimate(0.6, 0.49, 0.7), 0.5) == above(Estimate(0.6, 0.5, 0.7), 0.5) == "undecided"
    assert within(Estimate(0.5, 0.46, 0.54), 0.45, 0.55) == "holds"
    assert within(Estimate(0.7, 0.56, 0.8), 0.45, 0.55) == within(Estimate(0.3, 0.2, 0.44), 0.45, 0.55) == "fails"
    assert within(Estimate(0.5, 0.4, 0.6), 0.45, 0.55) == "undecided"


def test_what_was_not_estimated_is_undecided():
    nothing = Estimate(np.nan, np.nan, np.nan)
    assert above(nothing, 0.5) == within(nothing, 0, 1) == "undecided"


def test_the_sources_number_is_placed_beside_our_interval():
    estimate = Estimate(0.6, 0.55, 0.65)
    assert [beside(estimate, number).split(" is ")[1] for number in (0.5, 0.55, 0.7)] == [
        "below our interval.", "in our interval.", "above our interval.",
    ]  # fmt: skip


def test_shares_are_printed_as_papers_do():
    assert [share(x) for x in (0.9094, 0.0, 1.0, -0.05, 12.5)] == [".909", ".000", "1.000", "-.050", "12.500"]


def record(returns: list[float], seed: int = 0, learns: bool = True) -> Record:
    names = [str(i) for i in range(len(returns))]
    one = Evaluation(
        "plain", "iid_test", list(range(len(returns))), names, list(returns), [True] * len(returns), 1.0, 0
    )
    return replace(RECORD, evaluations=[one], seed=seed, learns=learns)


def evidence(rates: dict[tuple[str, str], list[list[float]]], *, planned: int = 2, fixed: str = "start") -> Evidence:
    """Win rates run by run, ``rates[row, column][i][j]``, the same on 40 scenarios; the other order follows."""
    runs: dict[str, int] = {}
    for (row, column), table in rates.items():
        runs |= {row: len(table), column: len(table[0])}
    method_of = [method for method, count in runs.items() for _ in range(count)]
    at = {method: [i for i, one in enumerate(method_of) if one == method] for method in runs}
    judged = np.full((len(method_of), len(method_of), 40), np.nan)
    for (row, column), table in rates.items():
        judged[np.ix_(at[row], at[column])] = np.array(table)[:, :, None]
        judged[np.ix_(at[column], at[row])] = 1 - np.array(table).T[:, :, None]
    records = {m: [record([0.0], seed, m != fixed) for seed in range(count)] for m, count in runs.items()}
    comparison = Comparison(judged, tuple(method_of), tuple(map(str, range(40))))
    return Evidence({m: max(planned, len(records[m])) if m != fixed else 1 for m in runs}, records, comparison)


def test_a_method_is_preferred_if_its_seeds_win_whichever_are_drawn():
    have = evidence({("good", "start"): [[0.7], [0.8]], ("start", "even"): [[0.4, 0.6]]})
    (won,) = preferred(have, claim="Claim", pairs=[["good", "start"]], numbers=[0.9], source="Table 1")
    assert (won.claim, won.verdict, won.measured) == ("Claim: good is preferred to start", "holds", ".750 [.700, .800]")
    assert won.number_to_match == "above .5; .900 (Table 1)"
    assert won.note == "The source's number is above our interval."
    lost, unclear = preferred(have, claim="Claim", pairs=[["start", "good"], ["even", "start"]])
    assert (lost.verdict, lost.measured, lost.number_to_match) == ("fails", ".250 [.200, .300]", "above .5")
    assert (unclear.verdict, unclear.measured) == ("undecided", ".500 [.400, .600]")


def test_one_training_seed_or_none_decides_nothing():
    have = evidence({("good", "start"): [[0.9]]})
    (one,) = preferred(have, claim="Claim", pairs=[["good", "start"]])
    assert (one.verdict, one.measured, one.low) == ("undecided", "not measured", None)
    assert one.note == "Good has one training seed only."
    nothing = replace(have, records={})
    (none,) = preferred(nothing, claim="Claim", pairs=[["start", "good"]])
    assert none.note == "None of the 1 cells of start is finished; none of the 2 cells of good is finished."


def test_seeds_that_are_missing_are_named():
    have = evidence({("good", "start"): [[0.7], [0.8]]}, planned=3)
    (one,) = preferred(have, claim="Claim", pairs=[["good", "start"]])
    assert (one.verdict, one.note) == ("holds", "Only 2 of 3 seeds of good.")


def test_names_that_are_no_method_and_numbers_that_are_too_few_are_refused():
    have = evidence({("good", "start"): [[0.7], [0.8]]})
    with pytest.raises(RunError, match="'better' is no method of this study; it has good, start"):
        preferred(have, claim="Claim", pairs=[["better", "start"]])
    with pytest.raises(RunError, match="2 pairs and 1 numbers"):
        preferred(have, claim="Claim", pairs=[["good", "start"]] * 2, numbers=[0.5])


def test_methods_are_equal_if_the_interval_is_within_the_margin():
    have = evidence({("a", "b"): [[0.48, 0.5], [0.5, 0.52]], ("a", "c"): [[0.7, 0.7], [0.7, 0.7]]})
    (yes,) = equal(have, claim="Claim", first="a", second="b", margin=0.05, number=0.485)
    assert (yes.verdict, yes.measured) == ("holds", ".500 [.480, .520]")
    assert yes.number_to_match == "in [.450, .550]; .485"
    (no,) = equal(have, claim="Claim", first="a", second="c", margin=0.05)
    assert no.verdict == "fails"


def test_spreads_of_three_seeds_need_a_ratio_above_six():
    """F(2, 2) has its 97.5% quantile at 39, so the interval is the ratio over and times √39 = 6.245."""
    rates = {("wide", "start"): [[0.2], [0.5], [0.8]], ("narrow", "start"): [[0.4], [0.5], [0.6]]}
    (unclear,) = spread_larger(
        evidence(rates), claim="Claim", wide="wide", narrow="narrow", against=["start"], number="-"
    )
    assert unclear.verdict == "undecided"
    assert (unclear.low, unclear.high) == (pytest.approx(3 / 39**0.5), pytest.approx(3 * 39**0.5))
    assert unclear.measured.startswith("s.d. .300 and .100, ratio 3 [") and "1 of 1 opponents" in unclear.note
    rates["narrow", "start"] = [[0.49], [0.5], [0.51]]
    (clear,) = spread_larger(
        evidence(rates), claim="Claim", wide="wide", narrow="narrow", against=["start"], number="-"
    )
    assert (clear.verdict, clear.low) == ("holds", pytest.approx(30 / 39**0.5))


def with_returns(returns: dict[str, list[list[float]]]) -> Evidence:
    records = {method: [record(one, i) for i, one in enumerate(rows)] for method, rows in returns.items()}
    return Evidence({method: len(rows) for method, rows in returns.items()}, records)


def test_a_return_is_recovered_if_the_difference_stays_above_the_margin():
    # Of two seeds s / √2 is .005, and t of one degree of freedom 12.706: ± .0635
    have = with_returns({"aim": [[0.545] * 9, [0.555] * 9], "near": [[0.54] * 9] * 2, "far": [[0.3] * 9] * 2})
    inside, close = recovers(have, claim="Claim", method="near", reference="aim", margin=0.1, number="-")
    assert inside.measured == "0.54 [0.54, 0.54] against 0.55 [0.486, 0.614]"
    assert close.measured == "difference -0.01 [-0.0735, 0.0535]"
    assert (inside.verdict, close.verdict) == ("holds", "holds")
    below, away = recovers(have, claim="Claim", method="far", reference="aim", margin=0.1, number="-")
    assert (below.verdict, away.verdict) == ("fails", "fails")  # -.25 [-.31, -.19]
    _, unclear = recovers(have, claim="Claim", method="near", reference="aim", margin=0.05, number="-")
    assert unclear.verdict == "undecided"
    (more,) = returns_more(have, claim="Claim", pairs=[["aim", "far"]], number="-")
    assert (more.verdict, more.measured) == (
        "holds",
        "0.55 [0.486, 0.614] against 0.3 [0.3, 0.3], difference 0.25 [0.186, 0.314]",
    )
    for margin, verdict in ((0.35, "holds"), (0.25, "undecided"), (0.1, "fails")):
        (one,) = returns_alike(have, claim="Claim", pairs=[["aim", "far"]], margin=margin, number="-")
        assert one.verdict == verdict and one.measured == more.measured and "0 in it" not in one.note
    (one,) = returns_alike(have, claim="Claim", pairs=[["aim", "aim"]], margin=0.1, number="-")
    assert one.verdict == "holds" and "0 in it" in one.note


def test_the_best_setting_is_chosen_anew_in_every_replicate():
    settings = {"first": {"a1": 0.01, "a2": 0.02}, "second": {"b1": 0.005, "b2": 0.01}}
    clear = {("a1", "start"): [[0.5]] * 2, ("a2", "start"): [[0.7]] * 2}
    clear |= {("b1", "start"): [[0.8]] * 2, ("b2", "start"): [[0.6]] * 2}
    (one,) = best_setting_smaller(evidence(clear), claim="Claim", settings=settings, against="start", number="-")
    assert (one.verdict, one.measured) == ("holds", "0.02 and 0.005, ratio 4 [4, 4]")
    assert "At the edge of what was tried: first, second." in one.note
    unclear = clear | {("a1", "start"): [[0.5], [0.9]], ("a2", "start"): [[0.9], [0.6]]}
    unclear |= {("b2", "start"): [[0.85], [0.85]]}
    (one,) = best_setting_smaller(evidence(unclear), claim="Claim", settings=settings, against="start", number="-")
    assert (one.verdict, one.measured) == ("undecided", "0.02 and 0.01, ratio 2 [1, 2]")


# ---- which cells ---------------------------------------------------------------------------------------------------

STUDY = {
    "title": "A bandit and two that don't learn",
    "source": "the tests",
    "question": "Does the bandit learn?",
    "common": {"env": "shop", "user": "plain", "budget": "tiny"},
    "seeds": [0, 1],
    "methods": {
        "red": {"agent": "always_red", "seeds": [0]},
        "bandit": {"agent": "bandit"},
        "idle": {"agent": "idler", "agent.honest": False, "seeds": [0]},
        "nobody": {"agent": "nobody", "seeds": [0]},
    },
    "judging": {"judge": "outcome"},
    "reported": {"bandit": {"red": 0.9}},
    "claims": [
        {"_target_": "benchmarks.studies.claims.preferred", "claim": "Claim 1", "pairs": [["bandit", "red"]]},
        {"_target_": "benchmarks.studies.claims.preferred", "claim": "Claim 2", "pairs": [["idle", "red"]]},
        {"_target_": "tests.test_study.computed", "size": 3},
    ],
}


def computed(size: int) -> list[Verdict]:
    """A claim that needs no cells."""
    return [Verdict(f"{size} is odd", "odd", str(size % 2), None, None, "holds" if size % 2 else "fails")]


def test_each_method_has_a_cell_per_seed_first_seeds_first():
    cells = Study.of("shops", STUDY).cells("runs")
    assert [cell.name for cell in cells] == ["red/0", "bandit/0", "idle/0", "nobody/0", "bandit/1"]
    assert cells[2].overrides == (
        "agent=idler", "env=shop", "user=plain", "budget=tiny", "seed=0", "agent.honest=false", "results=runs",
    )  # fmt: skip


def test_null_takes_a_common_override_back_and_another_budget_stands_for_all():
    methods = {"usual": {"agent": "echo", "user": None}, "big": {"agent": "echo", "budget": "big"}}
    usual, big = Study.of("shops", {**STUDY, "methods": methods, "seeds": [3]}).cells("runs", budget="smoke")
    assert usual.overrides == ("agent=echo", "env=shop", "budget=smoke", "seed=3", "results=runs")
    assert "budget=smoke" in big.overrides and "budget=big" not in big.overrides


@pytest.mark.parametrize("parts", [1, 2, 4, 9])
def test_shards_are_all_cells_once(parts):
    cells = Study.of("shops", STUDY).cells("runs")
    shards = [choose(cells, None, f"{k}/{parts}") for k in range(parts)]
    assert sorted(cell.name for shard in shards for cell in shard) == sorted(cell.name for cell in cells)


def test_cells_are_chosen_by_name_or_pattern():
    cells = Study.of("shops", STUDY).cells("runs")
    chosen = {str(only): [cell.name for cell in choose(cells, only, "0/1")] for only in ("bandit", ["red", "*/1"])}
    assert chosen == {"bandit": ["bandit/0", "bandit/1"], "['red', '*/1']": ["red/0", "bandit/1"]}
    with pytest.raises(RunError, match="only=blue is no cell; there are red/0, "):
        choose(cells, "blue", "0/1")
    many = [Cell(f"shop/{name}", seed, ()) for name in ("red", "bandit") for seed in range(9)]
    with pytest.raises(RunError, match=r"only=shop/blue/3 is no cell; nearest of 18 are shop/red/.*\* stands for"):
        choose(many, "shop/blue/3", "0/1")
    for shard in ("4/4", "1", "-1/2", "a/b"):
        with pytest.raises(RunError, match="is no part of a whole"):
            choose(cells, None, shard)


WRONG = {
    "judge is not known": {"judge": "outcome"},
    "judging can't be read": {"judging": {"by": "outcome"}},
    "seeds is missing": {"seeds": []},
    "is no plain value": {"methods": {"echo": {"agent": ["echo"]}}},
    "unexpected keyword argument 'pair'": {"claims": [{**STUDY["claims"][0], "pair": 1}]},
    "missing a required argument: 'size'": {"claims": [{"_target_": "tests.test_study.computed"}]},
    "a claim names its function under _target_": {"claims": [{"_target_": "tests.test_study.nothing"}]},
    "'blue' is no method of this study": {"claims": [{**STUDY["claims"][0], "pairs": [["blue", "red"]]}]},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_with_a_study_is_named_before_anything_runs(message):
    with pytest.raises(RunError, match=message):
        study = Study.of("shops", {**STUDY, **WRONG[message]})
        study.cells("runs")
        study.check()


@pytest.mark.parametrize("name", STUDIES)
def test_the_studies_that_ship_can_be_composed_and_name_what_there_is(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        values = OmegaConf.to_container(compose("study_config", [f"study={name}"]).study, resolve=True)
        study = Study.of(name, values)
        study.check()
        for cell in {cell.method: cell for cell in study.cells("runs")}.values():
            cell.experiment.check()
        folders = [cell.experiment.folder for cell in study.cells("runs") if cell.seed == 0]
        if study.judging:
            load_judge(study.judging.judge, study.judging.overrides)
    assert len(set(folders)) == len(folders)


# ---- running -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the toys' configuration and the study ``shops``."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(TOYS, folder / "conf")
    (folder / "conf/study").mkdir(exist_ok=True)
    write_study(folder, STUDY)
    return folder


def write_study(place: Path, values: dict, name: str = "shops") -> None:
    (place / f"conf/study/{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def command(place: Path, *words: str) -> list[str]:
    options = [f"--config-dir={place / 'conf'}", f"results={place / 'runs'}", f"out={place / 'out'}"]
    return [sys.executable, "-m", "benchmarks.study", *options, *words]


@pytest.fixture(scope="module")
def whole(place) -> subprocess.CompletedProcess[str]:
    """The study, run once: two cells at a time, one that dies and one that does not exist."""
    words = command(place, "study=shops", "jobs=2")
    return subprocess.run(words, capture_output=True, text=True, cwd=TOYS.parents[1], timeout=120)


def test_a_cell_that_dies_is_named_and_kills_no_other(place, whole):
    assert whole.returncode == 1 and "Traceback" not in whole.stderr
    failed = whole.stderr[whole.stderr.index("These cells failed:") :].splitlines()
    log = place / "runs/shop/plain/idler/tiny"
    assert failed[1].startswith("  nobody/0: nobody/0 can't be composed: ") and "agent/nobody" in failed[1]
    assert any(line.startswith(f"  idle/0: ended with exit status 1, see {log}") for line in failed)
    (said,) = [path.read_text() for path in log.rglob("study.log")]
    assert "Idler.improve took no conversation" in said and "=== " in said
    records = {path.parent.name for path in (place / "runs/shop/plain/bandit/tiny").rglob("record.json")}
    assert records == {"seed0", "seed1"}


def test_progress_is_told_cell_by_cell(whole):
    said = whole.stdout.splitlines()
    assert said[0] == "0 of 5 cells are finished, 4 to run."
    assert any(line.startswith("    bandit/1:   iteration 6: 120 conversations, mean return") for line in said)
    assert sum(" finished in " in line for line in said) == 3
    assert any(line.startswith("  4 of 4 cells run in") for line in said)


def test_the_page_tells_verdicts_numbers_command_commit_and_what_is_missing(place, whole):
    page = (place / "out/shops.md").read_text()
    assert "# A bandit and two that don't learn\n\nDoes the bandit learn?" in page
    assert "- Command: `python -m benchmarks.study --config-dir=" in page and "study=shops" in page
    assert "- Commit: " in page and "- Source of the claims: the tests" in page
    assert "- Cells: 3 of 5 cells are finished\n  - idle/0: failed: ended with exit status 1" in page
    assert "\n  - nobody/0: failed: " in page
    verdicts, _, rates = page.partition("## Win rates")
    rows = {line.split("|")[1].strip(): line for line in verdicts.splitlines() if line.startswith("| ")}
    assert "**holds**" in rows["Claim 1: bandit is preferred to red"]
    assert "**undecided**" in rows["Claim 2: idle is preferred to red"]
    assert "None of the 1 cells of idle is finished." in rows["Claim 2: idle is preferred to red"]
    assert "**holds**" in rows["3 is odd"]
    assert re.search(r"\| bandit +\| [.\d]+ \[[.\d]+, [.\d]+\] / .900 ", rates)  # the source's number behind ours
    assert "agent=bandit env=shop user=plain budget=tiny seed=1" in page


def test_the_page_is_there_for_programs_too(place, whole):
    values = json.loads((place / "out/shops.json").read_text(), parse_constant=pytest.fail)
    assert [one["verdict"] for one in values["verdicts"]] == ["holds", "undecided", "holds"]
    assert [cell["state"] == "finished" for cell in values["cells"]] == [True, True, False, False, True]
    lines = (place / "out/shops.csv").read_text().splitlines()
    assert len(lines) == 4 and lines[0].startswith("study,claim,number_to_match,measured,low,high,verdict,note")


def test_what_is_finished_is_left_alone(place, whole, monkeypatch, capsys):
    before = {path: path.stat().st_mtime_ns for path in place.rglob("record.json")}
    words = ["study=shops", "budget=tiny", "only=[red,bandit]"]  # the budget it has anyhow, said for all
    monkeypatch.setattr(sys, "argv", ["study.py", *command(place, *words)[3:]])
    main()
    assert (place / "out/shops-tiny.md").exists()
    assert "3 of 3 cells are finished, 0 to run." in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in place.rglob("record.json")} == before


def test_finished_cells_without_conversations_are_told_before_the_others_run(place, whole, tmp_path):
    shutil.copytree(place / "runs/shop/plain/bandit", tmp_path / "runs/shop/plain/bandit")
    shutil.rmtree(tmp_path / "runs/shop/plain/bandit/tiny/seed1/trajectories")
    options = [f"--config-dir={place / 'conf'}", f"results={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]
    words = [sys.executable, "-m", "benchmarks.study", *options, "study=shops", "jobs=0"]
    alone = subprocess.run(words, cwd=TOYS.parents[1], capture_output=True, text=True, timeout=120)
    assert alone.returncode == 0 and (tmp_path / "out/shops.md").exists()  # of one method nothing is compared
    words[-1] = "jobs=1"
    ended = subprocess.run(words, cwd=TOYS.parents[1], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "1 finished cells have no conversations to compare: bandit/1." in ended.stderr
    assert " starts: " not in ended.stdout


def test_a_page_is_left_while_it_tells_of_cells_that_are_not_here(place, whole, tmp_path):
    shutil.copytree(place / "out", tmp_path / "out")
    before = (tmp_path / "out/shops.md").read_bytes()

    def study(*words: str) -> subprocess.CompletedProcess[str]:
        options = [
            f"--config-dir={place / 'conf'}",
            f"results={tmp_path / 'runs'}",
            f"out={tmp_path / 'out'}",
            "study=shops",
        ]
        command = [sys.executable, "-m", "benchmarks.study", *options, *words]
        return subprocess.run(command, cwd=TOYS.parents[1], capture_output=True, text=True, timeout=120)

    refused = study("jobs=0")
    assert refused.returncode == 1 and "shops.md is left as it is: it tells of 3 finished cells" in refused.stderr
    a_part = study("only=red")  # runs, and leaves the page to whoever has all
    assert a_part.returncode == 0 and "2 finished cells" in a_part.stdout and "(bandit/0, bandit/1)" in a_part.stdout
    assert (tmp_path / "out/shops.md").read_bytes() == before
    shutil.copytree(place / "runs", tmp_path / "runs", dirs_exist_ok=True)
    assert study("jobs=0").returncode == 0
    assert (tmp_path / "out/shops.md").read_bytes() != before  # another command, another date


def test_a_study_that_is_terminated_takes_its_cells_along_and_goes_on_from_their_checkpoints(place, whole):
    methods = {"bandit": {"agent": "bandit", "agent.pause": 0.4, "seeds": [0]}}
    write_study(place, {**STUDY, "methods": methods, "claims": STUDY["claims"][2:]}, "slow")
    words = command(place, "study=slow")
    process = subprocess.Popen(words, cwd=TOYS.parents[1], stdout=subprocess.PIPE, text=True)
    for line in process.stdout or ():
        if "iteration 2" in line:
            break
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 130 and "The same command continues from the last checkpoint." in rest
    (folder,) = (path.parent for path in (place / "runs/shop/plain/bandit/tiny").glob("seed0-*/study.log"))
    assert not (folder / "record.json").exists()
    with (folder / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody is at work on it any more
    again = subprocess.run(words, cwd=TOYS.parents[1], capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and "iteration 6" in again.stdout and "iteration 1:" not in again.stdout
    undisturbed = Record.load(place / "runs/shop/plain/bandit/tiny/seed0/record.json")
    assert Record.load(folder / "record.json").evaluations == undisturbed.evaluations


def test_a_cell_that_another_process_holds_is_known_to_be_held(tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = [f"hydra.searchpath=[file://{TOYS}]", "agent=echo", "env=shop", "budget=tiny", f"results={tmp_path}"]
        cell = Cell("echo", 0, tuple(words))
        folder = cell.experiment.folder
    assert not cell.held
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cell.held
    assert not cell.held


def test_the_table_of_methods_by_hand():
    def record(returns: list[float], cpu: float, learns: bool = True) -> Record:
        main = Evaluation("plain", "iid_test", [0, 1], ["a", "b"], returns, [True, True], 1.5, 0)
        return replace(RECORD, learns=learns, evaluations=[main], seconds=replace(RECORD.seconds, cpu=cpu))

    have = {
        "start": [record([0.2, 0.2], 1.0, learns=False)],
        "optimum": [record([0.6, 0.6], 1.0, learns=False)],
        "ours": [record([0.4, 0.4], 100.0), record([0.4, 0.4], 200.0)],
    }
    rows = {row["Method"]: row for row in method_table(have).rows}
    assert rows["ours"] == {
        "Method": "ours", "Seeds": "2", "Return": "0.400 [0.400, 0.400]", "Score": "0.500 [0.500, 0.500]",
        "Conversations": "240", "Core-seconds": "150 (100 to 200)",
    }  # fmt: skip
    assert rows["start"]["Core-seconds"] == "-" and rows["optimum"]["Score"].startswith("1.000")
    without = method_table({"ours": have["ours"]})
    assert "Score" not in without.rows[0] and "Score" not in without.note


# ---- the page ------------------------------------------------------------------------------------------------------

PAGE = Page(
    name="shops",
    title="Shops",
    question="",
    source="nowhere",
    command="python -m benchmarks.study study=shops",
    date="2026-01-01T00:00:00+00:00",
    commit="0123456789abcdef",
    dirty=True,
    verdicts=[
        Verdict("It works", "1", "1 | 2", 0.5, 1.5, "holds", "a note"),
        Verdict("So", "-", "-", None, None, "fails"),
    ],
    tables=[Table("More", [{"a": "1", "b": "2"}], "What it is.")],
    cells=[],
)


def test_a_page_without_cells_speaks_of_none():
    page = markdown(PAGE)
    assert "2 verdicts: 1 hold, 1 fail, 0 undecided." in page and "Cells" not in page
    assert "- Commit: 012345678 and uncommitted changes" in page
    assert "1 \\| 2" in page and "| **fails** | -" in page  # a stroke in a cell does not end it
    assert "## More" in page and "What it is." in page
    assert csv(PAGE).splitlines()[2].startswith("shops,So,-,-,,,fails,")


def test_cells_of_different_commits_are_pointed_out():
    cells = [
        CellRow("a", 0, "finished", commit="aaa"),
        CellRow("a", 1, "finished", commit="bbb+"),
        CellRow("b", 0, "begun"),
    ]
    page = markdown(replace(PAGE, cells=cells))
    assert "- The cells are of different commits: aaa, bbb+." in page
    assert "- Cells: 2 of 3 cells are finished\n  - b/0: begun" in page
