"""Settings of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from zhiyin.contracts import Between, Config, SearchRange
from zhiyin.policy.new_items import NewItemsConfig


class MergeConfig(Config):
    """How the opinions of the sources become one score."""

    n_candidates: PositiveInt = 100
    """Items each source proposes for a query; the union of all is ranked."""
    fallback: tuple[str, ...] = ("popularity",)
    """Sources that only fill the places which all others leave empty."""
    n_examples: PositiveInt = 8000
    """Validation examples that the weights are fitted on, at most."""
    penalty: PositiveFloat = 1e-3
    """Strength of the pull of all weights towards zero while they are fitted."""
    trend_days: tuple[PositiveFloat, ...] = (15.0, 60.0, 250.0, 1000.0)
    """Half-lives of the demand for an item as of the request; none leaves the moment out of account."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "n_candidates": Between(50, 500, by_ratio=True),
        "penalty": Between(1e-4, 1e-1, by_ratio=True),
    }


class RerankConfig(Config):
    """A fine-tuned language model that judges the best candidates of users about whom little is known."""

    model: str = ""
    """Folder that `zhiyin finetune` wrote; empty asks no model."""
    task: str = ""
    """Task of the model whose prediction counts; empty takes its first."""
    most_known: NonNegativeInt = 10
    """Events of a history up to which the model is asked; longer ones are left as they are."""
    n_items: Annotated[int, Field(ge=2)] = 20
    """How many of the best candidates are judged."""
    milliseconds: PositiveFloat = 50.0
    """Time for it in a request, or in a batch of requests that are answered together; less is judged where it
    does not reach. Training and evaluation do not look at the clock."""
    n_examples: PositiveInt = 300
    """Validation examples that each weight is fitted on, at most."""

    @property
    def is_on(self) -> bool:
        """Whether a model is asked."""
        return bool(self.model)


class PipelineConfig(Config):
    """A pipeline, named part by named part."""

    recipe: str = "custom"
    """Name of the recipe these settings started from."""
    description: str = ""
    """What the recipe is for."""
    encoder: str = "default"
    """Text encoder: 'default', a Hugging Face id, or a folder."""
    sources: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Source name → its settings."""
    absorb: bool = True
    """Sources that can count an event at once do so; without it, counts wait for the next training."""
    merge: MergeConfig = MergeConfig()
    """How the opinions of the sources become one score."""
    rerank: RerankConfig = RerankConfig()
    """Whether a fine-tuned language model judges the best candidates, and for whom."""
    new_items: NewItemsConfig = NewItemsConfig()
    """Which places of a slate are kept for new items."""
