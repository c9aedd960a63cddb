"""What could be the log of a shop that seems to have none: it must not be left out unseen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from zhiyin.data.description import FILE_NAME, Description
from zhiyin.data.files.guidance import schema_of
from zhiyin.data.files.locate import FORMATS, Found, format_of, stem_of
from zhiyin.data.known import REQUIRED, column_named
from zhiyin.domain.errors import DataError

_NAMES = (
    "action actions activity behavior behaviors behaviour behaviours click clicks clickstream event events"
    " feedback history interaction interactions like likes log logs order orders pageview pageviews play"
    " plays purchase purchases rating ratings review reviews sale sales session sessions transaction"
    " transactions view views visit visits 交互 互动 行为 日志 订单 评分 点击 浏览 购买"
)
_WORDS = frozenset(_NAMES.split())
_SPELT_ALMOST = 0.85


def refuse_a_log_left_out(folder: Path, found: Found, description: Description) -> None:
    """Let a catalogue alone pass for a shop on its first day, unless a file beside it looks like its log.

    Raises:
        DataError: with the files, the line that names one, and the line that says there is none.
    """
    if "interactions" in description.files:
        return
    likely = [path for path in found.others if _is_like_a_log(stem_of(path), schema_of(path, description))]
    taken = {path for paths in found.tables.values() for path in paths} | {*found.others, folder / FILE_NAME}
    unreadable = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and path not in taken
        and format_of(path) is None
        and _is_named_like_a_log(path.stem)
    ]
    if not likely and not unreadable:
        return
    names = [path.name for path in (*likely, *unreadable)]
    ways = [f'If so, name it in {FILE_NAME}:  [files]  interactions = "{path.name}"' for path in likely[:1]]
    if unreadable:
        ways.append(f"{unreadable[0].name} cannot be read: write it as one of {', '.join(FORMATS)}.")
    raise DataError(
        f"There are no interactions, but {' and '.join(names)} could hold what people did.",
        remedy="\n".join(
            [*ways, f"If nobody has done anything yet:  [files]  interactions = []  in {FILE_NAME}"]
        ),
    )


def refuse_a_table_left_out(tables: Mapping[str, Iterable[str]]) -> None:
    """Do the same for a database.

    Args:
        tables: Name → columns of the tables and views that were not read.

    Raises:
        DataError: with the tables, and the statements for either case.
    """
    likely = [name for name, columns in tables.items() if _is_like_a_log(name, columns)]
    if likely:
        raise DataError(
            f"There is no table 'interactions', but {' and '.join(likely)} could hold what people did.",
            remedy=f"If so:  CREATE VIEW interactions AS SELECT … AS user_id, … AS item_id FROM {likely[0]}\n"
            "If nobody has done anything yet:  CREATE TABLE interactions (user_id TEXT, item_id TEXT)",
        )


def _is_like_a_log(name: str, columns: Iterable[str]) -> bool:
    columns = list(columns)
    return _is_named_like_a_log(name) or all(
        column_named(required, columns) for required in REQUIRED["interactions"]
    )


def _is_named_like_a_log(name: str) -> bool:
    words = re.split(r"[\W\d_]+", name.casefold())
    almost = difflib.SequenceMatcher(None, "".join(words), "interactions").ratio() >= _SPELT_ALMOST
    return almost or any(word in _WORDS for word in words)
