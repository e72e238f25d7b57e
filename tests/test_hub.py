"""Models of the size and kind that a hub has: a real architecture behind a chat template that is not ours, as the agent
and as the user, learning all of its weights or adapters alone. Here it is small and untrained."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from agents.adapters import add_lora, has_lora
from agents.chat_learner import ChatLearner
from agents.chat_model import ChatModel
from agents.q_function import QFunction
from benchmarks.run import main
from envs.chat_format import train_tokenizer
from envs.conversation import Conversation
from envs.language_models import load_transformers
from envs.sales.catalogue import SELLER_ACTS
from envs.sales.language import seller_phrasebook
from results.record import Record

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the hub gives them: Qwen3, two layers, an untrained one."""
    rng = np.random.default_rng(0)
    texts = [seller_phrasebook().say(act, rng) for act in SELLER_ACTS for _ in range(5)]
    tokenizer = train_tokenizer(texts, 600, markers=["<|im_start|>", "<|im_end|>"])
    tokenizer.chat_template = CHATML
    tokenizer.eos_token = "<|im_end|>"
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=2048, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    ))  # fmt: skip
    folder = tmp_path_factory.mktemp("qwen")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


SMALL = [
    "budget.conversations=8", "budget.per_iteration=4", "budget.logged=4", "budget.scenarios=4",
    "budget.curve.every=0", "+budget.users=own", "env.max_exchanges=3",
]  # fmt: skip


def start_run(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> Path:
    """The folder of one run of the command."""
    monkeypatch.setattr(sys, "argv", ["run.py", "env=sales", "budget=smoke", *SMALL, f"results={folder}", *words])
    main()
    (record,) = folder.rglob("record.json")
    return record.parent


def seller(folder: Path, **options) -> ChatModel:
    return ChatModel.load(folder, max_new_tokens=6, **options)


CHAT = Conversation("You sell bicycles.").then("user", "Good day.")


@pytest.mark.parametrize("agent", ["iterppo", "multi_turn_rlhf", "rlhf_value"])
def test_a_hub_model_learns_adapters_with_another_as_its_user(agent, qwen, monkeypatch, tmp_path):
    words = [f"agent={agent}", f"agent.start={qwen}", "agent.max_new_tokens=6", "+agent.lora_rank=2"]
    words += ["user=prompted", f"model.folder_or_hub_id={qwen}", "model.max_new_tokens=8"]
    run = start_run(monkeypatch, tmp_path, *words)
    record = Record.load(run / "record.json")
    assert record.spent.conversations == 8 and record.evaluations[0].unscored < 4
    policy = max((run / "checkpoints").iterdir()) / "agent" / "policy"
    assert (policy / "adapter_model.safetensors").exists() and not (policy / "model.safetensors").exists()
    assert json.loads((policy / "adapter_config.json").read_text())["base_model_name_or_path"] == str(qwen)
    kept = [name for path in policy.parent.rglob("*.safetensors") for name in load_file(path)]
    assert any("lora_" in name for name in kept)
    assert not [name for name in kept if ("_proj" in name and "lora_" not in name) or "embed_tokens" in name]
    learnt, base = seller(policy), seller(qwen)
    assert (
        learnt.logprobs([(learnt.prompt_ids(CHAT), [True] * len(learnt.prompt_ids(CHAT)))])
        .ne(base.logprobs([(base.prompt_ids(CHAT), [True] * len(base.prompt_ids(CHAT)))]))
        .any()
    )


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by a name on its way out
def test_adapters_are_what_peft_itself_loads(qwen, tmp_path):
    from peft import PeftModel

    policy = seller(qwen, lora_rank=2)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    policy.save(tmp_path)
    ids = torch.tensor([policy.prompt_ids(CHAT)])
    theirs = PeftModel.from_pretrained(load_transformers(qwen)[0], tmp_path).eval()
    with torch.no_grad():
        expected = policy.model(ids).logits
        torch.testing.assert_close(seller(tmp_path).model(ids).logits, expected)
        torch.testing.assert_close(theirs(ids).logits, expected)
        assert (load_transformers(qwen)[0](ids).logits - expected).abs().max() > 1e-3


def test_copies_share_what_is_frozen_and_have_adapters_of_their_own(qwen):
    policy = seller(qwen, lora_rank=2)
    copy = policy.clone()
    for (name, one), (_, other) in zip(policy.model.named_parameters(), copy.model.named_parameters(), strict=True):
        assert (one is other) == (".lora_" not in name) and one.requires_grad == (".lora_" in name)
    whole = seller(qwen)
    assert not {id(p) for p in whole.model.parameters()} & {id(p) for p in whole.clone().model.parameters()}


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_a_critic_beside_adapters_keeps_no_frozen_weight_and_comes_back_as_it_was(rate, qwen, tmp_path):
    policy = seller(qwen, lora_rank=2)
    q = QFunction(policy, np.random.default_rng(0), trunk_learning_rate=rate)
    learning = {name for name, p in q.trunk.named_parameters() if p.requires_grad}
    assert bool(learning) == (rate > 0) and all(".lora_" in name for name in learning)
    q.save(tmp_path)
    assert (tmp_path / "q.safetensors").stat().st_size < (qwen / "model.safetensors").stat().st_size
    other = QFunction(policy, np.random.default_rng(1), trunk_learning_rate=rate)
    other.restore(tmp_path)
    for (name, one), (_, two) in zip(q.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(one, two), name


def test_the_decoder_sees_the_adapters_of_a_small_llama():
    from tests.conftest import tiny_model

    policy = tiny_model()
    before = policy.speak([CHAT], [np.random.default_rng(0)])
    add_lora(policy.model, 2, "nowhere")
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=3.0)
    policy = ChatModel(policy.model, policy.tokenizer, max_new_tokens=6)
    assert has_lora(policy.model)
    (said,) = policy.speak([CHAT], [np.random.default_rng(0)])
    ids = [*policy.prompt_ids(CHAT), *said.tokens]
    counts = [False] * len(policy.prompt_ids(CHAT)) + [True] * len(said.tokens)
    scores = policy.logprobs([(ids, counts)])[0, -len(said.tokens) :]
    np.testing.assert_allclose(scores.detach().numpy(), said.logprobs, atol=1e-4)
    assert said.tokens != before[0].tokens


def test_a_rank_without_a_start_or_below_one_is_refused(qwen):
    from agents.multi_turn_rlhf import MultiTurnRLHF
    from agents.turn_gradient import TurnGradient

    def learner(start, **options):
        return MultiTurnRLHF(start, TurnGradient(), **options)

    with pytest.raises(ValueError, match="for a start that is given"):
        learner(None, lora_rank=4)
    with pytest.raises(ValueError, match="lora_rank=0"):
        learner(str(qwen), lora_rank=0)
    with pytest.raises(ValueError, match="dtype=bfloat16 loses"):
        learner(str(qwen), dtype="bfloat16")
    with pytest.raises(ValueError, match="for a start that is given"):
        learner(None, device="cuda")


def test_adapters_on_top_of_adapters_are_refused(qwen, tmp_path):
    seller(qwen, lora_rank=2).save(tmp_path)
    with pytest.raises(ValueError, match="holds adapters; leave it out"):
        seller(tmp_path, lora_rank=2)


def test_a_restored_learner_has_the_frozen_weights_once(qwen, tmp_path):
    from agents.multi_turn_rlhf import MultiTurnRLHF
    from agents.turn_gradient import TurnGradient

    agent = MultiTurnRLHF(str(qwen), TurnGradient(), lora_rank=2)
    for name, parameter in agent.policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    ChatLearner.save(agent, tmp_path)
    other = MultiTurnRLHF(str(qwen), TurnGradient(), lora_rank=2)
    ChatLearner.restore(other, tmp_path)
    for (name, one), (_, start), (_, was) in zip(
        other.policy.model.named_parameters(), other.start.model.named_parameters(),
        agent.policy.model.named_parameters(), strict=True,
    ):  # fmt: skip
        assert torch.equal(one, was) and (one is start) == (".lora_" not in name)


def test_trls_solvers_refuse_adapters(qwen):
    from agents.trl_solvers import TRLSolver

    policy = seller(qwen, lora_rank=2)
    with pytest.raises(ValueError, match="whole models"):
        TRLSolver().improve(policy, policy.clone(), None, [], np.random.default_rng(0))


def test_a_large_vocabularys_distributions_are_worked_out_anew_and_are_the_same(qwen, monkeypatch):
    import agents.ppo as ppo
    from agents.packing import Prompts, pack

    policy = seller(qwen)
    ids = policy.prompt_ids(CHAT)
    packed = pack([Prompts(ids, np.array([len(ids) - 1]), (CHAT,))], [[(30, 31, policy.tokenizer.eos_token_id)]])
    with torch.no_grad():
        kept = ppo.remembered(policy, partial(ppo.token_logprobs, policy, packed))()
        monkeypatch.setattr(ppo, "_LARGEST_KEPT", 10)
        anew = ppo.remembered(policy, partial(ppo.token_logprobs, policy, packed))()
    assert torch.equal(kept, anew) and not anew.requires_grad


# ---- several devices ------------------------------------------------------------------------------------------------


def spread(policy: ChatModel) -> ChatModel:
    """Its model as accelerate places one on several devices: every layer behind hooks that move what comes in."""
    from accelerate import dispatch_model

    parts = ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head"]
    dispatch_model(policy.model, dict.fromkeys(parts, "cpu"), main_device="cpu", force_hooks=True)
    assert hasattr(policy.model.model.layers[1], "_hf_hook")
    return policy


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_a_model_behind_accelerate_s_hooks_speaks_scores_and_learns_as_without(qwen, lora_rank):
    found = []
    for place in (lambda policy: policy, spread):
        torch.manual_seed(0)  # of fresh adapters
        policy = place(seller(qwen, lora_rank=lora_rank))
        copy = policy.clone()
        said = policy.speak([CHAT] * 3, np.random.default_rng(0).spawn(3))
        ids = policy.prompt_ids(CHAT)
        optimizer = torch.optim.SGD([p for p in policy.model.parameters() if p.requires_grad], lr=5.0)
        inputs = {"input_ids": torch.tensor([ids])}
        for _ in range(2):  # the first step moves one half of fresh adapters alone
            optimizer.zero_grad()
            every = policy.distributions(inputs, torch.tensor([0, 0]), torch.tensor([3, len(ids) - 2]))
            (policy.logprobs([(ids, [True] * len(ids))]).mean() + every[:, 5].mean()).backward()
            optimizer.step()
        policy.forget()
        with torch.no_grad():
            learnt, kept = (one.logprobs([(ids, [True] * len(ids))]) for one in (policy, copy))
        assert not torch.allclose(learnt, kept)
        found.append([said, policy.speak([CHAT] * 3, np.random.default_rng(1).spawn(3)), learnt, kept])
    for plain, hooked in zip(*found, strict=True):
        assert plain == hooked if isinstance(plain, list) else torch.equal(plain, hooked)


def test_on_auto_a_run_uses_what_there_is(qwen, monkeypatch, tmp_path):
    words = ["agent=iterppo", f"agent.start={qwen}", "agent.max_new_tokens=6", "user=program"]
    returns = []
    for device in ("auto", "cpu"):
        run = start_run(monkeypatch, tmp_path / device, *words, f"+agent.device={device}", "+agent.lora_rank=2")
        returns.append([one.returns for one in Record.load(run / "record.json").evaluations])
    assert torch.cuda.is_available() or returns[0] == returns[1]


@pytest.mark.parametrize("device", ["autox", "cuda:77"])
def test_a_device_that_is_not_there_is_named(qwen, device):
    with pytest.raises(ValueError, match=rf"device={device} can't be used: .* Give cpu, cuda"):
        seller(qwen, device=device)
