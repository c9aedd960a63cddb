"""Item → text."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.contracts import Config
from zhiyin.domain import Catalogue
from zhiyin.domain.errors import ConfigError
from zhiyin.language.texts import TextTemplate, item_texts


def texts_of(template: TextTemplate | None = None, **columns: list[object]) -> list[str]:
    n = len(next(iter(columns.values())))
    table = pl.DataFrame({"item_id": [f"id{place}" for place in range(n)], **columns})
    return item_texts(Catalogue.from_table(table), template)


def test_known_columns_come_in_their_order_and_attributes_by_name():
    assert texts_of(
        scent=["rose"],
        description=["A quiet cream."],
        colour=["white"],
        categories=[["Beauty > Skin Care", "Gifts"]],
        brand=["Yun"],
        title=["Night Cream"],
    ) == ["Night Cream. Yun. Beauty, Skin Care, Gifts. A quiet cream. colour: white. scent: rose"]


def test_chinese_is_kept():
    texts = texts_of(title=["龙井茶"], description=["明前采摘，清香。"], 产地=["杭州"])
    assert texts == ["龙井茶. 明前采摘，清香. 产地: 杭州"]


def test_what_holds_no_words_is_left_out():
    assert texts_of(
        title=["Lamp"],
        price=[12.5],
        imdb_id=["tt0114709"],
        image_url=["somewhere"],
        page=["https://example.org/lamp"],
        package=["com.example.lamp"],
        token=["003iydfj1747amj8"],
        rating=["4.5"],
        n_sold=[17],
        entities=['[{"Label": "x"}]'],
        released=["2004-01-01 00:00:00"],
        empty=["  "],
        nothing=[None],
        numbers=[[1, 2]],
        original_title=["Lamp"],
    ) == ["Lamp"]


def test_years_and_true_flags_are_words():
    assert texts_of(title=["A", "B"], year=[1995, 2001], waterproof=[True, False]) == [
        "A. waterproof. year: 1995",
        "B. year: 2001",
    ]
    assert texts_of(title=["A"], year_published=["1995.0"]) == ["A. year published: 1995"]


def test_a_number_may_be_a_title():
    assert texts_of(title=["1984", None]) == ["1984", ""]


def test_markup_of_web_pages_is_undone():
    assert texts_of(title=["Salt &amp; Stone"], description=["<p>One<br/>two &lt; three</p>\n four"]) == [
        "Salt & Stone. One two < three four"
    ]


def test_a_long_value_is_cut_at_a_word_and_chinese_where_it_must():
    template = TextTemplate(max_value_characters=11)
    assert texts_of(template, title=["hello brave world"]) == ["hello brave"]
    assert texts_of(template, title=["hello braver world"]) == ["hello"]
    assert texts_of(template, title=["一二三四五六七八九十一二三四五六"]) == ["一二三四五六七八九十一"]


def test_the_template_chooses_columns_and_leaves_columns_out():
    columns = {"title": ["Cup"], "colour": ["blue"], "scent": ["none"]}
    assert texts_of(TextTemplate(columns=("colour", "title", "absent")), **columns) == ["colour: blue. Cup"]
    assert texts_of(TextTemplate(left_out=("scent",)), **columns) == ["Cup. colour: blue"]


def test_attributes_of_an_item_without_a_title_are_kept():
    assert texts_of(title=[None, "A"], keywords=["golf ball", None]) == ["keywords: golf ball", "A"]


def test_a_catalogue_of_ids_alone_gives_empty_texts():
    assert item_texts(Catalogue.from_table(pl.DataFrame({"item_id": ["a", "b"]}))) == ["", ""]


def test_an_unknown_setting_is_refused():
    with pytest.raises(ConfigError, match="max_characters"):
        TextTemplate.parse({"max_character": 3}, where="text")
    assert issubclass(TextTemplate, Config)


words = st.one_of(st.none(), st.text(alphabet="abc 茶花.<>&1-/", max_size=40))


@settings(max_examples=10, deadline=None)
@given(rows=st.lists(st.tuples(words, words, words), min_size=1, max_size=4), limit=st.integers(1, 30))
def test_a_text_depends_on_its_own_row_and_keeps_the_limit(rows, limit):
    template = TextTemplate(max_value_characters=12, max_characters=limit)
    titles, brands, colours = (list(column) for column in zip(*rows, strict=True))
    strings = pl.DataFrame(
        {
            "item_id": [str(place) for place in range(len(rows))],
            "title": titles,
            "brand": brands,
            "colour": colours,
        },
        schema_overrides={"title": pl.String, "brand": pl.String, "colour": pl.String},
    )
    catalogue = Catalogue.from_table(strings)
    together = item_texts(catalogue, template)
    assert all(len(text) <= limit for text in together)
    assert [item_texts(catalogue.rows([place]), template)[0] for place in range(len(rows))] == together


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("dataset", "first"),
    [
        (
            "amazon-beauty",
            "OPI Nail Lacquer, Simmer and Shimmer, 0.5-Fluid Ounce. Beauty, Makeup, Nails, Nail Polish. "
            "keywords: nail lacquer simmer and shimmer",
        ),
        ("lastfm", "MALICE MIZER"),
        ("kuairand-pure", "upload type: LongImport. video type: NORMAL"),
    ],
)
def test_real_catalogues_read_well(real_data: Path, dataset: str, first: str):
    table = pl.read_parquet(real_data / dataset / "items.parquet")
    assert item_texts(Catalogue.from_table(table))[0] == first
