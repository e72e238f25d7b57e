"""A transformers model in the agent's seat: it speaks, and it scores what was said.

What a ``ChatModel`` says is a text; its tokens are *the* encoding of that text. Sampled tokens nearly always are that
encoding. Where they are not (``he`` + ``llo`` for ``hello``, or bytes that are no character), the utterance is recorded
as the encoding of its text, with that encoding's log-probabilities. So one text has one token sequence wherever it
occurs, in the prompt of the next turn and in training alike, and log-probabilities from sampling and from training
agree exactly, for whole conversations in one pass.

An utterance that reached ``max_new_tokens`` is left open: its tokens have no end-of-turn token, and none counts as the
agent's. The conversation closes it in the next prompt, as it would close anyone's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM

from agents.adapters import add_lora, base_of, copied, has_lora, load_lora, save_lora
from envs.chat_format import decode, encode, encode_chat
from envs.conversation import Conversation
from envs.decoding import Decoder, Sampled
from envs.language_models import load_transformers
from envs.trajectory import Trajectory, Utterance

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NEVER = -1e9
"""The logit of a token that may not be said, where infinity would turn gradients into NaN."""

TokenSequence = tuple[Sequence[int], Sequence[bool] | np.ndarray]
"""Token ids, and which of them count, both [T]."""


@dataclass(frozen=True, slots=True)
class TrajectoryTokens:
    """A whole conversation as the agent's model reads it, K agent turns among T tokens."""

    ids: list[int]
    """[T]"""
    agent: np.ndarray
    """[T] bool: the tokens the agent chose."""
    prompt_ends: np.ndarray
    """[K]: the last prompt token of each agent turn, where the value of a state is read."""
    turn_ends: np.ndarray
    """[K]: the last token of each utterance, where Q is read. Equals the prompt end if the utterance has no tokens."""


class ChatModel:
    """A causal language model as a policy over utterances.

    Args:
        model, tokenizer: of ``transformers``; the small format of ``envs.chat_format`` or any with a chat template.
        temperature: of sampling, and of every log-probability.
        max_new_tokens: after which an utterance is left open.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 24,
    ):
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}; it must be above 0. For the likeliest words use greedy=True.")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self._decoder = Decoder(model, tokenizer)
        self.banned = self._decoder.never_spoken

    @classmethod
    def load(
        cls,
        folder_or_hub_id: str | Path,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 24,
        device: str = "cpu",
        dtype: str = "float32",
        lora_rank: int | None = None,
    ) -> ChatModel:
        """A model from a local folder or from the Hugging Face hub; safetensors only, and no remote code ever.

        With ``lora_rank`` it gets fresh adapters, and nothing else in it learns. A folder of adapters (``save``) is
        loaded with the model that they belong to.
        """
        base = base_of(folder_or_hub_id)
        model, tokenizer = load_transformers(base or folder_or_hub_id, device=device, dtype=dtype)
        if base is not None:
            if lora_rank is not None:
                raise ValueError(f"lora_rank={lora_rank}, but {str(folder_or_hub_id)!r} holds adapters; leave it out.")
            load_lora(model, Path(folder_or_hub_id))
        elif lora_rank is not None:
            add_lora(model, lora_rank, str(folder_or_hub_id))
        return cls(model, tokenizer, temperature=temperature, max_new_tokens=max_new_tokens)

    def save(self, folder: str | Path) -> None:
        """Write the model and the tokenizer in the ordinary Hugging Face format; of a model with adapters, these."""
        if has_lora(self.model):
            save_lora(self.model, Path(folder))
        else:
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def clone(self) -> ChatModel:
        """An independent copy with equal weights; the tokenizer is shared."""
        return ChatModel(
            copied(self.model),
            self.tokenizer,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
        )

    def forget(self) -> None:
        """Drop what is remembered of the weights and the last batch. Needed only after changes through ``.data``."""
        self._decoder.forget()

    # ---- speaking -------------------------------------------------------------------------------------------------

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """What the model reads before it speaks."""
        return encode(self.tokenizer, conversation, "agent")

    def speak(
        self,
        conversations: Sequence[Conversation],
        rngs: Sequence[np.random.Generator],
        *,
        greedy: bool = False,
    ) -> list[Utterance]:
        """What the model says next in each conversation: a sample, or with ``greedy`` its likeliest tokens.

        Each generator gives ``max_new_tokens`` uniforms, whatever is said. Special tokens are never said, except the
        one that ends the turn.
        """
        if not conversations:
            return []
        prompts = [self.prompt_ids(conversation) for conversation in conversations]
        uniforms = np.stack([rng.random(self.max_new_tokens) for rng in rngs])  # [B, T]
        sampled = self._decoder.generate(
            prompts,
            uniforms,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            banned=self.banned,
            greedy=greedy,
        )
        return self._recorded(conversations, prompts, sampled)

    def _recorded(
        self, conversations: Sequence[Conversation], prompts: Sequence[list[int]], sampled: Sequence[Sampled]
    ) -> list[Utterance]:
        """Each sample as an utterance, in the encoding of its text.

        A foreign template may have no encoding for a text, or trim it. Trimmed, the text is what the template leaves;
        without an encoding the sample stays as it is, which serves for speaking, and ``trajectory_tokens`` raises.
        """
        texts = decode(self.tokenizer, [one.tokens for one in sampled])
        utterances = [Utterance(text, one.tokens, one.logprobs) for text, one in zip(texts, sampled, strict=True)]
        ended = [one.tokens[-1] in self._decoder.stop_ids for one in sampled]
        encodings = [self._encoding(*row) for row in zip(conversations, prompts, texts, ended, strict=True)]
        other = [(i, tokens) for i, tokens in enumerate(encodings) if tokens and tokens != sampled[i].tokens]
        if not other:
            return utterances
        readable = decode(self.tokenizer, [tokens for _, tokens in other])
        logprobs = self._score([(prompts[i], tokens) for i, tokens in other])
        for (i, tokens), text, values in zip(other, readable, logprobs, strict=True):
            if text.strip() == texts[i].strip():
                utterances[i] = Utterance(text, tokens, values)
        return utterances

    def _encoding(
        self, conversation: Conversation, prompt: list[int], text: str, ended: bool
    ) -> tuple[int, ...] | None:
        """The tokens of ``text`` as the agent's next utterance, as later prompts will hold them; None if the template
        changes the prompt once the agent has spoken."""
        chat = conversation.then("agent", text).messages("agent")
        whole = encode_chat(self.tokenizer, chat, add_generation_prompt=False)
        if whole[: len(prompt)] != prompt:
            return None
        tokens = whole[len(prompt) :]
        end = next((i for i, token in enumerate(tokens) if token in self._decoder.stop_ids), len(tokens))
        return tuple(tokens[: end + 1] if ended else tokens[:end])

    @torch.inference_mode()
    def _score(self, rows: Sequence[tuple[list[int], tuple[int, ...]]]) -> list[tuple[float, ...]]:
        """The log-probabilities of tokens after their prompts."""
        sequences = [([*prompt, *tokens], [False] * len(prompt) + [True] * len(tokens)) for prompt, tokens in rows]
        scores = self.logprobs(sequences).double().cpu().numpy()
        return [tuple(score[len(p) : len(p) + len(t)].tolist()) for score, (p, t) in zip(scores, rows, strict=True)]

    # ---- scoring --------------------------------------------------------------------------------------------------

    def logprobs(self, sequences: Sequence[TokenSequence]) -> Tensor:
        """[B, T] log-probability of each token that counts, given all tokens before it; 0 elsewhere and as padding.

        At the model's temperature, over the tokens that may be said: the same distribution that ``speak`` samples from.
        Gradients flow; the model's train/eval mode is the caller's.
        """
        device = self.model.device
        ids = pad_sequence([torch.as_tensor(ids) for ids, _ in sequences], batch_first=True).to(device)  # [B, T]
        counts = pad_sequence([torch.as_tensor(np.asarray(mask)) for _, mask in sequences], batch_first=True).to(device)
        counts[:, 0] = False  # nothing precedes the first token
        rows, columns = counts.nonzero(as_tuple=True)  # [N]
        logits = self._logits(ids, rows, columns - 1)
        banned = torch.tensor(self.banned, dtype=torch.long, device=device)
        logits = (logits.to(device).float() / self.temperature).index_fill(1, banned, -torch.inf)
        values = logits.log_softmax(-1).gather(1, ids[rows, columns][:, None])[:, 0]
        return torch.zeros(ids.shape, device=device).index_put((rows, columns), values)

    def distributions(self, inputs: Mapping[str, Tensor], rows: Tensor, places: Tensor) -> Tensor:
        """[N, V] log-probabilities of what may be said after each place of a batch, at the model's temperature.

        ``inputs`` are those of a forward pass (``input_ids`` [B, T], …), ``rows`` and ``places`` [N] point into them.
        Unlike ``logprobs``, words that may not be said have a finite log-probability so low that p·log p and its
        gradient are 0 and not NaN.
        """
        device = self.model.device
        moved = {name: tensor.to(device) for name, tensor in inputs.items()}
        states = self.model.base_model(**moved, use_cache=False).last_hidden_state
        read = states[rows.to(states.device), places.to(states.device)]  # of a model on several devices, the last's
        logits = self.model.get_output_embeddings()(read).to(device).float() / self.temperature
        banned = torch.tensor(self.banned, dtype=torch.long, device=device)
        return logits.index_fill(1, banned, _NEVER).log_softmax(-1)

    def _logits(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """[N, V] the logits at the places given.

        Padding is on the right and attention is causal, so no token sees any: without a mask the pass is faster.
        """
        if isinstance(self.model, LlamaForCausalLM):  # its logits are a plain product, so most need not be computed
            states = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
            return self.model.lm_head(states[rows.to(states.device), columns.to(states.device)])
        return self.model(input_ids=ids, use_cache=False).logits[rows, columns]

    def tail(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """What the template puts between an utterance and the user's next words: the end of the turn, if ``tokens``
        have none yet, and the marker of the user."""
        ended = bool(tokens) and tokens[-1] in self._decoder.stop_ids
        return self._turn_over if ended else (self._decoder.stop_ids[0], *self._turn_over)

    @cached_property
    def _turn_over(self) -> tuple[int, ...]:
        talk = Conversation().then("user", "a").then("agent", "b")
        said = encode_chat(self.tokenizer, talk.messages("agent"), add_generation_prompt=False)
        ends = [i for i, token in enumerate(said) if token in self._decoder.stop_ids]
        one, other = (
            encode_chat(self.tokenizer, talk.then("user", word).messages("agent"), add_generation_prompt=False)
            for word in ("c", "d")
        )
        until = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        return tuple(one[ends[-1] + 1 : until])

    # ---- trajectories ---------------------------------------------------------------------------------------------

    def trajectory_tokens(self, trajectory: Trajectory) -> TrajectoryTokens:
        """The conversation as one sequence: for every turn ``k``, ``ids`` up to its end are
        ``prompt_ids(trajectory.prefix(k)) + utterance.tokens``.

        Utterances of speakers with another tokenizer or none (people, scripts, logged data of other models) are
        encoded here, with the token that ends the turn.
        """
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for k, step in enumerate(trajectory.steps):
            before = trajectory.prefix(k)
            prompt = self.prompt_ids(before)
            self._check_grows(ids, prompt)
            stored = step.utterance.tokens
            said = self._encoding(before, prompt, step.utterance.text, True)
            if said is None:
                raise self._no_single_sequence()
            if stored and stored == said[: len(stored)]:
                said = stored
            spans.append((len(prompt), len(prompt) + len(said)))
            ids = [*prompt, *said]
        whole = encode_chat(self.tokenizer, trajectory.messages(), add_generation_prompt=False)
        self._check_grows(ids, whole)
        agent = np.zeros(len(whole), dtype=bool)
        for start, end in spans:
            agent[start:end] = True
        starts, ends = np.array(spans, dtype=np.int64).reshape(-1, 2).T
        return TrajectoryTokens(whole, agent, starts - 1, ends - 1)

    def _check_grows(self, before: list[int], after: list[int]) -> None:
        if after[: len(before)] != before:
            raise self._no_single_sequence()

    def _no_single_sequence(self) -> ValueError:
        return ValueError(
            f"The chat template of {self.tokenizer.name_or_path!r} rewrites earlier turns, so a conversation is no "
            "single sequence of tokens; train a model whose template only appends, such as the small models."
        )
