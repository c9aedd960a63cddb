"""The page says what it was given, in both languages, and nothing that was put into a title can break it."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.domain.errors import ConfigError
from zhiyin.evaluation.breakdown import (
    Breakdown,
    Group,
    SourceShare,
    by_cold_items,
    by_history_length,
    by_item_popularity,
    source_shares,
)
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.chances import judge_chances
from zhiyin.evaluation.labels.predicted import PredictedLabels
from zhiyin.evaluation.plots import Bar, bar_chart, figure, line_chart, nice_ticks, percent
from zhiyin.evaluation.report import render_report, write_report
from zhiyin.evaluation.report_data import (
    Epoch,
    ExampleSlate,
    ReportData,
    ReportRow,
    Role,
    ShownItem,
    TrainingCurve,
)
from zhiyin.evaluation.report_words import CHINESE, ENGLISH, METRIC_NAMES

HOSTILE = '"><script>alert(1)</script><img src=x onerror="alert(2)">$title'


class Page(HTMLParser):
    """Reads a page strictly: every element is closed where it should be."""

    VOID = frozenset({"meta", "wbr"})

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


def row(name, role, value):
    cuts = [
        f"{metric}_at_{k}" for k in (5, 10) for metric in ("recall", "ndcg", "mrr", "coverage", "novelty")
    ]
    return ReportRow(name, role, {metric: Interval(value, value * 0.9, value * 1.1) for metric in cuts})


def full(title="Green tea, 100 g", name="item_graph"):
    return ReportData(
        dataset=name,
        recipe=name,
        command=f"zhiyin evaluate {name}",
        created=title,
        n_queries=1234,
        rows=(row(name, Role.PIPELINE, 0.2), row(name, Role.SOURCE, 0.1), row(name, Role.FLOOR, 0.05)),
        breakdowns=(
            Breakdown("item_popularity", "recall_at_10", (Group("5–9", 12_345, 0.3, 0.2, 0.4),)),
            Breakdown("history_length", "recall_at_10", (Group("1–2", 10, 0.31, 0.2, 0.4),)),
            Breakdown("cold_items", "recall_at_10", (Group("cold", 0, math.nan, math.nan, math.nan),)),
        ),
        sources=(SourceShare(name, 0.5, 0.25, math.nan),),
        curves=(TrainingCurve(name, (Epoch(1, 2.0, 0.1), Epoch(2, 1.5, 0.3), Epoch(3, 1.2, 0.2))),),
        examples=(
            ExampleSlate(title, (title,) * 9, (ShownItem(title, (name,), was_taken=True),), (title,)),
            ExampleSlate("newcomer", (), (ShownItem("a"),)),
        ),
        data={title: title},
        costs={title: title},
        settings={title: title},
        versions={title: title},
    )


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_full_report_tells_everything_in_both_languages(lang):
    page = Page(render_report(full(), lang=lang))
    words = ENGLISH if lang == "en" else CHINESE
    for section in ("headline", "where", "slates", "sources", "curves", "examples", "behind"):
        assert words[section] in page.words
    for told in ("0.2000", "0.1800 – 0.2200", "n 12k", "50 %", "item_ graph", "1,234", "zhiyin evaluate"):
        assert told in page.words, told
    assert f"4.0 {words['times_floor']}" in page.words
    assert f"{words['best']} 0.3000" in page.words
    assert f"… 3 {words['earlier']}" in page.words
    assert words["no_history"] in page.words
    assert words["cold"] in page.words


def test_the_two_languages_say_the_same_things():
    assert ENGLISH.keys() == CHINESE.keys()
    assert METRIC_NAMES["en"].keys() == METRIC_NAMES["zh"].keys()


def test_the_page_loads_nothing_and_runs_nothing():
    html = render_report(full())
    assert "default-src 'none'" in html
    for outside in ("http://", "https://", "<script", "<link", "<img", "url(", "@import"):
        assert outside not in html


def test_hostile_names_become_harmless_text():
    html = render_report(full(title=HOSTILE, name=HOSTILE))
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert "onerror" not in page.attributes
    assert HOSTILE in "".join(page.text)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_changes_the_elements_of_the_page(title, name):
    plain, page = (Page(render_report(data)).tags for data in (full("a", "b"), full(title, name)))
    assert [tag for tag in page if tag != "wbr"] == [tag for tag in plain if tag != "wbr"]


def test_an_empty_report_is_a_page_without_sections():
    page = Page(render_report(ReportData("toy", "fast")))
    assert "section" not in page.tags
    assert "fast on toy" in page.words


def test_values_nobody_measured_are_dashes():
    unknown = Interval(math.nan, math.nan, math.nan)
    rows = (ReportRow("a", Role.PIPELINE, {"ndcg_at_10": unknown, "recall_at_10": unknown}),)
    page = Page(render_report(ReportData("toy", "fast", rows=rows)))
    assert "–" in page.words
    assert "nan" not in page.words


def test_a_report_of_a_real_evaluation_of_one_query(judged):
    evaluation = judged.evaluation([[3.0, 2.0, 1.0]], [[]], [[1]])
    data = ReportData(
        "toy",
        "fast",
        rows=(ReportRow.of("fast", Role.PIPELINE, evaluation),),
        breakdowns=(
            by_history_length(evaluation, "recall_at_2"),
            by_item_popularity(evaluation, "recall_at_2"),
            by_cold_items(evaluation, "recall_at_2"),
        ),
        sources=source_shares(evaluation, 2),
    )
    page = Page(render_report(data))
    assert "Recall@2" in page.words
    assert "1.00" in page.words


def test_endless_titles_are_cut():
    example = ExampleSlate("u", ("h" * 500,), (ShownItem("r" * 500),), ("t" * 500,))
    page = Page(render_report(ReportData("toy", "fast", examples=(example,))))
    for letter in "hrt":
        assert f"{letter * 109}…" in page.words
        assert letter * 110 not in page.words


def test_the_note_follows_the_protocol():
    repeated = ReportData("toy", "fast", rows=(row("a", Role.PIPELINE, 0.1),), repeat=True)
    assert "items the user already has included" in render_report(repeated)


def test_an_unknown_language_is_refused():
    with pytest.raises(ConfigError, match="language 'fr'"):
        render_report(full(), lang="fr")


def test_the_file_is_utf8(tmp_path):
    path = write_report(full(title="龙井茶"), tmp_path / "report.html", lang="zh")
    assert "龙井茶" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.11214, "0.1121"), (9.4318, "9.43"), (1250.4, "1,250"), (0.0, "0.0000"), (math.nan, "–")],
)
def test_figures_are_written_for_readers(value, written):
    assert figure(value) == written


def test_shares_are_written_in_percent():
    assert [percent(0.426), percent(math.nan)] == ["43 %", "–"]


def test_bars_are_as_long_as_their_values():
    html = bar_chart([Bar("a", "", Interval(1.0, 0.5, 2.0)), Bar("b", "", Interval(0.5, math.nan, math.nan))])
    assert re.findall(r'class="bar "[^>]*width:([\d.]+)%', html) == ["50.00", "25.00"]
    assert re.findall(r"left:([\d.]+)%;width:([\d.]+)%", html) == [("25.00", "75.00")]


def test_bars_without_any_value_have_no_length():
    assert "width:0" in bar_chart([Bar("a", "", Interval(math.nan, math.nan, math.nan))])
    assert "width:0.00%" in bar_chart([Bar("a", "", Interval(0.0, 0.0, 0.0))])


@pytest.mark.parametrize("points", [[], [(1, math.nan)]])
def test_a_line_without_points_is_not_drawn(points):
    assert line_chart(points, title="loss", x_name="epoch") == ""


@pytest.mark.parametrize(
    "points", [[(1, 0.5)], [(1, 0.5), (2, 0.5)], [(1, 0.0), (9, 0.0)], [(3, 1e-9), (4, 1e9)]]
)
def test_a_line_stays_inside_its_drawing(points):
    html = line_chart(points, title="loss", x_name="epoch", best=(points[0][0], "best"))
    places = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', html)]
    assert len(places) == len(points) + 1
    assert all(0 <= x <= 420 and 0 <= y <= 210 for x, y in places)


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_are_few_rising_and_hold_the_values(low, spread):
    high = low + spread
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))
    assert len({f"{tick:g}" for tick in ticks}) == len(ticks)
    slack = 1e-6 * (ticks[1] - ticks[0])
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack


@pytest.mark.parametrize(("lang", "words"), [("en", ENGLISH), ("zh", CHINESE)])
def test_what_a_ranker_predicts_is_shown_by_length_of_history(lang, words):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400).astype(float)
    chances = np.clip(0.3 + 0.4 * labels + random.normal(0, 0.2, 400), 0.01, 0.99)
    known = np.repeat([0, 5, 30, 60], 100)
    judged = judge_chances(PredictedLabels(HOSTILE, labels, chances, np.arange(400) % 40, known))
    page = Page(render_report(ReportData("shop", "fast", predictions=(judged,)), lang=lang))
    assert "script" not in page.tags
    assert words["predictions"] in page.words
    for shown in (HOSTILE, "ROC-AUC", figure(judged.figures["roc_auc"].value), "4–10", "51+"):
        assert shown in page.words
    without = Page(render_report(ReportData("shop", "fast"), lang=lang))
    assert words["predictions"] not in without.words
