"""A fine-tuned model: what it is made of, what it foretells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zhiyin.contracts import Progress, Silent
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, IndexArray
from zhiyin.domain.errors import ConfigError
from zhiyin.language.augmenting import open_rewriter
from zhiyin.language.batching import batches_by_length
from zhiyin.language.finetuning.losses import Scale, chances
from zhiyin.language.finetuning.network import CrossReader, Reader, TowerReader
from zhiyin.language.finetuning.settings import FinetuningConfig, TaskConfig
from zhiyin.language.finetuning.streams import Composer, CrossComposer, TowerComposer, moved
from zhiyin.language.finetuning.tower_vectors import TowerVectors
from zhiyin.language.finetuning.varying import VERSIONS, VariedWording
from zhiyin.language.finetuning.wording import Background, Wording
from zhiyin.language.opened import OpenedModel
from zhiyin.language.parameters import TrainedPart, trained_part
from zhiyin.language.texts import item_texts
from zhiyin.language.token_dropout import TokenDropout
from zhiyin.training.devices import accelerator_of, uses_bfloat16

_ROWS_AT_ONCE = 20_000
"""Rows whose tokens stand in memory together."""


@dataclass(frozen=True, eq=False)
class FinetunedModel:
    """A base model, what was trained of it, and the words it reads.

    Attributes:
        opened: The base.
        part: What training changes in it.
        reader: The network with its heads.
        wording: From rows to tokens.
        tasks: Name → settings, in the order of the columns.
        scales: Name → scale of its labels, for ratings.
        config: The settings it was made with.
    """

    opened: OpenedModel
    part: TrainedPart
    reader: Reader
    wording: Wording
    tasks: Mapping[str, TaskConfig]
    scales: Mapping[str, Scale]
    config: FinetuningConfig

    @property
    def composer(self) -> Composer:
        """Puts rows into tensors for the reader."""
        return composer_of(self.config, self.wording)

    @property
    def n_parameters(self) -> int:
        """Numbers of the whole model, heads included."""
        return sum(weight.numel() for weight in self.reader.parameters())

    @property
    def n_trained(self) -> int:
        """Numbers that training may change, heads included."""
        return sum(weight.numel() for weight in self.reader.parameters() if weight.requires_grad)

    def heads(self) -> dict[str, Tensor]:
        """Return a copy of the weights that stand on the network, on the CPU."""
        return {name: weight.detach().cpu().clone() for name, weight in self._heads().items()}

    def take_heads(self, weights: Mapping[str, Tensor]) -> None:
        """Put back what `heads` returned."""
        for name, weight in self._heads().items():
            weight.data.copy_(weights[name])

    def predict(self, examples: LabelledExamples, progress: Progress | None = None) -> FloatArray:
        """Foretell every task for every row.

        Args:
            examples: N rows; their labels are not read.
            progress: Who listens.

        Returns:
            (N, T) float32: chances for ``yes_no``, ratings for ``rating``, scores for the others.
        """
        if isinstance(self.reader, TowerReader):
            own = examples.item_index[:, None]
            return self._of_towers(self.reader, examples, own, progress or Silent())[:, 0]
        found = np.empty((len(examples), len(self.tasks)), dtype=np.float32)
        starts = range(0, len(examples), _ROWS_AT_ONCE)
        for start in starts:
            stop = min(start + _ROWS_AT_ONCE, len(examples))
            some = examples.take(np.arange(start, stop))
            found[start:stop] = self._predicted(some, progress or Silent())
        return found

    def _predicted(self, examples: LabelledExamples, progress: Progress) -> FloatArray:
        found = np.empty((len(examples), len(self.tasks)), dtype=np.float32)
        lengths = self.wording.lengths(examples)
        batches = batches_by_length(lengths, self.config.training.tokens_per_batch)
        device = next(self.reader.parameters()).device
        self.reader.eval()
        with torch.inference_mode(), _quick(self.config, device):
            for batch in progress.track(batches, f"reading {len(examples):,} rows", len(batches)):
                some = examples.take(batch)
                inputs = self.composer.batch(some, np.arange(len(some)), some.item_index)
                raw = self.reader(moved(inputs, device)).float().cpu()
                found[batch] = self._told(raw)
        return found

    def _told(self, raw: Tensor) -> FloatArray:
        columns = [
            chances(task.kind, raw[:, column], self.scales.get(name, Scale()))
            for column, (name, task) in enumerate(self.tasks.items())
        ]
        told: FloatArray = torch.stack(columns, dim=1).numpy()
        return told

    def among(self, examples: LabelledExamples, items: IndexArray) -> FloatArray:
        """Foretell every task for several items a row.

        Args:
            examples: N rows.
            items: (N, C) int32.

        Returns:
            (N, C, T) float32, as `predict`.
        """
        if isinstance(self.reader, TowerReader):
            return self._of_towers(self.reader, examples, items, Silent())
        n_rows, n_items = items.shape
        repeated = examples.take(np.repeat(np.arange(n_rows), n_items))
        found = self.predict(replace(repeated, item_index=items.reshape(-1)))
        return found.reshape(n_rows, n_items, len(self.tasks))

    def _of_towers(
        self, reader: TowerReader, examples: LabelledExamples, items: IndexArray, progress: Progress
    ) -> FloatArray:
        reader.eval()
        device = next(reader.parameters()).device
        towers = TowerVectors(
            reader, self.wording, self.config.training.tokens_per_batch, lambda: _quick(self.config, device)
        )
        found = np.empty((*items.shape, len(self.tasks)), dtype=np.float32)
        if not len(examples):
            return found
        distinct, place = np.unique(items, return_inverse=True)
        of_items, place = towers.of_items(distinct, progress), place.reshape(items.shape)
        n_at_once = max(1, _ROWS_AT_ONCE // items.shape[1])
        for start in range(0, len(examples), n_at_once):
            rows = np.arange(start, min(start + n_at_once, len(examples)))
            users = towers.of_users(examples.take(rows), progress)
            with torch.inference_mode():
                against = of_items[torch.from_numpy(place[rows]).to(device)]
                raw = reader.joined(users[:, None].expand_as(against).flatten(0, 1), against.flatten(0, 1))
            found[rows] = self._told(raw.cpu()).reshape(*place[rows].shape, -1)
        return found

    def _heads(self) -> dict[str, nn.Parameter]:
        inside = {id(weight) for weight in self.opened.network.parameters()}
        if isinstance(self.reader, TowerReader) and self.reader.sentences is not None:
            inside |= {id(weight) for weight in self.reader.sentences.parameters()}
        return {name: weight for name, weight in self.reader.named_parameters() if id(weight) not in inside}


def wording_for(
    opened: OpenedModel,
    background: Background,
    config: FinetuningConfig,
    texts: Sequence[str] | None = None,
) -> Wording:
    """Tokenise a catalogue for a base; ``texts`` are those of its items, where others than usual are read."""
    taken = config.method.virtual_tokens if config.method.name == "prompt" else 0
    return Wording(
        opened.tokenizer,
        background,
        config.wording,
        most_tokens=opened.most_tokens - taken,
        is_decoder=opened.is_decoder,
        texts=texts,
    )


def varied_wording(
    opened: OpenedModel, background: Background, config: FinetuningConfig, wording: Wording
) -> VariedWording:
    """Return the wording with what the settings say is varied in it while training.

    Raises:
        ConfigError: when a rewriter or a file of synonyms is not there.
    """
    augmenting = config.restraint.augmenting
    wordings = [wording]
    rewriter = open_rewriter(augmenting, drops_words=False)
    if rewriter is not None:
        texts = item_texts(background.catalogue)
        others = (rewriter(texts, version) for version in range(VERSIONS))
        wordings += [wording_for(opened, background, config, other) for other in others]
    dropout = None
    if augmenting.word_dropout:
        dropout = TokenDropout.of(
            opened.tokenizer, augmenting.word_dropout, fixed=sorted(wording.fixed_tokens)
        )
    return VariedWording(tuple(wordings), dropout)


def composer_of(config: FinetuningConfig, tokens: Wording | VariedWording) -> Composer:
    """Return what puts rows into tensors for the reader of the settings."""
    return CrossComposer(tokens) if config.reader == "cross" else TowerComposer(tokens)


def prepared_model(
    opened: OpenedModel,
    wording: Wording,
    config: FinetuningConfig,
    tasks: Mapping[str, TaskConfig],
    *,
    scales: Mapping[str, Scale] | None = None,
    n_steps: int = 1,
) -> FinetunedModel:
    """Put heads on a base and what the method adds into it; nothing has learned anything yet.

    Args:
        opened: The base; it is changed in place.
        wording: What it will read.
        config: How.
        tasks: Name → settings.
        scales: Of the labels.
        n_steps: Of the training to come.

    Raises:
        ConfigError: when the method does not suit the base, or R-Drop meets a base without dropout.
    """
    part = trained_part(opened.network, config.method, n_steps)
    _set_dropout(opened.network, config.restraint.dropout)
    if config.restraint.agreement and not _drops_anything(opened.network):
        raise ConfigError(
            "R-Drop compares two predictions under different dropout, and this model has no dropout.",
            remedy="Give it some: --set restraint.dropout=0.1",
        )
    is_next = [task.kind == "next" for task in tasks.values()]
    reader: Reader
    if config.reader == "cross":
        reader = CrossReader(opened.network, len(tasks), is_decoder=opened.is_decoder)
    else:
        reader = TowerReader(opened.sentences, opened.network, is_next)
        if opened.sentences is not None:
            _freeze_behind(opened.sentences, opened.network)
    return FinetunedModel(opened, part, reader, wording, tasks, scales or {}, config)


def _freeze_behind(sentences: Any, network: nn.Module) -> None:
    """Leave what a sentence encoder has behind its network as it is."""
    inside = {id(weight) for weight in network.parameters()}
    for weight in sentences.parameters():
        if id(weight) not in inside:
            weight.requires_grad_(requires_grad=False)


def _set_dropout(network: nn.Module, share: float | None) -> None:
    if share is None:
        return
    part: Any
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = share
        if isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = share


def _drops_anything(network: nn.Module) -> bool:
    return any(
        (isinstance(part, nn.Dropout) and part.p > 0) or getattr(part, "attention_dropout", 0.0)
        for part in network.modules()
    )


def _quick(config: FinetuningConfig, device: torch.device) -> Any:
    """Multiply in bfloat16 where training does."""
    accelerator = "cpu" if device.type == "cpu" else accelerator_of(config.training.devices)
    if uses_bfloat16(config.training.precision, accelerator):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
