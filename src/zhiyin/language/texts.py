"""From an item to the text a language model reads.

The text depends on the item's own row and nothing else, so that an item that arrives alone gets the text it
would have had in the catalogue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import polars as pl
from pydantic import PositiveInt

from zhiyin.contracts import Config
from zhiyin.data.known import stands_for
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
_OBJECT = r"^\s*\{"
_LANGUAGE = re.compile(
    r"[_-](zh|cn|en|ja|jp|ko|de|fr|es|pt|it|ru|nl|pl|tr|vi|th|ar|hi)([_-][a-z]{2})?$", re.IGNORECASE
)
_DENSE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]"
_WORTH_OF_DENSE = 3
"""Letters that one Chinese, Japanese or Korean character stands for when a text is cut: a tokenizer spends
about one token on it, as on three or four letters of English."""
_MOST_OF_LIST = 12
"""Elements of a list inside an attribute, so that one list does not fill the text."""
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
    """A longer value is cut at a word. A Chinese, Japanese or Korean character counts as three."""
    max_characters: PositiveInt = 1200
    """A longer text is cut at a word, counted alike; an encoder reads about 256 tokens, some 1,000 English
    characters or 300 Chinese ones."""


def item_texts(catalogue: Catalogue, template: TextTemplate | None = None) -> list[str]:
    """Write one text an item: title, brand, categories, description, then ``name: value`` of attributes.

    Attributes come in alphabetical order, but one that says a known column in another language, such as
    ``title_zh`` or ``plot_zh``, stands behind that column; in a catalogue without any known column the
    attributes that go by another name of one come first. An attribute that holds a JSON object is read as its
    names and words. Left out are identifiers, addresses, numbers (years excepted), other nested data and
    whatever repeats the title. Words of any language are kept as they are.

    Args:
        catalogue: I items.
        template: Which columns, and how much of them.

    Returns:
        I texts; an empty one where an item has no words at all.
    """
    template = template or TextTemplate()
    table = catalogue.table
    # Column by column and step by step: one expression of all of it would hold each step many times over.
    parts = [
        _part(table, name, template).alias(f"part {place}")
        for place, name in enumerate(_text_columns(table.schema, template))
    ]
    if not parts:
        return [""] * len(catalogue)
    whole = pl.DataFrame(parts).select(pl.concat_str(pl.all(), separator=". ", ignore_nulls=True))
    texts: list[str] = _cut(whole.to_series(), template.max_characters).fill_null("").to_list()
    return texts


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
        others = readable.filter(~readable.str.contains(_ID_NAME)).to_list()
        is_bare = not any(name in schema for name in KNOWN_FIRST)
        meanings = {name: _meaning(name, is_bare=is_bare) for name in others}
        wanted = []
        for known in KNOWN_FIRST:
            wanted += [known, *(name for name in others if meanings[name] == known)]
        wanted += [name for name in others if meanings[name] is None]
    return [
        name
        for name in wanted
        if name in schema and name not in template.left_out and _holds_words(name, schema[name])
    ]


def _meaning(name: str, *, is_bare: bool) -> str | None:
    """Return the known column that an attribute says in another language, or in other words where none is."""
    stem = _LANGUAGE.sub("", name)
    if stem == name and not is_bare:
        return None
    known = stem if stem in KNOWN_FIRST else stands_for(stem)
    return known if known in KNOWN_FIRST else None


def _holds_words(name: str, dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List | pl.Array):
        return isinstance(dtype.inner, pl.String | pl.Categorical | pl.Enum)
    if dtype.is_numeric():
        return bool(pl.select(pl.lit(name).str.contains(_YEAR_NAME)).item())
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Boolean)


def _part(table: pl.DataFrame, name: str, template: TextTemplate) -> pl.Series:
    words = name.replace("_", " ").strip()
    column = table[name]
    if column.dtype == pl.Boolean:
        return pl.select(pl.when(column).then(pl.lit(words))).to_series()
    whole = _as_string(column)
    if name in KNOWN_FIRST:
        value = _cut(_clean(whole), template.max_value_characters)
        return _unless(value, value.str.contains(_URL))
    whole = _clean(_told_objects(whole))
    # Before the cut: a piece of nested data no longer looks like one.
    whole = _unless(whole, whole.str.contains(_MARKUP_OF_DATA))
    value = _readable(name, _cut(whole, template.max_value_characters))
    if "title" in table.columns and name not in template.columns:
        value = _unless(value, value == table["title"].cast(pl.String).str.strip_chars())
    return pl.select(pl.format("{}: {}", pl.lit(words), value)).to_series()


def _as_string(column: pl.Series) -> pl.Series:
    name = column.name
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if isinstance(column.dtype, pl.List):
        filled = column.cast(pl.List(pl.String)).list.eval(pl.element().drop_nulls())
        column = filled.list.unique(maintain_order=True).list.join(", ")
    column = column.cast(pl.String)
    if name == "categories":
        column = column.str.replace_all(r"\s*(>+|\||/{2,}|›|»)\s*", ", ")
    return column


def _told_objects(values: pl.Series) -> pl.Series:
    """Put those values that are JSON objects into words; the others stay as they are."""
    is_object = values.str.contains(_OBJECT).fill_null(value=False)
    if not is_object.any():
        return values
    told = pl.Series([_told_object(text) for text in values.filter(is_object)], dtype=pl.String)
    return values.scatter(is_object.arg_true(), told)


def _told_object(text: str) -> str:
    """Write ``name: words`` of every member that holds words; what is no JSON stays as it is."""
    try:
        members = json.loads(text)
    except ValueError:
        return text
    parts = []
    for name, value in members.items():
        listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        words = [one for one in listed[:_MOST_OF_LIST] if isinstance(one, str) and _is_word(one)]
        if words:
            parts.append(f"{name}: {', '.join(words)}")
    return ". ".join(parts)


def _is_word(text: str) -> bool:
    noise = (_URL, _DOTTED_NAME, _HASH_LIKE)
    return any(letter.isalpha() for letter in text) and not any(re.search(one, text) for one in noise)


def _clean(text: pl.Series) -> pl.Series:
    """Undo HTML, join lines, and strip what would double the full stop between two parts."""
    plain = text.str.replace_many(list(_ENTITIES), list(_ENTITIES.values()))
    plain = plain.str.replace_all(r"<[A-Za-z/!][^<>]*>", " ").str.replace_all(r"\s+", " ")
    plain = plain.str.strip_chars().str.strip_chars_end(" .,;。，；…")
    return _unless(plain, plain == "")


def _readable(name: str, value: pl.Series) -> pl.Series:
    noise = value.str.contains(_URL) | value.str.contains(_DOTTED_NAME) | value.str.contains(_HASH_LIKE)
    dropped = noise | value.str.contains(_WITHOUT_LETTERS)
    if re.search(_YEAR_NAME, name):
        dropped &= ~value.str.contains(_YEAR)
    return _unless(value, dropped).str.strip_suffix(".0")


def _unless(value: pl.Series, dropped: pl.Series) -> pl.Series:
    return value.set(dropped.fill_null(value=False), None)


def _cut(text: pl.Series, n_characters: int) -> pl.Series:
    """Keep ``n_characters`` at most, in whole words where spaces divide them; dense scripts weigh more."""
    length = text.str.len_chars()
    weight = length + (_WORTH_OF_DENSE - 1) * text.str.count_matches(_DENSE)
    kept = (n_characters * length // weight.clip(lower_bound=1)).cast(pl.UInt32)
    at_word = text.str.slice(0, kept + 1).str.replace(r"\s\S{0,30}$", "").str.slice(0, kept)
    return at_word.zip_with(weight > n_characters, text)
