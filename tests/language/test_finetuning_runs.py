"""Runs of fine-tuning: killed and taken up again, with each switch on, and with what must be refused."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from zhiyin.contracts import Silent
from zhiyin.domain.errors import ConfigError, DataError, TrainingError
from zhiyin.language.finetuning import validating
from zhiyin.language.finetuning.fitting import finetune
from zhiyin.language.finetuning.network import CrossReader
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import locate_model
from zhiyin.language.running import Run
from zhiyin.testing.tiny_models import save_bert
from zhiyin.testing.word_shop import WORDS, word_shop
from zhiyin.training import loop
from zhiyin.training.kernels import WHILE_TRAINING

SHOP = word_shop("rating", n_users=16, n_events=10)
TASKS = {"stars": {"kind": "rating"}, "click": {"yes_from": 2.5}}
ALL_TASKS = TASKS | {"order": {"kind": "listwise"}, "next": {"kind": "next", "negatives": 1}}
HOLDING = {"validation": 0.2, "test": 0.1, "most_judged": 20}


@pytest.fixture(scope="module")
def with_dropout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dropout")
    save_bert(WORDS, folder, initializer_range=0.3, max_position_embeddings=128)
    return folder


def fitted(folder, run=None, *, shop=SHOP, tasks=None, epochs=3, method="lora", rate=3e-3, **others):
    settings = {
        "tasks": TASKS if tasks is None else tasks,
        "method": {"name": method, "rank": 2},
        "wording": {"history_items": 2},
        "holding": HOLDING,
        "training": {
            "max_epochs": epochs,
            "learning_rate": rate,
            "tokens_per_batch": 256,
            "devices": "cpu",
            "precision": "float32",
        },
    }
    config = FinetuningConfig.model_validate(settings | others)
    rows = rows_of(shop, config)
    model, facts = finetune(locate_model(folder), Background.of(shop), rows, config, run)
    examples = rows.following if rows.labelled is None else rows.labelled
    return model.predict(examples.test), facts


def curve(facts):
    return [(epoch["train_loss"], epoch["validation"]) for epoch in facts["epochs"]]


class Killed(Exception):
    pass


class KillsAfter(Silent):
    """Raises in the middle of training, after so many batches."""

    def __init__(self, n_batches):
        self.left = n_batches

    def track(self, steps, description, total=None):
        del total
        for step in steps:
            if description.startswith("finetune: epoch"):
                if not self.left:
                    raise Killed
                self.left -= 1
            yield step


@pytest.mark.parametrize(
    ("method", "others"),
    [
        ("lora", {"tasks": ALL_TASKS, "balance": "uncertainty", "holding": HOLDING | {"most_judged": 6}}),
        ("adalora", {"restraint": {"agreement": 0.5, "augmenting": {"word_dropout": 0.2}}}),
        ("full", {"reader": "towers", "restraint": {"checkpoints": 2, "adversary": {"name": "fgm"}}}),
    ],
)
def test_a_killed_run_ends_with_the_same_curve_to_the_last_bit(
    with_dropout, tmp_path, monkeypatch, method, others
):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(validating, "ITEMS_JUDGED", 10)
    whole, facts = fitted(with_dropout, method=method, **others)
    for n_batches in (7, 5):
        with pytest.raises(Killed):
            fitted(
                with_dropout,
                Run(progress=KillsAfter(n_batches), checkpoints=tmp_path),
                method=method,
                **others,
            )
        assert list(tmp_path.glob("*.ckpt"))
    resumed, again = fitted(with_dropout, Run(checkpoints=tmp_path), method=method, **others)
    assert curve(again) == curve(facts)
    assert again["before"] == facts["before"]
    np.testing.assert_array_equal(resumed, whole)


def test_code_for_few_sizes_of_products_is_kept(with_dropout, monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "told by nobody, and put back afterwards")
    monkeypatch.delenv("LRU_CACHE_CAPACITY")
    fitted(with_dropout, epochs=1)
    assert os.environ["LRU_CACHE_CAPACITY"] == str(WHILE_TRAINING)


def test_a_checkpoint_of_other_rows_or_other_words_is_not_taken_up(with_dropout, tmp_path):
    first, facts = fitted(with_dropout, Run(checkpoints=tmp_path), epochs=1)
    table = SHOP.catalogue.table
    renamed = table.with_columns(title=table["title"].str.replace("lamp", "mirror"))
    other = replace(SHOP, catalogue=replace(SHOP.catalogue, table=renamed))
    _, of_other = fitted(with_dropout, Run(checkpoints=tmp_path), epochs=1, shop=other)
    _, alone = fitted(with_dropout, epochs=1, shop=other)
    assert curve(of_other) == curve(alone) != curve(facts)
    assert np.isfinite(first).all()


def test_the_same_seed_gives_the_same_model_and_another_another(with_dropout):
    one, again, other = (fitted(with_dropout, Run(seed=seed), epochs=1)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_training_leaves_the_random_numbers_of_the_program_alone(with_dropout):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fitted(with_dropout, epochs=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture
def n_read(monkeypatch):
    """Counts how often a network reads a batch while it learns."""
    counts = {"n": 0}
    forward = CrossReader.forward

    def counted(self, batch):
        counts["n"] += self.training
        return forward(self, batch)

    monkeypatch.setattr(CrossReader, "forward", counted)
    return counts


@pytest.mark.parametrize(
    ("restraint", "n_times"),
    [
        ({"agreement": 1.0}, 2),
        ({"adversary": {"name": "fgm"}}, 2),
        ({"adversary": {"name": "pgd", "n_steps": 2}}, 3),
        ({"agreement": 1.0, "adversary": {"name": "fgm"}}, 4),
        ({"dropout": 0.4}, 1),
        ({"augmenting": {"word_dropout": 0.3}}, 1),
    ],
)
def test_a_switch_changes_the_run_and_costs_what_it_says(with_dropout, n_read, restraint, n_times):
    _, plain = fitted(with_dropout, epochs=1)
    n_plain, n_read["n"] = n_read["n"], 0
    _, switched = fitted(with_dropout, epochs=1, restraint=restraint)
    assert n_read["n"] == n_times * n_plain
    assert curve(switched) != curve(plain)
    _, off = fitted(
        with_dropout,
        epochs=1,
        restraint={"agreement": 0.0, "adversary": {"name": "none"}, "augmenting": {"word_dropout": 0.0}},
    )
    assert curve(off) == curve(plain)


def test_r_drop_is_refused_where_nothing_is_dropped(shop_bert):
    with pytest.raises(ConfigError, match="no dropout"):
        fitted(shop_bert, epochs=1, restraint={"agreement": 1.0})


def test_the_average_of_checkpoints_is_judged_and_the_curve_stays(with_dropout):
    _, plain = fitted(with_dropout)
    _, averaged = fitted(with_dropout, restraint={"checkpoints": 3})
    assert curve(averaged) == curve(plain)
    assert "average" not in plain or plain["average"] is None
    assert sorted(averaged["average"]["epochs"]) == [1, 2, 3]


def test_dropout_none_leaves_the_model_and_zero_takes_it_out(with_dropout, shop_bert):
    # With dropout taken out, a model with and one without it are the same network.
    _, taken_out = fitted(with_dropout, epochs=1, restraint={"dropout": 0.0})
    _, never_there = fitted(shop_bert, epochs=1)
    _, left = fitted(with_dropout, epochs=1)
    assert curve(taken_out) == curve(never_there)
    assert curve(left) != curve(taken_out)


def test_checkpointing_computes_the_same(shop_bert):
    _, plain = fitted(shop_bert, epochs=1)
    _, saving = fitted(shop_bert, epochs=1, steps={"checkpointing": True})
    np.testing.assert_allclose(curve(saving), curve(plain), rtol=1e-4)


class StepsHeard:
    """A tracker that remembers the number of the last step of each epoch."""

    def __init__(self):
        self.steps = []

    def log_metrics(self, figures, step):
        assert {"epoch", "train_loss", "learning_rate", "skill"} <= figures.keys()
        self.steps.append(step)

    def save(self):
        pass


def test_accumulated_batches_are_one_step(shop_bert):
    alone, together = StepsHeard(), StepsHeard()
    fitted(shop_bert, Run(trackers=[alone]), epochs=2)
    fitted(shop_bert, Run(trackers=[together]), epochs=2, steps={"accumulation": 4})
    for plain, accumulated in zip(alone.steps, together.steps, strict=True):
        assert plain / 4 <= accumulated <= plain / 4 + 2


def test_a_loss_that_is_no_number_is_said(shop_bert):
    with pytest.raises(TrainingError, match=r"(?s)not a number.*learning_rate"):
        fitted(shop_bert, method="full", rate=1e30)


def test_a_shop_without_words_is_refused(shop_bert):
    nameless = replace(SHOP, catalogue=replace(SHOP.catalogue, table=SHOP.catalogue.table.drop("title")))
    with pytest.raises(DataError, match=r"(?s)No item has any words.*title or description"):
        fitted(shop_bert, shop=nameless)


def test_state_that_no_row_has_is_refused_before_training(shop_bert):
    with pytest.raises(DataError, match="no column 'weather'"):
        fitted(shop_bert, Run(progress=KillsAfter(0)), wording={"state": ["weather"]})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reader": "three"}, "reader"),
        ({"tasks": {"click": {"kind": "yes"}}}, "kind"),
        ({"training": {"learning_rat": 1}}, "learning_rat"),
        ({"restraint": {"dropout": 1.0}}, "dropout"),
    ],
)
def test_settings_that_are_not_there_are_said(settings, said):
    with pytest.raises(ConfigError, match=said):
        FinetuningConfig.parse(settings, where="finetune")


def test_the_base_stays_as_it_is(shop_bert):
    base = locate_model(shop_bert)
    before = {path.name: path.read_bytes() for path in shop_bert.iterdir() if path.is_file()}
    fitted(shop_bert, epochs=1, method="full")
    assert {path.name: path.read_bytes() for path in shop_bert.iterdir() if path.is_file()} == before
    assert base.folder == shop_bert
