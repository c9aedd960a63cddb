"""Histories, moments and items as token ids, composed from parts that were tokenised once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import NO_TIMESTAMP, Catalogue, LongArray
from zhiyin.domain.errors import ConfigError, DataError
from zhiyin.language.finetuning.settings import TaskConfig, WordingConfig
from zhiyin.language.texts import item_texts, short_names

Tokens = list[int]
_MOMENTS = {
    "hour": ("%H", "o'clock"),
    "weekday": ("%A", ""),
    "month": ("%B", ""),
}
"""What is read from the timestamp: how it is written, and a word after it."""


@dataclass(frozen=True)
class Frame:
    """What a tokenizer puts around and between the parts.

    Attributes:
        first: Before everything.
        between: Between what is known and the item.
        last: After everything.
        padding: Fills up a batch.
    """

    first: Tokens
    between: Tokens
    last: Tokens
    padding: int

    @classmethod
    def of(cls, tokenizer: Any, *, is_decoder: bool) -> Frame:
        """Read it from a tokenizer of Hugging Face.

        Raises:
            ConfigError: when it has no token that ends a text.
        """
        end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
        if end is None:
            raise ConfigError(
                "The tokenizer has no token that ends a text.",
                remedy="Give it a sep_token or an eos_token, or choose another base model.",
            )
        start = tokenizer.bos_token_id if is_decoder else tokenizer.cls_token_id
        # A tokenizer that drops line ends would leave nothing between the two.
        between = (_ids(tokenizer, ["\n"])[0] if is_decoder else []) or [end]
        padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
        return cls([] if start is None else [start], between, [end], padding)


@dataclass(frozen=True, eq=False)
class Background:
    """What is known apart from the rows.

    Attributes:
        catalogue: I items.
        people: Columns that describe users, row ``u`` for user index ``u``; empty when there are none.
        positive_value: From which value on something was liked; None where values do not say.
    """

    catalogue: Catalogue
    people: pl.DataFrame = field(default_factory=pl.DataFrame)
    positive_value: float | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Background:
        """Take it from a dataset."""
        people = pl.DataFrame()
        if dataset.user_table is not None:
            users = pl.DataFrame({"user_id": dataset.users.ids})
            people = users.join(dataset.user_table, on="user_id", how="left", maintain_order="left")
            people = people.drop("user_id")
        return cls(dataset.catalogue, people, dataset.positive_value)

    def liked_from(self, value: float | None) -> Background:
        """Return this with a value from which on something was liked, where the data do not say it."""
        return self if self.positive_value is not None else replace(self, positive_value=value)

    def as_tasks_say(self, tasks: Mapping[str, TaskConfig]) -> Background:
        """Return this with what the first task calls a yes, where the data do not say what was liked.

        Else a history would call everything liked, and hide what tells most about a click.
        """
        of_values = [task for task in tasks.values() if task.kind == "yes_no" and task.column == "value"]
        return self.liked_from(next((task.yes_from for task in of_values), None))


class Wording:
    """Turns rows into token ids.

    Args:
        tokenizer: Of Hugging Face.
        background: Items, users, and from which value on something was liked.
        config: What is put into words.
        most_tokens: That the model can read.
        is_decoder: Whether it reads from left to right.
        texts: I texts of the items; those of `item_texts` when None.

    Attributes:
        frame: What stands around and between the parts.
        names: Token ids of each item as it stands in a history.
        documents: Token ids of each item as it is judged.
        liked_from: From which value on something was liked; None where values do not say.
    """

    def __init__(
        self,
        tokenizer: Any,
        background: Background,
        config: WordingConfig,
        *,
        most_tokens: int,
        is_decoder: bool,
        texts: Sequence[str] | None = None,
    ) -> None:
        self.config = config
        self.most_tokens = min(config.max_tokens, most_tokens)
        self.frame = Frame.of(tokenizer, is_decoder=is_decoder)
        self._taken = len(self.frame.first) + len(self.frame.between) + len(self.frame.last)
        self.names: list[Tokens] = []
        self.documents: list[Tokens] = []
        self._name_lengths, self._document_lengths = np.empty((2, 0), dtype=np.int64)
        self._tokenizer, self.liked_from = tokenizer, background.positive_value
        self._people = background.people
        self._liked, self._disliked, self._next, self._stop = _ids(
            tokenizer, [f"{config.liked}:", f"{config.disliked}:", ";", "."]
        )
        self.add_items(background.catalogue, texts)

    def add_items(self, catalogue: Catalogue, texts: Sequence[str] | None = None) -> None:
        """Take in the items that come after those already known."""
        texts = item_texts(catalogue) if texts is None else texts
        most = min(self.config.item_tokens, self.most_tokens - self._taken)
        documents = _ids(self._tokenizer, texts, most)
        names = _ids(self._tokenizer, short_names(catalogue, texts), self.config.name_tokens)
        self.documents += documents
        self.names += names
        self._document_lengths = np.concatenate([self._document_lengths, _lengths(documents)])
        self._name_lengths = np.concatenate([self._name_lengths, _lengths(names)])

    def with_items(self, new: Catalogue) -> Wording:
        """Return a wording with further items; this one stays as it is, since somebody may be reading it."""
        longer = copy(self)
        longer.names, longer.documents = list(self.names), list(self.documents)
        longer.add_items(new)
        return longer

    def with_changes(self, item_index: npt.NDArray[np.integer], items: Catalogue) -> Wording:
        """Return a wording in which some items (M,) are described anew."""
        longer, n_items = self.with_items(items), len(self.documents)
        place = np.arange(n_items)
        place[item_index] = n_items + np.arange(len(items))
        longer.names = [longer.names[item] for item in place.tolist()]
        longer.documents = [longer.documents[item] for item in place.tolist()]
        longer._name_lengths = longer._name_lengths[place]
        longer._document_lengths = longer._document_lengths[place]
        return longer

    @property
    def fixed_tokens(self) -> set[int]:
        """Tokens that say what the words around them are: no word of a text."""
        return {*self._liked, *self._disliked, *self._next, *self._stop, *self.frame.between}

    def rows(self, examples: LabelledExamples) -> list[Tokens]:
        """Return what a cross-encoder reads of each row: what is known of the user, then the item."""
        frame, documents = self.frame, self.documents
        items = [documents[item] for item in examples.item_index.tolist()]
        rooms = [self.most_tokens - self._taken - len(item) for item in items]
        known = self._known(examples, rooms)
        return [
            [*frame.first, *some, *frame.between, *item, *frame.last]
            for some, item in zip(known, items, strict=True)
        ]

    def users(self, examples: LabelledExamples) -> list[Tokens]:
        """Return what the tower of the users reads of each row."""
        frame = self.frame
        room = self.most_tokens - len(frame.first) - len(frame.last)
        known = self._known(examples, [room] * len(examples))
        return [[*frame.first, *some, *frame.last] for some in known]

    def items(self, item_index: npt.NDArray[np.integer]) -> list[Tokens]:
        """Return what the tower of the items reads of each item (N,)."""
        frame = self.frame
        return [[*frame.first, *self.documents[item], *frame.last] for item in item_index.tolist()]

    def item_lengths(self, item_index: npt.NDArray[np.integer]) -> LongArray:
        """Return the tokens of each of `items` (N,) int64."""
        around = len(self.frame.first) + len(self.frame.last)
        lengths: LongArray = np.add(self._document_lengths[item_index], around)
        return lengths

    def user_lengths(self, examples: LabelledExamples) -> LongArray:
        """Estimate the tokens of each of `users` (N,) int64 without composing it."""
        known = self._known_lengths(examples) + len(self.frame.first) + len(self.frame.last)
        shortest: LongArray = np.minimum(known, self.most_tokens)
        return shortest

    def lengths(self, examples: LabelledExamples) -> LongArray:
        """Estimate the tokens of each of `rows` (N,) int64 without composing it."""
        whole = self._known_lengths(examples) + self._document_lengths[examples.item_index] + self._taken
        shortest: LongArray = np.minimum(whole, self.most_tokens)
        return shortest

    def _known_lengths(self, examples: LabelledExamples) -> LongArray:
        histories = examples.histories(self.config.history_items)
        # A name without tokens is not told.
        told = self._name_lengths + len(self._next) * (self._name_lengths > 0)
        ends = np.concatenate([[0], np.cumsum(told[histories.item_index])])
        known: LongArray = ends[histories.offsets[1:]] - ends[histories.offsets[:-1]]
        known += (known > 0) * (len(self._liked) + len(self._stop) - len(self._next))
        if self.config.state:
            known += _lengths(self._states(examples))
        return known

    def refuse_unknown_state(self, examples: LabelledExamples) -> None:
        """Refuse columns of the state that these rows lack, before anything is trained.

        Raises:
            DataError: when a column is missing, or a moment is asked for and no row has a timestamp.
        """
        for name in self.config.state:
            column = self._column(examples, name)
            is_moment = name not in examples.context.columns and name not in self._people.columns
            if is_moment and len(column) and column.null_count() == len(column):
                raise self._unknown(examples, name)

    def _known(self, examples: LabelledExamples, rooms: Sequence[int]) -> list[Tokens]:
        states = self._states(examples)
        histories = examples.histories(self.config.history_items)
        items = histories.item_index.tolist()
        is_liked = [True] * len(items)
        if self.liked_from is not None:
            is_liked = (~(histories.value < self.liked_from)).tolist()
        bounds = histories.offsets.tolist()
        return [
            self._told(items[start:stop], is_liked[start:stop], state, room)
            for start, stop, state, room in zip(bounds[:-1], bounds[1:], states, rooms, strict=True)
        ]

    def _told(self, items: list[int], is_liked: list[bool], state: Tokens, room: int) -> Tokens:
        """Put one history into words, the newest first, as far as there is room."""
        sides: tuple[Tokens, Tokens] = ([], [])
        headings = (self._liked, self._disliked)
        left = room - len(state)
        for item, liked in zip(reversed(items), reversed(is_liked), strict=True):
            name, side = self.names[item], sides[not liked]
            if not name:
                continue
            before = self._next if side else headings[not liked]
            left -= len(before) + len(name) + (0 if side else len(self._stop))
            if left < 0:
                break
            side.extend(before + name)
        told: Tokens = []
        for side in sides:
            if side:
                told += side + self._stop
        return (told + state)[: max(room, 0)]

    def _states(self, examples: LabelledExamples) -> list[Tokens]:
        texts = self.state_texts(examples)
        if texts is None:
            return [[]] * len(examples)
        distinct = texts.unique(maintain_order=True)
        ids = _ids(self._tokenizer, distinct.to_list(), self.config.item_tokens)
        place = {text: row for row, text in enumerate(distinct.to_list())}
        return [ids[place[text]] for text in texts.to_list()]

    def state_texts(self, examples: LabelledExamples) -> pl.Series | None:
        """Return (N,) texts of moment and person, null where nothing is known; None where nobody asks."""
        parts = [_named(name, self._column(examples, name)) for name in self.config.state]
        if not parts:
            return None
        return (
            pl.DataFrame(parts).select(pl.concat_str(pl.all(), separator=", ", ignore_nulls=True)).to_series()
        )

    def _column(self, examples: LabelledExamples, name: str) -> pl.Series:
        if name in examples.context.columns:
            return examples.context[name]
        if name in self._people.columns:
            return self._people[name].gather(examples.user_index.astype(np.int64))
        if name in _MOMENTS:
            form, after = _MOMENTS[name]
            moments = pl.Series(name, examples.timestamp).replace(NO_TIMESTAMP, None).cast(pl.Int64)
            written = pl.from_epoch(moments, "s").dt.strftime(form)
            return (written + f" {after}" if after else written).alias(name)
        raise self._unknown(examples, name)

    def _unknown(self, examples: LabelledExamples, name: str) -> DataError:
        known = {*examples.context.columns, *self._people.columns, *_MOMENTS}
        return DataError(
            f"There is no column '{name}' that could describe the moment or the user.",
            possible=f"Columns: {', '.join(sorted(known))} (hour, weekday and month need timestamps).",
        )


def _named(name: str, column: pl.Series) -> pl.Series:
    words = name.replace("_", " ")
    return (f"{words}: " + column.cast(pl.String)).alias(name)


def _lengths(tokens: Sequence[Tokens]) -> LongArray:
    return np.array([len(one) for one in tokens], dtype=np.int64)


def _ids(tokenizer: Any, texts: Sequence[str], length: int | None = None) -> list[Tokens]:
    if not texts:
        return []
    given: dict[str, Any] = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    if length is not None:
        given |= {"truncation": True, "max_length": length}
    found: list[Tokens] = tokenizer(list(texts), return_token_type_ids=False, **given)["input_ids"]
    return found
