"""The ranker itself."""

from __future__ import annotations

from typing import Any

from zhiyin.contracts import Component, ComponentState, Continuing
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import BoolArray, FloatArray, IndexArray
from zhiyin.domain.errors import NotFitted, ShapeMismatch
from zhiyin.domain.extras import from_extra
from zhiyin.ranking.reading import RankerData
from zhiyin.ranking.settings import RankerConfig
from zhiyin.ranking.trained import TrainedRanker


class MultiTaskRanker(Component[RankerConfig]):
    """Foretells clicks, purchases and ratings of a user and an item at a moment, all tasks at once.

    It reads who the user is and what they did before, which item it is and what its text says, and the
    context of the row. Users without a vector of their own are served by what they did, items without one by
    their text. Tasks whose labels are all 0 or 1 are answered with a chance, others with a number.
    """

    name = "multi_task_ranker"
    config_class = RankerConfig

    def __init__(self, config: RankerConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.trained: TrainedRanker | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the answers, in their order."""
        return self._ready().reader.labels.tasks

    @property
    def is_yes_no(self) -> BoolArray:
        """(T,) bool: which answers are chances."""
        return self._ready().reader.labels.is_yes_no

    def understood(self, labels: FloatArray) -> FloatArray:
        """Return (N, T) labels as far as they say what it learned; see `LabelScale.understood`."""
        return self._ready().reader.labels.understood(labels)

    @property
    def n_items(self) -> int:
        """Items it has text vectors of, or has met where it learned without texts."""
        return len(self._ready().reader.own_item) - 1

    def fit(self, data: RankerData) -> None:
        """Train on labelled rows; see `fit_ranker` for what may be wrong with them."""
        with from_extra("language"):  # Lightning, which those that only answer do without: 170 MB
            from zhiyin.ranking.fitting import fit_ranker  # noqa: PLC0415
        self.trained = fit_ranker(self.config, data, self.name)

    def go_on(self, data: RankerData, known: LabelledExamples, continuing: Continuing) -> None:
        """Learn on from where it stands; see `continue_ranker` for what may be wrong."""
        with from_extra("language"):
            from zhiyin.ranking.continuing import continue_ranker  # noqa: PLC0415
        self.trained = continue_ranker(self.config, self._ready(), data, known, continuing, self.name)

    def predict(self, examples: LabelledExamples, who: IndexArray | None = None) -> FloatArray:
        """Return (N, T) float32: a chance for yes and no, else a number between the ends of the labels.

        Each row is answered by what it knew; labels are not looked at.

        Args:
            examples: N rows.
            who: (U,) which of the users that it learned from each row of ``examples.events`` is, -1 for
                none of them; None where they are the same users.

        Raises:
            DataError: when a column of the context is missing.
            NotFitted: when it was not trained.
            ShapeMismatch: when the rows have other tasks.
        """
        trained = self._ready()
        if examples.tasks != self.tasks:
            raise ShapeMismatch(
                f"The ranker foretells {', '.join(self.tasks)}; the rows have {', '.join(examples.tasks)}."
            )
        return trained.answer(trained.reader.rows(examples, who))

    def add_items(self, vectors: FloatArray) -> None:
        """Take in items that arrived at the end of the catalogue.

        Args:
            vectors: (n, D) float32 text vectors of the same encoder, zeros where there are no words.

        Raises:
            ShapeMismatch: when they come from another encoder.
        """
        self.trained = self._ready().with_items(vectors)

    def change_items(self, item_index: IndexArray, vectors: FloatArray) -> None:
        """Read other texts of items that it knows.

        Args:
            item_index: (m,) which.
            vectors: (m, D) float32 of the same encoder.

        Raises:
            ShapeMismatch: when they come from another encoder.
        """
        self.trained = self._ready().with_changes(item_index, vectors)

    def take_users(self, who: IndexArray) -> None:
        """Answer for other users (U,) from now on, each named by its index so far, -1 for a new one.

        What was learned about users who are not among them is wiped out.
        """
        self.trained = self._ready().with_users(who)

    def state(self) -> ComponentState:
        """Return everything that was learned as arrays and facts."""
        return self._ready().state()

    def restore(self, state: ComponentState) -> None:
        """Take over what was saved."""
        self.trained = TrainedRanker.from_state(state)

    def _ready(self) -> TrainedRanker:
        if self.trained is None:
            raise NotFitted("The ranker has not been trained.", remedy="Call fit() or restore() first.")
        return self.trained
