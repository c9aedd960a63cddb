"""From an item to the text a language model reads.

The text depends on the item's own row and nothing else, so that an item that arrives alone gets the text it
would have had in the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from pydantic import PositiveInt

from zhiyin.contracts import Config
from zhiyin.domain import Catalogue

KNOWN_FIRST = ("title", "brand", "categories", "description")
"""Known columns that speak for themselves, in the order in which they are read."""

WITHOUT_WORDS = ("item_id", "price", "image", "audio")
"""Known columns that hold no words."""

_ID_NAME = r"(?i)(^|[_\W])(ids?|uuid|guid|sku|asin|isbn\d*|ean|upc|hash|url|uri|link|href|icon|path)$"
_URL = r"(?i)^(https?:|ftp:|www\.|//)\S+$"
_DOTTED_NAME = r"^[\w-]+(\.[\w-]+){2,}$"
_HASH_LIKE = r"^[A-Za-z_-]*(\d[A-Za-z_-]*){4,}$"
_WITHOUT_LETTERS = r"^[^\p{L}]*$"
_MARKUP_OF_DATA = r"^[\[{].*[\]}]$"
_YEAR_NAME = r"(?i)(^|_)year(_|$)"
_YEAR = r"^(1[5-9]|20)\d\d(\.0)?$"
_ENTITIES = {"&quot;": '"', "&#34;": '"', "&#39;": "'", "&lt;": "<", "&gt;": ">", "&nbsp;": " ", "&amp;": "&"}


class TextTemplate(Config):
    """How an item becomes a text. The defaults suit any catalogue."""

    columns: tuple[str, ...] = ()
    """Columns the text is made of, in order. Empty takes the known columns, then every readable attribute."""
    left_out: tuple[str, ...] = ()
    """Columns that never enter the text."""
    max_value_characters: PositiveInt = 500
    """A longer value is cut at a word."""
    max_characters: PositiveInt = 1200
    """A longer text is cut at a word; an encoder reads about 256 tokens, some 1,000 English characters."""


def item_texts(catalogue: Catalogue, template: TextTemplate | None = None) -> list[str]:
    """Write one text an item: title, brand, categories, description, then ``name: value`` of attributes.

    Attributes come in alphabetical order. Left out are identifiers, addresses, numbers (years excepted),
    nested data and whatever repeats the title. Words of any language are kept as they are.

    Args:
        catalogue: I items.
        template: Which columns, and how much of them.

    Returns:
        I texts; an empty one where an item has no words at all.
    """
    template = template or TextTemplate()
    table = catalogue.table
    parts = [
        _part(table.schema, name, template).alias(f"part {place}")
        for place, name in enumerate(_text_columns(table.schema, template))
    ]
    if not parts:
        return [""] * len(catalogue)
    whole = pl.concat_str(pl.all(), separator=". ", ignore_nulls=True)
    texts = table.select(parts).select(_cut(whole, template.max_characters).fill_null("").alias("text"))
    result: list[str] = texts["text"].to_list()
    return result


def short_names(catalogue: Catalogue, texts: Sequence[str]) -> list[str]:
    """Return what each item is called among others: its title, else its whole text (I,)."""
    table = catalogue.table
    if "title" not in table.columns:
        return list(texts)
    titles = table["title"].cast(pl.String).fill_null("").to_list()
    return [title or text for title, text in zip(titles, texts, strict=True)]


def _text_columns(schema: pl.Schema, template: TextTemplate) -> list[str]:
    if template.columns:
        wanted = list(template.columns)
    else:
        skipped = {*KNOWN_FIRST, *WITHOUT_WORDS}
        attributes = sorted(name for name in schema if name not in skipped)
        readable = pl.Series(attributes, dtype=pl.String)
        wanted = [*KNOWN_FIRST, *readable.filter(~readable.str.contains(_ID_NAME)).to_list()]
    return [
        name
        for name in wanted
        if name in schema and name not in template.left_out and _holds_words(name, schema[name])
    ]


def _holds_words(name: str, dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List | pl.Array):
        return isinstance(dtype.inner, pl.String | pl.Categorical | pl.Enum)
    if dtype.is_numeric():
        return bool(pl.select(pl.lit(name).str.contains(_YEAR_NAME)).item())
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Boolean)


def _part(schema: pl.Schema, name: str, template: TextTemplate) -> pl.Expr:
    words = name.replace("_", " ").strip()
    dtype = schema[name]
    if isinstance(dtype, pl.Boolean):
        return pl.when(pl.col(name)).then(pl.lit(words))
    value = _cut(_clean(_as_string(name, dtype)), template.max_value_characters)
    if name in KNOWN_FIRST:
        return _unless(value, value.str.contains(_URL))
    value = _readable(name, value)
    if "title" in schema and name not in template.columns:
        value = _unless(value, value == pl.col("title").cast(pl.String).str.strip_chars())
    return pl.format("{}: {}", pl.lit(words), value)


def _as_string(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Array):
        column = column.arr.to_list()
    if isinstance(dtype, pl.List | pl.Array):
        filled = column.cast(pl.List(pl.String)).list.eval(pl.element().drop_nulls())
        column = filled.list.unique(maintain_order=True).list.join(", ")
    column = column.cast(pl.String)
    if name == "categories":
        column = column.str.replace_all(r"\s*(>+|\||/{2,}|›|»)\s*", ", ")
    return column


def _clean(text: pl.Expr) -> pl.Expr:
    """Undo HTML, join lines, and strip what would double the full stop between two parts."""
    plain = text.str.replace_many(list(_ENTITIES), list(_ENTITIES.values()))
    plain = plain.str.replace_all(r"<[A-Za-z/!][^<>]*>", " ").str.replace_all(r"\s+", " ")
    plain = plain.str.strip_chars().str.strip_chars_end(" .,;。，；")
    return _unless(plain, plain == "")


def _readable(name: str, value: pl.Expr) -> pl.Expr:
    noise = (
        value.str.contains(_URL)
        | value.str.contains(_DOTTED_NAME)
        | value.str.contains(_HASH_LIKE)
        | value.str.contains(_MARKUP_OF_DATA)
    )
    number = value.str.contains(_WITHOUT_LETTERS)
    is_year = pl.lit(name).str.contains(_YEAR_NAME) & value.str.contains(_YEAR)
    return _unless(value, ~is_year & (noise | number)).str.strip_suffix(".0")


def _unless(value: pl.Expr, dropped: pl.Expr) -> pl.Expr:
    return pl.when(~dropped.fill_null(value=False)).then(value)


def _cut(text: pl.Expr, n_characters: int) -> pl.Expr:
    """Keep at most ``n_characters``, whole words where words are divided by spaces."""
    one_more = text.str.slice(0, n_characters + 1)
    at_word = one_more.str.replace(r"\s\S{0,30}$", "").str.slice(0, n_characters)
    return pl.when(text.str.len_chars() > n_characters).then(at_word).otherwise(text)
