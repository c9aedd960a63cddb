"""MovieLens: the three file formats of its releases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from zhiyin.data.public.tables import Tables

RATINGS = {"values": {"positive": 4.0, "minimum": 0.5, "maximum": 5.0}}
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_AGES_1M = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}
_OCCUPATIONS_1M = (
    "other", "academic or educator", "artist", "clerical or admin", "college or grad student",
    "customer service", "doctor or health care", "executive or managerial", "farmer", "homemaker",
    "school student", "lawyer", "programmer", "retired", "sales or marketing", "scientist",
    "self-employed", "technician or engineer", "tradesman or craftsman", "unemployed", "writer",
)  # fmt: skip


def read_100k(files: Mapping[str, Path]) -> Tables:
    """Read ``u.data`` (tabs), ``u.item`` and ``u.user`` (bars, Latin-1)."""
    ratings = pl.read_csv(
        files["u.data"], separator="\t", has_header=False, new_columns=["user", "item", "value", "timestamp"]
    )
    flags = [f"flag_{place}" for place in range(len(_GENRES_100K))]
    names = ["item_id", "title", "released", "video_released", "imdb_url", *flags]
    items = _bars(files["u.item"], names)
    genres = pl.concat_list(
        pl.when(pl.col(flag) == "1").then(pl.lit(genre))
        for flag, genre in zip(flags, _GENRES_100K, strict=True)
    ).list.drop_nulls()
    users = _bars(files["u.user"], ["user_id", "age", "gender", "occupation", "zip"])
    return Tables(
        _interactions(ratings),
        items.select("item_id", "title", genres.alias("categories"), "released"),
        users.with_columns(pl.col("age").cast(pl.Int64)),
        RATINGS,
    )


def read_1m(files: Mapping[str, Path]) -> Tables:
    """Read the ``::`` files of movielens-1m, with users."""
    users = _double_colons(files["users.dat"], ["user_id", "gender", "age", "occupation", "zip"])
    users = users.with_columns(
        pl.col("age").cast(pl.Int64).replace_strict(_AGES_1M, default=None, return_dtype=pl.String),
        pl.col("occupation")
        .cast(pl.Int64)
        .replace_strict(dict(enumerate(_OCCUPATIONS_1M)), default=None, return_dtype=pl.String),
    )
    return _of_double_colons(files, users)


def read_10m(files: Mapping[str, Path]) -> Tables:
    """Read the ``::`` files of movielens-10m, which says nothing about users."""
    return _of_double_colons(files, None)


def read_csv_release(files: Mapping[str, Path]) -> Tables:
    """Read ``ratings.csv`` and ``movies.csv`` of the later releases."""
    ratings = pl.read_csv(
        files["ratings.csv"],
        schema_overrides={
            "rating": pl.Float32,
            "userId": pl.Int64,
            "movieId": pl.Int64,
            "timestamp": pl.Int64,
        },
    ).rename({"userId": "user", "movieId": "item", "rating": "value"})
    movies = pl.read_csv(files["movies.csv"], infer_schema=False).rename({"movieId": "item_id"})
    return Tables(_interactions(ratings), _with_genres(movies), None, RATINGS)


def _of_double_colons(files: Mapping[str, Path], users: pl.DataFrame | None) -> Tables:
    ratings = _numbers(files["ratings.dat"], ["user", "item", "value", "timestamp"])
    movies = _double_colons(files["movies.dat"], ["item_id", "title", "genres"])
    return Tables(_interactions(ratings), _with_genres(movies), users, RATINGS)


def _interactions(ratings: pl.DataFrame) -> pl.DataFrame:
    return ratings.select(
        pl.col("user").cast(pl.String).alias("user_id"),
        pl.col("item").cast(pl.String).alias("item_id"),
        pl.col("timestamp").cast(pl.Int64),
        pl.lit("rating").alias("event"),
        pl.col("value").cast(pl.Float32),
    )


def _with_genres(movies: pl.DataFrame) -> pl.DataFrame:
    """Turn ``Comedy|Drama`` into a list; a film without genres has an empty one."""
    genres = pl.col("genres").str.split("|").list.filter(~pl.element().is_in(["", "(no genres listed)"]))
    return movies.select("item_id", "title", genres.alias("categories"))


def _bars(path: Path, names: list[str]) -> pl.DataFrame:
    """Read a Latin-1 file whose fields stand between bars; empty fields become null."""
    return _fields(_lines(path), "|", names)


def _double_colons(path: Path, names: list[str]) -> pl.DataFrame:
    """Read a file whose fields stand between ``::``, which no csv reader knows."""
    return _fields(_lines(path), "::", names)


def _numbers(path: Path, names: list[str]) -> pl.DataFrame:
    """Read a large file of numbers between ``::``: to a csv reader, fields with empty ones between them."""
    places = [2 * place for place in range(len(names))]
    numbers = pl.read_csv(path, separator=":", has_header=False, columns=places)
    return numbers.rename(dict(zip(numbers.columns, names, strict=True)))


def _fields(lines: pl.Series, separator: str, names: list[str]) -> pl.DataFrame:
    fields = lines.str.split_exact(separator, len(names) - 1).struct.rename_fields(names).struct.unnest()
    return fields.with_columns(pl.col(name).replace("", None) for name in names)


def _lines(path: Path) -> pl.Series:
    """Return the lines of a text that is UTF-8 in the later releases and Latin-1 in the earlier."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    # Not splitlines(): it also splits at control characters, which stand inside some Latin-1 titles.
    lines = pl.Series("line", text.replace("\r\n", "\n").split("\n"), dtype=pl.String)
    return lines.filter(lines != "")
