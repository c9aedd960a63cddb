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
    assert texts_of(template, title=["一二三四五六七八九十一二三四五六"]) == ["一二三"]


def test_a_chinese_character_counts_as_three():
    assert texts_of(TextTemplate(max_value_characters=12), title=["一二三四"]) == ["一二三四"]
    assert texts_of(TextTemplate(max_value_characters=12), title=["一二三四五"]) == ["一二三四"]
    assert texts_of(TextTemplate(max_value_characters=12), title=["かたカ한글"]) == ["かたカ한"]
    # 8 letters and 4 characters weigh 20: 12 of them are seven of twelve.
    assert texts_of(TextTemplate(max_value_characters=12), title=["一二三四abcdefgh"]) == ["一二三四abc"]


def test_a_long_cast_leaves_room_for_the_plot():
    cast = " / ".join(f"演员{place}" for place in range(200))
    (text,) = texts_of(title=["七宗罪"], actors_zh=[cast], plot_zh=["凶手前来投案自首。"])
    assert text.startswith("七宗罪. plot zh: 凶手前来投案自首. actors zh: 演员0 / ")


def test_a_column_in_another_language_stands_behind_what_it_says():
    assert texts_of(
        title=["Seven"],
        brand_id=["b7"],
        colour=["grey"],
        description=["Two detectives."],
        genres_zh=["剧情 / 悬疑"],
        plot_zh=["凶手自首。"],
        title_zh=["七宗罪"],
        title_hd=["Seven, sharp"],
    ) == [
        "Seven. title zh: 七宗罪. genres zh: 剧情 / 悬疑. Two detectives. plot zh: 凶手自首. colour: grey. "
        "title hd: Seven, sharp"
    ]


def test_without_known_columns_those_that_look_like_them_come_first():
    columns = {
        "主演": ["张国荣"],
        "剧情简介": ["段小楼与程蝶衣。"],
        "片名": ["别名"],
        "电影名称": ["霸王别姬"],
    }
    assert texts_of(**columns) == ["电影名称: 霸王别姬. 剧情简介: 段小楼与程蝶衣. 主演: 张国荣. 片名: 别名"]


def test_an_object_is_read_as_its_names_and_words():
    info = (
        '{"名称": "全聚德", "电话": "010-65253310", "推荐菜": ["烤鸭", "鸭汤", 3], "评分": 4.4, "链接": '
        '"https://example.org", "空": null, "where": {"city": "北京"}, "none": []}'
    )
    assert texts_of(title=["店"], info=[info]) == ["店. info: 名称: 全聚德. 推荐菜: 烤鸭, 鸭汤"]
    assert texts_of(title=["店"], info=['{"a": 1}']) == ["店"]
    assert texts_of(title=["店"], info=["{no object}"]) == ["店"]
    assert texts_of(title=["店"], info=["{a} or b"]) == ["店. info: {a} or b"]


def test_a_list_inside_an_object_does_not_fill_the_text():
    many = ", ".join(f'"菜{chr(0x4E00 + place)}"' for place in range(100))
    (text,) = texts_of(title=["店"], info=[f'{{"菜": [{many}], "区": "东城"}}'])
    assert text.count("菜") == 1 + 12
    assert text.endswith("区: 东城")


def test_long_nested_data_is_left_out_like_short():
    records = ", ".join(['{"Label": "x y z"}'] * 50)
    assert texts_of(title=["Lamp"], entities=[f"[{records}]"]) == ["Lamp"]


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
