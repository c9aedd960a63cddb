"""Judges against the model they ask: the same numbers, each text read once, whatever arrives or changes."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.data.labelled import next_items
from zhiyin.domain import PAD, Catalogue
from zhiyin.domain.errors import ConfigError
from zhiyin.language.finetuning.judging import open_judge
from zhiyin.language.finetuning.model import prepared_model, wording_for
from zhiyin.language.finetuning.saving import save_finetuned
from zhiyin.language.finetuning.settings import FinetuningConfig, TaskConfig
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import locate_model
from zhiyin.language.opened import open_model
from zhiyin.testing.word_shop import N_ITEMS, word_shop

TASKS = {"click": TaskConfig(), "next": TaskConfig(kind="next")}
SHOP = word_shop("word", n_users=12)
KNOWN = Background(SHOP.catalogue, positive_value=SHOP.positive_value)


@pytest.fixture(scope="module", params=["cross", "towers"])
def judge(request, shop_bert, tmp_path_factory):
    training = {"precision": "float32", "devices": "cpu"}
    config = FinetuningConfig.model_validate({"reader": request.param, "training": training})
    opened = open_model(locate_model(str(shop_bert)))
    model = prepared_model(opened, wording_for(opened, KNOWN, config), config, TASKS)
    sides = (
        [model.reader.heads] if request.param == "cross" else [model.reader.user_side, model.reader.item_side]
    )
    for side in sides:
        side.weight.data.normal_(std=0.3)
    folder = tmp_path_factory.mktemp("judges") / request.param
    save_finetuned(model, folder, {})
    return open_judge(folder, KNOWN, "click")


def moments():
    return next_items(SHOP).take(np.array([3, 40, 41, 50]))


ITEMS = np.array([[0, 9, 3], [9, 1, PAD], [5, 30, 31], [PAD, PAD, PAD]], dtype=np.int32)


def test_it_says_what_the_model_says_and_nothing_of_padding(judge):
    found = judge.scores(moments(), ITEMS)
    assert (np.isnan(found) == (ITEMS == PAD)).all()
    for row, place in zip(*np.nonzero(ITEMS != PAD), strict=True):
        alone = replace(moments().take(np.array([row])), item_index=ITEMS[row, place : place + 1])
        assert found[row, place] == pytest.approx(float(judge.model.predict(alone)[0, 0]), abs=1e-5)
    assert np.nanmin(found) >= 0
    assert np.nanmax(found) <= 1
    assert np.nanstd(found) > 1e-4


def test_texts_are_counted_before_they_are_read(judge):
    fresh = judge.with_changes(np.arange(N_ITEMS, dtype=np.int32), SHOP.catalogue)
    reads_apart = bool(fresh.memory())
    assert fresh.texts_to_read(ITEMS).tolist() == ([4 + 3, 4 + 5, 4 + 7] if reads_apart else [3, 6, 8])
    fresh.scores(moments(), ITEMS[:1])
    assert fresh.texts_to_read(ITEMS).tolist() == ([4 + 1, 4 + 3, 4 + 4] if reads_apart else [3, 6, 8])


def test_what_arrives_or_changes_is_read_anew_and_the_judge_before_stays(judge):
    before = judge.scores(moments(), ITEMS)
    title = SHOP.catalogue.table["title"][30]
    longer = judge.with_items(Catalogue.from_table(pl.DataFrame({"item_id": ["new"], "title": [title]})))
    both = np.array([[30, N_ITEMS]] * 4, dtype=np.int32)
    found = longer.scores(moments(), both)
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=1e-5)
    other = SHOP.catalogue.table["title"][2]
    table = pl.DataFrame({"item_id": ["i30"], "title": [other]})
    changed = longer.with_changes(np.array([30], dtype=np.int32), Catalogue.from_table(table))
    found = changed.scores(moments(), np.array([[30, 2]] * 4, dtype=np.int32))
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=1e-5)
    np.testing.assert_array_equal(judge.scores(moments(), ITEMS), before)


def test_a_task_it_does_not_foretell_is_refused(judge):
    with pytest.raises(ConfigError, match=r"no task 'clik'") as caught:
        type(judge)(judge.model, "clik")
    assert "click, next" in str(caught.value)
    assert type(judge)(judge.model).task == "click"
