"""Texts that were written for a web page."""

from __future__ import annotations

import html
import re

import numpy as np
import polars as pl

from zhiyin.data.files.raw import RawTable
from zhiyin.data.problems import Findings, rows_of

_TAG = r"</?(?:a|b|br|div|em|font|h[1-6]|i|img|li|ol|p|span|strong|table|td|tr|u|ul)(?:\s[^<>]*)?/?>"
_MARKUP = rf"(?i)&(?:#\d{{1,7}}|#x[0-9a-f]{{1,6}}|[a-z]{{2,8}});|{_TAG}"
_MAX_NESTED = 3
"""Exports escape what was escaped before: ``&amp;amp;`` is an ampersand too."""


def without_markup(
    raw: RawTable, text: pl.Series, rows: np.ndarray[tuple[int], np.dtype[np.int64]], findings: Findings
) -> pl.Series:
    """Turn HTML entities and tags into plain text, unless the description keeps them."""
    marked = np.flatnonzero(text.str.contains(_MARKUP).fill_null(value=False).to_numpy())
    if not len(marked):
        return text
    action = findings.settle(
        "html_in_text",
        raw,
        rows[marked],
        f"{rows_of(len(marked), 'holds', 'hold')} HTML, such as '{_found(str(text[int(marked[0])]))}'.",
        column=text.name,
    )
    if action == "keep":
        return text
    return text.scatter(marked, [plain_text(cell) for cell in text.gather(marked).to_list()])


def plain_text(marked: str) -> str:
    """Return a text without HTML: tags become blanks, entities their signs."""
    plain = marked
    for _ in range(_MAX_NESTED):
        unescaped = html.unescape(plain)
        if unescaped == plain:
            break
        plain = unescaped
    return " ".join(re.sub(_TAG, " ", plain, flags=re.IGNORECASE).split())


def _found(text: str) -> str:
    match = re.search(_MARKUP, text)
    return match.group() if match else ""
