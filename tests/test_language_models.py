import subprocess
import sys

import pytest

from envs.conversation import Conversation
from envs.language_models import Canned, Completion, LanguageModel, TransformersModel, load_transformers

CHAT = Conversation("You are a buyer.").then("user", "hello").then("agent", "hi").messages("user")


def test_no_torch_is_imported_with_the_package():
    code = (
        "import sys, envs, envs.language_models, envs.chat_format; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'tokenizers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_canned_replies_come_in_turn_and_the_last_one_stays():
    model = Canned(["one", "two"])
    chats = [Conversation("", ()).messages("user")]
    for spoken in (["one"], ["one", "two"], ["one", "two", "two"]):
        conversation = Conversation()
        for text in spoken[:-1]:
            conversation = conversation.then("user", text)
        chats = [conversation.messages("user")]
        assert model.complete(chats, [0]) == [Completion(spoken[-1])]


def test_a_canned_function_gets_the_chat_and_the_seed():
    model = Canned(lambda chat, seed: f"{chat[-1]['content']} {seed}")
    assert model.complete([CHAT, CHAT], [1, 2]) == [Completion("hi 1"), Completion("hi 2")]


@pytest.mark.parametrize("replies", [[], "hello"])
def test_canned_replies_must_be_a_list_or_a_function(replies):
    with pytest.raises(ValueError, match="give a list of at least one reply"):
        Canned(replies)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch

    from envs.chat_format import train_tokenizer
    from envs.decoding import small_model

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["hello there, what is it you want?"] * 9, 290, keep_system=True)
    small_model(tokenizer, hidden_size=32, layers=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_local_folder_speaks_and_the_seed_alone_decides(folder):
    model = TransformersModel(folder, max_new_tokens=6)
    assert isinstance(model, LanguageModel)
    first = model.complete([CHAT, CHAT, CHAT], [1, 2, 1])
    assert first[0] == first[2] != first[1]
    assert model.complete([CHAT], [2]) == [first[1]]
    assert model.complete([], []) == []


def test_temperature_zero_takes_the_likeliest(folder):
    model = TransformersModel(folder, temperature=0.0, max_new_tokens=6)
    assert len(set(model.complete([CHAT, CHAT], [1, 2]))) == 1


def test_the_tokens_that_were_generated_are_counted(folder):
    (said,) = TransformersModel(folder, max_new_tokens=3).complete([CHAT], [0])
    assert said.tokens == 3  # it was cut off, so there is no end to count


def test_nothing_is_loaded_before_the_first_use_and_a_missing_folder_is_named():
    model = TransformersModel("/nowhere/user")
    with pytest.raises(FileNotFoundError, match="No model folder at '/nowhere/user'"):
        model.complete([CHAT], [0])


def test_a_model_that_ships_is_found_from_anywhere_and_one_that_does_not_is_missed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, _ = load_transformers("envs/simulators/sales_voice")
    assert sum(weights.numel() for weights in model.parameters()) < 500_000
    with pytest.raises(FileNotFoundError, match="No model folder at 'envs/simulators/nobody'"):
        load_transformers("envs/simulators/nobody")


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        TransformersModel(tmp_path).complete([CHAT], [0])


def test_missing_packages_are_named_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install torch transformers"):
        TransformersModel("/nowhere/user").complete([CHAT], [0])


def test_a_negative_temperature_is_refused():
    with pytest.raises(ValueError, match="temperature=-1"):
        TransformersModel("x", temperature=-1)
