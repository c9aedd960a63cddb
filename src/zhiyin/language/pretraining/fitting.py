"""From a base model and the texts of a shop to a model that knows the shop's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zhiyin.domain.errors import ConfigError
from zhiyin.language.model_files import ModelFolder
from zhiyin.language.opened import (
    OpenedModel,
    computing_again,
    open_model,
    refuse_full_folder,
    save_model,
)
from zhiyin.language.parameters import refuse_unfit_sharding, trained_part
from zhiyin.language.pretraining.card import model_card
from zhiyin.language.pretraining.contrast import NextItemObjective, PairObjective
from zhiyin.language.pretraining.masking import Mask
from zhiyin.language.pretraining.models import default_objectives, masked_head, refuse_unfit
from zhiyin.language.pretraining.objectives import BlockObjective, Draw, Objective
from zhiyin.language.pretraining.packing import packed
from zhiyin.language.pretraining.reading_once import quick_attention, read_once
from zhiyin.language.pretraining.settings import PretrainingConfig
from zhiyin.language.pretraining.shop_texts import ShopTexts
from zhiyin.language.pretraining.texts_to_compare import Texts, TextsInTokens, with_map_behind
from zhiyin.language.pretraining.vocabulary import add_words, words_to_add
from zhiyin.language.running import Run
from zhiyin.training.checkpoints import fingerprint
from zhiyin.training.devices import device_facts, open_fabric
from zhiyin.training.kernels import WHILE_TRAINING, keep_few_kernels
from zhiyin.training.loop import train
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.schedule import Schedule
from zhiyin.training.sharding import place

LENGTH_OF_TRAINING = {"max_minutes", "devices"}
FEWEST_PAIRS = 8
FEWEST_ITEMS = 2
COMPARING = {"contrastive", "next_item"}
"""Objectives that compare texts."""


def pretrain(
    base: ModelFolder, shop: ShopTexts, config: PretrainingConfig, out: Path, run: Run | None = None
) -> dict[str, Any]:
    """Pre-train a model on the texts of a shop and write it where every command that takes a model finds it.

    Args:
        base: What to start from; it stays as it is.
        shop: What to read.
        config: How.
        out: Folder of the new model.
        run: Seed, listeners, checkpoints.

    Returns:
        What JSON can hold: learning curves, words added, sizes, device.

    Raises:
        ConfigError: when an objective does not fit the model, what the method adds cannot be worked into it,
            or the folder holds something else.
        TrainingError: when the loss is not a number.
    """
    run = run or Run()
    refuse_full_folder(out)
    _refuse_unmergeable(config)
    refuse_unfit_sharding(config.method, sharding=config.steps.sharding)
    keep_few_kernels(WHILE_TRAINING)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        opened = open_model(base)
        objectives = config.objectives or default_objectives(opened)
        refuse_unfit(opened, objectives)
        _refuse_nothing_to_learn(config, objectives)
        read = shop.digest()
        added = _with_new_words(opened, shop, config, run)
        facts: dict[str, Any] = {
            "base": base.name,
            "new_words": added,
            "n_documents": len(shop.documents),
            "n_parameters": sum(parameter.numel() for parameter in opened.network.parameters()),
        }
        again = computing_again(opened.network, wanted=config.steps.checkpointing)
        with again, quick_attention(opened.network, config.training):
            for place, name in enumerate(objectives):
                objective = _objective(name, opened, shop, config, run.seed)
                stage = f"{place + 1} {name}" if len(objectives) > 1 else name
                named = f"pretrain-{stage}".replace(" ", "-")
                facts[stage] = _train(opened, objective, named, config, run, read=read)
                objective.close()
    opened.network.eval()
    save_model(opened, out, model_card(facts, config))
    return facts


def _refuse_unmergeable(config: PretrainingConfig) -> None:
    if not config.method.can_merge:
        raise ConfigError(
            f"What '{config.method.name}' learns cannot be worked into the weights of a model, and "
            "pre-training writes a plain model.",
            possible="'full', 'top', 'lora', 'adalora' and 'ia3' leave a plain model.",
            remedy="Set method.name to one of them.",
        )


def _refuse_nothing_to_learn(config: PretrainingConfig, objectives: Sequence[str]) -> None:
    if config.method.name == "frozen" and not config.new_words and not COMPARING.issuperset(objectives):
        raise ConfigError(
            "'frozen' leaves pre-training nothing to learn.",
            possible=f"A map behind the encoder learns by {' and '.join(sorted(COMPARING))} alone.",
            remedy="Set method.name to another, or new_words to how many words shall be learned.",
        )


def _with_new_words(opened: OpenedModel, shop: ShopTexts, config: PretrainingConfig, run: Run) -> list[str]:
    if not config.new_words:
        return []
    words = words_to_add(shop.documents, opened.tokenizer, config.new_words)
    add_words(opened.causal if opened.is_decoder else opened.network, opened.tokenizer, words)
    run.progress.say(f"{len(words):,} words of the catalogue were added to the tokenizer")
    return words


def _objective(
    name: str, opened: OpenedModel, shop: ShopTexts, config: PretrainingConfig, seed: int
) -> Objective:
    length = min(config.max_tokens, opened.most_tokens)
    if name == "contrastive":
        return _pairs(opened, shop, config, length, seed)
    if name == "next_item":
        return _next_item(opened, shop, config, length)
    tokenizer = opened.tokenizer
    after = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if after is None:
        raise ConfigError(
            f"The tokenizer of '{opened.folder.name}' has no token that ends a text.",
            remedy="Give it a sep_token or an eos_token, or choose another base model.",
        )
    documents = [ids for ids in _token_ids(tokenizer, shop.documents, None) if ids]
    first = None if opened.is_decoder else tokenizer.cls_token_id
    blocks = packed(documents, length, first=first, after=after)
    if opened.is_decoder:
        return BlockObjective(opened.causal, blocks, None, seed)
    if tokenizer.mask_token_id is None:
        raise ConfigError(
            f"The tokenizer of '{opened.folder.name}' has no mask, so words cannot be hidden.",
            remedy="Leave 'masked' out, or choose another base model.",
        )
    special = np.array(sorted(set(tokenizer.all_special_ids)), dtype=np.int64)
    n_tokens = opened.network.get_input_embeddings().num_embeddings  # type: ignore[operator]
    mask = Mask(config.mask_share, int(tokenizer.mask_token_id), min(n_tokens, len(tokenizer)), special)
    return BlockObjective(masked_head(opened), blocks, mask, seed)


def _pairs(
    opened: OpenedModel, shop: ShopTexts, config: PretrainingConfig, length: int, seed: int
) -> PairObjective:
    """Every text with itself, and as many pairs taken one after the other as the settings ask for."""
    n_items, share = len(shop.items), config.together
    if n_items < FEWEST_ITEMS:
        raise ConfigError(
            f"'contrastive' compares items; their different texts number {n_items}, and at least "
            f"{FEWEST_ITEMS} are needed.",
            remedy="Choose --objective masked, which reads the reviews too.",
        )
    itself = np.repeat(np.arange(n_items, dtype=np.int64)[:, None], 2, axis=1)
    different = shop.pairs[shop.pairs[:, 0] != shop.pairs[:, 1]]
    random = np.random.default_rng(seed)
    if share >= 1.0 and len(different) >= FEWEST_PAIRS:
        pairs = different
    else:
        n = min(len(different), round(n_items * share / max(1.0 - share, 1e-9)))
        pairs = np.concatenate([itself, random.permutation(different)[:n]])
    return PairObjective(_texts(opened, shop, config, length), pairs, config.temperature)


def _next_item(
    opened: OpenedModel, shop: ShopTexts, config: PretrainingConfig, length: int
) -> NextItemObjective:
    runs = shop.runs
    if runs is None or len(runs) < FEWEST_PAIRS:
        raise ConfigError(
            f"'next_item' learns from histories of two items with words; there are "
            f"{0 if runs is None else len(runs)}, and at least {FEWEST_PAIRS} are needed.",
            remedy="Choose --objective contrastive, which needs no histories.",
        )
    return NextItemObjective(_texts(opened, shop, config, length), runs, config.temperature)


def _texts(opened: OpenedModel, shop: ShopTexts, config: PretrainingConfig, length: int) -> Texts:
    tokens = _token_ids(opened.tokenizer, shop.items, length)
    fabric = open_fabric(config.training)
    if config.method.name == "frozen" and not config.new_words:
        return with_map_behind(opened, tokens, fabric)
    return TextsInTokens(opened.sentences, tokens, read_once(opened, tokens, config, fabric))


def _token_ids(tokenizer: Any, texts: Sequence[str], length: int | None) -> list[list[int]]:
    """Return token ids: as a text alone is read, cut at a length, or bare where blocks are packed."""
    if not texts:
        return []
    given: dict[str, Any] = {"return_attention_mask": False, "return_token_type_ids": False}
    if length is None:
        encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False, **given)
    else:
        encoded = tokenizer(list(texts), truncation=True, max_length=length, **given)
    found: list[list[int]] = encoded["input_ids"]
    return found


def _train(
    opened: OpenedModel, objective: Objective, name: str, config: PretrainingConfig, run: Run, *, read: str
) -> dict[str, Any]:
    rows = np.random.default_rng(run.seed).permutation(objective.n_rows)
    n_held = round(config.held_out * len(rows)) if len(rows) > 1 else 0
    held, learned = rows[:n_held], np.sort(rows[n_held:])
    at_once = _rows_at_once(objective, config)
    judged = [held[start : start + at_once] for start in range(0, n_held, at_once)]
    settings, fabric = config.training, open_fabric(config.training, sharding=config.steps.sharding)
    n_epochs = settings.max_epochs if n_held else settings.epochs_without_validation
    n_steps = -(-len(_dealt(learned, at_once, run.seed, 1)) // config.steps.accumulation) * n_epochs
    part = trained_part(opened.network, config.method, n_steps)
    if config.new_words:
        opened.network.get_input_embeddings().requires_grad_(requires_grad=True)  # type: ignore[operator]
    module = objective.module if part.penalty is None else _Penalised(objective.module, part.penalty)
    place(module, fabric)
    known = {
        "config": config.model_dump(exclude={"training": LENGTH_OF_TRAINING}),
        "base": opened.folder.fingerprint,
        "seed": run.seed,
        "rows": objective.n_rows,
        # As many rows may hold what an evaluation holds back: weights that saw it are no start for others.
        "read": read,
    }
    plan = TrainingPlan(
        name=name,
        module=module,
        batches=lambda epoch: [Draw(epoch, part) for part in _dealt(learned, at_once, run.seed, epoch)],
        collate=objective.batch,
        quality=(lambda: objective.quality(judged)) if n_held else None,
        settings=settings,
        seed=run.seed,
        fingerprint=fingerprint(known, {"learned": learned}),
        metric=objective.metric,
        accumulation=config.steps.accumulation,
        schedule=Schedule(n_steps, config.steps.warmup_share, config.steps.decay),
        after_step=part.after_step,
        memory=part,
        trackers=run.trackers,
    )
    before = plan.quality_now()
    n_trained = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    curve = train(plan, progress=run.progress, checkpoints=run.checkpoints, fabric=fabric)
    part.merge()
    module.cpu()
    told = {"n_trained": n_trained, "before": before, "seconds": curve.seconds}
    return {**told, **curve.facts(), **device_facts(fabric)}


class _Penalised(nn.Module):
    """A loss and what a method of training adds to it."""

    def __init__(self, module: nn.Module, penalty: Callable[[], Tensor]) -> None:
        super().__init__()
        self.module, self._penalty = module, penalty

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        loss: Tensor = self.module(batch) + self._penalty()
        return loss


def _rows_at_once(objective: Objective, config: PretrainingConfig) -> int:
    return max(2, config.training.tokens_per_batch // (config.max_tokens * objective.texts_a_row))


def _dealt(rows: npt.NDArray[np.int64], at_once: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Deal rows into batches; none has fewer than two rows, so that every text has another beside it."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    n_batches = max(1, len(order) // at_once)
    return np.array_split(order, n_batches)
