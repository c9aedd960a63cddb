"""The promises of every candidate source, as a suite that a test inherits.

Three lines test a source of your own (pytest finds them)::

    class TestMySource(CandidateSourceContract):
        source = MySource
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from zhiyin.contracts import CandidateSource, ComponentState, TrainingData
from zhiyin.domain import PAD, Barred, Candidates, FloatArray, Histories, IndexArray, Queries
from zhiyin.domain.errors import ConfigError, NotFitted, ZhiyinError
from zhiyin.testing.worlds import World, arrival, checkerboard, no_items, single_item

WHITE = 1
"""An item of the checkerboard, and a user who likes it: both of odd parity."""


class CandidateSourceContract:
    """Inherit and name the source; every method is one promise.

    Class attributes:
        source: The class under test.
        settings: Settings that keep its training short; empty takes the defaults.
        solves: Worlds whose right items it must place at the top, each a function that makes one.
        tolerance: How far two numbers may be apart that ought to be equal, relative to the largest.
    """

    source: ClassVar[type[CandidateSource[Any]]]
    settings: ClassVar[Mapping[str, Any]] = {}
    solves: ClassVar[tuple[Callable[[], World], ...]] = ()
    tolerance: ClassVar[float] = 1e-5

    def fitted(self) -> CandidateSource[Any]:
        """Return the source trained on the checkerboard; made once a class, so do not change it."""
        return _trained(self.source, tuple(sorted(self.settings.items())))

    def copy(self) -> CandidateSource[Any]:
        """Return a source of your own with the same training, through real files."""
        copy = self.source(**self.settings)
        copy.restore(through_files(self.fitted().state()))
        return copy

    def assert_close(self, found: FloatArray, expected: FloatArray) -> None:
        """Compare scores, NaN being equal to NaN."""
        scale = float(np.nanmax(np.abs(expected), initial=1.0)) if expected.size else 1.0
        np.testing.assert_allclose(found, expected, rtol=self.tolerance, atol=self.tolerance * scale)

    def test_it_has_a_name_and_refuses_unknown_settings(self) -> None:
        """A misspelt setting is an error that names it."""
        assert isinstance(self.source.name, str)
        error = _error_of(lambda: self.source(**{"no such setting": 1}), ConfigError)
        assert "no such setting" in str(error)

    def test_before_training_it_says_so(self) -> None:
        """No answer before `fit` or `restore`."""
        source, queries = self.source(**self.settings), checkerboard().queries
        _error_of(lambda: source.score_all(queries), NotFitted)
        _error_of(lambda: source.score(queries, _every_item(queries, 3)), NotFitted)
        _error_of(lambda: source.propose(queries, 3), NotFitted)

    def test_shapes_and_types(self) -> None:
        """(B, I) float32 for all items, (B, N) for given ones, a column of its own name for proposals."""
        world, source = checkerboard(), self.fitted()
        n_queries, n_items = world.right.shape
        scores = source.score_all(world.queries)
        assert scores.shape == (n_queries, n_items)
        assert scores.dtype == np.float32
        given = source.score(world.queries, _every_item(world.queries, n_items)[:, ::3])
        assert given.dtype == np.float32
        self.assert_close(given, scores[:, ::3])
        proposed = source.propose(world.queries, 5)
        assert len(proposed) == n_queries
        assert proposed.n_per_query <= 5
        assert proposed.column(self.source.name).dtype == np.float32

    def test_scores_of_padding_and_of_unknown_items_are_nan(self) -> None:
        """-1 and indices beyond the catalogue are no items."""
        world = checkerboard()
        asked = np.tile(np.array([PAD, len(world.catalogue) + 5], dtype=np.int32), (len(world.queries), 1))
        assert np.isnan(self.fitted().score(world.queries, asked)).all()

    def test_proposals_are_the_best_of_all_scores(self) -> None:
        """Best first, each item once, never NaN, padding only at the end, and no better item left out.

        A source may stop early, and leave out items whose score says nothing.
        """
        world, source = checkerboard(), self.fitted()
        for n in (1, 4, len(world.catalogue), len(world.catalogue) + 7):
            proposed = source.propose(world.queries, n)
            _check_order(proposed, source.name)
            scores = proposed.column(source.name)
            self.assert_close(source.score(world.queries, proposed.item_index), scores)
            best = -np.sort(-source.score_all(world.queries), axis=1)  # NaN sorts to the end
            width = min(best.shape[1], scores.shape[1])
            expected = np.where(proposed.is_item[:, :width], best[:, :width], np.float32(np.nan))
            self.assert_close(scores[:, :width], expected)

    def test_what_is_barred_is_not_proposed_and_nothing_better_is_left_out(self) -> None:
        """The best of the rest, whether an item is barred for everybody or for one query."""
        world, source = checkerboard(), self.fitted()
        n_queries, n_items = world.right.shape
        scores = source.score_all(world.queries)
        few = np.arange(n_items) % 9 > 0
        for for_all in (None, np.arange(n_items) % 3 == 0, few, np.ones(n_items, dtype=np.bool_)):
            row, item = np.divmod(np.arange(0, n_queries * n_items, 5), n_items)
            barred = Barred(n_queries, n_items, for_all, row, item)
            opinion = source.ask(world.queries)
            found = opinion.best(6, barred)
            assert not barred.holds(found).any(), "proposed what is barred"
            assert ((found >= 0).sum(axis=1) <= 6).all(), "proposed more than was asked for"
            best = -np.sort(-np.where(barred.dense(), np.float32(np.nan), scores), axis=1)[:, :6]
            padded = np.pad(found, ((0, 0), (0, 6)), constant_values=PAD)
            self.assert_close(-np.sort(-opinion.at(padded), axis=1)[:, :6], best)

    def test_an_opinion_answers_for_any_item(self) -> None:
        """What `ask` holds says of every item what `score_all` says, before and after it named the best."""
        world, source = checkerboard(), self.fitted()
        n_queries, n_items = world.right.shape
        asked = _every_item(world.queries, n_items + 2)
        asked[:, 0] = PAD
        opinion = source.ask(world.queries)
        nothing = np.full((n_queries, 1), np.nan, dtype=np.float32)
        expected = np.hstack([nothing, source.score_all(world.queries)[:, 1:], nothing, nothing])
        self.assert_close(opinion.at(asked), expected)
        opinion.best(3, Barred(n_queries, n_items, None, np.arange(n_queries), np.zeros(n_queries, int)))
        self.assert_close(opinion.at(asked), expected)

    def test_asked_twice_it_answers_the_same(self) -> None:
        """Answering leaves no trace."""
        queries, source = checkerboard().queries, self.fitted()
        first = source.score_all(queries).copy()
        source.propose(queries, 3)
        np.testing.assert_array_equal(source.score_all(queries), first)

    def test_the_same_seed_gives_the_same_source(self) -> None:
        """Training twice on the same data ends in the same scores."""
        world, again = checkerboard(), self.source(**self.settings)
        again.fit(world.training)
        self.assert_close(again.score_all(world.queries), self.fitted().score_all(world.queries))

    def test_it_changes_nothing_it_was_given(self) -> None:
        """Neither training nor answering writes into the arrays of others."""
        world, untouched = checkerboard(), checkerboard()
        source = self.source(**self.settings)
        source.fit(world.training)
        source.propose(world.queries, 3)
        source.score_all(world.queries)
        _assert_same_histories(world.queries.histories, untouched.queries.histories)
        _assert_same_histories(world.training.dataset.histories, untouched.training.dataset.histories)

    def test_one_query_alone_equals_its_row_of_a_batch(self) -> None:
        """Online and offline give the same answer."""
        queries, source = checkerboard().queries, self.fitted()
        together = source.score_all(queries)
        for row in (0, 1, len(queries) - 1):
            self.assert_close(source.score_all(queries.take(np.array([row]))), together[row : row + 1])

    def test_its_state_survives_files(self) -> None:
        """A fresh object that takes over the state from safetensors and JSON gives the same scores."""
        queries = checkerboard().queries
        self.assert_close(self.copy().score_all(queries), self.fitted().score_all(queries))

    def test_new_users(self) -> None:
        """A history without events gets proposals where that is promised, and is no error elsewhere."""
        source, nobody = self.fitted(), Queries.of_histories(Histories.empty(2))
        proposed = source.propose(nobody, 3)
        _check_order(proposed, source.name)
        assert source.score_all(nobody).shape[0] == 2
        if source.serves_new_users:
            assert proposed.is_item.any(axis=1).all(), "promised proposals for new users, made none"

    def test_users_who_are_not_in_the_training_data(self) -> None:
        """User index -1 with a history is answered; the history says enough."""
        world, source = checkerboard(), self.fitted()
        strangers = Queries.of_histories(world.queries.histories)
        proposed = source.propose(strangers, 3)
        _check_order(proposed, source.name)
        assert source.score_all(strangers).shape == world.right.shape

    def test_new_items(self) -> None:
        """An item added after training can be proposed where that is promised, and is ignored elsewhere."""
        world, source = checkerboard(), self.copy()
        n_items = len(world.catalogue)
        source.add_items(arrival(world, WHITE), world.training.language)
        asked = np.full((len(world.queries), 1), n_items, dtype=np.int32)
        scores = source.score(world.queries, asked)[:, 0]
        proposed = source.propose(world.queries, n_items + 1)
        _check_order(proposed, source.name)
        is_proposed = (proposed.item_index == n_items).any(axis=1)
        if source.serves_new_items:
            assert np.isfinite(scores[WHITE]), "promised to serve new items, has no opinion on one"
            assert is_proposed[WHITE], "promised to serve new items, did not propose one that fits"
        else:
            assert np.isnan(scores).all(), "has an opinion on a new item without promising to serve it"
            assert not is_proposed.any(), "proposed a new item without promising to serve it"

    def test_new_items_in_a_history(self) -> None:
        """Somebody who took a new item is answered all the same."""
        world, source = checkerboard(), self.copy()
        source.add_items(arrival(world, WHITE), world.training.language)
        n_items = len(world.catalogue)
        rows = [np.array([n_items]), np.array([WHITE, n_items]), np.array([n_items, WHITE])]
        proposed = source.propose(Queries.of_histories(Histories.of_items(rows)), 4)
        _check_order(proposed, source.name)
        if source.serves_new_users:
            assert proposed.is_item.any(axis=1).all()

    def test_no_queries(self) -> None:
        """An empty batch gets an empty answer."""
        nothing, source = Queries.of_histories(Histories.empty(0)), self.fitted()
        assert len(source.propose(nothing, 3)) == 0
        assert source.score_all(nothing).shape == (0, len(checkerboard().catalogue))

    def test_a_catalogue_of_one_item(self) -> None:
        """The smallest world there is."""
        world, source = single_item(), self.source(**self.settings)
        source.fit(world.training)
        proposed = source.propose(world.queries, 3)
        _check_order(proposed, source.name)
        assert source.score_all(world.queries).shape == (len(world.queries), 1)

    def test_a_catalogue_without_items(self) -> None:
        """Nothing can be proposed before there is something, and what arrives then is no surprise."""
        world, source = no_items(), self.source(**self.settings)
        source.fit(world.training)
        assert not source.propose(world.queries, 3).is_item.any()
        first = checkerboard().catalogue
        source.add_items(first, world.training.language)
        proposed = source.propose(world.queries, 3)
        _check_order(proposed, source.name)
        assert proposed.item_index.max(initial=PAD) < len(first)

    def test_training_without_validation(self) -> None:
        """Where there is too little data to hold any back, the defaults are used."""
        world, source = checkerboard(), self.source(**self.settings)
        data = world.training
        source.fit(TrainingData(data.dataset, data.language, validation=None, seed=data.seed))
        assert source.score_all(world.queries).shape == world.right.shape

    def test_it_solves_its_worlds(self) -> None:
        """Every place of the answer holds a right item, as many places as there are right items."""
        for make in self.solves:
            world, source = make(), self.source(**self.settings)
            source.fit(world.training)
            proposed = source.propose(world.queries, int(world.right.sum(axis=1).min()))
            share = world.share_right(proposed)
            assert share == 1.0, f"{share:.1%} of the places are right in '{world.training.dataset.name}'"


def through_files(state: ComponentState) -> ComponentState:
    """Write a state as a bundle does, safetensors and JSON, and read it back."""
    with tempfile.TemporaryDirectory() as folder:
        tensors, facts = Path(folder) / "arrays.safetensors", Path(folder) / "facts.json"
        save_file({name: np.ascontiguousarray(array) for name, array in state.arrays.items()}, tensors)
        facts.write_text(json.dumps(dict(state.facts)), encoding="utf-8")
        arrays: dict[str, npt.NDArray[np.generic]] = dict(load_file(tensors))
        return ComponentState(arrays, json.loads(facts.read_text(encoding="utf-8")))


@cache
def _trained(
    source: type[CandidateSource[Any]], settings: tuple[tuple[str, Any], ...]
) -> CandidateSource[Any]:
    trained = source(**dict(settings))
    trained.fit(checkerboard().training)
    return trained


def _every_item(queries: Queries, n_items: int) -> IndexArray:
    return np.tile(np.arange(n_items, dtype=np.int32), (len(queries), 1))


def _check_order(proposed: Candidates, name: str) -> None:
    scores, is_item = proposed.column(name), proposed.is_item
    assert not np.isnan(scores[is_item]).any(), "an item was proposed without a score"
    assert not (is_item[:, 1:] & ~is_item[:, :-1]).any(), "padding stands before an item"
    both = is_item[:, 1:] & is_item[:, :-1]
    assert (scores[:, 1:][both] <= scores[:, :-1][both]).all(), "proposals are not in order of their score"
    ordered = np.sort(proposed.item_index, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PAD)
    assert not repeated.any(), "an item was proposed twice for one query"


def _assert_same_histories(found: Histories, expected: Histories) -> None:
    for column in ("offsets", "item_index", "event_index", "timestamp", "value"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))


def _error_of(action: Callable[[], object], expected: type[ZhiyinError]) -> ZhiyinError:
    try:
        action()
    except expected as error:
        return error
    raise AssertionError(f"expected {expected.__name__}, but nothing was raised")
