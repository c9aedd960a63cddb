"""The catalogue while it changes: items arrive, change and leave between two requests."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from zhiyin.data.attributes import KNOWN_TYPES, UnfitAttribute, fitted, rows_of
from zhiyin.domain import PAD, Catalogue
from zhiyin.domain.errors import StoreError
from zhiyin.online.histories import LiveHistories, Recorded
from zhiyin.pipeline.absorbing import MOST_EARLY, absorb
from zhiyin.stores.records import StoredItem

if TYPE_CHECKING:
    from zhiyin.pipeline.pipeline import Pipeline

_LOG = logging.getLogger(__name__)

_Change = tuple[StoredItem, Future[None]]
MOST_NEW_NAMES = 200
"""Attributes that items may bring beyond those of the bundle: each is a column as long as the catalogue."""
_MOST_NAMES_SAID = 10
_MOST_AT_ONCE = 20_000
"""Events after which no more are gathered; bounds how long an item that arrives waits for them."""
_GATHER_SECONDS = 0.02
"""How long events gather before sources learn from them, unless an item comes; one portion costs as much
processor time as some hundred events more."""


class LiveCatalogue:
    """Brings durable changes of items into the pipeline, many at once when they come at once.

    A change is made on a twin of the pipeline, which then takes its place: requests never wait for a change
    and never see half of one, and a change that fails leaves nothing behind.

    Args:
        pipeline: Where the catalogue starts.
        histories: Told of items that arrive, after the pipeline knows them. So whoever reads a history
            first and takes the pipeline then, finds every item of the history in it.
    """

    def __init__(self, pipeline: Pipeline, histories: LiveHistories) -> None:
        self._pipeline = pipeline
        self._histories = histories
        self._waiting: queue.SimpleQueue[_Change | Recorded | None] = queue.SimpleQueue()
        self._item_came = threading.Event()
        self._early = Recorded.together([])
        self._names_of_bundle = frozenset(self.current.table.columns)
        self._names_to_come: set[str] = set()  # of items on their way to the disk
        self._accepting = threading.Lock()
        self._gone: set[str] = set()  # items that leave, and whose turn has not come
        self._changing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._change_forever, name="zhiyin-items", daemon=True)
        self._thread.start()

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline at this moment; keep it for the whole of a request."""
        return self._pipeline

    @property
    def current(self) -> Catalogue:
        """The catalogue at this moment; a value that does not change."""
        return self._pipeline.catalogue_or_raise()

    @property
    def n_items(self) -> int:
        """Items that may be recommended."""
        return int((~self._pipeline.removed).sum())

    def fit(self, attributes: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Check attributes of an item before they are stored.

        Returns:
            The attributes as JSON can hold them, and the names the catalogue did not have so far.

        Raises:
            UnfitAttribute: when one does not fit its column, or too many are new.
        """
        schema = self.current.table.schema
        for name, value in attributes.items():
            fitted(name, value, schema)
        new_names = [name for name in attributes if name not in schema]
        if new_names:
            self._make_room(schema.keys(), new_names)
        return dict(attributes), new_names

    def _make_room(self, known: Iterable[str], wanted: Sequence[str]) -> None:
        always = self._names_of_bundle | KNOWN_TYPES.keys()
        with self._accepting:
            taken = self._names_to_come.union(known) - always
            new = [name for name in wanted if name not in taken | always]
            if len(taken) + len(new) > MOST_NEW_NAMES and new:
                raise _too_many_names(new, n_free=max(0, MOST_NEW_NAMES - len(taken)))
            self._names_to_come.update(new)

    def put(self, item: StoredItem) -> Future[None]:
        """Take in what the store knows of an item; the future is done when the pipeline reflects it.

        Call it in the order in which the store made the changes durable; the last word on an item counts. One
        that leaves is not shown from now on, however many wait before it.
        """
        future: Future[None] = Future()
        with self._accepting:
            if self._closed:
                raise StoreError("The service is stopping.", remedy="Send the request again later.")
            self._waiting.put((item, future))
            self._item_came.set()
        with self._changing:
            (self._gone.add if item.deleted else self._gone.discard)(item.item_id)
            if item.deleted:
                _remove(self._pipeline, [item.item_id])
        return future

    def absorb(self, recorded: Recorded) -> None:
        """Let sources that learn from events learn from these, soon; nobody waits for it.

        Events on items that have not arrived are absorbed when they do.
        """
        if not self._closed and self._pipeline.config.absorb and len(recorded):
            self._waiting.put(recorded)

    @property
    def n_waiting(self) -> int:
        """Changes and portions of events that wait."""
        return self._waiting.qsize()

    def take_in(self, items: Sequence[StoredItem]) -> list[Exception | None]:
        """Bring changes into the pipeline at once; return what went wrong with each.

        One item that the pipeline cannot take does not keep the others out.
        """
        if not items:
            return []
        try:
            self._apply(items)
        except Exception as error:
            if len(items) == 1:
                _LOG.exception("item %r could not be taken into the pipeline", items[0].item_id)
                return [error]
            return [problem for item in items for problem in self.take_in([item])]
        return [None] * len(items)

    def close(self) -> None:
        """Finish the changes that were handed over."""
        with self._accepting:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
                self._item_came.set()
        self._thread.join()

    def _apply(self, items: Sequence[StoredItem]) -> None:
        newest = {item.item_id: item for item in items}
        catalogue = self.current
        # A mark of deletion alone says nothing about an item that the catalogue does not hold.
        described = [i for i in newest.values() if i.attributes or not i.deleted]
        # A change replaces parts of a pipeline and writes into none, so the two may share what they have.
        after = copy(self._pipeline)
        if described:
            after.add_items(
                rows_of([self._whole(item, catalogue) for item in described], catalogue.table.schema)
            )
        _remove(after, [item.item_id for item in newest.values() if item.deleted])
        arrived = after.catalogue_or_raise().items.ids[len(catalogue) :].to_list()
        self._histories.items_come(arrived)  # before anybody can be shown one
        with self._changing:
            if self._gone:
                _remove(after, self._gone)  # who left meanwhile
            self._pipeline = after
            self._gone.difference_update(item.item_id for item in items)
        self._histories.items_arrived(arrived, first_index=len(catalogue))

    def _whole(self, item: StoredItem, catalogue: Catalogue) -> dict[str, Any]:
        """The full row of an item: what the catalogue says, changed by what was put."""
        index = self._histories.item_index(item.item_id)
        known = {} if index == PAD else catalogue.table.row(index, named=True)
        return {**known, **item.attributes, "item_id": item.item_id}

    def _change_forever(self) -> None:
        for group in self._groups():
            changes = [change for change in group if not isinstance(change, Recorded)]
            problems = self.take_in([item for item, _ in changes])
            for (_, future), problem in zip(changes, problems, strict=True):
                if problem is None:
                    future.set_result(None)
                else:
                    future.set_exception(problem)
            try:
                self._learn([part for part in group if isinstance(part, Recorded)], bool(changes))
            except Exception:
                _LOG.exception("events could not be absorbed")

    def _learn(self, parts: Sequence[Recorded], items_came: bool) -> None:
        """Absorb events, and those of before whose item has come since."""
        early, self._early = self._early if items_came else Recorded.together([]), self._early
        if not parts and not len(early):
            return
        steps, still_early = self._histories.steps(Recorded.together([early, *parts]))
        absorb(self._pipeline, steps)
        kept = still_early if items_came else Recorded.together([self._early, still_early])
        self._early = kept.where(np.arange(len(kept)) < MOST_EARLY)

    def _groups(self) -> Iterator[list[_Change | Recorded]]:
        while True:
            change = self._waiting.get()
            group: list[_Change | Recorded] = []
            n_events = 0
            if isinstance(change, Recorded):
                self._item_came.wait(_GATHER_SECONDS)
            self._item_came.clear()
            while change is not None:
                group.append(change)
                n_events += len(change) if isinstance(change, Recorded) else 0
                if n_events >= _MOST_AT_ONCE or self._waiting.empty():
                    break
                change = self._waiting.get()
            yield group
            if change is None:
                return


def _remove(pipeline: Pipeline, item_ids: Iterable[str]) -> None:
    """Never show these items again; those that the catalogue does not hold are passed over."""
    index = pipeline.catalogue_or_raise().items.indices(list(item_ids))
    pipeline.remove_items(index[index != PAD])


def _too_many_names(new: Sequence[str], *, n_free: int) -> UnfitAttribute:
    said = ", ".join(f"'{name}'" for name in new[:_MOST_NAMES_SAID])
    more = f" and {len(new) - _MOST_NAMES_SAID} more" if len(new) > _MOST_NAMES_SAID else ""
    return UnfitAttribute(
        f"There are too many new attributes. Not in the catalogue so far: {said}{more}.",
        path=new[0],
        possible=f"Items may bring {MOST_NEW_NAMES} attributes beyond those that the bundle was trained with;"
        f" {n_free} more can come.",
        remedy="Put what differs between items into the value of one attribute, such as a list of texts, or"
        " train a bundle with items that have these attributes.",
    )
