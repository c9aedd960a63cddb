"""The promises of a source that takes in events at once, as a suite that a test inherits.

Three lines test a source of your own (pytest finds them)::

    class TestMySourceAbsorbs(AbsorbContract):
        source = MySource
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np

from zhiyin.contracts import CandidateSource, ComponentState, Steps
from zhiyin.domain import Histories, Queries
from zhiyin.testing.source_contract import through_files
from zhiyin.testing.worlds import World, arrival, checkerboard

_BLACK = 0
_N_USERS, _N_EVENTS = 9, 60


class AbsorbContract:
    """Inherit and name the source; every method is one promise.

    Class attributes:
        source: The class under test; it declares ``absorbs_events``.
        settings: Settings of it.
        learns_arrivals: Behaviour alone can bring an item that is new to its slates.
    """

    source: ClassVar[type[CandidateSource[Any]]]
    settings: ClassVar[Mapping[str, Any]] = {}
    learns_arrivals: ClassVar[bool] = True

    def fresh(self) -> CandidateSource[Any]:
        """Return a source of your own, trained on the checkerboard."""
        source = self.source(**self.settings)
        source.restore(through_files(_trained(self.source, tuple(sorted(self.settings.items())))))
        return source

    def test_it_says_that_it_absorbs(self) -> None:
        """Without the class attribute nobody would hand it events."""
        assert self.source.absorbs_events

    def test_portions_make_no_difference(self) -> None:
        """Events one by one, in threes, or all at once end in the same state, bit by bit."""
        steps = some_steps(checkerboard())
        expected = self._after(steps, (len(steps),)).state()
        for portions in ([1] * len(steps), [3] * len(steps), (7, 1, 40, 100)):
            found = self._after(steps, portions).state()
            assert found.facts == expected.facts
            for name, array in expected.arrays.items():
                np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)

    def test_what_was_given_away_stays_as_it_was(self) -> None:
        """Parts are replaced, not written into: a reader that began before sees what was before."""
        source, queries = self.fresh(), checkerboard().queries
        kept = {name: (array, array.copy()) for name, array in source.state().arrays.items()}
        scores = source.score_all(queries)
        before = scores.copy()
        source.absorb(some_steps(checkerboard()))
        np.testing.assert_array_equal(scores, before)
        for name, (array, copy) in kept.items():
            np.testing.assert_array_equal(array, copy, err_msg=name)

    def test_it_learns(self) -> None:
        """After events the scores are others; one opinion and all scores still agree."""
        source, queries = self.fresh(), checkerboard().queries
        before = source.score_all(queries)
        source.absorb(some_steps(checkerboard()))
        after = source.score_all(queries)
        assert not np.allclose(before, after, equal_nan=True)
        every_item = np.tile(np.arange(after.shape[1], dtype=np.int32), (len(queries), 1))
        np.testing.assert_allclose(source.ask(queries).at(every_item), after, rtol=1e-5, atol=1e-5)

    def test_nothing_is_no_change(self) -> None:
        """No events, and events on items it does not know, leave it as it is."""
        source, queries = self.fresh(), checkerboard().queries
        before = source.score_all(queries)
        source.absorb(some_steps(checkerboard()).slice(0, 0))
        strangers = Histories.of_items([np.array([900, 901])])
        source.absorb(Steps.of_histories(strangers, np.array([0, 1])))
        np.testing.assert_array_equal(source.score_all(queries), before)

    def test_what_it_absorbed_survives_files(self) -> None:
        """A bundle that is written after events keeps what they taught."""
        source, again, queries = self.fresh(), self.source(**self.settings), checkerboard().queries
        source.absorb(some_steps(checkerboard()))
        again.restore(through_files(source.state()))
        np.testing.assert_allclose(again.score_all(queries), source.score_all(queries), rtol=1e-5, atol=1e-6)
        more = some_steps(checkerboard(), seed=9)
        source.absorb(more)
        again.absorb(more)
        np.testing.assert_allclose(again.score_all(queries), source.score_all(queries), rtol=1e-5, atol=1e-6)

    def test_an_item_that_arrives_gets_known_by_behaviour(self) -> None:
        """An item that came after training rises once people take it after others."""
        if not self.learns_arrivals:
            return
        world, source = checkerboard(), self.fresh()
        source.add_items(arrival(world, 1), world.training.language)
        new = len(world.catalogue)
        asked = Queries.of_histories(Histories.of_items([np.array([_BLACK])]))
        before = np.nan_to_num(source.score_all(asked))[0, new]
        rows = [np.array([_BLACK, new]) for _ in range(8)]
        taken = Histories.of_items(rows)
        source.absorb(Steps.of_histories(taken, np.arange(taken.n_events)))
        assert source.score_all(asked)[0, new] > before

    def _after(self, steps: Steps, portions: Iterable[int]) -> CandidateSource[Any]:
        source, start = self.fresh(), 0
        for size in portions:
            source.absorb(steps.slice(start, start + size))
            start = min(start + size, len(steps))
        return source


def some_steps(world: World, seed: int = 3) -> Steps:
    """Return steps of a few users in turn, repeats of one item among them, a day between two events."""
    random = np.random.default_rng(seed)
    users = random.integers(0, _N_USERS, _N_EVENTS)
    items = random.integers(0, len(world.catalogue), _N_EVENTS)
    items[5::7] = items[4::7][: len(items[5::7])]
    users[5::7] = users[4::7][: len(users[5::7])]
    order = np.argsort(users, kind="stable")
    rows = [items[order][users[order] == user] for user in range(_N_USERS)]
    plain = Histories.of_items(rows)
    moments = (np.arange(_N_EVENTS, dtype=np.int64) * 86_400)[order]
    histories = Histories(plain.offsets, plain.item_index, plain.event_index, moments, plain.value)
    positions = np.empty(_N_EVENTS, dtype=np.int64)
    positions[order] = np.arange(_N_EVENTS)
    return Steps.of_histories(histories, positions)


@cache
def _trained(source: type[CandidateSource[Any]], settings: tuple[tuple[str, Any], ...]) -> ComponentState:
    trained = source(**dict(settings))
    trained.fit(checkerboard().training)
    return trained.state()
