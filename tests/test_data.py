"""Offline data as a command writes it: by whom it can be read and trained on, and that a run takes it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from agents.practice import LOGGED_SEEDS
from benchmarks import data, run
from benchmarks.build import Experiment
from benchmarks.collect import Collector
from benchmarks.data_card import COLUMNS
from benchmarks.progress import RunError
from envs.dataset import KINDS, read_dataset
from envs.judges import ByOutcome
from results.record import Record
from tests.conftest import tiny_model
from tests.toy import Bandit, Constant, Customer, Shop

CONF = Path(__file__).parent / "conf"


def made(out: Path, *words: str) -> Path:
    """Runs the command in this process."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", ["data.py", f"--config-dir={CONF}", f"out={out}", *words])
        data.main()
    return out


SALES = ("env=sales", "n=10", "policies=[behaviour,expert]", "seed=3", "preferences=10", "splits=[train,ood_test]")


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("data") / "sales", *SALES)


def rows(folder: Path, kind: str, split: str = "train") -> list[dict]:
    return [json.loads(line) for line in (folder / kind / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_everything_asked_for_is_there_and_explained(sales: Path):
    assert sorted(path.name for path in sales.iterdir()) == sorted([*KINDS, "README.md", "minari"])
    for split in ("train", "ood_test"):
        assert len(rows(sales, "conversations", split)) == 10 and len(rows(sales, "pairs", split)) == 5
        for kind in KINDS:
            assert all(set(row) == set(COLUMNS[kind]) for row in rows(sales, kind, split))
    held = rows(sales, "conversations")
    assert [row["policy"] for row in held] == ["behaviour", "expert"] * 5
    assert [row["seed"] for row in held] == [LOGGED_SEEDS.start + 3 * (1 << 20) + i for i in range(10)]
    assert {row["attributes"]["style"] for row in rows(sales, "conversations", "ood_test")} == {"curt"}
    assert [row["policies"] for row in rows(sales, "pairs")] == [
        ["behaviour", "behaviour"], ["expert", "behaviour"], ["behaviour", "expert"], ["expert", "expert"],
        ["behaviour", "behaviour"],
    ]  # fmt: skip


def test_each_turn_has_its_act_its_log_probability_and_what_the_user_felt(sales: Path):
    for row in rows(sales, "conversations"):
        exchanges = len(row["steps"])
        assert row["logprob_of"] == "act" and len(row["acts"]) == len(row["logprobs"]) == exchanges
        assert all(p == 0 if row["policy"] == "expert" else p < 0 for p in row["logprobs"])
        assert len(row["user_states"]) == exchanges and {"trust", "worried", "shown"} <= set(row["user_states"][0])
        assert row["user_states"][-1]["outcome"] == ("bought" if row["success"] else "left")
        assert sum(row["turn_mask"]) == exchanges and len(row["turn_mask"]) == 2 + 2 * exchanges


def test_preferences_part_from_a_logged_conversation_at_one_turn(sales: Path):
    held = {row["seed"]: row for row in rows(sales, "messages")}
    found = rows(sales, "preferences")
    assert found and all(row["chosen"] != row["rejected"] for row in found)
    for row in found:
        said = held[row["seed"]]["messages"]
        at = 2 + 2 * row["exchange"]  # the brief and the opening come before the first turn
        assert row["prompt"] == said[:at] and said[at] in (row["chosen"][0], row["rejected"][0])


def test_the_figures_of_the_card_are_those_of_the_files(sales: Path):
    page = (sales / "README.md").read_text(encoding="utf-8")
    held = [row for row in rows(sales, "conversations") if row["policy"] == "expert"]
    mean, turns = np.mean([row["return"] for row in held]), sum(len(row["steps"]) for row in held)
    assert f"| train | expert | 5 | {turns} | {mean:.3f} ± " in page
    front = yaml.safe_load(page.split("---\n")[1])
    assert front["license"] == "apache-2.0" and [one["config_name"] for one in front["configs"]] == list(KINDS)
    paths = [one["path"] for config in front["configs"] for one in config["data_files"]]
    assert len(paths) == 10 and all((sales / path).is_file() for path in paths)
    assert "benchmarks.data env=sales n=10" in page and str(sales) not in page


def test_equal_seeds_give_equal_bytes_and_others_do_not(sales: Path, tmp_path: Path):
    again = made(tmp_path / "again", *SALES)
    files = sorted(path.relative_to(sales) for path in sales.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for path in files:
        assert (sales / path).read_bytes() == (again / path).read_bytes(), path
    other = made(tmp_path / "other", "env=sales", "n=2", "seed=4", "minari=false")
    assert not {row["seed"] for row in rows(other, "messages")} & {row["seed"] for row in rows(sales, "messages")}


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_stock_trainers_of_trl_learn_from_the_files(sales: Path, tmp_path: Path):
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    common = {
        "output_dir": str(tmp_path / "out"), "max_steps": 1, "per_device_train_batch_size": 2, "report_to": [],
        "save_strategy": "no", "use_cpu": True, "bf16": False, "activation_checkpointing": False, "disable_tqdm": True,
    }  # fmt: skip

    def columns(kind: str):
        files = str(sales / kind / "train.jsonl")
        return load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))

    for kind, only in (("messages", True), ("prompt_completion", False)):
        one = tiny_model()
        trainer = SFTTrainer(
            one.model, SFTConfig(**common, assistant_only_loss=only), train_dataset=columns(kind),
            processing_class=one.tokenizer,
        )  # fmt: skip
        batch = next(iter(trainer.get_train_dataloader()))
        learnt = one.tokenizer.batch_decode([ids[ids != -100] for ids in batch["labels"]])
        said = {m["content"] for row in rows(sales, "messages") for m in row["messages"] if m["role"] == "assistant"}
        assert all(text in said for words in learnt for text in words.split("<|end|>")[:-1]), kind
        assert math.isfinite(trainer.train().training_loss)
    one = tiny_model()
    trainer = DPOTrainer(
        one.model, tiny_model().model, DPOConfig(**common), train_dataset=columns("preferences"),
        processing_class=one.tokenizer,
    )  # fmt: skip
    assert trainer.train().training_loss == pytest.approx(math.log(2), abs=1e-3)  # both models are still the same


MINARI = """
import json, sys
import minari
import envs.minari_dataset
dataset = minari.load_dataset("parley/sales-train-v0")
found = []
for episode in dataset.iterate_episodes():
    heard = dataset.observation_space.from_jsonable(episode.observations)
    assert all(one in dataset.observation_space for one in heard)
    assert all(action in dataset.action_space for action in episode.actions)
    found.append({
        "id": int(episode.id), "heard": [one.messages("agent") for one in heard], "said": list(episode.actions),
        "rewards": episode.rewards.tolist(), "ends": (episode.terminations | episode.truncations).tolist(),
        "logprobs": episode.infos["logprob"].tolist()[1:],
    })
policies = [one["policy"] for one in dataset.storage.get_episode_metadata(range(len(found)))]
print(json.dumps([found, policies, sorted(name for name in ("torch", "transformers") if name in sys.modules)]))
"""


def test_stock_minari_opens_the_dataset_in_a_fresh_process(sales: Path):
    environment = {**os.environ, "MINARI_DATASETS_PATH": str(sales / "minari"), "PYTHONPATH": str(CONF.parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", MINARI], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found, policies, heavy = json.loads(done.stdout)
    held, messages = rows(sales, "conversations"), rows(sales, "messages")
    assert heavy == [] and policies == [row["policy"] for row in held] and len(found) == 10
    for one, row, chat in zip(found, held, messages, strict=True):
        assert one["said"] == [step["utterance"]["text"] for step in row["steps"]]
        assert one["heard"] == [chat["messages"][: 2 + 2 * k] for k in range(len(row["steps"]) + 1)]
        assert one["rewards"] == [step["reward"] for step in row["steps"]]
        assert one["ends"] == [False] * (len(row["steps"]) - 1) + [True]
        assert one["logprobs"] == pytest.approx(row["logprobs"], abs=1e-6)


# ---- other speakers, other judges -----------------------------------------------------------------------------------


def test_a_relative_folder_holds_what_an_absolute_one_does(sales: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(Path("data/again"), *SALES)
    there = {str(path.relative_to(sales)) for path in sales.rglob("*.arrow")}
    again = {str(path.relative_to("data/again")) for path in Path("data/again").rglob("*.arrow")}
    assert again == there and len(there) == 20  # a file per conversation of two splits


def test_a_speaker_with_tokens_has_their_log_probabilities():
    part = Collector(Shop(Customer()), [("bandit", Bandit())], None, range(6)).collect(0, 0)
    for one in part.logged:
        assert one.logprob_of == "tokens" and one.acts is None
        assert one.logprobs == tuple(step.utterance.logprobs[0] for step in one.trajectory.steps)


def test_nobody_can_say_how_likely_a_speaker_without_a_rule_was():
    part = Collector(Shop(Customer()), [("red", Constant("red"))], ByOutcome(), range(6)).collect(3, 3)
    assert all(one.logprob_of is None and one.logprobs is None for one in part.logged)
    assert [one.pair[0].seed for one in part.pairs] == [0, 1, 2]
    assert {one.pair[1].take for one in part.pairs} == {1} and {one.judged.pair[1].take for one in part.partings} == {2}
    assert not any(one.decided for one in part.partings)  # it says the same again


# ---- in the place of a run's own -----------------------------------------------------------------------------------


def ran(results: Path, *words: str) -> Record:
    with pytest.MonkeyPatch.context() as monkeypatch:
        command = ["run.py", f"--config-dir={CONF}", "env=shop", "agent=idler", "budget=tiny", f"results={results}"]
        monkeypatch.setattr(sys, "argv", [*command, *words])
        run.main()
    (path,) = results.rglob("record.json")
    return Record.load(path)


def test_with_the_seed_0_the_files_hold_what_a_run_is_given_itself(tmp_path: Path):
    out = made(tmp_path / "shop", "env=shop", "n=10", "minari=false", "judge=outcome")
    given, granted = read_dataset(out), []
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(run, "prepare", lambda agent, practice: granted.append(practice))
        ran(tmp_path / "runs", "judge=outcome")
    (practice,) = granted
    assert list(practice.logged()) == given.first(10)
    pairs, labels = practice.logged_pairs()
    assert (pairs, labels.tolist()) == (given.first_pairs(5)[0], given.first_pairs(5)[1].tolist())


def test_a_run_takes_files_and_is_named_by_their_content(tmp_path: Path, capsys):
    out = made(tmp_path / "shop", "env=shop", "n=10", "minari=false")
    record = ran(tmp_path / "runs", f"logged={out}")
    assert record.metrics["logged"] == 10.0
    (word,) = record.variant
    assert word.startswith("logged=") and str(out) not in word and record.config["logged"] == word.partition("=")[2]
    moved = shutil.copytree(out, tmp_path / "elsewhere")
    again = ran(tmp_path / "runs", f"logged={moved}")
    assert again.variant == record.variant and "finished earlier" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["logged={tmp}/nowhere"], "nowhere does not exist; give a folder of JSON Lines"),
        (["logged={tmp}/few.jsonl"], "holds 1 conversations, and budget.logged=10 asks for 10"),
        (["logged={tmp}/bad.jsonl"], "line 1: It has the columns text"),
    ],
)
def test_what_a_run_cannot_take_is_told_in_a_sentence(tmp_path: Path, capsys, words, said):
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "red"}]
    (tmp_path / "few.jsonl").write_text(json.dumps({"messages": chat, "reward": 1.0}) + "\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "hello"}\n')
    with pytest.raises(SystemExit):
        ran(tmp_path / "runs", *(word.format(tmp=tmp_path) for word in words))
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["policies=[nobody]"], "policies: nobody can't be composed"),
        (["policies=[behavior]"], "conf/agent has none of that name; nearest are behaviour, "),
        (["judge=nobody"], "judge=nobody is none of conf/judge"),
        (["out={tmp}/file/new"], "Give another place with out=FOLDER."),
        (["policies=[bandit]"], "bandit has not learnt anything here"),
        (["~env.behaviour"], "env=shop names no behaviour policy"),
        (["out={tmp}"], "is there already; give a new folder"),
    ],
)
def test_what_cannot_be_made_is_told_in_a_sentence(tmp_path: Path, capsys, words, said):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        made(tmp_path / "new", "env=shop", "minari=false", *(word.format(tmp=tmp_path) for word in words))
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "n=0; give a whole number from 1"),
        ({"n": 1 << 21}, "is more than the 1048576 scenarios of a seed"),
        ({"pairs": 3}, "pairs=3 is more than n=2"),
        ({"pairs": 1, "judge": None}, "pairs=1 needs a judge"),
        ({"policies": "echo"}, "policies='echo' is no list of names"),
        ({"splits": []}, "splits=[] is no list of names"),
        ({"splits": ["dev"]}, "dev is none of the splits of env=shop; it has train, iid_test, ood_test"),
        ({"minari": "yes"}, "minari='yes'; give true or false"),
    ],
)
def test_values_out_of_range_are_named(options, said):
    plain = {
        "n": 2, "pairs": None, "preferences": None, "policies": ["behaviour"], "splits": ["train"], "out": None,
        "minari": False, "judge": {"_target_": "envs.judges.ByOutcome"}, "env": {"_target_": "tests.toy.Shop"},
    }  # fmt: skip
    with pytest.raises(RunError, match=re.escape(said)):
        data.Plan.of(Experiment("none", "shop", "plain", "smoke", 0, plain | options, (), ""))
