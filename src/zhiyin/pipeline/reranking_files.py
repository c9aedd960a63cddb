"""Where a re-ranking comes from: a fine-tuned model, the bundle before, a bundle on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zhiyin.contracts import ComponentState
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Vocabulary
from zhiyin.domain.errors import BundleError
from zhiyin.pipeline.files import read_state, write_state
from zhiyin.pipeline.listening import bands
from zhiyin.pipeline.moments import people_at, people_in, people_of
from zhiyin.pipeline.registry import part_with_torch
from zhiyin.pipeline.reranking import Reranking
from zhiyin.pipeline.settings import RerankConfig

_WORDING, _JUDGING = "zhiyin.language.finetuning.wording", "zhiyin.language.finetuning.judging"
_MODEL, _PEOPLE = "model", "users.parquet"


def open_reranking(config: RerankConfig, dataset: Dataset) -> Reranking:
    """Load the model that the settings name; it is not listened to before weights are fitted.

    Raises:
        ConfigError: when there is no such model or task, or its base is not there.
        MissingExtra: when the packages for language models are not installed.
    """
    background = part_with_torch(_WORDING).Background(
        dataset.catalogue, positive_value=dataset.positive_value
    )
    judge = part_with_torch(_JUDGING).open_judge(Path(config.model), background, config.task)
    n_bands = len(bands(config.most_known))
    people = people_of(dataset, judge.state_columns)
    weights = np.zeros(n_bands, dtype=np.float32)
    return Reranking(config, judge, people, weights, (0,) * n_bands, dataset.positive_value)


def carried_over(
    reranking: Reranking, known: Vocabulary, users: Vocabulary, table: pl.DataFrame | None = None
) -> Reranking:
    """Return the re-ranking, with the weights it had, for other users.

    Args:
        reranking: It knows every item there is.
        known: The users it describes.
        users: Those it is to describe; of new ones it knows nothing.
        table: What is said of users now, everything it knew of them included; None leaves that.
    """
    if table is None:
        return replace(reranking, people=people_at(reranking.people, known.indices(users.ids)))
    return replace(reranking, people=people_in(table, users, reranking.judge.state_columns))


def write_reranking(reranking: Reranking, folder: Path) -> None:
    """Write model, weights and what was read into a new folder; of the model's base, its name."""
    judge = reranking.judge
    arrays = {"weights": reranking.weights, **judge.memory()}
    facts = {"n_examples": list(reranking.n_examples), "positive_value": reranking.positive_value}
    write_state(ComponentState(arrays, facts), folder)
    judge.save(folder / _MODEL)
    if reranking.people.width:
        reranking.people.write_parquet(folder / _PEOPLE)


def read_reranking(folder: Path, config: RerankConfig, catalogue: Catalogue) -> Reranking:
    """Read what `write_reranking` wrote.

    Raises:
        BundleError: when a file is missing or does not belong to the others.
        ConfigError: when the base of the model is not on this machine.
        MissingExtra: when the packages for language models are not installed.
    """
    state = read_state(folder)
    memory: dict[str, Any] = dict(state.arrays)
    weights = np.asarray(memory.pop("weights"), dtype=np.float32)
    n_examples = tuple(int(number) for number in state.facts["n_examples"])
    n_read = {len(array) for array in memory.values()}
    if not len(weights) == len(n_examples) == len(bands(config.most_known)) or n_read - {len(catalogue)}:
        raise BundleError(
            f"{folder} does not belong to the rest of the bundle.", remedy="Train the bundle again."
        )
    liked_from = state.facts["positive_value"]
    background = part_with_torch(_WORDING).Background(catalogue, positive_value=liked_from)
    judge = part_with_torch(_JUDGING).open_judge(folder / _MODEL, background, config.task)
    if memory:
        judge.recall(memory)
    people = pl.read_parquet(folder / _PEOPLE) if (folder / _PEOPLE).is_file() else pl.DataFrame()
    return Reranking(config, judge, people, weights, n_examples, liked_from)
