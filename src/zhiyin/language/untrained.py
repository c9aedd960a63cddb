"""Recommending without any training: a task in words, a history in words, and a model as it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from zhiyin.contracts import Progress, Silent, TextEncoder
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, IndexArray
from zhiyin.language.asked import AnswerJudge, TitleJudge
from zhiyin.language.encoder import SentenceEncoder
from zhiyin.language.finetuning.model import wording_for
from zhiyin.language.finetuning.settings import FinetuningConfig, TaskConfig
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.opened import OpenedModel
from zhiyin.language.told import Teller


class Judge(Protocol):
    """Says how well items suit."""

    def scores(self, examples: LabelledExamples, progress: Progress) -> FloatArray:
        """Return (N,) float32 from 0 to 1, higher is better; not calibrated."""


@dataclass(frozen=True, eq=False)
class UntrainedModel:
    """Foretells what a fine-tuned model would, from words alone.

    Its scores order; they are no chances and no ratings until `zhiyin.language.scaling` has seen labels.

    Attributes:
        judge: Says how well an item suits; the same for every task.
        tasks: Name → settings, in the order of the columns.
    """

    judge: Judge
    tasks: Mapping[str, TaskConfig]

    def predict(self, examples: LabelledExamples, progress: Progress | None = None) -> FloatArray:
        """Score every row, the same for every task.

        Args:
            examples: N rows; their labels are not read.
            progress: Who listens.

        Returns:
            (N, T) float32 from 0 to 1, higher is better; not calibrated.
        """
        scores = self.judge.scores(examples, progress or Silent())
        return np.repeat(scores[:, None], len(self.tasks), axis=1)

    def among(self, examples: LabelledExamples, items: IndexArray) -> FloatArray:
        """Score several items a row: (N, C, T) float32 for items (N, C) int32."""
        n_rows, n_items = items.shape
        repeated = examples.take(np.repeat(np.arange(n_rows), n_items))
        found = self.predict(replace(repeated, item_index=items.reshape(-1)))
        return found.reshape(n_rows, n_items, len(self.tasks))


class LikenessJudge:
    """Compares item texts with the task and what was liked, and with what was not.

    ``(1 + cos(task and liked, item) - cos(task and disliked, item)) / 2``, the last cosine only where
    something was disliked; of somebody about whom nothing is known, the task and the moment speak alone.

    Args:
        encoder: Turns texts into vectors of length 1.
        teller: Puts rows into words.
        config: The task.
    """

    def __init__(self, encoder: TextEncoder, teller: Teller, config: FinetuningConfig) -> None:
        self._encoder, self._teller, self._config = encoder, teller, config

    def scores(self, examples: LabelledExamples, progress: Progress) -> FloatArray:
        """Return (N,) float32 from 0 to 1."""
        told = self._teller.told(examples)
        liked = [self._said(one.liked, one.state) for one in told]
        disliked = [self._said(one.disliked, one.state) if one.disliked else "" for one in told]
        items = [self._teller.documents[item] for item in examples.item_index.tolist()]
        with progress.stage(f"reading {len(examples):,} rows"):
            vectors = self._encoder.encode([*liked, *disliked, *items])
        of_liked, of_disliked, of_items = np.split(vectors, 3)
        against = np.einsum("nd,nd->n", of_disliked, of_items)
        against[np.array([not text for text in disliked], dtype=bool)] = 0.0
        scores: FloatArray = (1.0 + np.einsum("nd,nd->n", of_liked, of_items) - against) / 2
        return np.clip(scores, 0.0, 1.0).astype(np.float32)

    def _said(self, names: str, state: str) -> str:
        return " ".join(part for part in (self._config.prompt.description, state, names) if part)


def untrained_model(
    opened: OpenedModel, background: Background, config: FinetuningConfig, tasks: Mapping[str, TaskConfig]
) -> UntrainedModel:
    """Make a judge of a model as it came.

    Args:
        opened: A decoder, which is asked; or an encoder, whose vectors are compared.
        background: Items, users, what counts as liked.
        config: The task in words, and how much is told.
        tasks: Name → settings.

    Raises:
        ConfigError: when the two answers cannot be told apart.
    """
    wording = wording_for(opened, background, config)
    teller = Teller(opened.tokenizer, background, wording, config)
    judge: Judge
    if not opened.is_decoder:
        judge = LikenessJudge(SentenceEncoder(opened.folder, precision="float32"), teller, config)
    elif config.prompt.by == "answer":
        judge = AnswerJudge(opened, teller, config)
    else:
        judge = TitleJudge(opened, teller, config)
    return UntrainedModel(judge, tasks)
