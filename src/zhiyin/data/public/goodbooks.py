"""goodbooks-10k: ten thousand books, six million ratings, in the order of time but without times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from zhiyin.data.public.tables import Tables

_MOST_TAGS = 12


def read_goodbooks(files: Mapping[str, Path]) -> Tables:
    """Read ``ratings.csv`` and ``books.csv``, and the most used tags where they are there."""
    ratings = pl.read_csv(files["ratings.csv"], infer_schema=False)
    books = pl.read_csv(files["books.csv"], infer_schema=False)
    items = books.select(
        pl.col("book_id").alias("item_id"),
        "title",
        pl.col("authors").alias("brand"),
        pl.col("original_publication_year").cast(pl.Float64).cast(pl.Int64).alias("year"),
        pl.col("language_code").alias("language"),
        pl.col("image_url").alias("image"),
        "goodreads_book_id",
    )
    if "tags.csv" in files and "book_tags.csv" in files:
        items = items.join(_tags(files), on="goodreads_book_id", how="left", maintain_order="left")
    interactions = ratings.select(
        pl.col("user_id"),
        pl.col("book_id").alias("item_id"),
        pl.lit("rating").alias("event"),
        pl.col("rating").cast(pl.Float32).alias("value"),
    )
    description = {"values": {"positive": 4.0, "minimum": 1.0, "maximum": 5.0}}
    return Tables(interactions, items.drop("goodreads_book_id"), None, description)


def _tags(files: Mapping[str, Path]) -> pl.DataFrame:
    """Return the tags each book was given most often, most often first."""
    names = pl.read_csv(files["tags.csv"], infer_schema=False)
    given = pl.read_csv(files["book_tags.csv"], infer_schema=False)
    return (
        given.join(names, on="tag_id", maintain_order="left")
        .with_columns(pl.col("count").cast(pl.Int64))
        .sort("count", descending=True, maintain_order=True)
        .group_by("goodreads_book_id", maintain_order=True)
        .agg(pl.col("tag_name").head(_MOST_TAGS).alias("tags"))
    )
