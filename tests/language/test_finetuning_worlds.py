"""Shops in which words decide: a fine-tuned model must find out."""

from dataclasses import replace

import numpy as np
import pytest

from zhiyin.language.finetuning.fitting import finetune
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.finetuning.skill import skill_of
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import locate_model
from zhiyin.testing.word_shop import N_ITEMS, THINGS, word_shop

CLICK = {"click": {"kind": "yes_no"}}
STARS = {"stars": {"kind": "rating"}}


def fitted(folder, shop, tasks, *, reader="cross", epochs=6, rate=3e-3, history=3, method="full", **others):
    settings = {
        "tasks": tasks,
        "reader": reader,
        "method": {"name": method},
        "wording": {"history_items": history},
        "holding": {"validation": 0.2, "test": 0.3},
        "training": {
            "max_epochs": epochs,
            "patience": epochs,
            "learning_rate": rate,
            "tokens_per_batch": 256,
            "devices": "cpu",
            "precision": "float32",
        },
    }
    config = FinetuningConfig.model_validate(settings | others)
    rows = rows_of(shop, config)
    model, facts = finetune(locate_model(folder), Background.of(shop), rows, config)
    return model, rows, facts


def auc(labels, scores):
    above = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def told(model, rows, column=0):
    test = rows.labelled.test
    return test.labels[:, column], model.predict(test)[:, column]


@pytest.mark.parametrize(
    ("base", "reader", "chinese"),
    [
        ("shop_bert", "cross", False),
        ("shop_bert", "towers", True),
        ("shop_llama", "cross", True),
        ("shop_llama", "towers", False),
        ("shop_gpt2", "cross", False),
    ],
)
def test_a_word_that_decides_a_click_is_found(request, base, reader, chinese):
    shop = word_shop("word", chinese=chinese)
    model, rows, facts = fitted(request.getfixturevalue(base), shop, CLICK, reader=reader, history=1)
    labels, predicted = told(model, rows)
    assert auc(labels, predicted) > 0.97
    assert predicted.min() >= 0
    assert predicted.max() <= 1
    assert abs(predicted.mean() - labels.mean()) < 0.08
    assert -0.3 < facts["before"] < 0.2, "it begins at the mean label"
    assert max(epoch["validation"] for epoch in facts["epochs"]) > 0.6


def test_history_and_item_together_are_read_where_neither_alone_tells(shop_bert):
    shop, click = word_shop("match", n_users=80), {"click": {"column": "clicked"}}
    many = {"epochs": 12, "rate": 4e-3}
    model, rows, _ = fitted(shop_bert, shop, click, history=1, **many)
    assert auc(*told(model, rows)) > 0.95
    model, rows, _ = fitted(shop_bert, shop, click, history=0, epochs=3)
    assert abs(auc(*told(model, rows)) - 0.5) < 0.1, "the item alone tells nothing"


@pytest.mark.parametrize("error", ["squared", "absolute"])
def test_a_word_that_decides_a_rating_is_found_up_to_its_noise(shop_bert, error):
    tasks = {"stars": {"kind": "rating", "error": error}}
    model, rows, _ = fitted(shop_bert, word_shop("rating", n_users=60), tasks, history=0, epochs=8)
    labels, predicted = told(model, rows)
    assert np.sqrt(np.square(labels - predicted).mean()) < 0.35, "the noise is .25, the spread 1.1"


@pytest.mark.parametrize("kind", ["pairwise", "listwise"])
@pytest.mark.parametrize("reader", ["cross", "towers"])
def test_rows_are_put_in_order(shop_bert, kind, reader):
    tasks = {"order": {"kind": kind}}
    shop = word_shop("rating", n_users=60)
    model, rows, _ = fitted(shop_bert, shop, tasks, reader=reader, history=0)
    labels, predicted = told(model, rows)
    task = rows.tasks["order"]
    colours = np.round(labels)
    assert skill_of(task, predicted, colours, rows.labelled.test.user_index) > 0.9


def test_the_next_item_follows_from_the_last_title(shop_bert):
    shop, holding = word_shop("follow", n_users=50), {"validation": 0.2, "test": 0.3, "most_judged": 30}
    model, rows, facts = fitted(
        shop_bert, shop, {"next": {"kind": "next"}}, history=1, epochs=4, holding=holding
    )
    test = rows.following.test.take(np.arange(0, len(rows.following.test), 4))
    every = np.broadcast_to(np.arange(N_ITEMS, dtype=np.int32), (len(test), N_ITEMS))
    scores = model.among(test, every)[:, :, 0]
    best = scores.argmax(axis=1) // len(THINGS)
    assert (best == test.item_index // len(THINGS)).mean() > 0.85, "the colour is certain, the thing is not"
    assert max(epoch["validation"] for epoch in facts["epochs"]) > 3 * facts["before"] > 0


def test_two_towers_find_items_of_the_colour_held_dear(shop_bert):
    shop = word_shop("match", n_users=80)
    model, rows, _ = fitted(
        shop_bert, shop, {"next": {"kind": "next"}}, reader="towers", history=2, epochs=6, rate=2e-3
    )
    test = rows.following.test
    every = np.broadcast_to(np.arange(N_ITEMS, dtype=np.int32), (len(test), N_ITEMS))
    best = model.among(test, every)[:, :, 0].argmax(axis=1)
    assert (best // len(THINGS) == test.item_index // len(THINGS)).mean() > 0.9


@pytest.mark.parametrize("balance", ["weights", "uncertainty"])
def test_two_tasks_at_once_are_both_learned(shop_bert, balance):
    tasks = {"stars": {"kind": "rating"}, "click": {"kind": "yes_no", "yes_from": 2.5}}
    shop = word_shop("rating", n_users=60)
    model, rows, _ = fitted(shop_bert, shop, tasks, history=0, balance=balance)
    assert auc(*told(model, rows, 1)) > 0.97
    labels, predicted = told(model, rows, 0)
    assert np.sqrt(np.square(labels - predicted).mean()) < 0.45


def test_a_label_that_few_rows_have_is_learned_beside_one_that_all_have(shop_bert):
    shop, holding = word_shop("rating", n_users=60), {"validation": 0.2, "test": 0.3, "most_judged": 20}
    tasks = {"stars": {"kind": "rating"}, "next": {"kind": "next", "negatives": 1}}
    model, rows, _ = fitted(shop_bert, shop, tasks, history=0, epochs=3, holding=holding)
    labels, predicted = told(model, rows, 0)
    assert np.sqrt(np.square(labels - predicted).mean()) < 0.6
    assert model.among(rows.following.test, np.zeros((len(rows.following.test), 3), np.int32)).shape[1:] == (
        3,
        2,
    )


def test_a_few_rows_that_say_the_same_do_not_break_training(shop_bert):
    shop = word_shop("rating")
    tasks = {"stars": {"kind": "rating"}, "click": {"kind": "yes_no", "yes_from": 3.5}}
    holding = {"validation": 0.2, "test": 0.3, "most_train": 1}
    model, rows, _ = fitted(shop_bert, shop, tasks, holding=holding, epochs=1)
    assert np.isfinite(model.predict(rows.labelled.test)).all()


def test_a_run_that_cannot_be_judged_is_trained_without_judging(shop_bert):
    """One validation row a user says nothing about an order."""
    shop = word_shop("rating", n_users=30, n_events=6)
    held = {"validation": 0.01, "test": 0.3}
    model, rows, facts = fitted(shop_bert, shop, {"o": {"kind": "pairwise"}}, holding=held, history=0)
    assert facts["before"] is None
    assert [epoch["validation"] for epoch in facts["epochs"]] == [None, None], "epochs_without_validation"
    labels, predicted = told(model, rows)
    assert np.corrcoef(labels, predicted)[0, 1] > 0.5


def test_state_can_decide(shop_bert):
    """Who has a phone clicks, who sits at a desk does not."""
    shop = word_shop("word", n_users=60)
    value = (shop.histories.row_of_event % 2).astype(np.float32)
    shop = replace(shop, histories=replace(shop.histories, value=value))
    model, rows, _ = fitted(
        shop_bert, shop, CLICK, wording={"history_items": 0, "state": ["device"]}, epochs=3
    )
    assert auc(*told(model, rows)) > 0.97
