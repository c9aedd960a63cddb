"""What was taken next, foretold from the texts of what was taken before."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Ragged, Vocabulary
from zhiyin.domain.errors import ConfigError
from zhiyin.language.encoder import load_encoder
from zhiyin.language.model_files import locate_model
from zhiyin.language.opened import open_model
from zhiyin.language.pretraining.contrast import DECAY, NextItemObjective
from zhiyin.language.pretraining.fitting import pretrain
from zhiyin.language.pretraining.objectives import Draw
from zhiyin.language.pretraining.settings import PretrainingConfig
from zhiyin.language.pretraining.shop_texts import ITEMS_OF_A_RUN, ShopTexts, shop_texts
from zhiyin.language.pretraining.texts_to_compare import with_map_behind
from zhiyin.language.running import Run
from zhiyin.language.whitening import Whitening
from zhiyin.testing.tiny_models import save_bert
from zhiyin.training.devices import open_fabric

RUNS = Ragged.from_rows([np.array([3, 1, 4]), np.array([0, 1]), np.array([4, 2, 4, 0, 1])], np.int64)


def table_of_vectors():
    """Stands for texts whose vectors are known."""
    vectors = functional.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    table = nn.Embedding.from_pretrained(vectors)
    return vectors, SimpleNamespace(
        sentences=table,
        batch=lambda rows: {"rows": torch.from_numpy(rows)},
        vectors=lambda batch: table(batch["rows"]),
        close=lambda: None,
    )


def test_the_loss_is_the_one_written_down():
    vectors, texts = table_of_vectors()
    objective = NextItemObjective(texts, RUNS, 0.2)
    losses, found = [], []
    for run in ([3, 1, 4], [4, 2, 4, 0, 1]):
        for t in range(1, len(run)):
            user = sum(DECAY**k * vectors[run[t - 1 - k]] for k in range(t))
            user = user / user.norm()
            others = [item for item in range(5) if item == run[t] or item not in run[:t]]
            logits = torch.stack([user @ vectors[item] / 0.2 for item in others])
            losses.append(-torch.log_softmax(logits, 0)[others.index(run[t])])
            found.append(others[int(logits.argmax())] == run[t])
    rows = np.array([0, 2])
    loss = objective.module(objective.batch(Draw(1, rows)))
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    assert objective.quality([rows]) == pytest.approx(np.mean(found))
    assert objective.texts_a_row == 3  # ten events in three runs


@pytest.mark.parametrize("n", [ITEMS_OF_A_RUN, ITEMS_OF_A_RUN + 1, 5 * ITEMS_OF_A_RUN + 3])
def test_histories_are_cut_into_runs_without_losing_anything(n):
    catalogue = Catalogue.from_table(
        pl.DataFrame({"item_id": [f"{i}" for i in range(n)], "title": [f"word {i}" for i in range(n)]})
    )
    order = np.random.default_rng(0).permutation(n)
    histories = Histories.of_items([order, np.array([1]), order[:3]])
    shop = shop_texts(Dataset("shop", catalogue, Vocabulary(["u", "v", "w"]), histories), PretrainingConfig())
    assert shop.runs is not None
    assert shop.runs.lengths.max() <= ITEMS_OF_A_RUN
    assert shop.runs.values.tolist() == [*order, *order[:3]]
    assert shop.runs.lengths[:-1].max() - shop.runs.lengths[:-1].min() <= 1


def red_then_white(base):
    """Whoever takes something red takes something white next, something blue something green."""
    nouns, colours = (
        ("lotion", "cream", "guitar", "violin", "novel", "poem"),
        ("red", "white", "blue", "green"),
    )
    save_bert([*nouns, *colours], base, initializer_range=0.05)
    items = [f"{noun} {colour}" for noun in nouns for colour in colours]
    random = np.random.default_rng(0)
    rows = [
        4 * random.permutation(6)[:4] + 2 * random.integers(2) + np.array([0, 1, 0, 1]) for _ in range(80)
    ]
    return ShopTexts(items, [], np.empty((0, 2), dtype=np.int64), Ragged.from_rows(rows, np.int64))


def test_what_follows_moves_near_what_stood_before(tmp_path):
    """Whoever takes something red takes something white next, whatever the words mean."""
    shop = red_then_white(tmp_path / "base")
    config = PretrainingConfig(
        objectives=("next_item",),
        max_tokens=8,
        held_out=0.2,
        training={
            "devices": "cpu",
            "precision": "float32",
            "tokens_per_batch": 256,
            "max_epochs": 12,
            "patience": 12,
            "learning_rate": 2e-3,
        },
    )
    facts = pretrain(locate_model(tmp_path / "base"), shop, config, tmp_path / "out")
    assert facts["next_item"]["best_validation"] > facts["next_item"]["before"]
    vectors = load_encoder(tmp_path / "out", precision="float32").encode(shop.items)
    cosines = (vectors @ vectors.T).reshape(6, 4, 6, 4).mean(axis=(0, 2))
    assert cosines[0, 1] > max(cosines[0, 2], cosines[0, 3]) + 0.2
    assert cosines[2, 3] > max(cosines[2, 0], cosines[2, 1]) + 0.2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_map_behind_a_frozen_encoder_learns_alone(tmp_path, precision):
    """What follows moves near, the network keeps its weights, and the folder is a plain sentence encoder."""
    shop = red_then_white(tmp_path / "base")
    training = {"devices": "cpu", "tokens_per_batch": 256, "max_epochs": 30, "patience": 30}
    config = PretrainingConfig(
        objectives=("next_item",),
        method={"name": "frozen"},
        max_tokens=8,
        held_out=0.2,
        training={**training, "precision": precision, "learning_rate": 1e-2},
    )
    facts = pretrain(locate_model(tmp_path / "base"), shop, config, tmp_path / "out")
    assert facts["next_item"]["n_trained"] == 32 * 32 + 32
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "out"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    vectors = load_encoder(tmp_path / "out", precision="float32").encode(shop.items)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    cosines = (vectors @ vectors.T).reshape(6, 4, 6, 4).mean(axis=(0, 2))
    assert cosines[0, 1] > max(cosines[0, 2], cosines[0, 3]) + 0.2
    assert cosines[2, 3] > max(cosines[2, 0], cosines[2, 1]) + 0.2


def test_a_map_begins_as_half_a_whitening(tmp_path):
    words = [f"word{place}" for place in range(40)]
    save_bert(words, tmp_path / "base", initializer_range=0.5)
    opened = open_model(locate_model(tmp_path / "base"))
    tokens = [[2, 5 + one, 5 + other, 3] for one in range(40) for other in range(4)]
    settings = PretrainingConfig(training={"devices": "cpu", "precision": "float32"}).training
    texts = with_map_behind(opened, tokens, open_fabric(settings))
    rows = np.arange(len(tokens))
    plain = texts._known.numpy()
    mapped = texts.vectors(texts.batch(rows)).detach().numpy()
    expected = Whitening.fit(plain, strength=0.5).apply(plain)
    np.testing.assert_allclose(mapped @ mapped.T, expected @ expected.T, atol=1e-4)


class Kill(BaseException):
    pass


class Killing:
    """A tracker that ends the run when the second epoch is told."""

    n = 0

    def log_metrics(self, metrics, step):
        self.n += 1
        if self.n == 2:
            raise Kill

    def save(self):
        pass


@pytest.mark.parametrize("changed", ["runs", "words"])
def test_a_checkpoint_of_other_histories_or_words_is_not_taken_up(tmp_path, changed):
    """A run that was killed had read all; the one after it must not start from what the test holds."""
    save_bert(["red", "white", "blue"], tmp_path / "base", initializer_range=0.05)
    items, no_pairs = ["red", "white", "blue", "red blue"], np.empty((0, 2), dtype=np.int64)
    rows = [np.array([0, 1, 2, 3])] * 10
    everything = ShopTexts(items, [], no_pairs, Ragged.from_rows(rows, np.int64))
    if changed == "runs":
        other = replace(everything, runs=Ragged.from_rows([row[:-1] for row in rows], np.int64))
    else:
        other = replace(everything, items=[*items[:-1], "white blue"])
    training = {"devices": "cpu", "precision": "float32", "max_epochs": 3, "patience": 9}
    config = PretrainingConfig(objectives=("next_item",), max_tokens=8, held_out=0.2, training=training)
    base, run = locate_model(tmp_path / "base"), Run(checkpoints=tmp_path / "checkpoints")
    with pytest.raises(Kill):
        pretrain(base, everything, config, tmp_path / "out", replace(run, trackers=[Killing()]))
    assert list((tmp_path / "checkpoints").iterdir())
    after = pretrain(base, other, config, tmp_path / "after", run)
    alone = pretrain(base, other, config, tmp_path / "alone")
    losses = [[epoch["train_loss"] for epoch in facts["next_item"]["epochs"]] for facts in (after, alone)]
    assert losses[0] == losses[1]


def test_next_item_needs_histories(tmp_path):
    save_bert(["red"], tmp_path / "base")
    with pytest.raises(ConfigError, match="there are 0, and at least 8"):
        pretrain(
            locate_model(tmp_path / "base"),
            ShopTexts(["red", "red red"], [], np.empty((0, 2), dtype=np.int64)),
            PretrainingConfig(objectives=("next_item",)),
            tmp_path / "out",
        )
