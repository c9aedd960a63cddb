"""Settings of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from zhiyin.contracts import AnyOf, Between, Config, Probability, SearchRange
from zhiyin.language.augmenting import AugmentingConfig
from zhiyin.language.parameters import MethodConfig
from zhiyin.training.settings import AdversaryConfig, StepSettings, TrainingSettings

Kind = Literal["yes_no", "rating", "next", "pairwise", "listwise"]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class TaskConfig(Config):
    """One thing to foretell."""

    kind: Kind = "yes_no"
    """``yes_no`` by binary cross-entropy; ``rating``, a number, by its error; ``next``, which item comes
    next, by softmax against drawn items; ``pairwise`` and ``listwise``, the order of a user's rows, by
    logistic loss on pairs or by softmax over all of them."""
    column: str = "value"
    """Where the label stands: ``value``, ``event`` or a further column. ``next`` reads none."""
    yes_from: float | None = None
    """Numbers from here on mean yes. Without it ``yes_no`` takes what ``dataset.toml`` calls positive."""
    yes_words: tuple[str, ...] = ()
    """Words that mean yes, such as the event kind ``purchase``."""
    error: Literal["squared", "absolute"] = "squared"
    """Error of ``rating``."""
    weight: PositiveFloat = 1.0
    """What the task counts in the sum of losses, or where ``balance`` begins."""
    negatives: PositiveInt = 4
    """Drawn items that ``next`` holds against each item that came; half are near in text, half popular."""


class WordingConfig(Config):
    """What of a row is put into words."""

    history_items: NonNegativeInt = 10
    """Items of the history that are read, the newest."""
    max_tokens: Annotated[int, Field(ge=16)] = 128
    """Tokens of a row, or of one side of ``towers``; no more than the model can read."""
    item_tokens: Annotated[int, Field(ge=4)] = 48
    """Tokens of the item that is judged; the rest is left to the history."""
    name_tokens: Annotated[int, Field(ge=2)] = 12
    """Tokens of an item in a history."""
    state: tuple[str, ...] = ()
    """Columns of the rows or of the users that describe moment and person, such as ``device``; ``hour``,
    ``weekday`` and ``month`` are read from the timestamp (UTC)."""
    liked: str = "liked"
    """Word before the items of a history that were liked, or were taken where nothing says how they were."""
    disliked: str = "not liked"
    """Word before the items whose value was below what ``dataset.toml`` calls positive, or else below what a
    task calls yes."""


class PromptConfig(Config):
    """The task in words, for a model that was not trained on it."""

    description: str = "Recommend what suits a person, judged by what the person liked and did not like."
    """What the task is; in the language of the items."""
    item: str = "Item"
    """Word before the item that is judged."""
    question: str = "Will this person like it?"
    """What a decoder is asked about the item."""
    answer: str = "Answer:"
    """What stands before its answer."""
    yes: Annotated[str, Field(min_length=1)] = " yes"
    """The answer that means yes; English words begin with a space."""
    no: Annotated[str, Field(min_length=1)] = " no"
    """The answer that means no."""
    by: Literal["answer", "title"] = "answer"
    """``answer``: a decoder's chance of yes; ``title``: how much likelier a history makes the item's name."""


class HoldingConfig(Config):
    """Which rows are held back."""

    column: str = ""
    """A column that says train, validation or test. Without it the newest rows of each user are held back."""
    validation: Share = 0.1
    """Share of each user's rows that training is judged by."""
    test: Share = 0.1
    """Share of each user's rows that the report is about, the newest."""
    most_train: NonNegativeInt = 0
    """Rows to learn from at most, drawn from all; 0 takes all."""
    most_judged: PositiveInt = 5000
    """Rows of validation at most."""
    most_reported: PositiveInt = 20000
    """Rows of the test at most."""

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave rows to learn from")
        return self


class RestraintConfig(Config):
    """Switches against over-fitting; all are off."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Share of inner states set to zero while training; None leaves the model as it came."""
    agreement: NonNegativeFloat = 0.0
    """R-Drop: weight of the difference between two predictions of one row under other dropout (Liang et al.,
    2021); doubles the time."""
    adversary: AdversaryConfig = AdversaryConfig()
    """Attacks on the vectors of the words."""
    checkpoints: PositiveInt = 1
    """Best epochs whose weights are averaged at the end, where that validates no worse than the best one."""
    augmenting: AugmentingConfig = AugmentingConfig()
    """Changes to the texts: words left out, synonyms, other words for whole texts."""


class TuningSettings(TrainingSettings):
    """The training loop as it suits a model that knows its language already."""

    max_epochs: PositiveInt = 3
    """Passes over the rows at most."""
    patience: PositiveInt = 2
    """Passes without better validation after which training stops."""
    epochs_without_validation: PositiveInt = 2
    """Passes over the rows when none are held out."""
    warmup_steps: NonNegativeInt = 200
    """Not read here: ``steps.warmup_share`` says how long the learning rate rises."""
    learning_rate: PositiveFloat = 1e-4
    """Step size of AdamW after the warm-up. Unless it is set, methods that train few numbers take more: ten
    times this for low-rank maps, fifty times for factors, bottlenecks, prefixes, prompts and heads alone."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay of matrices; vectors and scalars are never decayed."""
    tokens_per_batch: PositiveInt = 3072
    """Tokens of a batch."""
    averaging: Probability = 0.0
    """Decay of the running average of weights that is validated and kept; 0 keeps the weights themselves."""


_RATES = {
    "full": 1e-4,
    "top": 2e-4,
    "lora": 1e-3,
    "adalora": 1e-3,
    "ia3": 5e-3,
    "adapter": 5e-3,
    "prefix": 5e-3,
    "prompt": 5e-3,
    "frozen": 5e-3,
}
"""Learning rates that suit each method; tried on films of movielens-1m, see docs/experiments.md."""


class FinetuningConfig(Config):
    """What is foretold, from what, by how much of the model, for how long."""

    reader: Literal["cross", "towers"] = "cross"
    """``cross`` reads history, state and item together: the most exact; ``towers`` reads user and item apart,
    so that vectors of items can be stored and searched."""
    tasks: dict[str, TaskConfig] = Field(default_factory=dict)
    """Name → what is foretold. Several share the model. Empty takes what suits the data."""
    balance: Literal["weights", "uncertainty"] = "weights"
    """How several losses are summed: by the tasks' weights, or by weights that are learned from how well each
    task can be foretold at all (Kendall et al., 2018)."""
    wording: WordingConfig = WordingConfig()
    """What of a row is put into words."""
    prompt: PromptConfig = PromptConfig()
    """The task in words, for a model that was not trained on it; read by ``--few-shot`` alone."""
    holding: HoldingConfig = HoldingConfig()
    """Which rows are held back."""
    method: MethodConfig = MethodConfig(name="lora")
    """How much of the model is trained."""
    restraint: RestraintConfig = RestraintConfig()
    """Switches against over-fitting."""
    steps: StepSettings = StepSettings()
    """How the learning rate moves, and what a step sums up."""
    training: TuningSettings = TuningSettings()
    """Settings of the training loop."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "training.learning_rate": Between(2e-5, 2e-3, by_ratio=True),
        "method.rank": Between(2, 64, by_ratio=True),
        "wording.history_items": Between(2, 20),
        "restraint.agreement": Between(0.0, 2.0),
        "training.weight_decay": Between(0.0, 0.1),
        "balance": AnyOf(("weights", "uncertainty")),
    }

    def with_usual_rate(self) -> FinetuningConfig:
        """Return the settings with the learning rate that suits the method, unless one was set."""
        if "learning_rate" in self.training.model_fields_set:
            return self
        training = self.training.model_copy(update={"learning_rate": _RATES[self.method.name]})
        return self.model_copy(update={"training": training})
