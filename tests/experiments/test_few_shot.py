"""The curve over the number of labels."""

import json
from dataclasses import replace

import numpy as np
import pytest

from zhiyin.domain.errors import RequestError
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.few_shot import FewShotPoint
from zhiyin.experiments import few_shot
from zhiyin.experiments.few_shot import AS_IT_CAME, FINETUNED, SCALED, few_shot_on, parsed_shots
from zhiyin.experiments.finetuning import FinetuningOrder
from zhiyin.language.finetuning import fitting
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.testing.tiny_models import save_bert
from zhiyin.testing.word_shop import WORDS, word_shop

SETTINGS = {
    "method.name": "full",
    "training.learning_rate": "0.003",
    "training.max_epochs": "8",
    "training.tokens_per_batch": "512",
    "wording.max_tokens": "24",
    "wording.history_items": "1",
    "holding.most_judged": "30",
    "holding.most_reported": "40",
}
SHOTS = (0, 8, 192)


@pytest.fixture(scope="module")
def shop():
    return word_shop("word", n_users=30)


@pytest.fixture(scope="module")
def ran(shop, tmp_path_factory):
    """The order of a run, and its report."""
    folder = tmp_path_factory.mktemp("few")
    save_bert(WORDS, folder / "base", max_position_embeddings=32)
    order = FinetuningOrder(folder / "out", str(folder / "base"), ("click",), SETTINGS)
    return order, few_shot_on(shop, order, SHOTS)


def test_rows_of_a_smaller_number_are_among_those_of_a_larger(shop):
    drawn = {}
    for n in (8, 40, 192):
        config = FinetuningConfig.parse({"holding": {"most_train": n}}, where="test")
        rows = rows_of(shop, config, seed=3).labelled
        drawn[n] = set(zip(rows.train.user_index.tolist(), rows.train.n_known.tolist(), strict=True))
        held = [(part.item_index.tolist(), part.user_index.tolist()) for part in (rows.validation, rows.test)]
        assert len(drawn[n]) == n
        assert held == drawn.setdefault("held", held)
    assert drawn[8] < drawn[40] < drawn[192]


def test_every_number_has_its_points(ran):
    order, report = ran
    assert [(point.n_labels, point.method) for point in report.points] == [
        (0, AS_IT_CAME),
        (8, SCALED),
        (8, FINETUNED),
        (192, SCALED),
        (192, FINETUNED),
    ]
    zero, scaled, few, many_scaled, many = (point.figures["click"] for point in report.points)
    assert set(zero) == {"roc_auc", "gauc", "average_precision"}  # Nothing has put its scores on a scale.
    assert scaled["roc_auc"].value == pytest.approx(zero["roc_auc"].value)
    assert many_scaled["log_loss"].value < 0.75
    assert many["roc_auc"].value > 0.95 > few["roc_auc"].value
    assert report.points[2].n_epochs >= 3
    assert report.data["test rows"] == "30"
    by_point = {name for name, value in report.settings.items() if value == "by the number of labels"}
    assert by_point == {f"training.{name}" for name in ("max_epochs", "patience", "tokens_per_batch")} | {
        "holding.most_train"
    }
    assert report.settings["wording.max_tokens"] == "24"
    told = report.rows("click")
    assert [row[0] for row in told] == ["0", "8", "8", "192", "192"]
    assert told[0][-1] == "–"
    assert not order.out.exists()
    assert not order.out.with_name("out.checkpoints").exists()


def test_the_page_shows_curves_and_table(ran):
    order, report = ran
    page = order.out.with_name("out.few_shot.html").read_text()
    assert "<svg" in page
    assert "as it came, scaled" in page
    for row in report.rows("click"):
        assert row[-1] in page
    assert "nan" not in page


def test_points_that_are_known_are_not_computed_again(ran, shop, monkeypatch):
    order, report = ran
    monkeypatch.setattr(fitting, "finetune", None)
    monkeypatch.setattr(few_shot._Work, "_untrained", None)
    again = few_shot_on(shop, order, SHOTS)
    assert [point.record() for point in again.points] == [point.record() for point in report.points]
    fewer = few_shot_on(shop, order, (0, 192))
    assert [point.n_labels for point in fewer.points] == [0, 192, 192]


def test_points_of_other_settings_are_computed_anew(ran, shop):
    order, _ = ran
    kept = order.out.with_name("out.few_shot.json").read_text()
    other = replace(order, settings={**SETTINGS, "wording.history_items": "0"})
    few_shot_on(shop, other, (0,))
    anew = json.loads(order.out.with_name("out.few_shot.json").read_text())
    assert [point["n_labels"] for point in anew["points"]] == [0]
    order.out.with_name("out.few_shot.json").write_text(kept)


def test_a_strange_file_is_not_written_over(ran, shop):
    order, _ = ran
    order = replace(order, out=order.out.with_name("strange"))
    order.out.with_name("strange.few_shot.json").write_text('{"points": [1]}')
    with pytest.raises(RequestError, match="does not hold points"):
        few_shot_on(shop, order, (0,))


def test_more_rows_than_there_are_cannot_be_asked_for(ran, shop):
    order, _ = ran
    with pytest.raises(RequestError, match=r"5,000 labelled rows are asked for, and there are 300"):
        few_shot_on(shop, order, (0, 5000))


@pytest.mark.parametrize("text", ["", "a", "16;64", "-1", "1.5", "16,,64"])
def test_a_list_of_no_numbers_is_refused(text):
    with pytest.raises(RequestError, match="list of numbers"):
        parsed_shots(text)


def test_numbers_are_sorted_and_told_once():
    assert parsed_shots(" 64,0, 16,16") == (0, 16, 64)


def test_a_point_comes_back_from_its_record():
    figures = {
        "click": {"roc_auc": Interval(0.7, 0.6, 0.8), "gauc": Interval(float("nan"), *[float("nan")] * 2)}
    }
    point = FewShotPoint(SCALED, 16, 2.5, figures)
    back = FewShotPoint.of(json.loads(json.dumps(point.record(), allow_nan=False)))
    assert back.figures["click"]["roc_auc"] == Interval(0.7, 0.6, 0.8)
    assert np.isnan(back.figures["click"]["gauc"].value)
