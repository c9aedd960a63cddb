"""Settings of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from zhiyin.contracts import Between, Config, SearchRange
from zhiyin.data.labelled import VALUE
from zhiyin.policy.new_items import NewItemsConfig
from zhiyin.ranking.settings import RankerConfig


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


class RankerTask(Config):
    """One thing to predict of an item that is shown to a user."""

    column: str = VALUE
    """Where the answer stands: ``value``, ``event``, or a further column of interactions or impressions."""
    yes_from: float | None = None
    """Numbers from here on mean yes; without it the number itself is predicted."""
    yes_words: tuple[str, ...] = ()
    """Words that mean yes, such as the event kind ``purchase``."""
    worth: float = 0.0
    """What one yes, or one unit of the number, is worth to the shop; below 0 for what it wants to avoid."""
    times: str = ""
    """Attribute of items that the worth is multiplied by, such as a price, a margin or a bid."""

    @model_validator(mode="after")
    def _one_meaning_of_yes(self) -> Self:
        if self.yes_words and self.yes_from is not None:
            raise ValueError("give yes_from for numbers or yes_words for words, not both")
        return self


class RankerStageConfig(Config):
    """What is predicted of the best candidates, and whether slates are ordered by what that is worth."""

    tasks: dict[Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$")], RankerTask] = Field(default_factory=dict)
    """Name → how its answer is read; none predicts nothing."""
    n_items: Annotated[int, Field(ge=2)] = 100
    """How many of the best candidates are put in order by their worth."""
    first_meetings: bool = True
    """Whether an item counts once for each user, answered by all that came of it, as in "was it bought in the
    end"; without it every interaction is a row of its own, as where people buy the same again and again."""
    held_out: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """Share of the labelled rows, the newest of drawn users, by which training is stopped; as many again
    judge the predictions."""
    network: RankerConfig = RankerConfig()
    """How it learns."""

    @property
    def is_on(self) -> bool:
        """Whether anything is predicted."""
        return bool(self.tasks)

    @property
    def orders(self) -> bool:
        """Whether slates are ordered by what predictions are worth."""
        return any(task.worth for task in self.tasks.values())


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
    ranker: RankerStageConfig = RankerStageConfig()
    """Whether clicks, purchases, ratings and the like are predicted, and what they are worth."""
    new_items: NewItemsConfig = NewItemsConfig()
    """Which places of a slate are kept for new items."""
