"""The catalogue says in words what its items are."""

import numpy as np
import polars as pl
import pytest

from zhiyin.data.shop.departments import DEPARTMENTS, complement_departments
from zhiyin.data.shop.words import ACCENTS, LEVELS, MATERIALS, STYLES, TOPICS
from zhiyin.domain import PAD

PROPERTIES = {"topic": TOPICS, "style": STYLES, "material": MATERIALS, "accent": ACCENTS, "level": LEVELS}


@pytest.mark.parametrize("name", [*PROPERTIES, "second_topic"])
@pytest.mark.parametrize("language", ["english", "chinese"])
def test_every_description_names_every_property(small_shop, name, language):
    words = PROPERTIES.get(name, TOPICS)
    column = "description" if language == "english" else "description_zh"
    texts = small_shop.dataset.catalogue.table[column].str.to_lowercase().to_list()
    for text, place in zip(texts, getattr(small_shop.items, name), strict=True):
        names = getattr(words[place], language)
        assert place == PAD or any(word.lower() in text for word in names), (text, names)


def test_texts_are_complete_and_well_formed(small_shop):
    table = small_shop.dataset.catalogue.table
    for column in ("title", "description", "title_zh", "description_zh"):
        assert table[column].null_count() == 0
        assert not table[column].str.contains(r"[{}]").any()
        assert table[column].str.len_chars().min() > 2
    assert not table["description"].str.contains(r"\b[Aa] [aeiou]").any()
    assert table["title_zh"].str.contains(r"\p{Han}").all()
    assert not table["title"].str.contains(r"\p{Han}").any()


def test_ids_look_like_a_shops(small_shop):
    ids = small_shop.dataset.catalogue.items.ids
    assert ids.str.contains(r"^(book|kitchen|outdoor)-\d{5}$").all()
    assert ids.n_unique() == 900
    assert ids[0] == "book-00001"
    assert small_shop.dataset.users.id(7) == "user-0007"


def test_attributes_agree_with_properties(small_shop):
    table, items = small_shop.dataset.catalogue.table, small_shop.items
    assert table["material"].to_list() == [MATERIALS[place].key for place in items.material]
    assert table["categories"].to_list() == [[DEPARTMENTS[place].path] for place in items.department]
    assert table["domain"].unique().sort().to_list() == ["books", "kitchen", "outdoor"]
    is_book = pl.Series(items.domain == 0)
    assert table.filter(is_book)["colour"].null_count() == is_book.sum()
    assert table.filter(~is_book)["setting"].null_count() == (~is_book).sum()
    assert (table["price"] > 0).all()


def test_material_and_topic_suit_the_department(small_shop):
    items = small_shop.items
    first = items.volume <= 1
    for place, department in enumerate(DEPARTMENTS):
        rows = (items.department == place) & first
        assert set(items.topic[rows]) <= set(department.topics)
        assert set(items.material[rows]) <= set(department.materials)


def test_volumes_of_a_series_share_their_properties(small_shop):
    items = small_shop.items
    before = np.flatnonzero(items.next_volume != PAD)
    after = items.next_volume[before]
    assert len(before) > 20
    assert (items.volume[after] == items.volume[before] + 1).all()
    for name in ("series", "topic", "style", "brand", "department", "level"):
        assert (getattr(items, name)[after] == getattr(items, name)[before]).all()
    titles = small_shop.dataset.catalogue.table["title"].to_list()
    assert all(f"volume {items.volume[row]})" in titles[row] for row in after)


def test_complements_come_from_departments_that_go_together(small_shop):
    items = small_shop.items
    rows, places = np.nonzero(items.complements != PAD)
    partners = items.complements[rows, places]
    for row, partner in zip(rows[::7], partners[::7], strict=True):
        assert items.department[partner] in complement_departments(items.department[row])
    assert (partners != rows).all()
    shared = items.topic[partners] == items.topic[rows]
    chance = items.topic[np.random.default_rng(0).permutation(partners)] == items.topic[rows]
    assert shared.mean() > 3 * chance.mean()


def test_facts_agree_with_the_catalogue(small_shop):
    facts, table, items = small_shop.dataset.facts, small_shop.dataset.catalogue.table, small_shop.items
    assert facts.columns == ["head", "relation", "tail"]
    assert facts["head"].is_in(table["item_id"].to_list()).all()
    made_by = facts.filter(relation="made_by").join(table, left_on="head", right_on="item_id")
    assert made_by.height == table.height
    assert (made_by["tail"] == made_by["brand"]).all()
    goes_with = facts.filter(relation="goes_with")
    assert goes_with.height == (items.complements != PAD).sum()
    assert goes_with["tail"].is_in(table["item_id"].to_list()).all()
    assert facts.filter(relation="followed_by").height == (items.next_volume != PAD).sum()
    assert set(facts["relation"]) == {
        "made_by",
        "belongs_to",
        "made_of",
        "about",
        "in_style",
        "goes_with",
        "followed_by",
    }


def test_new_items_arrive_and_some_are_still_untouched(small_shop):
    items, config = small_shop.items, small_shop.config
    new = (items.arrival > 0).mean()
    assert 0.1 < new <= config.share_new_items
    tomorrow = items.arrival == config.n_days
    assert tomorrow.sum() >= 4
    assert small_shop.dataset.item_counts[tomorrow].sum() == 0
