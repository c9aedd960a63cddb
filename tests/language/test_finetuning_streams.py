"""Batches of fine-tuning: what is drawn against what came, and that the same epoch is dealt alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zhiyin.data.labelled import next_items
from zhiyin.language.finetuning.drawing import Drawer
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.language.finetuning.settings import FinetuningConfig, WordingConfig
from zhiyin.language.finetuning.streams import (
    SLATE,
    CrossComposer,
    Dealer,
    LabelledStream,
    NextStream,
    NextTask,
    TowerComposer,
    mean_vectors,
)
from zhiyin.language.finetuning.wording import Background, Wording
from zhiyin.language.model_files import locate_model
from zhiyin.language.opened import open_model
from zhiyin.testing.word_shop import N_ITEMS, word_shop


@pytest.fixture(scope="module")
def opened(shop_bert):
    return open_model(locate_model(shop_bert))


@pytest.fixture(scope="module")
def wording(opened):
    return Wording(
        opened.tokenizer,
        Background.of(word_shop("follow")),
        WordingConfig(history_items=2),
        most_tokens=64,
        is_decoder=False,
    )


def drawer(n_never_met=4, vectors=None):
    counts = np.arange(N_ITEMS)
    counts[:n_never_met] = 0
    if vectors is None:
        vectors = np.eye(N_ITEMS, dtype=np.float32)
    return Drawer(counts, vectors)


def read(wording, batch, name):
    """The items whose words are in a batch, by the last part of each row."""
    place = {tuple(tokens): item for item, tokens in enumerate(wording.documents)}
    ids, mask = batch[f"{name}input_ids"], batch[f"{name}attention_mask"]
    return [
        place[tuple(row[: int(n) - 1][-2:].tolist())] for row, n in zip(ids, mask.sum(dim=1), strict=True)
    ]


def test_items_that_nobody_met_are_never_drawn_and_popular_ones_more_often():
    targets = np.full(2000, 31, dtype=np.int32)
    random = np.random.default_rng(0)
    drawn = drawer().training(targets, 5, random)
    assert drawn.shape == (2000, 5)
    assert drawn.min() >= 4
    counts = np.bincount(drawn[:, :3].reshape(-1), minlength=N_ITEMS)
    expected = np.arange(N_ITEMS) ** 0.75 * (np.arange(N_ITEMS) >= 4)
    expected *= 6000 / expected.sum()
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected.max())
    judged = drawer().judging(2000, 5, random)
    assert judged.min() >= 4
    assert np.bincount(judged.reshape(-1), minlength=N_ITEMS)[4:].min() > 250


def test_half_of_what_is_drawn_is_near_in_text_and_is_not_the_item_itself():
    colour = np.arange(N_ITEMS) // 8
    vectors = np.eye(4, dtype=np.float32)[colour]
    targets = np.arange(8, N_ITEMS, dtype=np.int32)
    drawn = drawer(n_never_met=0, vectors=vectors).training(targets, 4, np.random.default_rng(0))
    popular, near = drawn[:, :2], drawn[:, 2:]
    assert (colour[near] == colour[targets][:, None]).mean() > 0.95
    assert (colour[popular] == colour[targets][:, None]).mean() < 0.6
    assert (near != targets[:, None]).all()


def test_the_only_item_is_drawn_against_itself():
    alone = Drawer(np.array([0, 3, 0]), np.eye(3, dtype=np.float32))
    assert (alone.training(np.array([1, 1], dtype=np.int32), 4, np.random.default_rng(0)) == 1).all()


def test_texts_with_common_words_are_near(opened, wording):
    table = opened.network.get_input_embeddings().weight
    vectors = mean_vectors(table, [*wording.documents, []])
    assert vectors.shape == (N_ITEMS + 1, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors[:-1], axis=1), 1.0, atol=1e-5)
    assert (vectors[-1] == 0).all()
    by_hand = table[torch.tensor(wording.documents[5])].mean(dim=0)
    np.testing.assert_allclose(vectors[5], (by_hand / by_hand.norm()).detach(), atol=1e-5)


def test_a_cross_encoder_reads_what_came_first_and_its_copies_are_masked(wording):
    examples = next_items(word_shop("follow", n_users=6, n_events=5))
    counts = np.zeros(N_ITEMS, dtype=np.int64)
    counts[examples.item_index[:3]] = 1  # so few that targets are drawn
    stream = NextStream(
        examples,
        CrossComposer(wording),
        wording.lengths(examples),
        Drawer(counts, np.eye(N_ITEMS, dtype=np.float32)),
        NextTask(1, 3, 4),
    )
    batch = stream.batch(np.arange(4), np.random.default_rng(0))
    items = np.array(read(wording, batch, "")).reshape(4, 5)
    labels = batch["labels"].numpy().reshape(4, 5, 3)
    assert np.isnan(labels[:, :, [0, 2]]).all()
    assert items[:, 0].tolist() == examples.item_index[:4].tolist()
    expected = np.zeros((4, 5))
    expected[items == items[:, :1]] = np.nan
    expected[:, 0] = 1.0
    np.testing.assert_array_equal(labels[:, :, 1], expected)
    assert np.isnan(expected).any()
    assert batch["group"].tolist() == np.repeat(np.arange(4), 5).tolist()
    assert stream.lengths.tolist() == (wording.lengths(examples) * 5).tolist()


def test_two_towers_hold_all_items_of_a_batch_against_each_user(wording):
    examples = next_items(word_shop("follow", n_users=6, n_events=5))
    stream = NextStream(
        examples, TowerComposer(wording), wording.lengths(examples), drawer(), NextTask(0, 1, 2)
    )
    units = np.array([0, 1, 4, 9])  # the first two are moments of one user
    batch = stream.batch(units, np.random.default_rng(0))
    some = examples.take(units)
    items = np.array(read(wording, batch, "item_"))
    assert len(set(items.tolist())) == len(items), "each is read once"
    assert set(some.item_index.tolist()) <= set(items.tolist())
    assert len(batch["user_input_ids"]) == 4
    n = len(items)
    shown = items[batch["item_of_row"].numpy()].reshape(4, n)
    labels = batch["labels"].numpy().reshape(4, n)
    for row in range(4):
        came = set(some.item_index[some.user_index == some.user_index[row]].tolist())
        for item, label in zip(shown[row].tolist(), labels[row].tolist(), strict=True):
            if item == some.item_index[row]:
                assert label == 1
            elif item in came:
                assert np.isnan(label), "it came for the same user at another moment"
            else:
                assert label == 0
    assert np.isnan(labels).sum() >= 2
    assert batch["user_of_row"].tolist() == np.repeat(np.arange(4), n).tolist()


def test_rows_to_be_ordered_stay_together_by_user(wording):
    shop = word_shop("rating", n_users=5, n_events=25)
    found = rows_of(shop, FinetuningConfig.model_validate({"tasks": {"o": {"kind": "pairwise"}}}))
    train = found.labelled.train
    shuffled = train.take(np.random.default_rng(0).permutation(len(train)))
    stream = LabelledStream(shuffled, CrossComposer(wording), wording.lengths(shuffled), in_slates=True)
    assert stream.lengths.sum() == wording.lengths(shuffled).sum()
    n_read = 0
    for unit in range(len(stream.lengths)):
        group = stream.batch(np.array([unit]), np.random.default_rng(0))["group"]
        assert len(set(group.tolist())) == 1
        assert len(group) <= SLATE
        n_read += len(group)
    assert n_read == len(train)
    assert len(stream.lengths) == 5 * -(-len(train) // 5 // SLATE)


def test_an_epoch_is_dealt_alike_and_every_unit_once(wording):
    shop = word_shop("rating")
    tasks = {"stars": {"kind": "rating"}, "next": {"kind": "next"}}
    found = rows_of(shop, FinetuningConfig.model_validate({"tasks": tasks}))
    labelled, following = found.labelled.train, found.following.train

    def dealer(seed=0):
        composer = CrossComposer(wording)
        streams = [
            LabelledStream(labelled, composer, wording.lengths(labelled), in_slates=False),
            NextStream(following, composer, wording.lengths(following), drawer(), NextTask(1, 2, 2)),
        ]
        return Dealer(streams, 256, seed)

    one, again = dealer(), dealer()
    for epoch in (1, 2):
        dealt, same = one.epoch(epoch), again.epoch(epoch)
        for draw, twin in zip(dealt, same, strict=True):
            assert (draw.stream, draw.epoch) == (twin.stream, twin.epoch)
            np.testing.assert_array_equal(draw.units, twin.units)
        for place, rows in enumerate((labelled, following)):
            units = np.concatenate([draw.units for draw in dealt if draw.stream == place])
            assert sorted(units.tolist()) == list(range(len(rows)))
        streams = [draw.stream for draw in dealt]
        assert streams != sorted(streams), "tasks take turns"
        first, second = one.batch(dealt[3]), again.batch(same[3])
        for name, part in first.items():
            torch.testing.assert_close(part, second[name], rtol=0, atol=0, equal_nan=True)
        for draw in dealt:
            n_tokens = int(one.batch(draw)["attention_mask"].sum())
            assert n_tokens < 1.3 * 256 or len(draw.units) == 1
    flat = [
        np.concatenate([draw.units for draw in each])
        for each in (one.epoch(1), one.epoch(2), dealer(1).epoch(1))
    ]
    assert not np.array_equal(flat[0], flat[1])
    assert not np.array_equal(flat[0], flat[2])


def test_other_epochs_draw_other_items(wording):
    examples = next_items(word_shop("follow"))
    stream = NextStream(
        examples, CrossComposer(wording), wording.lengths(examples), drawer(), NextTask(0, 1, 4)
    )
    dealer = Dealer([stream], 10_000, 0)
    draw = dealer.epoch(1)[0]
    one, other = dealer.batch(draw), dealer.batch(replace(draw, epoch=2))
    items = [read(wording, batch, "") for batch in (one, other)]
    assert items[0][::5] == items[1][::5]
    assert items[0] != items[1]
