"""Reading: the same data in any format is the same dataset, and indexing equals its plain definition."""

import gzip
import json
import sqlite3
import time
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhiyin.data.order import carried_forward, first_appearances, time_order
from zhiyin.data.reading import read_checked, read_dataset
from zhiyin.domain import NO_TIMESTAMP

BASE = 1_700_000_000
EVENTS = pl.DataFrame(
    {
        "user_id": ["u2", "u1", "u2", "u3", "u1", "u2", "007"],
        "item_id": ["i1", "i3", "i2", "i1", "i9", "i1", "i2"],
        "timestamp": [BASE + second for second in (50, 10, 20, 5, 10, 20, 1)],
        "event": ["view", "view", "cart", "view", "view", "purchase", "view"],
        "value": [1.0, None, 2.5, 3.0, 4.0, 5.0, 1.0],
        "device": ["phone", "desk", "phone", None, "desk", "phone", "tv"],
        "hour": [1, 2, 3, 4, 5, 6, 7],
    }
)
ITEMS = pl.DataFrame(
    {
        "item_id": ["i3", "i2", "i1"],
        "title": ["Three", "Two, or 2", 'One "1"'],
        "price": [3.5, None, 1.25],
        "colour": ["red", None, "blue"],
    }
)


def snapshot(dataset):
    """Everything a dataset holds, in plain Python."""
    histories = dataset.histories
    return {
        "items": dataset.catalogue.table.to_dict(as_series=False),
        "users": dataset.users.ids.to_list(),
        "kinds": dataset.event_kinds,
        "offsets": histories.offsets.tolist(),
        "item": histories.item_index.tolist(),
        "event": histories.event_index.tolist(),
        "time": histories.timestamp.tolist(),
        "value": [None if np.isnan(value) else value for value in histories.value.tolist()],
        "context": {name: column.to_list() for name, column in dataset.context.items()},
    }


EXPECTED = {
    "items": {
        "item_id": ["i3", "i2", "i1", "i9"],
        "title": ["Three", "Two, or 2", 'One "1"', None],
        "price": [3.5, None, 1.25, None],
        "colour": ["red", None, "blue", None],
    },
    "users": ["u2", "u1", "u3", "007"],
    "kinds": ("view", "cart", "purchase"),
    "offsets": [0, 3, 5, 6, 7],
    "item": [1, 2, 2, 0, 3, 2, 1],
    "event": [1, 2, 0, 0, 0, 0, 0],
    "time": [BASE + second for second in (20, 20, 50, 10, 10, 5, 1)],
    "value": [2.5, 5.0, 1.0, None, 4.0, 3.0, 1.0],
    "context": {
        "device": ["phone", "phone", "phone", "desk", "desk", None, "tv"],
        "hour": [3, 6, 1, 2, 5, 4, 7],
    },
}


def as_csv(folder):
    EVENTS.write_csv(folder / "interactions.csv")
    ITEMS.write_csv(folder / "items.csv")


def as_tsv_with_windows_lines(folder):
    EVENTS.write_csv(folder / "interactions.tsv", separator="\t", line_terminator="\r\n")
    ITEMS.write_csv(folder / "items.tsv", separator="\t", include_bom=True)


def as_semicolons(folder):
    EVENTS.write_csv(folder / "interactions.csv", separator=";")
    ITEMS.write_csv(folder / "items.csv", separator="|")


def as_utf16(folder):
    (folder / "interactions.csv").write_bytes(EVENTS.write_csv().encode("utf-16"))
    (folder / "items.csv").write_bytes(ITEMS.write_csv().encode("utf-16"))


def as_gzip(folder):
    (folder / "interactions.csv.gz").write_bytes(gzip.compress(EVENTS.write_csv().encode()))
    (folder / "items.jsonl.gz").write_bytes(gzip.compress(ITEMS.write_ndjson().encode()))


def as_jsonl(folder):
    EVENTS.write_ndjson(folder / "interactions.jsonl")
    ITEMS.write_ndjson(folder / "items.jsonl")


def as_parquet(folder):
    EVENTS.write_parquet(folder / "interactions.parquet")
    ITEMS.write_parquet(folder / "items.parquet")


def as_numbered_parts(folder):
    for part, start in ((2, 0), (10, 3)):
        EVENTS[start : start + (3 if start == 0 else 4)].write_parquet(
            folder / f"interactions-{part}.parquet"
        )
    ITEMS.write_csv(folder / "items.csv")


def as_folder_of_parts(folder):
    (folder / "interactions").mkdir()
    EVENTS[:5].write_csv(folder / "interactions" / "a.csv")
    EVENTS[5:].write_csv(folder / "interactions" / "b.csv")
    ITEMS.write_parquet(folder / "items.parquet")


def as_renamed(folder):
    names = {"user_id": "customer", "item_id": "sku", "timestamp": "when"}
    EVENTS.rename(names).write_csv(folder / "log.csv")
    ITEMS.rename({"item_id": "asin"}).write_csv(folder / "items.csv")
    (folder / "dataset.toml").write_text(
        '[files]\ninteractions = "log.csv"\n[columns]\nuser_id = "customer"\nitem_id = "sku"\n'
        'timestamp = "when"\n[columns.items]\nitem_id = "asin"\n'
    )


def as_gb18030(folder):
    (folder / "interactions.csv").write_bytes(EVENTS.write_csv().encode("gb18030"))
    (folder / "items.csv").write_bytes(ITEMS.write_csv().encode("gb18030"))
    (folder / "dataset.toml").write_text('[files]\nencoding = "gb18030"\n')


WRITERS = [
    as_csv,
    as_tsv_with_windows_lines,
    as_semicolons,
    as_utf16,
    as_gzip,
    as_jsonl,
    as_parquet,
    as_numbered_parts,
    as_folder_of_parts,
    as_renamed,
    as_gb18030,
]


@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_data_in_any_format_is_the_same_dataset(writer, tmp_path):
    writer(tmp_path)
    dataset, report = read_checked(tmp_path)
    assert snapshot(dataset) == EXPECTED
    assert [problem.kind for problem in report.warnings] == ["unknown_item"]


def write_sqlite(path):
    connection = sqlite3.connect(path)
    for name, frame in (("interactions", EVENTS), ("items", ITEMS)):
        connection.execute(f"CREATE TABLE {name} ({', '.join(frame.columns)})")
        marks = ", ".join("?" * frame.width)
        connection.executemany(f"INSERT INTO {name} VALUES ({marks})", frame.rows())
    connection.commit()
    connection.close()


def test_a_database_is_the_same_dataset(tmp_path):
    write_sqlite(tmp_path / "shop.db")
    dataset = read_dataset(f"sqlite:///{tmp_path}/shop.db")
    assert snapshot(dataset) == EXPECTED
    assert dataset.name == "shop.db"


def test_a_description_may_name_a_database(tmp_path):
    write_sqlite(tmp_path / "shop.db")
    (tmp_path / "dataset.toml").write_text(
        f'name = "corner"\n[files]\ndatabase = "sqlite:///{tmp_path}/shop.db"\n'
    )
    dataset = read_dataset(tmp_path)
    assert snapshot(dataset) == EXPECTED
    assert dataset.name == "corner"


def test_a_single_file_holds_interactions(tmp_path):
    EVENTS.write_csv(tmp_path / "ratings.csv")
    dataset = read_dataset(tmp_path / "ratings.csv")
    assert dataset.name == "ratings"
    assert dataset.catalogue.items.ids.to_list() == ["i1", "i3", "i2", "i9"]


def test_ids_keep_their_zeros_and_attributes_of_csv_get_types(tmp_path):
    (tmp_path / "interactions.csv").write_text("user_id,item_id,zip,size\n007,08,02134,5\n7,8,10001,6\n")
    dataset = read_dataset(tmp_path)
    assert dataset.users.ids.to_list() == ["007", "7"]
    assert dataset.catalogue.items.ids.to_list() == ["08", "8"]
    assert dataset.context["zip"].to_list() == ["02134", "10001"]
    assert dataset.context["size"].to_list() == [5, 6]


@pytest.mark.parametrize("dtype", [pl.Int32, pl.UInt64, pl.Categorical, pl.Float64])
def test_ids_of_any_type_are_the_same_ids(tmp_path, dtype):
    ids = pl.Series(["3", "1", "3"])
    ids = ids.cast(dtype) if dtype == pl.Categorical else ids.cast(pl.Int64).cast(dtype)
    pl.DataFrame({"user_id": ids, "item_id": ids}).write_parquet(tmp_path / "interactions.parquet")
    dataset = read_dataset(tmp_path)
    assert dataset.users.ids.to_list() == ["3", "1"]
    assert dataset.histories.lengths.tolist() == [2, 1]


MOMENT = datetime(2024, 1, 31, 12, 30, 15, tzinfo=UTC)
WRITTEN_MOMENTS = [
    "2024-01-31 12:30:15",
    "2024-01-31T12:30:15Z",
    "2024-01-31T12:30:15.250+00:00",
    "2024-01-31T20:30:15+08:00",
    "2024-01-31T07:00:15-0530",
    "2024/1/31 12:30:15",
    "2024.01.31 12:30:15 UTC",
    "2024年1月31日 12:30:15",
    "31 Jan 2024 12:30:15",
    "Wed, 31 Jan 2024 12:30:15 +0000",
    "Wed Jan 31 12:30:15 2024",
    "1706704215",
    "1706704215.75",
    "1706704215000",
]


@pytest.mark.parametrize("written", WRITTEN_MOMENTS)
def test_moments_are_read_however_they_are_written(tmp_path, written):
    (tmp_path / "interactions.jsonl").write_text(
        json.dumps({"user_id": "u", "item_id": "i", "timestamp": written}, ensure_ascii=False) + "\n"
    )
    assert read_dataset(tmp_path).histories.timestamp.tolist() == [int(MOMENT.timestamp())]


@pytest.mark.parametrize(
    ("series", "seconds"),
    [
        (pl.Series([MOMENT]), 1_706_704_215),
        (pl.Series([MOMENT.replace(tzinfo=None)]).cast(pl.Datetime("ns")), 1_706_704_215),
        (pl.Series([MOMENT]).dt.convert_time_zone("Asia/Shanghai"), 1_706_704_215),
        (pl.Series([MOMENT.date()]), 1_706_659_200),
        (pl.Series([1_706_704_215_250_000_000]), 1_706_704_215),
        (pl.Series([-86_400]), -86_400),
    ],
)
def test_moments_of_any_type(tmp_path, series, seconds):
    pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": series}).write_parquet(
        tmp_path / "interactions.parquet"
    )
    assert read_dataset(tmp_path).histories.timestamp.tolist() == [seconds]


@given(
    st.dates(min_value=datetime(1990, 1, 2).date(), max_value=datetime(2099, 12, 30).date()),
    st.times(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_day_is_read_as_python_reads_it(tmp_path, day, clock):
    moment = datetime.combine(day, clock, tzinfo=UTC)
    (tmp_path / "interactions.csv").write_text(f"user_id,item_id,timestamp\nu,i,{moment.isoformat()}\n")
    (read,) = read_dataset(tmp_path).histories.timestamp.tolist()
    assert read == int(moment.timestamp() // 1)


def test_parts_of_a_second_decide_the_order(tmp_path):
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp\nu,late,2024-01-01 00:00:00.9\nu,early,2024-01-01 00:00:00.1\n"
    )
    dataset = read_dataset(tmp_path)
    assert [dataset.catalogue.items.id(i) for i in dataset.histories.item_index] == ["early", "late"]


moments = st.one_of(st.none(), st.integers(0, 4))


@given(st.lists(st.tuples(st.integers(0, 3), moments), min_size=1, max_size=30))
def test_order_of_events_equals_its_plain_definition(events):
    users = np.array([user for user, _ in events], dtype=np.int32)
    times = np.array([NO_TIMESTAMP if time is None else time for _, time in events], dtype=np.int64)
    order = time_order(users, times)
    order = list(range(len(events))) if order is None else order.tolist()

    expected = []
    for user in sorted(set(users.tolist())):
        carried, rows = NO_TIMESTAMP, []
        for row, (owner, moment) in enumerate(events):
            if owner == user:
                carried = carried if moment is None else moment
                rows.append((carried, row))
        expected += [row for _, row in sorted(rows)]
    assert order == expected


@given(st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=30))
def test_first_appearances_number_ids_as_they_come(ids):
    distinct, place = first_appearances(pl.Series(ids, dtype=pl.String))
    known = list(dict.fromkeys(identifier for identifier in ids if identifier is not None))
    assert distinct.to_list() == known
    assert place.tolist() == [-1 if identifier is None else known.index(identifier) for identifier in ids]


def test_an_event_without_a_time_gets_that_of_the_one_before():
    users = np.array([0, 0, 0, 1, 1], dtype=np.int32)
    times = np.array([NO_TIMESTAMP, 7, NO_TIMESTAMP, NO_TIMESTAMP, 3], dtype=np.int64)
    assert carried_forward(users, times).tolist() == [NO_TIMESTAMP + 1, 7, 7, NO_TIMESTAMP + 1, 3]


rows = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["x", "y", "z"]),
        st.integers(BASE, BASE + 3),
        st.sampled_from(["view", "buy"]),
    ),
    min_size=1,
    max_size=25,
)


@given(rows)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_indexing_equals_a_slow_reference(tmp_path, rows):
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "event"], orient="row")
    frame.write_parquet(tmp_path / "interactions.parquet")
    dataset = read_dataset(tmp_path)

    users = list(dict.fromkeys(row[0] for row in rows))
    items = list(dict.fromkeys(row[1] for row in rows))
    kinds = list(dict.fromkeys(row[3] for row in rows))
    assert dataset.users.ids.to_list() == users
    assert dataset.catalogue.items.ids.to_list() == items
    assert dataset.event_kinds == tuple(kinds)
    for u, user in enumerate(users):
        own = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        start, stop = dataset.histories.offsets[u : u + 2]
        assert dataset.histories.item_index[start:stop].tolist() == [items.index(row[1]) for row in own]
        assert dataset.histories.event_index[start:stop].tolist() == [kinds.index(row[3]) for row in own]
        assert dataset.histories.timestamp[start:stop].tolist() == [row[2] for row in own]


def test_a_million_rows_are_read_in_seconds(tmp_path):
    n = 1_000_000
    random = np.random.default_rng(0)
    pl.DataFrame(
        {
            "user_id": random.integers(0, 50_000, n),
            "item_id": random.integers(0, 10_000, n),
            "timestamp": random.integers(1_600_000_000, 1_700_000_000, n),
        }
    ).write_parquet(tmp_path / "interactions.parquet")
    start = time.perf_counter()
    dataset = read_dataset(tmp_path)
    assert time.perf_counter() - start < 20
    assert dataset.n_interactions == n


GOLDEN = {
    "amazon-beauty": (22_363, 12_101, 198_502),
    "amazon-sports": (35_598, 18_357, 296_337),
    "amazon-musical-instruments": (1_429, 900, 10_261),
    "amazon-toys-and-games-shared-users": (7_996, 49_603, 197_358),
    "frappe": (957, 4_082, 96_203),
    "goodbooks-sample": (2_672, 10_000, 298_176),
    "lastfm": (1_892, 17_632, 92_834),
    "movielens-100k": (943, 1_682, 100_000),
    "movielens-1m": (6_040, 3_883, 1_000_209),
    "movielens-small-zh": (610, 9_742, 100_836),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", GOLDEN)
def test_real_data_has_the_size_its_makers_state(real_data, name):
    dataset = read_dataset(real_data / name)
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == GOLDEN[name]
    assert dataset.name == name
    assert dataset.histories.item_index.dtype == np.int32
    assert dataset.catalogue.table["item_id"].to_list() == dataset.catalogue.items.ids.to_list()


@pytest.mark.real_data
def test_rows_of_one_day_keep_the_order_of_the_file(real_data):
    dataset = read_dataset(real_data / "amazon-beauty")
    raw = pl.read_parquet(real_data / "amazon-beauty" / "interactions.parquet")
    assert dataset.users.ids.to_list() == raw["user_id"].unique(maintain_order=True).to_list()
    ids = dataset.catalogue.items.ids.gather(dataset.histories.item_index)
    in_file = raw.with_columns(n=pl.col("user_id").rle_id()).sort("n", maintain_order=True)
    assert ids.to_list() == in_file["item_id"].to_list()


@pytest.mark.real_data
def test_impressions_become_interactions_as_the_message_says(real_data, tmp_path):
    for table in ("impressions", "items", "users"):
        (tmp_path / f"{table}.parquet").symlink_to(real_data / "kuairand-pure" / f"{table}.parquet")
    (tmp_path / "dataset.toml").write_text(
        '[files]\ninteractions = "impressions.parquet"\n[columns.interactions]\nvalue = "is_click"\n'
        '[values]\nminimum = 1\n[cleaning]\nvalue_out_of_range = "drop"\n'
    )
    dataset, report = read_checked(tmp_path)
    clicks = pl.read_parquet(real_data / "kuairand-pure" / "impressions.parquet")["is_click"].sum()
    assert dataset.n_interactions == clicks
    assert report.cleaned["value_out_of_range"] == 228_329 - clicks
    assert dataset.impressions is not None
    assert dataset.impressions.height == 228_329
