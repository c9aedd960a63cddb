"""Asking a decoder about an item: the chance that it answers yes, or how likely it names the item itself."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zhiyin.contracts import Progress
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray
from zhiyin.domain.errors import ConfigError
from zhiyin.language.batching import batches_by_length, padded_tokens
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.opened import OpenedModel
from zhiyin.language.told import Teller, Told

Tokens = list[int]


class AnswerJudge:
    """Asks a question about every item; the score is the chance of yes among yes and no.

    ``P(yes) / (P(yes) + P(no))`` at the position where the answer begins.

    Args:
        opened: A decoder.
        teller: Puts rows into words.
        config: The question, and how much is read at once.

    Raises:
        ConfigError: when the two answers begin with the same token.
    """

    def __init__(self, opened: OpenedModel, teller: Teller, config: FinetuningConfig) -> None:
        self._teller, self._config = teller, config
        self._reading = _Reading(opened, config.training.tokens_per_batch)
        prompt = config.prompt
        self._yes, self._no = (
            self._reading.first_of(prompt.answer, answer) for answer in (prompt.yes, prompt.no)
        )
        if self._yes == self._no:
            raise ConfigError(
                f"'{prompt.yes}' and '{prompt.no}' begin with the same token: nothing tells them apart.",
                remedy="Choose other answers: prompt.yes and prompt.no.",
            )

    def scores(self, examples: LabelledExamples, progress: Progress) -> FloatArray:
        """Return (N,) float32 in (0, 1)."""
        told = self._teller.told(examples)
        items = examples.item_index.tolist()
        prompts = [self.prompt(one, item) for one, item in zip(told, items, strict=True)]
        logits = self._reading.last_logits(prompts, (self._yes, self._no), progress)
        chances: FloatArray = 1.0 / (1.0 + np.exp(logits[:, 1] - logits[:, 0]))
        return chances

    def prompt(self, told: Told, item: int) -> str:
        """Return what the model reads before it answers."""
        prompt = self._config.prompt
        lines = [
            *known_lines(told, self._config),
            f"{prompt.item}: {self._teller.documents[item]}",
            prompt.question,
        ]
        return "\n".join([*(line for line in lines if line), prompt.answer])


class TitleJudge:
    """Scores an item by how much likelier the history makes its name.

    The mean over the tokens of the name of ``log P(token | task, history) - log P(token | task)``: what is
    merely short or common gains nothing. Holtzman et al., "Surface form competition" (2021), call the sum
    domain-conditional pointwise mutual information.

    Args:
        opened: A decoder.
        teller: Puts rows into words.
        config: The task, and how much is read at once.
    """

    def __init__(self, opened: OpenedModel, teller: Teller, config: FinetuningConfig) -> None:
        self._teller, self._config = teller, config
        self._reading = _Reading(opened, config.training.tokens_per_batch)

    def scores(self, examples: LabelledExamples, progress: Progress) -> FloatArray:
        """Return (N,) float32 in (0, 1), one half where the history says nothing."""
        items, place = np.unique(examples.item_index, return_inverse=True)
        names = [f" {self._teller.names[item]}" for item in items.tolist()]
        told = self._teller.told(examples)
        known = self._reading.mean_logs(
            [self.prompt(one) for one in told], [names[row] for row in place.tolist()], progress
        )
        alone = self._reading.mean_logs([self.prompt(Told("", "", ""))] * len(names), names, progress)
        chances: FloatArray = 1.0 / (1.0 + np.exp(alone[place] - known))
        return chances

    def prompt(self, told: Told) -> str:
        """Return what the model reads before the name."""
        lines = [line for line in known_lines(told, self._config) if line]
        return "\n".join([*lines, f"{self._config.prompt.item}:"])


def known_lines(told: Told, config: FinetuningConfig) -> list[str]:
    """Return the task and what is known, a line each; empty where nothing is known."""
    wording = config.wording
    return [
        config.prompt.description,
        f"{wording.liked}: {told.liked}" if told.liked else "",
        f"{wording.disliked}: {told.disliked}" if told.disliked else "",
        told.state,
    ]


class _Reading:
    """Reads prompts in batches of nearly equal length."""

    def __init__(self, opened: OpenedModel, tokens_per_batch: int) -> None:
        self._causal, self._tokenizer = opened.causal.eval(), opened.tokenizer
        self._most, self._tokens_per_batch = opened.most_tokens, tokens_per_batch
        start = opened.tokenizer.bos_token_id
        self._start: Tokens = [] if start is None else [start]
        self._keeps_some = "logits_to_keep" in inspect.signature(opened.causal.forward).parameters

    def first_of(self, before: str, answer: str) -> int:
        """Return the token with which an answer begins, as it is written after the text before it."""
        alone, both = self._ids([before, before + answer])
        n_shared = next(
            (n for n, (one, other) in enumerate(zip(alone, both, strict=False)) if one != other), len(alone)
        )
        if n_shared >= len(both):
            raise ConfigError(f"The answer '{answer}' has no token.", remedy="Choose another answer.")
        return both[n_shared]

    def last_logits(self, prompts: Sequence[str], tokens: Sequence[int], progress: Progress) -> FloatArray:
        """Return (N, len(tokens)) float32: what stands for each token right after each prompt."""
        ids = [self._bounded(some) for some in self._ids(prompts)]
        found = np.empty((len(prompts), len(tokens)), dtype=np.float32)
        for batch in self._batches(ids, progress):
            some = [ids[row] for row in batch]
            places = np.array([len(one) for one in some]) - 1
            logits, first = self._logits(some, int(places.min()))
            found[batch] = logits[torch.arange(len(some)), torch.from_numpy(places - first)][:, list(tokens)]
        return found

    def mean_logs(self, prompts: Sequence[str], names: Sequence[str], progress: Progress) -> FloatArray:
        """Return (N,) float32: mean log-probability of the tokens of each name after each prompt."""
        name_ids = self._ids(names)
        ids = [self._bounded(some + name) for some, name in zip(self._ids(prompts), name_ids, strict=True)]
        found = np.zeros(len(prompts), dtype=np.float32)
        for batch in self._batches(ids, progress):
            some = [ids[row] for row in batch]
            n_name = np.array([len(name_ids[row]) for row in batch])
            ends = np.array([len(one) for one in some])
            starts = np.maximum(ends - n_name, 1)
            logits, first = self._logits(some, int(starts.min()) - 1)
            logs = logits.log_softmax(dim=-1)
            row = np.repeat(np.arange(len(some)), ends - starts)
            column = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
            token = np.concatenate([one[a:b] for one, a, b in zip(some, starts, ends, strict=True)])
            of_name = logs[row, column - 1 - first, token.astype(np.int64)].numpy()
            sums = np.bincount(row, weights=of_name, minlength=len(some))
            found[batch] = sums / np.maximum(ends - starts, 1)
        return found

    def _ids(self, texts: Sequence[str]) -> list[Tokens]:
        given = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
        found: list[Tokens] = self._tokenizer(list(texts), return_token_type_ids=False, **given)["input_ids"]
        return found

    def _bounded(self, ids: Tokens) -> Tokens:
        """Leave out the beginning of what is too long, since the item stands at the end."""
        return self._start + ids[-(self._most - len(self._start)) :]

    def _batches(self, ids: Sequence[Tokens], progress: Progress) -> Any:
        lengths = np.array([len(some) for some in ids], dtype=np.int64)
        batches = batches_by_length(lengths, self._tokens_per_batch)
        return progress.track(batches, f"asking about {len(ids):,} rows", len(batches))

    def _logits(self, ids: Sequence[Tokens], first: int) -> tuple[Tensor, int]:
        """Return (n, L', V) float32 on the CPU from a position on, and that position."""
        token_ids, is_token = padded_tokens(ids, self._tokenizer.pad_token_id or 0)
        device = next(self._causal.parameters()).device
        given: dict[str, Any] = {
            "input_ids": torch.from_numpy(token_ids).to(device),
            "attention_mask": torch.from_numpy(is_token).to(device),
        }
        if self._keeps_some:
            given["logits_to_keep"] = torch.arange(first, token_ids.shape[1], device=device)
        with torch.inference_mode():
            logits: Tensor = self._causal(**given).logits
        if not self._keeps_some:
            logits = logits[:, first:]
        return logits.float().cpu(), first
