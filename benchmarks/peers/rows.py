"""The rows of the table: what is compared with what."""

from __future__ import annotations

from dataclasses import dataclass

from zhiyin.pipeline.recipes import RECIPES

OURS = "zhiyin"
PEERS = ("implicit", "lenskit", "rectools", "recbole")


@dataclass(frozen=True)
class Row:
    """One model of one library.

    Attributes:
        library: Ours, or one of `PEERS`, which is also the name of its environment, requirements and runner.
        model: What the runner is asked for.
        shown: What the table calls it.
        minutes: What it takes on amazon-beauty with two quiet cores, about.
    """

    library: str
    model: str
    shown: str
    minutes: float

    @property
    def name(self) -> str:
        """``library/model``."""
        return f"{self.library}/{self.model}"


_ALL = (
    Row(OURS, "fast", "recipe `fast`", 1),
    Row(OURS, "sequence", "sequence transformer alone", 8),
    Row(OURS, "sequence-ids", "sequence transformer alone, without text", 8),
    Row(OURS, "hybrid", "recipe `hybrid`", 8),
    Row(OURS, "best", "recipe `best`", 15),
    Row("implicit", "als", "implicit, ALS", 2),
    Row("implicit", "cosine", "implicit, item-item cosine", 1),
    Row("implicit", "bm25", "implicit, item-item BM25", 1),
    Row("lenskit", "itemknn", "LensKit, item neighbours", 2),
    Row("lenskit", "als", "LensKit, implicit ALS", 3),
    Row("lenskit", "ease", "LensKit, EASE", 3),
    Row("rectools", "ease", "RecTools, EASE", 5),
    Row("rectools", "sasrec", "RecTools, SASRec", 60),
    Row("rectools", "esasrec", "RecTools, eSASRec", 60),
    Row("recbole", "sasrec", "RecBole, SASRec", 60),
    Row("recbole", "lightgcn", "RecBole, LightGCN", 60),
)
NOT_RECIPES = ("sequence", "sequence-ids")
ROWS = {row.name: row for row in _ALL if row.library != OURS or row.model in (*RECIPES, *NOT_RECIPES)}
"""Name → row, in the order of the table; recipes that do not exist are left out."""


def chosen_rows(names: list[str] | None) -> list[Row]:
    """Return the rows of these names; a library's name stands for all of its rows.

    Raises:
        SystemExit: when one is not known, with those that are.
    """
    if not names:
        return list(ROWS.values())
    unknown = [name for name in names if name not in ROWS and name not in (OURS, *PEERS)]
    if unknown:
        raise SystemExit(f"Not known: {', '.join(unknown)}. The rows are: {', '.join(ROWS)}.")
    return [row for row in ROWS.values() if row.name in names or row.library in names]
