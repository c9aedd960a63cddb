"""Every way in which files arrive broken, and the words a user reads then.

Each case writes a few files, and names the kind of the problem, its severity, and what the message must say.
"""

import gzip
import sqlite3
from pathlib import Path

import polars as pl
import pytest

from zhiyin.data.checking import check, inspect
from zhiyin.data.problems import Severity
from zhiyin.data.reading import read_dataset
from zhiyin.domain.errors import DataError

NOW = 1_760_000_000.0
"""A day in October 2025, so that the future stays where it is."""
HEADER = "user_id,item_id,timestamp,event,value\n"
ROWS = [f"u{n % 4},i{n % 5},{1_700_000_000 + n * 3600},view,{n % 5 + 1}" for n in range(40)]
GOOD = HEADER + "\n".join(ROWS) + "\n"
ITEMS = "item_id,title,price\n" + "".join(f"i{n},Thing number {n},{n}.50\n" for n in range(5))


def with_row(number: int, row: str) -> str:
    """The good file with one data row (counting from 1) put in place of another."""
    rows = list(ROWS)
    rows[number - 1] = row
    return HEADER + "\n".join(rows) + "\n"


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def parquet(frame: pl.DataFrame, path: Path) -> bytes:
    frame.write_parquet(path)
    return path.read_bytes()


def of_kind(report, kind: str):
    found = [problem for problem in report.problems if problem.kind == kind]
    assert found, f"no '{kind}' among {[problem.kind for problem in report.problems]}:\n{report.render()}"
    return found[0]


NOTES_OF_GOOD = {"no_items"}

ERRORS: dict[str, tuple[dict[str, str | bytes], str, str]] = {
    "an empty file": ({"interactions.csv": ""}, "unreadable_file", "The file is empty"),
    "only blank lines": ({"interactions.csv": "\n\n\n"}, "unreadable_file", "empty"),
    "a header without rows": ({"interactions.csv": HEADER}, "no_rows", "There is a header but no row"),
    "an empty folder": ({}, "unreadable", "There is no interactions.csv, .parquet or .jsonl"),
    "interactions under another name": (
        {"ratings.csv": GOOD},
        "unreadable",
        "ratings.csv could hold interactions",
    ),
    "the item column called otherwise": (
        {"interactions.csv": GOOD.replace("item_id", "product_id")},
        "missing_column",
        "The columns are user_id, product_id, timestamp, event, value. Is it 'product_id'?|"
        '[columns.interactions]  item_id = "product_id"',
    ),
    "the user column called otherwise": (
        {"interactions.csv": GOOD.replace("user_id", "用户ID")},
        "missing_column",
        '[columns.interactions]  user_id = "用户ID"',
    ),
    "a column misspelt": (
        {"interactions.csv": GOOD.replace("item_id", "itm_id")},
        "missing_column",
        "Is it 'itm_id'?",
    ),
    "no header at all": (
        {"interactions.csv": "\n".join(ROWS)},
        "missing_column",
        "There is no column 'user_id'. The columns are u0, i0, 1700000000, view, 1.",
    ),
    "half of the users missing": (
        {"interactions.csv": HEADER + "\n".join(row[2:] if n % 2 else row for n, row in enumerate(ROWS))},
        "too_much_dropped",
        "50% of the rows would be dropped|largest_dropped_share = 0.5",
    ),
    "bytes of gb18030": (
        {"interactions.csv": GOOD, "items.csv": "item_id,title\ni0,指甲油\n".encode("gb18030")},
        "unreadable_file",
        'Data row 1 is not utf-8: it has the byte 0xbc; as gb18030 it reads "i0,指甲油"|'
        '[files]  encoding = "gb18030"',
    ),
    "bytes of latin-1": (
        {"interactions.csv": GOOD, "items.csv": "item_id,title\ni0,plain\ni1,Crème\n".encode("latin-1")},
        "unreadable_file",
        'Data row 2 is not utf-8: it has the byte 0xe8|as latin-1 it reads "i1,Crème"',
    ),
    "a quote that never closes": (
        {"interactions.csv": with_row(3, 'u1,"i1,1700000000,view,1')},
        "unreadable_file",
        "The quotes do not close after data row 2|A quote inside a quoted field is written twice",
    ),
    "a parquet file cut off": (
        {"interactions.parquet": b"PAR1" + b"\x00" * 50},
        "unreadable_file",
        "The file is damaged or not parquet",
    ),
    "parquet by name, text by nature": (
        {"interactions.parquet": GOOD},
        "unreadable_file",
        "The file is damaged or not parquet",
    ),
    "a workbook called csv": (
        {"interactions.csv": b"PK\x03\x04rest"},
        "unreadable_file",
        "By its name this is csv, but it holds a zip archive or an Excel workbook",
    ),
    "a gzip file cut off": (
        {"interactions.csv.gz": gzip.compress(GOOD.encode())[:-20]},
        "unreadable_file",
        "The gzip file is damaged",
    ),
    "a JSON array": (
        {"interactions.jsonl": '[{"user_id": "u", "item_id": "i"}]'},
        "unreadable_file",
        "The file is one JSON array; it should hold one JSON object a line|jq -c '.[]'",
    ),
    "the table twice": (
        {"interactions.csv": GOOD, "interactions.jsonl": "{}"},
        "unreadable",
        "It is not clear which file holds the interactions: there are interactions.csv, interactions.jsonl",
    ),
    "days and months in an unknown order": (
        {"interactions.csv": HEADER + "\n".join(f"u,i{n},0{n % 9 + 1}/02/2024,view,1" for n in range(20))},
        "not_a_time",
        "Dates such as '01/02/2024' do not say whether the day or the month comes first|"
        'format = "%d/%m/%Y"  or  "%m/%d/%Y"',
    ),
    "dates that are no dates": (
        {"interactions.csv": HEADER + "\n".join(f"u,i{n},someday,view,1" for n in range(20))},
        "not_a_time",
        "100% of the times cannot be read|[timestamps]  format =",
    ),
    "text in place of ratings": (
        {"interactions.csv": HEADER + "\n".join(f"u,i{n},17000000{n:02},view,good" for n in range(20))},
        "not_a_value",
        "100% of the values are no numbers, as 'good'",
    ),
    "item ids written in two ways": (
        {"interactions.csv": GOOD, "items.csv": ITEMS.replace("\ni", "\nsku-")},
        "no_known_item",
        "Not one item is in the items file: an id here is 'i0', there 'sku-0'",
    ),
    "an event column full of sentences": (
        {"interactions.csv": HEADER + "\n".join(f"u,i{n},1700000000,said {n},1" for n in range(1200))},
        "not_an_event",
        "There are 1,200 different events, such as 'said 0'",
    ),
    "items without an id column": (
        {"interactions.csv": GOOD, "items.csv": ITEMS.replace("item_id", "sku")},
        "missing_column",
        '[columns.items]  item_id = "sku"',
    ),
    "facts without a relation": (
        {"interactions.csv": GOOD, "facts.csv": "head,predicate,tail\na,b,c\n"},
        "missing_column",
        '[columns.facts]  relation = "predicate"',
    ),
    "most lines ragged": (
        {"interactions.csv": HEADER + "\n".join(row + ",x" for row in ROWS)},
        "too_much_dropped",
        "100% of the lines cannot be read|look at its first lines, and at the separator",
    ),
    "only impressions, with clicks": (
        {"impressions.csv": "user_id,item_id,is_click\nu,i,1\n"},
        "unreadable",
        "The column 'is_click' of impressions.csv says what was done|value_out_of_range = \"drop\"",
    ),
    "only impressions, without items": (
        {"impressions.csv": "user_id,click\nu,1\n"},
        "unreadable",
        "They cannot stand in for interactions: impressions.csv has no column 'item_id'",
    ),
    "a description with an unknown section": (
        {"interactions.csv": GOOD, "dataset.toml": "[colums]\n"},
        "unreadable",
        "dataset.toml: 'colums' is not known. Did you mean 'columns'?",
    ),
    "a description with an unknown rule": (
        {"interactions.csv": GOOD, "dataset.toml": '[cleaning]\nduplicate_events = "drop"\n'},
        "unreadable",
        "[cleaning] 'duplicate_events' is not known. Did you mean 'duplicate_event'?",
    ),
    "a description with an unknown action": (
        {"interactions.csv": GOOD, "dataset.toml": '[cleaning]\nmissing_id = "keep"\n'},
        "unreadable",
        'It can be "drop", "error".',
    ),
    "a description that is no TOML": (
        {"interactions.csv": GOOD, "dataset.toml": "[columns]\nitem_id = item\n"},
        "unreadable",
        "dataset.toml is not readable as TOML",
    ),
    "a description naming a column that is not there": (
        {"interactions.csv": GOOD, "dataset.toml": '[columns.interactions]\nitem_id = "itemid"\n'},
        "unknown_column",
        "says that 'item_id' is the column 'itemid', which is not there. Did you mean 'item_id'?",
    ),
    "a description naming a column that no table has": (
        {"interactions.csv": GOOD, "dataset.toml": '[columns]\ntimestamp = "evnt"\n'},
        "unknown_column",
        "[columns] says that 'timestamp' is the column 'evnt', which no table has. Did you mean 'event'?",
    ),
    "a description naming a file that is not there": (
        {"ratings.csv": GOOD, "dataset.toml": '[files]\ninteractions = "rating.csv"\n'},
        "unreadable",
        "names 'rating.csv', which is not there. Did you mean 'ratings.csv'?",
    ),
    "an encoding nobody knows": (
        {"interactions.csv": GOOD, "dataset.toml": '[files]\nencoding = "utf-9"\n'},
        "unreadable",
        "encoding 'utf-9' is not known",
    ),
    "limits the wrong way round": (
        {"interactions.csv": GOOD, "dataset.toml": "[values]\nminimum = 5\nmaximum = 1\n"},
        "unreadable",
        "minimum 5 is above maximum 1",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_stops(case, tmp_path):
    files, kind, words = ERRORS[case]
    report = check(write(tmp_path, files), now=NOW)

    problem = of_kind(report, kind)
    assert problem.severity is Severity.ERROR
    for part in words.split("|"):
        assert part in f"{problem.message}\n{problem.remedy}"
    assert report.summary is None
    assert "Not usable" in report.render()
    with pytest.raises(DataError) as raised:
        read_dataset(tmp_path)
    assert problem.message[:40] in str(raised.value).replace("\n    ", " ")


WARNINGS: dict[str, tuple[dict[str, str | bytes], str, tuple[str, ...], str]] = {
    "a missing user": (
        {"interactions.csv": with_row(7, ",i1,1700000000,view,1")},
        "missing_id",
        ("7",),
        "1 row has no user_id.|dropped",
    ),
    "a missing item, written as nan": (
        {"interactions.csv": with_row(9, "u1,nan,1700000000,view,1")},
        "missing_id",
        ("9",),
        "1 row has no item_id.|dropped",
    ),
    "blanks around ids": (
        {"interactions.csv": with_row(2, " u1 ,i1,1700003600,view,1")},
        "untidy_name",
        ("2",),
        "1 row has blanks around the user_id.|blanks were removed",
    ),
    "one event in other letters": (
        {"interactions.csv": with_row(4, "u3,i3,1700010800,VIEW,1")},
        "untidy_name",
        ("4",),
        "1 row spells an event with blanks, or otherwise than before.|came first",
    ),
    "an event without a name": (
        {"interactions.csv": with_row(4, "u3,i3,1700010800,,1")},
        "missing_event",
        ("4",),
        "1 row names no event.|named 'interaction'",
    ),
    "a date that does not parse": (
        {"interactions.csv": with_row(5, "u0,i4,yesterday,view,1")},
        "missing_timestamp",
        ("5",),
        "1 row holds no time that can be read, as in 'yesterday'.|kept in their place",
    ),
    "the thirtieth of February": (
        {"interactions.csv": HEADER + "".join(f"u,i{n},2024-02-{n:02},view,1\n" for n in range(10, 31))},
        "missing_timestamp",
        ("21",),
        "as in '2024-02-30'|kept in their place",
    ),
    "a date left out": (
        {"interactions.csv": with_row(5, "u0,i4,,view,1")},
        "missing_timestamp",
        ("5",),
        "1 row has no timestamp.|kept in their place",
    ),
    "a date in the future": (
        {"interactions.csv": with_row(5, "u0,i4,2000000000,view,1")},
        "future_timestamp",
        ("5",),
        "1 row lies in the future, up to 2033-05-18.|kept as they are",
    ),
    "a date before the net": (
        {"interactions.csv": with_row(5, "u0,i4,12,view,1")},
        "implausible_timestamp",
        ("5",),
        "1 row lies before 1990 or after 2100, as in 12.|kept as they are",
    ),
    "days written as one number": (
        {"interactions.csv": HEADER + "".join(f"u,i{n},202401{n:02},view,1\n" for n in range(10, 30))},
        "implausible_timestamp",
        tuple(str(n) for n in range(1, 11)),
        'They look like 20240131; then write in dataset.toml:  [timestamps]  format = "%Y%m%d".',
    ),
    "milliseconds": (
        {"interactions.csv": HEADER + "".join(f"u,i{n},{1_700_000_000_000 + n},view,1\n" for n in range(20))},
        "timestamp_unit",
        (),
        "The times are too large for seconds; they look like milliseconds.|read as milliseconds",
    ),
    "a value that is no number": (
        {"interactions.csv": with_row(6, "u1,i0,1700018000,view,many")},
        "unreadable_value",
        ("6",),
        "1 row holds no finite number, as in 'many'.|taken as missing",
    ),
    "a value that is not finite": (
        {"interactions.csv": with_row(6, "u1,i0,1700018000,view,inf")},
        "unreadable_value",
        ("6",),
        "1 row holds no finite number, as in 'inf'.",
    ),
    "a value out of range": (
        {
            "interactions.csv": with_row(6, "u1,i0,1700018000,view,99"),
            "dataset.toml": "[values]\nminimum = 1\nmaximum = 5\n",
        },
        "value_out_of_range",
        ("6",),
        "1 row lies outside 1 to 5, as 99.|nearest value allowed",
    ),
    "a row twice": (
        {"interactions.csv": GOOD + ROWS[2] + "\n"},
        "duplicate_event",
        ("41",),
        "1 row repeats the user, item, event, time, value of an earlier row.|each counts",
    ),
    "an unknown item": (
        {"interactions.csv": with_row(8, "u3,i9,1700025200,view,1"), "items.csv": ITEMS},
        "unknown_item",
        ("8",),
        "1 row is about items that the items file does not hold: 1 of them, such as 'i9'.|added",
    ),
    "an item described twice": (
        {"interactions.csv": GOOD, "items.csv": ITEMS + "i2,Again,3\n"},
        "duplicate_row",
        ("6",),
        "1 row has the item_id of another row, such as 'i2'.|the first row",
    ),
    "an item without an id": (
        {"interactions.csv": GOOD, "items.csv": ITEMS + ",Nameless,3\n"},
        "missing_id",
        ("6",),
        "1 row has no item_id.",
    ),
    "a price in words": (
        {"interactions.csv": GOOD, "items.csv": ITEMS.replace("3.50", "ask us")},
        "unreadable_price",
        ("4",),
        "1 row holds no price, as 'ask us'.|taken as missing",
    ),
    "a negative price": (
        {"interactions.csv": GOOD, "items.csv": ITEMS.replace("3.50", "-3.50")},
        "unreadable_price",
        ("4",),
        "1 row holds no price, as '-3.50'.",
    ),
    "letters lost earlier": (
        {"interactions.csv": GOOD, "items.csv": ITEMS.replace("Thing number 3", "Cr\ufffdme")},
        "damaged_text",
        (),
        "1 row holds the sign \ufffd (row 4): letters were lost",
    ),
    "a row with too many fields": (
        {"interactions.csv": with_row(3, "u1,i1,1700000000,view,1,more")},
        "unreadable_row",
        ("3",),
        "1 row has not 5 fields like the header|dropped",
    ),
    "a row with too few fields": (
        {"interactions.csv": with_row(3, "u1,i1")},
        "unreadable_row",
        ("3",),
        "has not 5 fields like the header",
    ),
    "a broken line of JSON": (
        {
            "interactions.jsonl": "".join(f'{{"user_id": "u", "item_id": "i{n}"}}\n' for n in range(20))
            + '{"user_id": "u", "item_id": \n'
        },
        "unreadable_row",
        ("21",),
        "1 row has no JSON object.",
    ),
    "a header with blanks and capitals": (
        {"interactions.csv": GOOD.replace("user_id", " User_ID")},
        "untidy_header",
        (),
        "The header names a column ' User_ID'.|read as 'user_id'",
    ),
    "a column twice": (
        {"interactions.csv": GOOD.replace("event,value", "hour,hour")},
        "duplicate_column",
        (),
        "The column 'hour' is there twice.|the second is called 'hour_duplicated_0'",
    ),
    "a weight for an event that never happens": (
        {"interactions.csv": GOOD, "dataset.toml": "[events]\nviews = 2\n"},
        "unknown_event",
        (),
        "[events] weighs 'views', which does not occur in interactions.csv. Did you mean 'view'?",
    ),
    "a fact with a gap": (
        {"interactions.csv": GOOD, "facts.csv": "head,relation,tail\na,r,b\na,,c\n"},
        "missing_id",
        ("2",),
        "1 row has no head, relation or tail.",
    ),
    "a propensity above one": (
        {"interactions.csv": GOOD, "impressions.csv": "user_id,item_id,propensity\nu,i,.5\nu,i,3\n"},
        "propensity_out_of_range",
        (),
        "1 row holds no probability above 0 and up to 1 (row 2).",
    ),
    "an items file without rows": (
        {"interactions.csv": GOOD, "items.csv": "item_id,title\n"},
        "no_rows",
        (),
        "There is a header but no row.|as if it were not there",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_what_is_cleaned(case, tmp_path):
    files, kind, rows, words = WARNINGS[case]
    report = check(write(tmp_path, files), now=NOW)

    problem = of_kind(report, kind)
    assert problem.severity is Severity.WARNING
    assert problem.rows == rows
    for part in words.split("|"):
        assert part in f"{problem.message}\n{problem.done}"
    assert not report.errors, report.render()
    assert report.summary is not None


def test_good_files_are_said_to_be_good(tmp_path):
    report = check(write(tmp_path, {"interactions.csv": GOOD, "items.csv": ITEMS}), now=NOW)
    assert report.problems == ()
    assert report.render().endswith("Ready to train.")


def test_everything_wrong_is_said_at_once(tmp_path):
    files = {
        "interactions.csv": GOOD.replace("item_id", "sku"),
        "items.csv": b"item_id,title\ni0,\xff\n",
        "users.csv": "user,age\nu0,3\n",
        "facts.parquet": b"nothing",
    }
    report = check(write(tmp_path, files), now=NOW)
    places = {problem.place for problem in report.errors}
    assert places == {"interactions.csv", "items.csv", "users.csv", "facts.parquet"}


def test_a_column_called_otherwise_does_not_hide_what_is_wrong_in_it(tmp_path):
    text = "reader,book,when,rating\nu1,,2024-01-01,5\n" + "u1,b1,2024-01-02,4\n" * 20
    report = check(write(tmp_path, {"interactions.csv": text}), now=NOW)
    assert of_kind(report, "missing_id").rows == ("1",)
    hints = " ".join(note.remedy for note in report.notes)
    assert '[columns.interactions]  timestamp = "when"' in hints
    assert '[columns.interactions]  value = "rating"' in hints
    lines = " ".join(problem.remedy for problem in report.errors)
    assert 'item_id = "book"' in lines


def test_the_first_ten_rows_are_named_and_the_rest_counted(tmp_path):
    rows = [f"u,i,{1_700_000_000 + n},view,{'x' if n % 3 == 0 else 1}" for n in range(60)]
    report = check(write(tmp_path, {"interactions.csv": HEADER + "\n".join(rows)}), now=NOW)
    problem = of_kind(report, "unreadable_value")
    assert problem.n_rows == 20
    assert problem.rows == tuple(str(n) for n in range(1, 31, 3))
    assert "and 10 more" in report.render()


def test_rows_of_several_files_are_named_with_their_file(tmp_path):
    first, second = HEADER + "\n".join(ROWS[:20]), with_row(3, "u1,,1700000000,view,1")
    report = check(write(tmp_path, {"interactions-0.csv": first, "interactions-1.csv": second}), now=NOW)
    assert of_kind(report, "missing_id").rows == ("interactions-1.csv:3",)


def test_rows_keep_their_number_behind_a_broken_line(tmp_path):
    lines = with_row(3, "u1,i1").splitlines()
    lines[10] = ",i1,1700000000,view,1"
    report = check(write(tmp_path, {"interactions.csv": "\n".join(lines)}), now=NOW)
    assert of_kind(report, "unreadable_row").rows == ("3",)
    assert of_kind(report, "missing_id").rows == ("10",)


@pytest.mark.parametrize(
    ("column", "values", "kind", "words"),
    [
        ("user_id", [1.5, 2.0], "not_an_id", "1 row holds a fraction, as in 1.5 (row 1)"),
        ("user_id", [True, False], "not_an_id", "The column holds Boolean, which cannot be an id"),
        ("item_id", [["a"], ["b"]], "not_an_id", "The column holds List(String), which cannot be an id"),
        ("timestamp", [[1], [2]], "not_a_time", "The column holds List(Int64), which cannot be a time"),
    ],
)
def test_columns_of_impossible_types(tmp_path, column, values, kind, words):
    frame = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1, 2]})
    frame.with_columns(pl.Series(column, values)).write_parquet(tmp_path / "interactions.parquet")
    problem = of_kind(check(tmp_path, now=NOW), kind)
    assert problem.severity is Severity.ERROR
    assert words in problem.message


def test_places_where_nothing_is(tmp_path):
    (tmp_path / "beauty").mkdir()
    report = check(tmp_path / "beaty")
    assert "There is no folder or file" in report.errors[0].message
    assert "Did you mean 'beauty'?" in report.errors[0].message
    other = tmp_path / "data.xlsx"
    other.write_bytes(b"PK\x03\x04")
    assert "files with the ending '.xlsx' cannot be read" in check(other).errors[0].message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///{folder}/missing.db", "There is no SQLite file"),
        ("sqlite:///{folder}/text.db", "The database cannot be read: file is not a database"),
        ("sqlite:///{folder}/other.db", "The database has no table or view 'interactions'"),
        ("oracel://shop", "'oracel' is not a database that SQLAlchemy knows"),
        ("postgresql://u:secret@127.0.0.1:1/shop", "***"),
        ("postgresql://u:sec@ret@127.0.0.1:1/shop", "***"),
    ],
)
def test_databases_that_cannot_be_read(tmp_path, url, words):
    (tmp_path / "text.db").write_text("x" * 5000)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE interaction (user_id, item_id)")
    connection.close()
    report = check(url.format(folder=tmp_path))
    text = report.render()
    assert report.errors
    assert words in " ".join(text.split())
    assert "ret@" not in text + report.to_json()


def test_blank_lines_are_no_rows(tmp_path):
    write(tmp_path, {"interactions.csv": GOOD.replace("\n", "\n\n") + "\r\n\n"})
    report = check(tmp_path, now=NOW)
    assert [problem.kind for problem in report.problems] == ["no_items"]
    assert report.summary.n_interactions == 40


def test_a_text_over_several_lines_is_one_field(tmp_path):
    items = 'item_id,title,note\ni0,"A ""fine"" thing,\nin two lines",\ni1,Other,\ni2,short\ni3,"a",b\n'
    generous = "[cleaning]\nlargest_dropped_share = 0.5\n"
    write(tmp_path, {"interactions.csv": GOOD, "items.csv": items, "dataset.toml": generous})
    dataset, report = inspect(tmp_path, now=NOW)
    assert dataset.catalogue.table["title"][:3].to_list() == ['A "fine" thing,\nin two lines', "Other", "a"]
    assert of_kind(report, "unreadable_row").rows == ("3",)
    whole = items.replace("i2,short", "i2,short,")
    write(tmp_path, {"items.csv": whole})
    assert inspect(tmp_path, now=NOW)[0].catalogue.table["note"].to_list()[:4] == [None, None, None, "b"]


def test_a_broken_line_far_down_does_not_make_the_rest_slow_or_different(tmp_path):
    lines = [f'{{"user_id": "u{n % 9}", "item_id": {n % 7}, "value": {n % 5}}}' for n in range(250_000)]
    lines[200_000] = '{"user_id": "u1", "item_id": "seven"}'
    lines[200_001] = '{"user_id": '
    write(tmp_path, {"interactions.jsonl": "\n".join(lines)})
    dataset, report = inspect(tmp_path, now=NOW)
    assert of_kind(report, "unreadable_row").rows == ("200002",)
    assert dataset.n_interactions == 249_999
    assert dataset.catalogue.items.ids.to_list() == [*"0123456", "seven"]
