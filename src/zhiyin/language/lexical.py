"""The catalogue as a sparse matrix of words: TF-IDF, without any model.

Salton and Buckley, "Term-weighting approaches in automatic text retrieval" (1988): a term weighs
``(1 + log tf) * log(1 + I / df)``, each row scaled to length 1, so that a product of two rows is a cosine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from zhiyin.domain import Catalogue, FloatArray, IndexArray, Vocabulary

_TEXT_COLUMNS = ("title", "brand")
_UNREADABLE = ("item_id", "image", "audio", "price", "domain", "description")
_TOKEN = r"[[\p{L}\p{N}]--\p{Han}]+|\p{Han}"
_BETWEEN_CATEGORIES = r"[;|、；｜]|\s[/／]\s"
"""A category path, such as ``Beauty > Nails``, stays whole, and so does one with a comma."""
_BETWEEN_VALUES = r"[,，;|、；｜]|\s[/／]\s"
_PHRASE = r"^\p{L}.{0,59}$"
"""What one of several values looks like: dates and amounts begin with a digit, sentences are longer."""
_NO_PHRASE = r"^(https?:|www\.)"
_LONGEST_MEAN = 300
"""Columns with longer texts are prose, and not divided at their commas."""
_LEAST_SHARED = 0.5
"""Share of the values of a column that must stand at more than one item, so that they tie items together …"""
_MOST_SHARED = 0.1
"""… and the mean share of all items that may have one's value: what ties all to all says nothing."""
_MOST_PRODUCTS = 4e9
"""Multiplications that finding all neighbours may take; beyond it, the most frequent words are left out."""
_ROWS_AT_ONCE = 128
"""Rows whose neighbours are sorted at once: few, so that they stay near the cache."""
_SAMPLED_EVERY = 16
"""Of the values of a long row one of so many is looked at before the largest are sorted."""


class LexicalIndex:
    """Words and categories of a catalogue, as unit rows.

    A category path is one token, and so is each element of a list attribute or of an attribute such as
    ``Fantasy, Humour``; Chinese text gives single characters and pairs of neighbouring characters.

    Args:
        catalogue: The items to index.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.columns = indexed_columns(catalogue.table)
        tokens = _tokens(catalogue.table, self.columns)
        frequency = tokens.group_by("token").agg(pl.col("row").n_unique().alias("df")).sort("token")
        n_items = max(len(catalogue), 1)
        cost = pl.col("df").cast(pl.Float64).pow(2).sort().cum_sum()
        useful = frequency.sort("df", "token").filter(cost <= _MOST_PRODUCTS).sort("token")
        self.vocabulary = Vocabulary(useful["token"])
        self.idf: FloatArray = np.log1p(n_items / useful["df"].to_numpy()).astype(np.float32)
        self.matrix = self._rows_of(tokens, len(catalogue))

    @classmethod
    def from_parts(
        cls, columns: Sequence[str], vocabulary: Vocabulary, idf: FloatArray, matrix: sp.csr_array
    ) -> LexicalIndex:
        """Rebuild an index from what was saved of it."""
        index = cls.__new__(cls)
        index.columns, index.vocabulary, index.idf, index.matrix = tuple(columns), vocabulary, idf, matrix
        return index

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    @cached_property
    def _by_word(self) -> sp.csr_array:
        return self.matrix.T.tocsr()

    def rows_of(self, catalogue: Catalogue) -> sp.csr_array:
        """Return unit rows (len(catalogue), V) for other items, in the words of this index."""
        return self._rows_of(_tokens(catalogue.table, self.columns), len(catalogue))

    def rows_of_texts(self, texts: Sequence[str]) -> sp.csr_array:
        """Return unit rows (len(texts), V) for free texts."""
        return self._rows_of(_words(pl.DataFrame({"title": texts}), "title"), len(texts))

    def neighbours(self, rows: sp.csr_array, n: int) -> sp.csr_array:
        """Return the ``n`` nearest items of each row by cosine.

        Args:
            rows: (M, V) unit rows.
            n: Neighbours to keep; an item with itself counts as one here.

        Returns:
            (M, I) sparse float32, at most ``n`` values a row, in (0, 1].
        """
        parts = [
            largest_of_rows(rows[start : start + _ROWS_AT_ONCE] @ self._by_word, n)
            for start in range(0, rows.shape[0], _ROWS_AT_ONCE)
        ]
        return sp.csr_array(sp.vstack(parts, format="csr")) if parts else sp.csr_array((0, len(self)))

    def extended(self, rows: sp.csr_array) -> LexicalIndex:
        """Return an index that holds further items, given as unit rows."""
        matrix = sp.csr_array(sp.vstack([self.matrix, rows], format="csr"))
        return LexicalIndex.from_parts(self.columns, self.vocabulary, self.idf, matrix)

    def changed(self, item_index: IndexArray, rows: sp.csr_array) -> LexicalIndex:
        """Return an index in which some items (M,) have other unit rows."""
        place = np.arange(len(self), dtype=np.int64)
        place[item_index] = len(self) + np.arange(len(item_index))
        both = sp.csr_array(sp.vstack([self.matrix, rows], format="csr"))
        return LexicalIndex.from_parts(self.columns, self.vocabulary, self.idf, both[place])

    def _rows_of(self, tokens: pl.DataFrame, n_rows: int) -> sp.csr_array:
        column = self.vocabulary.indices(tokens["token"])
        known = column >= 0
        # Both narrow, because products of matrices read their indices as often as their values.
        row = tokens["row"].to_numpy()[known].astype(np.int32)
        counts = sp.csr_array(
            (np.ones(len(row), dtype=np.float32), (row, column[known])),
            shape=(n_rows, len(self.vocabulary)),
        )
        counts.sum_duplicates()
        counts.data = (1.0 + np.log(counts.data)) * self.idf[counts.indices]
        return unit_rows(counts)


def indexed_columns(table: pl.DataFrame) -> tuple[str, ...]:
    """Choose the columns whose words tell items apart.

    Title, brand, categories, list attributes, and text attributes whose values several items share, such as
    an author; a catalogue without titles falls back on the words of its other text attributes.
    """
    lists = [name for name, dtype in table.schema.items() if dtype == pl.List(pl.String)]
    texts = [
        name for name in _TEXT_COLUMNS if name in table.columns and table[name].null_count() < len(table)
    ]
    attributes = [
        name
        for name, dtype in table.schema.items()
        if dtype == pl.String and name not in (*_UNREADABLE, *_TEXT_COLUMNS, "categories")
    ]
    if "title" in texts:
        lists += [name for name in attributes if _ties_items(table, name)]
    else:
        texts += attributes
    if table.schema.get("categories") == pl.String:
        lists.append("categories")
    return (*texts, *lists)


def largest_of_rows(matrix: sp.csr_array, n: int) -> sp.csr_array:
    """Keep the ``n`` largest values of each row of a sparse matrix of at most 8,192 rows.

    Row, value and column are packed into one integer, because numpy sorts plain integers several times
    faster than it sorts by three keys. Values must be in (0, 2); they are compared with 15 bits of mantissa.
    """
    starts = matrix.indptr.astype(np.int64)
    values = np.ascontiguousarray(matrix.data, dtype=np.float32)
    if len(values) > _SAMPLED_EVERY * n * matrix.shape[0]:
        cell = _may_be_largest(values, starts, n)
    else:
        cell = np.arange(len(values))
    row = np.searchsorted(starts, cell, side="right") - 1
    lengths = np.bincount(row, minlength=matrix.shape[0])
    keys = (row << 49) | (_smallness(values[cell]) << 27) | matrix.indices[cell].astype(np.int64)
    keys.sort()
    place = np.arange(len(keys)) - (np.cumsum(lengths) - lengths)[row]
    keys = keys[place < n]
    values = ((0x3FFFFF - ((keys >> 27) & 0x3FFFFF)) << 8).astype(np.int32).view(np.float32)
    places = ((keys >> 49).astype(np.int32), (keys & 0x7FFFFFF).astype(np.int32))
    return sp.csr_array((values, places), shape=matrix.shape)


def _smallness(values: FloatArray) -> npt.NDArray[np.int64]:
    """Return 22 bits for each value in (0, 2), the less the larger it is."""
    smallness: npt.NDArray[np.int64] = 0x3FFFFF - (values.view(np.int32).astype(np.int64) >> 8)
    return smallness


def _may_be_largest(values: FloatArray, starts: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.integer]:
    """Return the rising places of the values that may be among the ``n`` largest of their row.

    What every sixteenth value says about the n-th largest of its row is nearly always enough; where it was
    too little the whole row stays, so that nothing is ever missed.
    """
    lengths = np.diff(starts)
    sampled = np.arange(0, len(values), _SAMPLED_EVERY)
    row = np.searchsorted(starts, sampled, side="right") - 1
    keys = (row << 32) | _smallness(values[sampled])
    keys.sort()
    n_sampled = np.bincount(row, minlength=len(lengths))
    share = n / _SAMPLED_EVERY
    rank = int(share + 4 * np.sqrt(share) + 4)
    enough = n_sampled > rank
    bounds = np.zeros(len(lengths), dtype=np.float32)
    at_rank = 0x3FFFFF - (keys[(np.cumsum(n_sampled) - n_sampled)[enough] + rank] & 0x3FFFFF)
    bounds[enough] = (at_rank << 8).astype(np.int32).view(np.float32)
    is_large = values >= np.repeat(bounds, lengths)
    n_large = np.diff(np.append(0, np.cumsum(is_large))[starts])
    for whole in np.flatnonzero(n_large < np.minimum(n, lengths)):  # about one row of ten thousand
        is_large[starts[whole] : starts[whole + 1]] = True
    return np.flatnonzero(is_large)


def unit_rows(matrix: sp.csr_array) -> sp.csr_array:
    """Scale each row to length 1; empty rows stay empty."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    scaled = matrix.copy()
    scaled.data = (scaled.data * np.repeat(scale, np.diff(matrix.indptr))).astype(np.float32)
    return scaled


def _tokens(table: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    parts = [pl.DataFrame(schema={"row": pl.Int64, "token": pl.String})]
    for name in columns:
        if name not in table.columns:
            continue
        is_list = table.schema[name] == pl.List(pl.String)
        if name == "categories" and not is_list:
            parts.append(_phrases(table.select(_listed(name, _BETWEEN_CATEGORIES)), name))
        elif is_list:
            parts.append(_phrases(table, name))
        elif name in _TEXT_COLUMNS or "title" not in columns:
            parts.append(_words(table, name))
        else:
            parts.append(_phrases(_divided(table, name), name))
    return pl.concat(parts)


def _listed(name: str, between: str) -> pl.Expr:
    """Make lists of the values of a text column."""
    values = pl.col(name).cast(pl.String).str.replace_all(between, "\n").str.split("\n")
    value = pl.element().str.strip_chars()
    return values.list.eval(value.filter(value != "")).list.unique(maintain_order=True)


def _divided(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """Make lists of the values of a text attribute, as far as they look like values."""
    value = pl.element()
    kept = value.filter(value.str.contains(_PHRASE) & ~value.str.contains(_NO_PHRASE))
    return table.select(_listed(name, _BETWEEN_VALUES).list.eval(kept))


def _ties_items(table: pl.DataFrame, name: str) -> bool:
    """Whether most values of a text attribute stand at more than one item, and at few of all."""
    if (table.select(pl.col(name).str.len_chars().mean()).item() or 0.0) > _LONGEST_MEAN:
        return False
    n_items = (
        _phrases(_divided(table, name), name).group_by("token").len()["len"].to_numpy().astype(np.float64)
    )
    n_values = n_items.sum()
    is_shared = n_items[n_items > 1].sum() >= _LEAST_SHARED * n_values
    return bool(n_values and is_shared and n_items @ n_items <= _MOST_SHARED * len(table) * n_values)


def _phrases(table: pl.DataFrame, name: str) -> pl.DataFrame:
    column = pl.col(name)
    frame = table.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), column.alias("token"))
    if frame.schema["token"] != pl.String:
        frame = frame.explode("token")
    phrase = (pl.lit(f"{name}=") + pl.col("token").str.to_lowercase()).alias("token")
    return frame.drop_nulls().select("row", phrase)


def _words(table: pl.DataFrame, name: str) -> pl.DataFrame:
    words = (
        table.select(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
            pl.col(name).cast(pl.String).str.to_lowercase().str.extract_all(_TOKEN).alias("token"),
        )
        .explode("token")
        .drop_nulls()
    )
    return pl.concat([words, _han_pairs(words)])


def _han_pairs(words: pl.DataFrame) -> pl.DataFrame:
    """Pairs of neighbouring Chinese characters: a single character says too little."""
    is_han = pl.col("token").str.contains(r"^\p{Han}$")
    has_follower = is_han.shift(-1, fill_value=False) & (pl.col("row") == pl.col("row").shift(-1))
    pair = (pl.col("token") + pl.col("token").shift(-1)).alias("token")
    return words.select("row", pair, (is_han & has_follower).alias("kept")).filter("kept").drop("kept")


def sparse_parts(matrix: sp.csr_array) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays a sparse matrix is made of, for saving."""
    return {
        "values": matrix.data.astype(np.float32),
        "columns": matrix.indices.astype(np.int32),
        "row_offsets": matrix.indptr.astype(np.int64),
        "shape": np.array(matrix.shape, dtype=np.int64),
    }


def sparse_from_parts(arrays: Mapping[str, npt.NDArray[np.generic]], prefix: str) -> sp.csr_array:
    """Rebuild a sparse matrix from `sparse_parts` stored under a prefix."""
    n_rows, n_columns = (int(n) for n in arrays[f"{prefix}shape"])
    values, columns, offsets = (arrays[f"{prefix}{name}"] for name in ("values", "columns", "row_offsets"))
    if len(columns) <= np.iinfo(np.int32).max:
        # One wide index would widen both, and with them most of the matrix in memory.
        offsets = offsets.astype(np.int32)
    return sp.csr_array((values, columns, offsets), shape=(n_rows, n_columns))
