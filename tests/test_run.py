"""One run of the benchmark on the toy shop: what it records, how it is named, what it says when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.run import main
from envs.trajectory import read_jsonl
from results.record import Evaluation, Record

CONF = Path(__file__).parent / "conf"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command in this process; returns the run's folder."""

    def go(*overrides: str, folder: Path = CONF) -> Path:
        results = tmp_path / "runs"
        options = [word for word in overrides if word.startswith("--")]
        words = [f"--config-dir={folder}", *options, "env=shop", "budget=tiny", f"results={results}"]
        words += [word for word in overrides if word not in options]
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        before = {path.stat().st_mtime_ns for path in results.rglob("record.json")}
        main()
        (written,) = [path for path in results.rglob("record.json") if path.stat().st_mtime_ns not in before]
        return written.parent

    return go


@pytest.fixture
def failure(run, capsys):
    """Runs a command that must fail; returns what it wrote to standard error."""

    def go(*overrides: str, **options) -> str:
        with pytest.raises(SystemExit) as stop:
            run(*overrides, **options)
        assert stop.value.code == 1
        said = capsys.readouterr().err
        assert "Traceback" not in said and len(said.splitlines()) < 60  # Hydra lists what there is
        return said

    return go


def evaluation(record: Record, user: str, split: str) -> Evaluation:
    (one,) = [one for one in record.evaluations if (one.user, one.split) == (user, split)]
    return one


def test_a_run_records_what_it_was_and_what_came_of_it(run, tmp_path):
    folder = run("agent=bandit")
    assert folder == tmp_path / "runs/shop/plain/bandit/tiny/seed0"
    record = Record.load(folder / "record.json")
    assert (record.agent, record.env, record.user, record.budget, record.seed) == ("bandit", "shop", "plain", "tiny", 0)
    assert (record.variant, record.learns) == ([], True)
    assert record.references == {"start": "always_red", "optimum": "echo"}
    assert record.config["agent"]["learning_rate"] == 4.0
    assert record.spent.conversations == 120 and 120 <= record.spent.exchanges <= 360
    assert record.spent.user_tokens == 3 * record.spent.exchanges
    assert [(one.user, one.split) for one in record.evaluations] == [
        ("plain", "iid_test"), ("plain", "ood_test"), ("moody", "iid_test"), ("moody", "ood_test"),
    ]  # fmt: skip
    assert all(one.seeds == list(range(20)) for one in record.evaluations)
    assert [point.conversations for point in record.curve] == [0, 20, 40, 60, 80, 100, 120]
    assert record.curve[-1].mean_return > record.curve[0].mean_return + 0.2
    assert set(record.versions) >= {"python", "torch", "transformers", "trl", "numpy", "gymnasium", "parley-gym"}
    assert record.seconds.learning > 0 and record.seconds.cpu > 0
    assert "agent=bandit" in record.command and "--config-dir" in record.command


def test_the_folder_holds_configuration_metrics_checkpoints_and_conversations(run):
    folder = run("agent=bandit")
    assert yaml.safe_load((folder / "config.yaml").read_text())["budget"]["per_iteration"] == 20
    assert "agent=bandit" in json.loads((folder / "overrides.json").read_text())["overrides"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["iteration"], row["conversations"]) for row in rows] == [(i, 20 * i) for i in range(7)]
    assert all(row["evaluation"]["mean_return"] is not None for row in rows)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["000005", "000006"]
    trajectories = list(read_jsonl(folder / "trajectories/plain-iid_test.jsonl"))
    record = Record.load(folder / "record.json")
    assert [t.returns() for t in trajectories] == evaluation(record, "plain", "iid_test").returns


def test_scenarios_of_the_evaluation_are_the_same_for_every_agent_and_seed(run):
    records = [Record.load(run(*words) / "record.json") for words in (["agent=echo"], ["agent=always_red", "seed=3"])]
    for first, second in zip(*(record.evaluations for record in records), strict=True):
        assert (first.seeds, first.keys) == (second.seeds, second.keys)


def test_unscored_conversations_are_counted_and_in_no_mean(run, capsys):
    record = Record.load(run("agent=echo", "env.users.moody.failing=0.25") / "record.json")
    one = evaluation(record, "moody", "iid_test")
    assert one.unscored == one.returns.count(None) == one.successes.count(None) > 0
    assert {value for value in one.returns if value is not None} == {0.9}
    assert "moody, iid_test: mean return 0.900 [0.900, 0.900]" in capsys.readouterr().out


def test_an_agent_that_does_not_learn_takes_no_conversation(run):
    folder = run("agent=echo")
    record = Record.load(folder / "record.json")
    assert not record.learns and record.spent.conversations == 0 and record.curve == []
    assert not (folder / "checkpoints").exists()


def test_an_agent_may_finish_before_its_budget_is_spent(run):
    record = Record.load(run("agent=idler") / "record.json")
    assert record.spent.conversations == 0
    assert record.metrics == {"logged": 10.0, "undefined": None}
    assert [point.iteration for point in record.curve] == [0, 1]


def test_an_agent_that_neither_converses_nor_finishes_is_stopped(failure):
    assert "Idler.improve took no conversation" in failure("agent=idler", "agent.honest=false")


def test_other_overrides_give_a_folder_of_their_own_whatever_their_order(run):
    first = run("agent=echo", "+env.max_exchanges=2", "env.users.moody.failing=0.5", "threads=1")
    assert first.name.startswith("seed0-") and len(first.name) == len("seed0-") + 8
    assert Record.load(first / "record.json").variant == ["+env.max_exchanges=2", "env.users.moody.failing=0.5"]
    again = run("agent=echo", "env.users.moody.failing=0.5", "+env.max_exchanges=2", "resume=never")
    assert again == first


def test_the_user_is_chosen_by_name(run):
    record = Record.load(run("agent=echo", "user=moody") / "record.json")
    assert record.user == "moody" and [one.user for one in record.evaluations] == ["moody", "moody", "plain", "plain"]


def test_the_learning_curve_can_be_taken_less_often_or_never(run):
    record = Record.load(run("agent=bandit", "budget.curve.every=4") / "record.json")
    assert [point.iteration for point in record.curve] == [0, 4, 6]
    assert Record.load(run("agent=bandit", "budget.curve.every=0") / "record.json").curve == []


def test_equal_commands_give_equal_numbers_and_seeds_differ(run):
    def returns(*words: str) -> list:
        return [
            one.returns for one in Record.load(run("agent=bandit", "resume=never", *words) / "record.json").evaluations
        ]

    first = returns()
    assert returns() == first
    assert returns("seed=1") != first


def test_an_environment_of_ones_own_is_one_yaml_outside_the_repository(run, tmp_path):
    mine = tmp_path / "mine"
    for group in ("agent", "env", "budget"):
        (mine / group).mkdir(parents=True)
    (mine / "env/corner.yaml").write_text(
        "_target_: tests.toy.Shop\nusers: {someone: {_target_: tests.toy.Customer}}\n"
    )
    (mine / "agent/parrot.yaml").write_text("_target_: tests.toy.Constant\n")
    (mine / "budget/tiny.yaml").write_text((CONF / "budget/tiny.yaml").read_text())
    record = Record.load(run("env=corner", "agent=parrot", folder=mine) / "record.json")
    assert (record.env, record.user, record.references) == ("corner", "someone", {})
    assert [one.split for one in record.evaluations] == ["iid_test", "ood_test"]


def test_a_sweep_goes_on_after_a_failure_and_reports_it(run, capsys, tmp_path):
    with pytest.raises(SystemExit):
        run("--multirun", "agent=echo,always_red", "user=nobody,plain")
    assert len(list((tmp_path / "runs").rglob("record.json"))) == 2
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 2
    assert all("user=nobody failed: user=nobody is none of the users of env=shop" in line for line in warnings)


def test_a_sweep_into_a_place_that_cant_be_written_says_so(failure, tmp_path):
    (tmp_path / "runs").write_text("a file, not a folder")
    said = failure("--multirun", "agent=echo,always_red")
    assert said.count("Give another place with results=FOLDER.") == 3  # a warning for either run, and the last word


def test_an_agent_without_torch_starts_without_torch(tmp_path):
    words = [f"--config-dir={CONF}", "env=shop", "budget=tiny", f"results={tmp_path}", "agent=echo"]
    code = (
        f"import sys; sys.argv[1:] = {words!r}\n"
        "from benchmarks.run import main; main()\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CONF.parents[1])


WRONG = {
    "agent=nobody": ["Could not find 'agent/nobody'", "bandit"],
    "env=nowhere": ["Could not find 'env/nowhere'", "shop"],
    "user=nobody": ["user=nobody is none of the users of env=shop; choose one of plain, moody."],
    "resume=maybe": ["resume=maybe is none of the ways to resume; choose one of auto, never."],
    "seed=first": ["seed='first' is of the wrong type: it takes int."],
    "budget.logged=-5": ["budget.logged=-5; give at least 0."],
    "budget.conversations=-1": ["budget.conversations=-1; give at least 0."],
    "seed=-1": ["seed=-1 is outside 0…4095"],
    "agent.learning_rate=fast": ["agent.learning_rate='fast' is of the wrong type: it takes float."],
    "agent.rate=1": ["Could not override 'agent.rate'"],
    "+agent.rate=1": ["agent.rate is not known; agent takes learning_rate, seed, pause."],
    "agent._target_=tests.toy.Nobody": ["agent._target_=tests.toy.Nobody can't be imported"],
    "agent.seed=${env.beginning}": ["agent.seed can't be read", "env.beginning"],
    "agent.seed=${budget.beginning}": ["agent.seed can't be read", "budget.beginning"],
    "agent.learning_rate=null": ["agent.learning_rate has no value here, and takes float: give agent.learning_rate=…"],
    "judge=outcom": ["judge=outcom is none of conf/judge (~judge: none); choose one of", "outcome"],
    "threads=0": ["threads=0; give at least 1."],
    "+env.max_exchanges=0": ["env (tests.toy.Shop) can't be built: max_exchanges=0"],
    "env.users.moody.failing=often": ["env.users.moody.failing='often' is of the wrong type: it takes float."],
    "env.evaluation.split=final": ["env.evaluation=final is none of the splits", "train, iid_test, ood_test"],
    "budget.conversations=many": ["budget.conversations='many' is of the wrong type: it takes int."],
    "budget.scenarios=0": ["budget.scenarios=0; give at least 1."],
    "results=/dev/null/runs": ["results=/dev/null/runs", "can't be written", "results=FOLDER"],
}


@pytest.mark.parametrize("override", WRONG)
def test_what_is_wrong_is_named_in_one_message(failure, override):
    said = failure("agent=bandit", override)
    assert all(words in said for words in WRONG[override]), said


def test_an_agent_whose_yaml_refers_to_what_the_environment_lacks_says_so(failure):
    said = failure("agent=optimum")
    assert "agent=optimum needs env.scripted, which conf/env/shop.yaml does not have: choose another agent" in said


def test_an_empty_judge_is_none(run):
    assert "judge" not in Record.load(run("agent=echo", "judge=") / "record.json").config


def test_what_an_agent_asks_for_and_the_environment_lacks_is_told_in_a_sentence(failure):
    assert "its YAML names no behaviour policy" in failure("agent=idler", "~env.behaviour")


def test_the_traceback_is_shown_on_request(run, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv("PARLEY_TRACEBACK", "1")
    with pytest.raises(Exception, match="user=nobody"):
        run("agent=echo", "user=nobody")


def test_a_launcher_of_several_processes_is_refused(failure, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "one of 2; launch it with --num_processes 1" in failure("agent=bandit")
