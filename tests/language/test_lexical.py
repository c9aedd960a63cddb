"""Words of a catalogue as unit rows."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.feature_extraction.text import TfidfVectorizer

from zhiyin.domain import Catalogue
from zhiyin.language.lexical import (
    LexicalIndex,
    indexed_columns,
    largest_of_rows,
    sparse_from_parts,
    sparse_parts,
)


def catalogue_of(**columns: list) -> Catalogue:
    n = len(next(iter(columns.values())))
    return Catalogue.from_table(pl.DataFrame({"item_id": [f"i{i}" for i in range(n)], **columns}))


def test_rows_have_length_one_or_nothing():
    index = LexicalIndex(catalogue_of(title=["red nail polish", None, "garden hose"]))
    np.testing.assert_allclose(sp.linalg.norm(index.matrix, axis=1), [1, 0, 1], rtol=1e-6)


def test_cosines_equal_those_of_another_library():
    titles = ["red nail polish red", "blue nail polish", "garden hose", "red garden gnome"]
    index = LexicalIndex(catalogue_of(title=titles))
    counts = TfidfVectorizer(use_idf=False, norm=None, sublinear_tf=True, token_pattern=r"\w+")
    weighed = counts.fit_transform(titles).toarray()
    weighed *= np.log1p(len(titles) / (weighed > 0).sum(axis=0))
    weighed /= np.linalg.norm(weighed, axis=1, keepdims=True)
    np.testing.assert_allclose((index.matrix @ index.matrix.T).toarray(), weighed @ weighed.T, rtol=1e-5)


def test_a_category_path_is_one_token_and_so_is_an_element_of_a_list():
    index = LexicalIndex(
        catalogue_of(
            title=["x", "y"], categories=[["Beauty > Nails"], ["Beauty > Hair"]], genres=[["Sci-Fi"], []]
        )
    )
    words = set(index.vocabulary.ids)
    assert {"categories=beauty > nails", "categories=beauty > hair", "genres=sci-fi"} <= words


def test_chinese_gives_characters_and_pairs():
    index = LexicalIndex(catalogue_of(title=["知音 recommender", "音乐"]))
    assert set(index.vocabulary.ids) == {"知", "音", "乐", "知音", "音乐", "recommender"}


def test_values_between_spaced_slashes_are_told_apart():
    pairs = [(item % 25, (item + 1) % 25) for item in range(50)]
    kinds = [" / ".join(f"类{chr(0x4E00 + kind)}" for kind in pair) for pair in pairs]
    for name in ("导演", "categories"):
        index = LexicalIndex(catalogue_of(**{"title": [f"t{item}" for item in range(50)], name: kinds}))
        assert {f"{name}=类一", f"{name}=类丁"} <= set(index.vocabulary.ids)
        assert not any("/" in word for word in index.vocabulary.ids)
        cosines = index.neighbours(index.matrix[[0]], 50).toarray()[0]
        # Item 25 shares both kinds, items 1 and 24 one.
        assert cosines[25] > cosines[1] > 0
        assert np.flatnonzero(cosines).tolist() == [0, 1, 24, 25, 26, 49]


def test_without_titles_other_texts_are_read():
    table = pl.DataFrame({"item_id": ["a"], "title": [None], "keywords": ["gun mats"], "image": ["x.webp"]})
    assert indexed_columns(table.with_columns(pl.col("title").cast(pl.String))) == ("keywords",)
    assert indexed_columns(table.with_columns(pl.lit("Mats").alias("title"))) == ("title",)


def novels(n: int = 40) -> Catalogue:
    """Titles say nothing; every fourth item has the same author, and two moods out of twenty."""
    return catalogue_of(
        title=[f"t{item}" for item in range(n)],
        author=[f"Author {chr(97 + item % 10)}" for item in range(n)],
        moods=[f"mood {chr(97 + item % 20)}, Mood {chr(97 + (item + 1) % 20)}" for item in range(n)],
        language=["English", *["German"] * (n - 1)],  # ties all to all
        published=[f"{item % 10} May 1990" for item in range(n)],  # begins with a digit
        cover=[f"https://covers.example/{item % 10}" for item in range(n)],
        isbn=[f"x{item}" for item in range(n)],  # nobody shares it
        blurb=["Long, long ago, " * 30] * n,  # prose
    )


def test_attributes_that_items_share_are_tokens_and_others_are_not():
    assert LexicalIndex(novels()).columns == ("title", "author", "moods")


def test_an_item_is_near_those_with_its_author_and_its_moods():
    index = LexicalIndex(novels())
    # Item 20 shares author and both moods, 10 and 30 the author, 1 and 19 one mood each.
    cosines = index.neighbours(index.matrix[[0]], 7).toarray()[0]
    assert cosines[0] > cosines[20] > cosines[10] == cosines[30] > 0
    assert np.flatnonzero(cosines).tolist() == [0, 1, 10, 19, 20, 21, 30]
    new = index.rows_of(catalogue_of(title=["new"], author=["AUTHOR A"], moods=["mood b;Mood A"]))
    assert np.argsort(-(new @ index.matrix.T).toarray()[0], kind="stable")[:2].tolist() == [0, 20]


def test_the_nearest_item_is_the_one_with_the_same_words():
    index = LexicalIndex(
        catalogue_of(title=["red nail polish", "garden hose", "blue nail polish", "steel pan"])
    )
    nearest = index.neighbours(index.rows_of_texts(["nail polish in blue"]), 2).toarray()[0]
    assert np.argsort(-nearest)[:2].tolist() == [2, 0]


def test_new_items_are_read_in_the_words_of_the_index():
    index = LexicalIndex(catalogue_of(title=["red nail polish", "garden hose"]))
    rows = index.rows_of(catalogue_of(title=["polish from mars"]))
    grown = index.extended(rows)
    assert len(grown) == 3
    assert grown.neighbours(rows, 2).toarray()[0].argmax() in {0, 2}


@given(
    hnp.arrays(np.float32, (4, 9), elements=st.floats(0.015625, 1, width=16)),
    hnp.arrays(np.bool_, (4, 9)),
    st.integers(1, 5),
)
def test_the_largest_of_rows_equal_a_slow_choice(values, kept, n):
    dense = np.where(kept, values, 0)
    fast = largest_of_rows(sp.csr_array(dense), n).toarray()
    for row, chosen in zip(dense, fast, strict=True):
        order = [c for c in np.lexsort((np.arange(9), -row)) if row[c] > 0][:n]
        expected = np.zeros(9, dtype=np.float32)
        expected[order] = row[order]
        np.testing.assert_allclose(chosen, expected, rtol=1e-4)


def test_parts_of_a_sparse_matrix_make_it_again():
    matrix = sp.csr_array(np.array([[0, 1.5], [0, 0], [2, 0]], dtype=np.float32))
    arrays = {f"m.{name}": part for name, part in sparse_parts(matrix).items()}
    np.testing.assert_array_equal(sparse_from_parts(arrays, "m.").toarray(), matrix.toarray())


@pytest.mark.parametrize("titles", [[], [None], [""]])
def test_nothing_to_read_is_an_empty_index(titles):
    index = LexicalIndex(catalogue_of(title=pl.Series(titles, dtype=pl.String)))
    assert index.matrix.shape == (len(titles), 0)
    assert index.neighbours(index.matrix, 3).shape == (len(titles), len(titles))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.2, 0.6, 1.0]), st.booleans())
def test_the_largest_of_long_rows_are_found_without_sorting_all(seed, n, density, few_values):
    random = np.random.default_rng(seed)
    dense = random.uniform(0.01, 1.0, (5, 3000)) * (random.random((5, 3000)) < density)
    dense[4, 40:] = 0.0  # a short row among long ones
    dense[3] = np.sort(dense[3])  # the sample of a row may come from its small end
    if few_values:
        dense = np.ceil(dense * 3) / 4
    matrix = sp.csr_array(dense.astype(np.float32))
    found = largest_of_rows(matrix, n)
    for row in range(5):
        bits = matrix[[row]].toarray()[0].view(np.int32) >> 8  # as finely as they are compared
        best = np.lexsort((np.arange(3000), -bits))[:n]
        expected = best[bits[best] > 0]
        assert set(found[[row]].indices.tolist()) == set(expected.tolist())


def test_a_matrix_made_again_has_narrow_indices():
    """Wide ones would double what the largest part of a bundle takes in memory."""
    matrix = sp.csr_array(np.eye(3, dtype=np.float32))
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    again = sparse_from_parts(sparse_parts(matrix), "")
    assert again.indices.dtype == again.indptr.dtype == np.int32
    assert sp.csr_array(again @ again).indices.dtype == np.int32
