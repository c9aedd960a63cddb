"""A shop on its first day: a catalogue, and nobody who has done anything."""

import sqlite3

import pytest

from zhiyin.data.checking import check
from zhiyin.data.reading import read_checked, read_dataset
from zhiyin.domain.errors import DataError

ITEMS = "item_id,title\nred,Red cotton shirt\nblue,Blue cotton shirt\nhat,Wool hat\n"
HEADER = "user_id,item_id,event\n"


def test_a_catalogue_alone_is_a_shop(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    dataset, report = read_checked(tmp_path)
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (0, 3, 0)
    assert dataset.event_kinds == ("interaction",)
    assert [problem.kind for problem in report.warnings] == ["no_interactions"]
    assert "only a catalogue" in report.render()


def test_so_is_one_beside_a_header(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "interactions.csv").write_text(HEADER)
    dataset, report = read_checked(tmp_path)
    assert dataset.n_interactions == 0
    assert [problem.kind for problem in report.warnings] == ["no_rows"]


def test_people_may_be_described_already(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "users.csv").write_text("user_id,country\nanna,NO\n")
    dataset = read_dataset(tmp_path)
    assert dataset.users.ids.to_list() == ["anna"]
    assert dataset.histories.lengths.tolist() == [0]


def test_the_kinds_of_events_to_come_may_be_named(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "dataset.toml").write_text("[events]\nview = 1\npurchase = 5\n")
    dataset = read_dataset(tmp_path)
    assert dataset.event_kinds == ("view", "purchase")
    assert dataset.event_weights.tolist() == [1.0, 5.0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", "user_id,item_id\nanna,red\n"),
        ("impressions.csv", "user_id,item_id,shown\nanna,red,1\n"),
    ],
)
def test_a_log_under_another_name_is_not_left_out_silently(tmp_path, name, content):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=name):
        read_dataset(tmp_path)


def test_a_log_that_cannot_be_read_is_no_first_day(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "interactions.csv").write_text("who,what\nanna,red\n")
    report = check(tmp_path)
    assert {problem.kind for problem in report.errors} == {"missing_column"}
    assert not any(problem.kind == "no_interactions" for problem in report.problems)


def database(path, *tables):
    with sqlite3.connect(path) as connection:
        for name, columns in tables:
            connection.execute(f"CREATE TABLE {name} ({columns})")
        connection.execute("INSERT INTO items VALUES ('red', 'Red cotton shirt')")
    return f"sqlite:///{path}"


def test_a_database_may_hold_a_catalogue_alone(tmp_path):
    dataset = read_dataset(database(tmp_path / "shop.db", ("items", "item_id TEXT, title TEXT")))
    assert (dataset.n_items, dataset.n_interactions) == (1, 0)


def test_a_table_with_nearly_the_right_name_is_asked_about(tmp_path):
    tables = (("items", "item_id TEXT, title TEXT"), ("interaction", "user_id TEXT, item_id TEXT"))
    with pytest.raises(DataError, match="Did you mean 'interaction'"):
        read_dataset(database(tmp_path / "shop.db", *tables))
