"""What training a ranker leaves behind: how it answers, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zhiyin.contracts import ComponentState
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, IndexArray, LongArray
from zhiyin.domain.errors import ShapeMismatch
from zhiyin.language.whitening import Whitening
from zhiyin.ranking.batches import Events, Rows
from zhiyin.ranking.context import ContextReader
from zhiyin.ranking.labels import LabelScale
from zhiyin.ranking.network import RankerNetwork, Shape
from zhiyin.ranking.runs import Runs
from zhiyin.ranking.signals import Signals

ROWS_AT_ONCE = 16_384
Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Reader:
    """Makes rows ready for the network; fitted to the rows to learn from.

    Attributes:
        newest: Events that are read for a row.
        own_user: (users,) int64, row in the table of own vectors; 0 for users without one.
        own_item: (I + 1,) int64, the same for items; the last stands for items that are not known.
        texts: (I + 1, P) float32.
        whitening: How text vectors become rows of ``texts``; None where no texts are read.
        context: Columns that are read.
        signals: Numbers that are not learned.
        labels: What labels are like.
    """

    newest: int
    own_user: LongArray
    own_item: LongArray
    texts: FloatArray
    whitening: Whitening | None
    context: ContextReader
    signals: Signals
    labels: LabelScale

    def rows(self, examples: LabelledExamples, who: IndexArray | None = None) -> Rows:
        """Make rows ready.

        Args:
            examples: The rows.
            who: (U,) which of the users that were learned from each row of the events is, -1 for none of
                them; None where they are the same users.
        """
        runs = Runs.of(examples, self.newest)
        events, n_items = examples.events, len(self.own_item) - 1
        item = events.item_index.astype(np.int64)
        return Rows.of(
            examples,
            runs,
            events=Events(
                np.minimum(item, n_items), self.signals.kinds_of(events), self.signals.values_of(events)
            ),
            words=self.context.read(examples.context),
            signals=self.signals.of_rows(examples, runs),
            labels=self.labels.learned(examples.labels),
            own_user=_own_of(self.own_user, np.arange(len(events)) if who is None else who),
            own_item=self.own_item,
            texts=self.texts,
        )

    def read(self, vectors: FloatArray) -> FloatArray:
        """Return text vectors (n, D) as the network reads them: (n, P) float32, about 1 everywhere."""
        return read_texts(self.whitening, vectors)

    def with_items(self, vectors: FloatArray) -> Reader:
        """Return the same with more items, which have a text and nothing else."""
        texts = np.concatenate([self.texts[:-1], self.read(vectors), self.texts[-1:]])
        own_item = np.append(self.own_item, np.zeros(len(vectors), dtype=np.int64))
        signals = self.signals.with_items(len(vectors))
        return replace(self, texts=texts, own_item=own_item, signals=signals)

    def with_changes(self, item_index: IndexArray, vectors: FloatArray) -> Reader:
        """Return the same with other texts (m, D) of some items (m,)."""
        texts = self.texts.copy()
        texts[item_index] = self.read(vectors)
        return replace(self, texts=texts)


@dataclass(frozen=True, eq=False)
class Part:
    """A network and the tasks it answers.

    Attributes:
        places: (t,) int64, where its tasks stand among all.
        network: In evaluation mode, on the CPU, where it has been trained.
    """

    places: LongArray
    network: RankerNetwork


@dataclass(frozen=True, eq=False)
class TrainedRanker:
    """A ranker ready to answer.

    Attributes:
        reader: Makes rows ready, once for all networks.
        parts: Networks; each task is answered by one of them.
        facts: What JSON can hold: learning curve, device, weights of the tasks, groups of tasks.
    """

    reader: Reader
    parts: tuple[Part, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def answer(self, rows: Rows) -> FloatArray:
        """Return (N, T) float32 chances and numbers."""
        return self.reader.labels.told(raw_answers(self.parts, rows))

    def with_items(self, vectors: FloatArray) -> TrainedRanker:
        """Return the same with (n, D) more items."""
        return replace(self, reader=self.reader.with_items(vectors))

    def with_changes(self, item_index: IndexArray, vectors: FloatArray) -> TrainedRanker:
        """Return the same with other texts (m, D) of some items (m,)."""
        return replace(self, reader=self.reader.with_changes(item_index, vectors))

    def with_users(self, who: IndexArray) -> TrainedRanker:
        """Return the same for other users (U,), each named by its place among those known now, -1 for none.

        What was learned about users who are not among them is wiped out.
        """
        own_user = _own_of(self.reader.own_user, who)
        kept = torch.from_numpy(own_user)
        parts = tuple(replace(part, network=part.network.of_users(kept)) for part in self.parts)
        return replace(self, reader=replace(self.reader, own_user=own_user), parts=parts)

    def state(self) -> ComponentState:
        """Return everything as arrays and facts."""
        reader = self.reader
        signals, labels = reader.signals.state(), reader.labels.state()
        arrays: Arrays = {"own_user": reader.own_user, "own_item": reader.own_item, "texts": reader.texts}
        arrays |= _under("signals", signals.arrays) | _under("labels", labels.arrays)
        if reader.whitening is not None:
            arrays |= _under("whitening", reader.whitening.state().arrays)
        for number, part in enumerate(self.parts):
            weights = part.network.state_dict()
            arrays |= _under(f"network{number}", {name: value.numpy() for name, value in weights.items()})
        facts = {
            "networks": [
                {"shape": asdict(part.network.shape), "places": part.places.tolist()} for part in self.parts
            ],
            "newest": reader.newest,
            "context": reader.context.facts(),
            "signals": dict(signals.facts),
            "labels": dict(labels.facts),
            "training": self.facts,
        }
        return ComponentState(arrays, facts)

    @classmethod
    def from_state(cls, state: ComponentState) -> TrainedRanker:
        """Read what `state` returned."""
        arrays, facts = state.arrays, state.facts
        whitening = _of("whitening", arrays)
        reader = Reader(
            facts["newest"],
            arrays["own_user"].astype(np.int64),
            arrays["own_item"].astype(np.int64),
            arrays["texts"].astype(np.float32),
            Whitening.restore(whitening) if whitening else None,
            ContextReader.from_facts(facts["context"]),
            Signals.restore(ComponentState(_of("signals", arrays), facts["signals"])),
            LabelScale.restore(ComponentState(_of("labels", arrays), facts["labels"])),
        )
        parts = []
        for number, saved in enumerate(facts["networks"]):
            network = RankerNetwork(Shape(**saved["shape"]))
            weights = _of(f"network{number}", arrays)
            network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
            parts.append(Part(np.array(saved["places"], dtype=np.int64), network.eval()))
        return cls(reader, tuple(parts), dict(facts["training"]))


def raw_answers(parts: Sequence[Part], rows: Rows) -> FloatArray:
    """Return what the networks say, (N, T) float32, in the order of the examples."""
    device = parts[0].network.product.device
    answers = np.zeros((len(rows), sum(len(part.places) for part in parts)), dtype=np.float32)
    with torch.inference_mode():
        for pieces in rows.dealt(ROWS_AT_ONCE):
            batch, of = rows.batch(pieces).to(device), rows.rows_of(pieces)
            for part in parts:
                answers[np.ix_(of, part.places)] = part.network(batch)[0].cpu().numpy()
    return answers


def read_texts(whitening: Whitening | None, vectors: FloatArray) -> FloatArray:
    """Return text vectors as the network reads them.

    Raises:
        ShapeMismatch: when they come from another encoder than those learned from.
    """
    if whitening is None:
        return np.zeros((len(vectors), 1), dtype=np.float32)
    if vectors.ndim != 2:
        raise ShapeMismatch(f"Text vectors are one row an item; these have the shape {vectors.shape}.")
    read: FloatArray = whitening.apply(vectors) * np.float32(whitening.projection.shape[1] ** 0.5)
    return read


def _own_of(own_user: LongArray, who: npt.NDArray[np.integer]) -> LongArray:
    """Return (U,) rows in the table of own vectors; 0 for whoever is not known."""
    is_known = (who >= 0) & (who < len(own_user))
    own = np.zeros(len(who), dtype=np.int64)
    own[is_known] = own_user[who[is_known]]
    return own


def _under(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    return {f"{name}.{key}": array for key, array in arrays.items()}


def _of(name: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Arrays:
    start = f"{name}."
    return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}
