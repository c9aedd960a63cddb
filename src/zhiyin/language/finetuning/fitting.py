"""From a base model and the rows of a log to a model that foretells them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zhiyin.domain.errors import DataError
from zhiyin.language.finetuning.drawing import Drawer
from zhiyin.language.finetuning.losses import Losses, Scale
from zhiyin.language.finetuning.model import (
    FinetunedModel,
    composer_of,
    prepared_model,
    varied_wording,
    wording_for,
)
from zhiyin.language.finetuning.network import Reader, TowerReader
from zhiyin.language.finetuning.rows import ORDERS, TaskRows
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.finetuning.streams import (
    Dealer,
    LabelledStream,
    NextStream,
    NextTask,
    Stream,
    mean_vectors,
)
from zhiyin.language.finetuning.validating import Validation, can_validate
from zhiyin.language.finetuning.varying import VariedWording
from zhiyin.language.finetuning.wording import Background, Wording
from zhiyin.language.model_files import ModelFolder
from zhiyin.language.opened import OpenedModel, computing_again, open_model
from zhiyin.language.parameters import refuse_unfit_sharding
from zhiyin.language.running import Run
from zhiyin.training.adversarial import adversary_of
from zhiyin.training.checkpoints import fingerprint
from zhiyin.training.devices import device_facts, open_fabric
from zhiyin.training.kernels import WHILE_TRAINING, keep_few_kernels
from zhiyin.training.loop import train
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.schedule import Schedule
from zhiyin.training.sharding import place

SKILL = "skill"
LENGTH_OF_TRAINING = {"max_minutes", "devices"}
_ROWS_BEFORE = 64
"""Rows that two towers read before training, to learn where their cosines lie."""


def finetune(
    base: ModelFolder,
    background: Background,
    rows: TaskRows,
    config: FinetuningConfig,
    run: Run | None = None,
) -> tuple[FinetunedModel, dict[str, Any]]:
    """Fine-tune a base model.

    Args:
        base: What to start from; it stays as it is.
        background: Items, users, what counts as liked.
        rows: To learn from and to be chosen by; the test is not looked at.
        config: How.
        run: Seed, listeners, checkpoints.

    Returns:
        The model with its best weights, and what JSON can hold: learning curve, sizes, device.

    Raises:
        ConfigError: when method and base do not fit, or the tokenizer lacks a token.
        DataError: when no item has words.
        TrainingError: when the loss is not a number.
    """
    validation, facts = finetune_and_validate(base, background, rows, config, run)
    return validation.model, facts


def finetune_and_validate(
    base: ModelFolder,
    background: Background,
    rows: TaskRows,
    config: FinetuningConfig,
    run: Run | None = None,
) -> tuple[Validation, dict[str, Any]]:
    """Do what `finetune` does, and return the model together with what it was judged by."""
    run, config = run or Run(), config.with_usual_rate()
    refuse_unfit_sharding(config.method, sharding=config.steps.sharding)
    keep_few_kernels(WHILE_TRAINING)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        opened = open_model(base)
        background = background.as_tasks_say(rows.tasks)
        wording = wording_for(opened, background, config)
        _refuse_without_words(wording)
        for part in rows.splits.values():
            wording.refuse_unknown_state(part.train)
        drawer = _drawer(opened, wording, rows)
        words = varied_wording(opened, background, config, wording)
        dealer = Dealer(_streams(words, config, rows, drawer), config.training.tokens_per_batch, run.seed)
        n_batches = len(dealer.epoch(1))
        n_steps = -(-n_batches // config.steps.accumulation) * config.training.max_epochs
        model = prepared_model(opened, wording, config, rows.tasks, scales=_scales(rows), n_steps=n_steps)
        _begin_at_the_mean(model, rows)
        validation = Validation(model, rows, drawer, run.seed)
        schedule = Schedule(n_steps, config.steps.warmup_share, config.steps.decay)
        plan = _plan(validation, dealer, schedule, run)
        with computing_again(opened.network, wanted=config.steps.checkpointing):
            facts = _trained(plan, run, sharding=config.steps.sharding)
        facts["n_tokens"] = sum(int(stream.lengths.sum()) for stream in dealer.streams) * len(facts["epochs"])
    return validation, {"base": base.name, "n_parameters": model.n_parameters, **facts}


class Learner(nn.Module):
    """A reader with its loss.

    Args:
        reader: What foretells.
        losses: What it costs to be wrong.
        agreement: Weight of R-Drop.
    """

    def __init__(self, reader: Reader, losses: Losses, agreement: float) -> None:
        super().__init__()
        self.reader, self.losses, self._agreement = reader, losses, agreement

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of a batch, () float32."""
        predicted, labels, group = self.reader(batch), batch["labels"], batch["group"]
        loss: Tensor = self.losses(predicted, labels, group)
        if not (self._agreement and self.training):
            return loss
        again = self.reader(batch)
        loss = (loss + self.losses(again, labels, group)) / 2
        return loss + self._agreement * self.losses.disagreement(predicted, again, labels, group)


class _Penalised(nn.Module):
    def __init__(self, learner: Learner, penalty: Any) -> None:
        super().__init__()
        self.learner, self._penalty = learner, penalty

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        loss: Tensor = self.learner(batch) + self._penalty()
        return loss


def _plan(validation: Validation, dealer: Dealer, schedule: Schedule, run: Run) -> TrainingPlan:
    model, rows = validation.model, validation.rows
    config, restraint, part = model.config, model.config.restraint, model.part
    losses = Losses(model.tasks, model.scales, learns_balance=config.balance == "uncertainty")
    learner = Learner(model.reader, losses, restraint.agreement)
    lookup = model.opened.network.get_input_embeddings()  # type: ignore[operator]
    return TrainingPlan(
        name="finetune",
        module=learner if part.penalty is None else _Penalised(learner, part.penalty),
        batches=dealer.epoch,
        collate=dealer.batch,
        quality=validation.skill if can_validate(rows) else None,
        settings=config.training,
        seed=run.seed,
        fingerprint=_fingerprint(model, rows, run.seed),
        metric=SKILL,
        accumulation=config.steps.accumulation,
        schedule=schedule,
        after_step=part.after_step,
        memory=None if part.memory is None else part,
        trackers=run.trackers,
        adversary=adversary_of(restraint.adversary, lookup),
        n_kept=restraint.checkpoints,
    )


def _trained(plan: TrainingPlan, run: Run, *, sharding: bool) -> dict[str, Any]:
    fabric = open_fabric(plan.settings, sharding=sharding)
    place(plan.module, fabric)
    before = plan.quality_now()
    n_trained = sum(weight.numel() for weight in plan.module.parameters() if weight.requires_grad)
    curve = train(plan, progress=run.progress, checkpoints=run.checkpoints, fabric=fabric)
    told = {
        "n_trained": n_trained,
        "before": before,
        "seconds": curve.seconds,
    }
    return {**told, **curve.facts(), **device_facts(fabric)}


def _drawer(opened: OpenedModel, wording: Wording, rows: TaskRows) -> Drawer | None:
    if rows.following is None:
        return None
    table = opened.network.get_input_embeddings().weight  # type: ignore[operator]
    counts = np.bincount(rows.following.train.item_index, minlength=len(wording.documents))
    return Drawer(counts.astype(np.int64), mean_vectors(table, wording.documents))


def _streams(
    words: VariedWording, config: FinetuningConfig, rows: TaskRows, drawer: Drawer | None
) -> list[Stream]:
    composer, tasks, wording = composer_of(config, words), list(rows.tasks.values()), words.wordings[0]
    streams: list[Stream] = []
    if rows.labelled is not None:
        in_slates = any(task.kind in ORDERS for task in tasks)
        train = rows.labelled.train
        streams.append(LabelledStream(train, composer, wording.lengths(train), in_slates=in_slates))
    for column, task in enumerate(tasks):
        if task.kind == "next" and rows.following is not None and drawer is not None:
            train, which = rows.following.train, NextTask(column, len(tasks), task.negatives)
            streams.append(NextStream(train, composer, wording.lengths(train), drawer, which))
    return streams


def _scales(rows: TaskRows) -> dict[str, Scale]:
    if rows.labelled is None:
        return {}
    scales = {}
    for column, (name, task) in enumerate(rows.tasks.items()):
        if task.kind == "rating":
            labels = rows.labelled.train.labels[:, column].astype(np.float64)
            known = labels[~np.isnan(labels)]
            # A few rows, as in a trial with sixteen, may say the same or nothing.
            if len(known):
                scales[name] = Scale(float(known.mean()), float(known.std()) or 1.0)
    return scales


def _begin_at_the_mean(model: FinetunedModel, rows: TaskRows) -> None:
    """Let the first predictions be mean labels, so that no step is spent on learning these."""
    if rows.labelled is None:
        return
    train, bias = rows.labelled.train, model.reader.bias.data
    if isinstance(model.reader, TowerReader):  # a cosine is far from zero before anything is learned
        n_read = min(len(train), _ROWS_BEFORE)
        some = train.take(np.arange(n_read) * len(train) // n_read)
        model.reader.eval()
        with torch.no_grad():
            raw = model.reader(model.composer.batch(some, np.arange(n_read), some.item_index))
        bias -= torch.where(model.reader.sides > 0, raw.mean(dim=0), 0.0)
    for column, task in enumerate(rows.tasks.values()):
        if task.kind == "yes_no":
            labels = train.labels[:, column]
            # Half a row is added to each side: a few drawn rows may all say the same, or nothing.
            n_yes, n_no = float((labels == 1).sum()) + 0.5, float((labels == 0).sum()) + 0.5
            bias[column] += float(np.log(n_yes / n_no))


def _fingerprint(model: FinetunedModel, rows: TaskRows, seed: int) -> str:
    known = {
        "config": model.config.model_dump(exclude={"training": LENGTH_OF_TRAINING}),
        "base": model.opened.folder.fingerprint,
        "tasks": {name: task.model_dump() for name, task in rows.tasks.items()},
        "seed": seed,
    }
    documents = model.wording.documents
    arrays: dict[str, Any] = {"words": np.fromiter(chain.from_iterable(documents), dtype=np.int32)}
    for name, part in rows.splits.items():
        arrays[f"{name} users"] = part.train.user_index
        arrays[f"{name} items"] = part.train.item_index
        arrays[f"{name} known"] = part.train.n_known
        arrays[f"{name} labels"] = part.train.labels
    return fingerprint(known, arrays)


def _refuse_without_words(wording: Wording) -> None:
    if not any(wording.documents):
        raise DataError(
            "No item has any words, so there is nothing for a language model to read.",
            remedy="Bring a table of items with a column of words, such as title or description, or name "
            "it so in dataset.toml.",
        )
