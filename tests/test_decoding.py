import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from envs.chat_format import never_spoken, train_tokenizer
from envs.decoding import Decoder, _AnyRows, _inverse_cdf, _LlamaRows, small_model

torch.set_num_threads(1)
NEW = 10


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["hello there, what is it you want from the shop today?"] * 9, 300)


def _sharpened(model, factor=2.0):
    """Larger weights, so that probabilities are far from uniform and mistakes show."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(factor)
    return model.eval()


def _llama(tokenizer, **changes):
    return _sharpened(small_model(tokenizer, **{"hidden_size": 32, "intermediate_size": 48, "layers": 2, **changes}))


def _gpt2(tokenizer):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=512, eos_token_id=1)
    return _sharpened(GPT2LMHeadModel(config))


def _sliding(tokenizer):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8, eos_token_id=1, bos_token_id=None, max_position_embeddings=512,
    )  # fmt: skip
    return _sharpened(MistralForCausalLM(config))


def _scaled_rope(tokenizer):
    torch.manual_seed(0)
    rope = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32}  # fmt: skip
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, rope_parameters=rope, rms_norm_eps=1e-2, max_position_embeddings=512,
    )  # fmt: skip
    return _sharpened(LlamaForCausalLM(config))


MODELS = {
    "one key-value head": lambda t: _llama(t, kv_heads=1),
    "two key-value heads": lambda t: _llama(t, kv_heads=2),
    "all key-value heads": lambda t: _llama(t, kv_heads=4),
    "untied and scaled rope": _scaled_rope,
    "gpt2": _gpt2,
    "sliding window": _sliding,
}
FUSED = 4


@pytest.fixture(params=list(MODELS))
def model(request, tokenizer):
    return MODELS[request.param](tokenizer)


def _prompts(rng, tokenizer, count, longest=20):
    return [rng.integers(5, len(tokenizer), size=rng.integers(1, longest)).tolist() for _ in range(count)]


def _reference(model, prompt, tokens, banned, temperature=1.0):
    """Log-probabilities of ``tokens`` after ``prompt`` by transformers' own forward pass."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1] / temperature
    logits[:, list(banned)] = -torch.inf
    return logits.log_softmax(-1)[range(len(tokens)), list(tokens)].numpy()


def _tokens(sampled):
    return [one.tokens for one in sampled]


def test_small_llamas_take_the_fast_way_and_others_the_general_one(tokenizer):
    ways = {name: type(Decoder(make(tokenizer), tokenizer)._rows) for name, make in MODELS.items()}
    assert list(ways.values()) == [_LlamaRows] * FUSED + [_AnyRows] * (len(MODELS) - FUSED)


def test_logprobs_agree_with_transformers_over_a_ragged_conversation(model, tokenizer):
    rng, banned = np.random.default_rng(0), never_spoken(tokenizer)
    decoder, prompts = Decoder(model, tokenizer), _prompts(rng, tokenizer, 7)
    for _ in range(4):
        out = decoder.generate(prompts, rng.random((7, NEW)), max_new_tokens=NEW, temperature=0.7, banned=banned)
        for prompt, one in zip(prompts, out, strict=True):
            assert not set(one.tokens) & set(banned)
            np.testing.assert_allclose(one.logprobs, _reference(model, prompt, one.tokens, banned, 0.7), atol=1e-5)
        more = _prompts(rng, tokenizer, 7, 9)
        prompts = [p + list(one.tokens) + new for p, one, new in zip(prompts, out, more, strict=True)]


def test_a_kept_cache_says_what_a_fresh_one_says_when_rows_are_dropped_reordered_and_doubled(model, tokenizer):
    rng = np.random.default_rng(1)
    decoder, prompts = Decoder(model, tokenizer), _prompts(rng, tokenizer, 9)
    for turn in range(5):
        uniforms = rng.random((len(prompts), NEW))
        kept = decoder.generate(prompts, uniforms, max_new_tokens=NEW)
        fresh = Decoder(model, tokenizer).generate(prompts, uniforms, max_new_tokens=NEW)
        assert _tokens(kept) == _tokens(fresh)
        for one, other in zip(kept, fresh, strict=True):
            np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)
        prompts = [
            p + list(one.tokens) + more
            for p, one, more in zip(prompts, kept, _prompts(rng, tokenizer, len(prompts), 9), strict=True)
        ]
        rng.shuffle(prompts)
        if turn == 1:
            prompts = [*prompts[:-3], prompts[0], [*prompts[1][:-2], 7], _prompts(rng, tokenizer, 1)[0]]
        if turn == 2:
            prompts = prompts[2:]


def test_eight_at_once_are_eight_one_by_one(model, tokenizer):
    rng = np.random.default_rng(2)
    prompts, uniforms = _prompts(rng, tokenizer, 8), rng.random((8, NEW))
    together = Decoder(model, tokenizer).generate(prompts, uniforms, max_new_tokens=NEW)
    decoder = Decoder(model, tokenizer)
    for row, one in enumerate(together):
        (alone,) = decoder.generate(prompts[row : row + 1], uniforms[row : row + 1], max_new_tokens=NEW)
        assert alone.tokens == one.tokens
        np.testing.assert_allclose(alone.logprobs, one.logprobs, atol=1e-5)


def test_only_what_is_new_is_fed(tokenizer):
    decoder = Decoder(_llama(tokenizer), tokenizer)
    fed = []
    feed = decoder._rows.feed
    decoder._rows.feed = lambda suffixes: (fed.append([list(s) for s in suffixes]), feed(suffixes))
    uniforms = np.full((2, 4), 0.3)
    out = decoder.generate([[5, 6, 7], [8, 9]], uniforms, max_new_tokens=4)
    decoder.generate([[8, 9, *out[1].tokens, 3, 4], [5, 6, 7, *out[0].tokens, 3]], uniforms, max_new_tokens=4)
    assert sorted(fed[1]) == sorted([[out[1].tokens[-1], 3, 4], [out[0].tokens[-1], 3]])


def test_a_conversation_of_fifty_turns_stays_exact_while_the_batch_shrinks(tokenizer):
    model, rng = _llama(tokenizer), np.random.default_rng(3)
    decoder, prompts = Decoder(model, tokenizer), _prompts(rng, tokenizer, 12, 4)
    for turn in range(50):
        out = decoder.generate(prompts, rng.random((len(prompts), 6)), max_new_tokens=6)
        prompts = [p + list(one.tokens) + [3, 9, 1, 2] for p, one in zip(prompts, out, strict=True)]
        if turn % 5 == 4:
            prompts = prompts[1:] if len(prompts) > 2 else prompts
    prompt, one = prompts[0], out[-len(prompts)]
    before = len(prompt) - 4 - len(one.tokens)
    np.testing.assert_allclose(one.logprobs, _reference(model, prompt[:before], one.tokens, ()), atol=1e-5)


def test_rows_stop_at_their_own_end_token(tokenizer):
    model = _llama(tokenizer)
    prompts = [[5], [6]]
    ends = tokenizer.eos_token_id
    uniforms = np.random.default_rng(4).random((2, 64))
    others = [i for i in range(len(tokenizer)) if i not in (ends, 9)]
    out = Decoder(model, tokenizer).generate(prompts, uniforms, max_new_tokens=64, banned=others)
    for one in out:
        assert one.tokens.count(ends) == 1 and one.tokens[-1] == ends
        assert len(one.logprobs) == len(one.tokens) < 64


def test_finished_rows_are_put_aside_and_can_go_on_later(tokenizer):
    model, rng = _llama(tokenizer), np.random.default_rng(5)
    banned = [i for i in range(len(tokenizer)) if i not in (tokenizer.eos_token_id, *range(5, 14))]
    decoder, prompts = Decoder(model, tokenizer), _prompts(rng, tokenizer, 40)
    for _ in range(3):
        out = decoder.generate(prompts, rng.random((40, 30)), max_new_tokens=30, banned=banned)
        assert len({len(one.tokens) for one in out}) > 5
        for prompt, one in zip(prompts, out, strict=True):
            np.testing.assert_allclose(one.logprobs, _reference(model, prompt, one.tokens, banned), atol=2e-5)
        prompts = [p + list(one.tokens) + [3, 6] for p, one in zip(prompts, out, strict=True)]


def test_changed_weights_are_noticed(model, tokenizer):
    decoder, uniforms = Decoder(model, tokenizer), np.random.default_rng(6).random((1, NEW))
    (first,) = decoder.generate([[5, 6, 7]], uniforms, max_new_tokens=NEW)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    prompt = [5, 6, 7, *first.tokens, 3]
    (after,) = decoder.generate([prompt], uniforms, max_new_tokens=NEW)
    np.testing.assert_allclose(after.logprobs, _reference(model, prompt, after.tokens, ()), atol=1e-5)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_steps_of_every_kind_of_optimizer_are_noticed(tokenizer, optimizer, options):
    model = _llama(tokenizer)
    decoder, uniforms = Decoder(model, tokenizer), np.random.default_rng(6).random((1, NEW))
    (first,) = decoder.generate([[5, 6, 7]], uniforms, max_new_tokens=NEW)
    model(torch.tensor([[5, 6, 7]])).logits.square().mean().backward()
    optimizer(model.parameters(), lr=0.1, **options).step()
    prompt = [5, 6, 7, *first.tokens, 3]
    (after,) = decoder.generate([prompt], uniforms, max_new_tokens=NEW)
    np.testing.assert_allclose(after.logprobs, _reference(model, prompt, after.tokens, ()), atol=1e-5)


def test_forget_covers_changes_through_data(tokenizer):
    model = _llama(tokenizer)
    decoder, uniforms = Decoder(model, tokenizer), np.random.default_rng(7).random((1, NEW))
    decoder.generate([[5, 6, 7]], uniforms, max_new_tokens=NEW)
    for parameter in model.parameters():
        parameter.data.mul_(0.7)
    decoder.forget()
    (after,) = decoder.generate([[5, 6, 7]], uniforms, max_new_tokens=NEW)
    np.testing.assert_allclose(after.logprobs, _reference(model, [5, 6, 7], after.tokens, ()), atol=1e-5)


def test_greedy_takes_the_likeliest_token(tokenizer):
    model = _llama(tokenizer)
    (one,) = Decoder(model, tokenizer).generate([[5, 6]], np.zeros((1, NEW)), max_new_tokens=NEW, greedy=True)
    with torch.no_grad():
        likeliest = model(torch.tensor([[5, 6, *one.tokens]])).logits[0, 1:-1].argmax(-1)
    assert one.tokens == tuple(likeliest.tolist())


def test_a_long_prompt_prefilled_in_pieces_is_exact(tokenizer, monkeypatch):
    monkeypatch.setattr("envs.decoding._LARGEST_SCORES", 1000)
    model, rng = _llama(tokenizer), np.random.default_rng(8)
    prompts = [rng.integers(5, 200, size=n).tolist() for n in (300, 7, 120)]
    for prompt, one in zip(
        prompts, Decoder(model, tokenizer).generate(prompts, rng.random((3, 5)), max_new_tokens=5), strict=True
    ):
        np.testing.assert_allclose(one.logprobs, _reference(model, prompt, one.tokens, ()), atol=1e-5)


def test_inverse_cdf_gives_each_token_its_share_and_never_a_banned_one():
    weights = torch.rand(1, 192, generator=torch.Generator().manual_seed(0))
    weights[0, [0, 5, 63, 64, 100, 191]] = 0.0
    uniforms = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    tokens, _ = _inverse_cdf(weights.expand(len(uniforms), -1).contiguous(), uniforms)
    shares = torch.bincount(tokens, minlength=192) / len(uniforms)
    torch.testing.assert_close(shares, weights[0] / weights.sum(), atol=2e-5, rtol=0)
    assert tokens.diff().min() >= 0


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-53])
def test_the_ends_of_the_unit_interval_never_give_a_banned_token(uniform):
    weights = torch.zeros(2, 128)
    weights[0, [70, 90]] = torch.tensor([1e-30, 1.0])
    weights[1, [3, 127]] = torch.tensor([1.0, 1e-30])
    tokens, _ = _inverse_cdf(weights, torch.full((2,), uniform, dtype=torch.float64))
    assert (weights.gather(1, tokens[:, None]) > 0).all()


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        ([[5], []], {}, "Prompt 1 is empty"),
        ([[5] * 60], {}, "60 tokens, and 10 new ones would pass the model's context of 64"),
        ([[5]], {"temperature": 0.0}, "temperature=0.0"),
        ([[5]], {"max_new_tokens": 0}, "max_new_tokens=0"),
        ([[5], [6]], {"uniforms": np.zeros((1, NEW))}, "2 prompts of 10 new tokens need"),
    ],
)
def test_what_can_not_be_done_is_said(tokenizer, prompts, options, words):
    decoder = Decoder(_llama(tokenizer, context=64), tokenizer)
    with pytest.raises(ValueError, match=words):
        decoder.generate(prompts, **{"uniforms": np.zeros((len(prompts), NEW)), "max_new_tokens": NEW, **options})


def test_damaged_weights_are_reported(tokenizer):
    model = _llama(tokenizer)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="diverged"):
        Decoder(model, tokenizer).generate([[5]], np.zeros((1, 2)), max_new_tokens=2)


def test_no_prompts_give_no_samples(tokenizer):
    assert Decoder(_llama(tokenizer), tokenizer).generate([], np.zeros((0, 3)), max_new_tokens=3) == []


@pytest.mark.parametrize("make", [_llama, _gpt2])
def test_only_what_is_allowed_is_sampled_by_its_share_and_then_anything(tokenizer, make):
    model, n = make(tokenizer), 4000
    decoder, rng = Decoder(model, tokenizer), np.random.default_rng(0)
    prompt = [5, 9, 12]
    allowed = [[20, 30, 40], [7]]
    rows = decoder.generate([prompt] * n, rng.random((n, 4)), max_new_tokens=4, allowed=allowed)
    first = np.array([row.tokens[0] for row in rows])
    assert set(first) <= {20, 30, 40} and {row.tokens[1] for row in rows} == {7}
    assert len({row.tokens[2] for row in rows if len(row.tokens) > 2}) > 5
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1, allowed[0]]
    expected = logits.double().softmax(-1).numpy()
    np.testing.assert_allclose([(first == token).mean() for token in allowed[0]], expected, atol=0.03)
    np.testing.assert_allclose([row.logprobs[1] for row in rows], 0.0, atol=1e-6)
