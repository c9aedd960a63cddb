"""What runners get is our split, and what they measure is what we measure."""

import numpy as np
import pytest
from exchange import Curve, Ragged, Split, best_lists, chosen_on_validation, masked, ndcg_at_10, ndcg_of_lists
from exporting import export_split, sampled_folder
from judging import Listed

from zhiyin.contracts import SCORE
from zhiyin.data.reading import read_dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import Histories
from zhiyin.evaluation.metrics import ndcg, rank_targets
from zhiyin.training.selection import validation_ndcg


@pytest.fixture(scope="module")
def exported(data, tmp_path_factory):
    file = tmp_path_factory.mktemp("split") / "split.npz"
    return export_split(data, file), Split.read(file)


def test_the_exported_split_is_ours(data, exported):
    ours = leave_last_out(read_dataset(data))
    _, theirs = exported
    assert (theirs.n_users, theirs.n_items) == (200, 40)
    np.testing.assert_array_equal(theirs.train.offsets, ours.train.histories.offsets)
    np.testing.assert_array_equal(theirs.train.items, ours.train.histories.item_index)
    for part, examples in ((theirs.validation, ours.validation), (theirs.test, ours.test)):
        np.testing.assert_array_equal(part.users, examples.queries.user_index)
        np.testing.assert_array_equal(part.known.offsets, examples.queries.histories.offsets)
        np.testing.assert_array_equal(part.known.items, examples.queries.histories.item_index)
        np.testing.assert_array_equal(part.targets, examples.targets.values)


def test_targets_are_the_last_two_new_items_of_a_log_written_by_hand(tmp_path):
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id\n" + "".join(f"a,{item}\n" for item in "pqrs") + "b,q\nb,p\n"
    )
    file = tmp_path / "split.npz"
    names = export_split(tmp_path, file).train.catalogue.items
    split = Split.read(file)
    of = {name: names.index(name) for name in "pqrs"}
    assert split.train.items.tolist() == [of[item] for item in "pqqp"]
    assert split.validation.targets.tolist() == [of["r"]]
    assert split.test.targets.tolist() == [of["s"]]
    assert split.test.known.items.tolist() == [of[item] for item in "pqr"]


def test_the_runners_ndcg_is_the_one_our_training_stops_on(exported):
    ours, theirs = exported
    table = np.random.default_rng(0).integers(12, size=(200, 40)).astype(np.float32)  # many ties
    asked = theirs.validation
    expected = validation_ndcg(lambda queries: table[queries.user_index], ours.validation)
    assert ndcg_at_10(asked, lambda rows: table[asked.users[rows]]) == pytest.approx(expected, abs=1e-9)


def test_best_lists_are_sorted_scores_without_the_history(exported):
    ours, theirs = exported
    table = np.random.default_rng(1).normal(size=(200, 40)).astype(np.float32)
    asked = theirs.test
    items, scores = best_lists(asked, lambda rows: table[asked.users[rows]], theirs.n_items)
    for row, user in enumerate(asked.users):
        known = set(asked.known.take(np.array([row])).items.tolist())
        expected = [item for item in np.argsort(-table[user]) if item not in known]
        assert items[row, : len(expected)].tolist() == expected
        assert (items[row, len(expected) :] == -1).all()
    of_evaluator = ndcg(rank_targets(items[:, :20], scores[:, :20], ours.test.targets), 10).mean()
    assert ndcg_of_lists(asked, items) == pytest.approx(of_evaluator)


def test_rows_are_read_as_histories_are():
    rows = [[1, 2, 3, 4], [], [5], [6, 7]]
    ours = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    ragged = Ragged(ours.offsets, ours.item_index)
    np.testing.assert_array_equal(ragged.newest(3, -1), ours.padded_items(3))
    picked = ragged.take(np.array([3, 1, 0]))
    assert (picked.offsets.tolist(), picked.items.tolist()) == ([0, 2, 2, 6], [6, 7, 1, 2, 3, 4])
    even = ragged.only(ragged.items % 2 == 0)
    assert (even.offsets.tolist(), even.items.tolist()) == ([0, 2, 2, 2, 3], [2, 4, 6])
    scores = masked(np.zeros((4, 8), dtype=np.float32), ragged)
    np.testing.assert_array_equal(np.isneginf(scores).sum(axis=1), [4, 0, 1, 2])


def test_a_curve_ends_by_patience_epochs_or_minutes():
    patient = Curve(minutes=60, max_epochs=99)
    better = [patient.add(value) for value in [0.1, 0.3, 0.2, *[0.1] * 8]]
    assert better[:3] == [True, True, False]
    assert not patient.stopped_by
    patient.add(0.3)  # ten epochs after the best one, not better
    assert patient.stopped_by == "patience"
    short = Curve(minutes=60, max_epochs=2)
    short.add(0.1)
    short.add(0.2)
    assert short.stopped_by == "max_epochs"
    hasty = Curve(minutes=0.0, max_epochs=9)
    hasty.add(0.1)
    assert hasty.stopped_by == "minutes"


def test_the_best_setting_on_validation_is_chosen():
    grid = [{"k": value} for value in (1, 3, 2)]
    best = chosen_on_validation(grid, lambda k: k * 10, lambda model: 1 - abs(model - 30) / 100)
    assert (best.settings, best.model, best.validation) == ({"k": 3}, 30, 1.0)
    assert 0 <= best.fit_seconds <= best.search_seconds


def test_listed_answers_by_user_whatever_the_order(exported):
    ours, theirs = exported
    n = len(theirs.test)
    items = np.tile(np.arange(5, dtype=np.int32), (n, 1))
    items[:, 0] = np.arange(n) % 40
    listed = Listed.of_split(ours, items, np.ones((n, 5), dtype=np.float32))
    rows = np.array([7, 2])
    told = listed.recommend(ours.test.take(rows).queries, 3)
    np.testing.assert_array_equal(told.item_index, items[rows, :3])
    assert (told.column(SCORE) == 1).all()
    with pytest.raises(ValueError, match=r"scores for \d+ users"):
        Listed.of_split(ours, items[1:], items[1:].astype(np.float32))


def test_a_sample_of_users_keeps_whole_histories(data, tmp_path):
    some = read_dataset(sampled_folder(data, 10, tmp_path / "some"))
    whole = read_dataset(data)
    assert some.n_users == 20
    for user in some.users.ids:
        kept = some.histories.row(some.users.index(user)).item_index
        held = whole.histories.row(whole.users.index(user)).item_index
        assert [some.catalogue.items.id(int(item)) for item in kept] == [
            whole.catalogue.items.id(int(item)) for item in held
        ]
