"""The page and the card of a fine-tuning run say what they were given, and what should be looked at."""

import dataclasses
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from zhiyin.evaluation.labels.card import model_card
from zhiyin.evaluation.labels.chances import judge_chances
from zhiyin.evaluation.labels.charts import calibration_chart, interval_chart
from zhiyin.evaluation.labels.figures import label_differences
from zhiyin.evaluation.labels.page import finetuning_page, write_finetuning_page
from zhiyin.evaluation.labels.pictures import chance_picture
from zhiyin.evaluation.labels.predicted import PredictedLabels
from zhiyin.evaluation.labels.rankings import judge_rankings
from zhiyin.evaluation.labels.reading import read_report
from zhiyin.evaluation.labels.run_report import (
    FinetuningCosts,
    FinetuningEpoch,
    FinetuningReport,
    TaskReport,
    lower_is_better,
)
from zhiyin.evaluation.labels.sentences import Tone
from zhiyin.evaluation.labels.values import judge_values
from zhiyin.evaluation.labels.words import FIGURES, count, duration, figure_name, share

HOSTILE = '"><script>alert(1)</script>|$title\n'
COSTS = FinetuningCosts(22_713_216, 294_912, 1384.2, "cpu, 2 threads", 1893.4, 11_250.0)


class Page(HTMLParser):
    """Reads a page strictly: every element is closed where it should be."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in {"meta", "wbr"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


def rows(task="click", n=600, seed=0, bold=1.0, lift=0.0, rarity=0.0):
    """Clicks told with the right chance; a bold model doubles the logit, a lifted one adds to it."""
    rng = np.random.default_rng(seed)
    users = rng.integers(60, size=n)
    logit = rng.normal(size=n) * 1.2 - rarity
    labels = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    told = 1 / (1 + np.exp(-(bold * logit + lift)))
    return PredictedLabels(task, labels, told, users, rng.integers(0, 80, size=n), users)


def epochs(losses, values, name="roc_auc"):
    return tuple(
        FinetuningEpoch(number + 1, loss, {name: value})
        for number, (loss, value) in enumerate(zip(losses, values, strict=True))
    )


def task_of(predicted, **settings):
    return TaskReport.of(predicted, judge_chances(predicted, n_resamples=200, **settings))


def report(*tasks, **parts):
    given = {
        "name": "click on a shop",
        "base": "minilm",
        "method": "lora",
        "shape": "cross-encoder",
        "dataset": "shop",
        "costs": COSTS,
        "tasks": tasks,
    }
    return FinetuningReport(**{**given, **parts})


def full(text="plain"):
    clicks = dataclasses.replace(rows(), task=text)
    weaker = dataclasses.replace(
        clicks, predictions=np.clip(clicks.predictions * 0.2 + 0.4 * (1 - clicks.labels), 0, 1)
    )
    figures, other = (judge_chances(one, n_resamples=200) for one in (clicks, weaker))
    values = dataclasses.replace(clicks, task="stars", labels=clicks.labels * 4 + 1)
    return report(
        TaskReport.of(clicks, figures, {text: label_differences(figures, other)}),
        TaskReport.of(values, judge_values(values, n_resamples=200)),
        TaskReport.of(clicks, judge_rankings(dataclasses.replace(clicks, task="pages"), n_resamples=200)),
        epochs=epochs([0.7, 0.5, 0.3], [0.7, 0.8, 0.75]),
        chosen_by="roc_auc",
        name=text,
        base=text,
        data={text: text},
        settings={text: text},
        versions={text: text},
        command=text,
        created=text,
    )


# --- page --------------------------------------------------------------------------------------------------


def test_the_page_tells_everything_it_was_given():
    run = full()
    page = Page(finetuning_page(run))
    clicks = run.tasks[0].figures
    for name, one in clicks.figures.items():
        assert FIGURES[name][0] in page.words
        assert f"{one.value:.4f}" in page.words, name
        assert f"{one.low:.4f} – {one.high:.4f}" in page.words, name
    for told in (
        "In plain words",
        "How it learned",
        "ROC curve",
        "Precision and recall",
        "Calibration",
        "Predicted and true",
        "Task: stars",
        "Task: pages",
        "NDCG@10",
        "11–50 events",
        "kept 0.8000",
        "294,912 (1.3 %)",
        "22,713,216",
        "1.8 GiB",
        "23 min",
        "11,250",
        "against others",
        "600 test rows of 60 users",
        "600 test candidates of 60 users",
    ):
        assert told in page.words, told
    assert page.tags.count("svg") == 2 + 3 + 1 + 3 * 2, "learning, chances, values, by history"


def test_the_page_loads_nothing_and_nothing_breaks_it(tmp_path):
    html = finetuning_page(full(HOSTILE))
    assert [tag for tag in Page(html).tags if tag != "wbr"] == [
        tag for tag in Page(finetuning_page(full())).tags if tag != "wbr"
    ]
    assert "default-src 'none'" in html
    for outside in ("http://", "https://", "<script", "<link", "<img", "url(", "@import"):
        assert outside not in html
    written = write_finetuning_page(full("龙井茶"), tmp_path / "page.html")
    assert "龙井茶" in written.read_text(encoding="utf-8")


def test_a_run_without_tasks_or_epochs_has_a_page_and_a_card():
    run = report(costs=FinetuningCosts(0, 0, 1.0, "cpu"))
    page = Page(finetuning_page(run))
    assert "Costs" in page.words
    assert "nan" not in page.words
    assert "nan" not in model_card(run)


def test_nothing_known_is_a_dash_with_its_reason():
    same = dataclasses.replace(rows(), labels=np.ones(600, dtype=np.float32))
    run = report(task_of(same))
    page = Page(finetuning_page(run))
    assert "every label is yes, so that there is nothing to tell apart" in page.words
    assert "ROC curve" not in page.words
    assert " nan" not in page.words.lower()
    assert "| ROC-AUC | – | every label is yes" in model_card(run)


def test_dots_lie_where_the_figures_are():
    """Chances told right: dots near the diagonal. A larger value stands further right among intervals."""
    places = [
        (float(x), float(y))
        for x, y in re.findall(
            r'<circle class="dot" cx="([\d.]+)" cy="([\d.]+)"',
            calibration_chart(chance_picture(rows(n=20_000), n_bins=5, n_resamples=20).bins),
        )
    ]
    assert len(places) == 5
    xs = [(x - 44) / (350 - 44 - 14) for x, _ in places]
    ys = [(280 - 42 - y) / (280 - 42 - 12) for _, y in places]
    np.testing.assert_allclose(xs, ys, atol=0.05)
    parts = judge_chances(rows(), n_resamples=50).by_history
    drawn = interval_chart([(part.label, "", part.figures["roc_auc"]) for part in parts], 0.75, "AUC")
    found = [float(x) for x in re.findall(r'class="dot" cx="([\d.]+)"', drawn)]
    assert (
        np.argsort(found).tolist() == np.argsort([part.figures["roc_auc"].value for part in parts]).tolist()
    )


# --- plain words -------------------------------------------------------------------------------------------


def said(run, tone):
    return " ".join(sentence.text for sentence in read_report(run) if sentence.tone is tone)


def test_an_honest_model_is_praised_and_nothing_else():
    run = report(
        task_of(rows(n=4_000)),
        epochs=epochs([0.7, 0.6, 0.55], [0.7, 0.78, 0.779]),
        chosen_by="roc_auc",
    )
    assert "It tells yes from no" in said(run, Tone.GOOD)
    assert "can be taken at their word" in said(run, Tone.GOOD)
    assert said(run, Tone.WORRY) == ""
    assert "After epoch 2 nothing was gained" in said(run, Tone.PLAIN)
    assert "1.3 % of the parameters (294,912 of 22,713,216)" in said(run, Tone.PLAIN)


@pytest.mark.parametrize(
    ("made", "warning"),
    [
        ({"lift": 1.0}, "It promises too much"),
        ({"lift": -1.0}, "It promises too little"),
        ({"bold": 3.0}, "too bold or too timid"),
        ({"bold": -1.0}, "Are yes and no the wrong way round?"),
        ({"bold": 0.0, "seed": 3}, "cannot be told from guessing"),
        ({"lift": 3.0}, "worth less than telling everybody"),
        ({"rarity": 4.0}, "Rare class: only"),
        ({"rarity": -4.0}, "rows are no, so that"),
        ({"lift": -6.0}, "It finds no yes at the threshold 0.5"),
    ],
)
def test_what_should_be_looked_at_is_said(made, warning):
    run = report(task_of(rows(n=4_000, **made)))
    assert warning in said(run, Tone.WORRY)
    assert warning in Page(finetuning_page(run)).words
    assert warning in model_card(run)


def test_few_rows_and_labels_all_equal_are_said():
    assert re.search(r"Few rows: \d\d are (yes|no)\.", said(report(task_of(rows(n=60))), Tone.WORRY))
    same = dataclasses.replace(rows(), labels=np.zeros(600, dtype=np.float32))
    assert "Nothing can be said about yes and no: every label is no" in said(
        report(task_of(same)), Tone.WORRY
    )


@pytest.mark.parametrize(
    ("losses", "values", "name", "tone", "sentence"),
    [
        ([0.7, 0.5, 0.3], [0.7, 0.8, 0.75], "roc_auc", Tone.WORRY, "Over-fitting: after epoch 2"),
        ([0.7, 0.5, 0.3], [0.6, 0.5, 0.7], "log_loss", Tone.WORRY, "Over-fitting: after epoch 2"),
        ([0.7, 0.5, 0.3], [0.7, 0.8, 0.85], "click/roc_auc", Tone.PLAIN, "more epochs may help"),
        ([0.7, 0.5, 0.6], [0.7, 0.8, 0.7], "roc_auc", Tone.WORRY, "it got worse in training too"),
        ([0.7, 0.7, 0.8], [0.7, 0.7, 0.71], "roc_auc", Tone.WORRY, "The training loss did not fall"),
        ([0.7, math.nan], [0.7, math.nan], "roc_auc", Tone.WORRY, "not a number from epoch 2 on"),
    ],
)
def test_learning_curves_are_read(losses, values, name, tone, sentence):
    run = report(epochs=epochs(losses, values, name), chosen_by=name)
    assert sentence in said(run, tone)


def test_the_kept_epoch_follows_the_direction_of_its_figure():
    assert lower_is_better("rating/rmse")
    assert not lower_is_better("click/roc_auc")
    assert report(epochs=epochs([1, 1, 1], [0.9, 0.7, 0.8], "rmse"), chosen_by="rmse").best_epoch.epoch == 2
    assert report(epochs=epochs([1, 1, 1], [0.9, 0.7, 0.8]), chosen_by="roc_auc").best_epoch.epoch == 1
    assert report(epochs=epochs([1, 1], [0.9, 0.7])).best_epoch.epoch == 2
    assert report().best_epoch is None


def test_values_are_read():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=2_000)
    stars = PredictedLabels("stars", labels, labels * 0.5, np.arange(2_000) % 90, np.zeros(2_000, dtype=int))
    assert "It explains 7" in said(report(TaskReport.of(stars, judge_values(stars))), Tone.GOOD)
    for change, warning in ((2.0, "too high by 2.0"), (-2.0, "too low by 2.0")):
        off = dataclasses.replace(stars, predictions=labels + change + rng.normal(size=2_000) * 0.1)
        worries = said(report(TaskReport.of(off, judge_values(off))), Tone.WORRY)
        assert warning in worries
        assert "no better than telling everybody the mean" in worries


def test_the_new_and_the_well_known_are_compared():
    """Chances are right for those with 51 or more events and noise for the others, or the reverse."""
    made = rows(n=6_000)
    noise = np.random.default_rng(1).random(6_000)
    for is_lost, tone, sentence in (
        (made.n_known < 51, Tone.PLAIN, "less well for those it hardly knows"),
        (made.n_known >= 51, Tone.GOOD, "best for those it hardly knows"),
    ):
        told = dataclasses.replace(made, predictions=np.where(is_lost, noise, made.predictions))
        assert sentence in said(report(task_of(told)), tone)
    assert "No certain difference" in said(report(task_of(made)), Tone.PLAIN)


def test_others_are_compared_by_the_main_figure():
    clicks = rows(n=2_000)
    noisy = dataclasses.replace(clicks, predictions=np.random.default_rng(2).random(2_000))
    ours, theirs = judge_chances(clicks), judge_chances(noisy)
    against = {"chance": label_differences(ours, theirs), "itself": label_differences(ours, ours)}
    run = report(TaskReport.of(clicks, ours, against))
    assert "It is better than chance: ROC-AUC +0." in said(run, Tone.GOOD)
    assert "It cannot be told from itself" in said(run, Tone.PLAIN)
    lost = report(TaskReport.of(noisy, theirs, {"good": label_differences(theirs, ours)}))
    assert "It is worse than good: ROC-AUC -0." in said(lost, Tone.WORRY)


# --- card and words ----------------------------------------------------------------------------------------


def test_the_card_holds_what_a_card_must():
    run = full()
    card = model_card(run)
    head, body = card.split("---\n")[1:3]
    assert yaml.safe_load(head)["base_model"] == "plain"
    for name, one in run.tasks[0].figures.figures.items():
        line = f"| {figure_name(name)} | {one.value:.4f} | {one.low:.4f} – {one.high:.4f} |"
        assert line in body, name
    for told in (
        "294,912 of 22,713,216 parameters (1.3 %)",
        "| events known of the user | rows | ROC-AUC | Log-loss |",
        "Task: stars",
        "| NDCG@5 |",
        "## To worry about",
        "## Use and limits",
        "## Settings",
        "on the same rows: ROC-AUC +",
    ):
        assert told in body, told


def test_hostile_names_stay_in_their_cells_of_the_card():
    hostile, plain = (model_card(full(text)) for text in (HOSTILE, "plain"))
    cells = [
        [len(re.findall(r"(?<!\\)\|", line)) for line in card.splitlines() if line.startswith("|")]
        for card in (hostile, plain)
    ]
    assert cells[0] == cells[1]
    assert yaml.safe_load(hostile.split("\n---\n")[0].removeprefix("---\n"))["base_model"] == HOSTILE


def test_every_figure_has_its_words():
    clicks = rows(n=200)
    for judge in (judge_chances, judge_values, judge_rankings):
        for name in judge(clicks, n_resamples=2).figures:
            assert name.partition("_at_")[0] in FIGURES
    assert figure_name("click/ndcg_at_10") == "click: NDCG@10"
    assert figure_name("surprise") == "surprise"


def test_numbers_are_written_as_one_would_say_them():
    assert [share(value) for value in (0.0, 0.0007, 0.012, 0.43, 1.0, math.nan)] == [
        "0 %",
        "0.07 %",
        "1.2 %",
        "43 %",
        "100 %",
        "–",
    ]
    assert [duration(value) for value in (3.14, 48.2, 720.0, 12_240.0)] == [
        "3.1 s",
        "48 s",
        "12 min",
        "3.4 h",
    ]
    assert [count(value) for value in (950, 9_999, 23_400, 22_713_216, 1.1e9)] == [
        "950",
        "9,999",
        "23.4 k",
        "22.7 M",
        "1.1 B",
    ]
