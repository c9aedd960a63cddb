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
    told = report.render()
    assert "only a catalogue" in told
    assert "density" not in told, "there is nothing to be dense"
    assert told.endswith("Ready to train, with the warnings above in mind."), "nothing was cleaned"


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
    assert dataset.event_kinds == ("interaction", "view", "purchase"), "the first stands for unknown words"
    assert dataset.event_weights.tolist() == [1.0, 1.0, 5.0]


LOG = "user_id,item_id\nanna,red\n"
LEFT_OUT = {
    "by columns": ("what_people_did.csv", LOG),
    "by clear other names of columns": ("export.csv", "customerId,sku\nanna,red\n"),
    "by name": ("clicks.csv", "visitor_uuid,product_code\nanna,red\n"),
    "by one word of the name": ("shop-orders-2025.csv", "customer_no,article_no\nanna,red\n"),
    "misspelt": ("interection.csv", "who,what\nanna,red\n"),
    "without a header": ("ratings.csv", "anna,red,5\n"),
    "damaged": ("events.parquet", "this is no parquet"),
    "in another format": ("interactions.xlsx", "PK"),
    "without an ending": ("interactions", LOG),
    "in Chinese": ("订单.csv", "a,b\n1,2\n"),
    "shown, not done": ("impressions.csv", "user_id,item_id,shown\nanna,red,1\n"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_log_under_another_name_is_not_left_out_silently(tmp_path, case):
    name, content = LEFT_OUT[case]
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=name):
        read_dataset(tmp_path)
    (tmp_path / "interactions.csv").write_text(HEADER)
    if not name.startswith(("interactions", "impressions")):
        with pytest.raises(DataError, match=name):
            read_dataset(tmp_path)


def test_one_may_say_that_there_is_no_log(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "orders.csv").write_text("supplier,goods\n1,2\n")
    with pytest.raises(DataError, match=r"interactions = \[\]"):
        read_dataset(tmp_path)
    (tmp_path / "dataset.toml").write_text("[files]\ninteractions = []\n")
    assert read_dataset(tmp_path).n_interactions == 0


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("addresses.csv", "id,user_id,street"),
        ("customers.csv", "customer_id,email,time_id"),
        ("suppliers.csv", "id,customer_name,account"),
        ("stock.csv", "item_id,number"),
    ],
)
def test_what_is_no_log_is_no_hindrance(tmp_path, name, columns):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / name).write_text(f"{columns}\n" + ",".join("1" for _ in columns.split(",")) + "\n")
    dataset, report = read_checked(tmp_path)
    assert dataset.n_items == 3
    assert any(problem.kind == "not_read" and name in problem.message for problem in report.notes)


def test_neither_items_nor_interactions_is_nothing(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\n")
    report = check(tmp_path)
    assert "At least one item, or one interaction, is needed" in report.render()
    assert "Not usable" in report.render()


def test_an_empty_file_is_said_to_be_empty_and_no_more(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "interactions.csv").write_text("")
    report = check(tmp_path)
    assert {problem.kind for problem in report.errors} == {"unreadable_file"}
    assert "only a catalogue" not in report.render()


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


@pytest.mark.parametrize("name", ["interaction", "events", "shop_orders"])
def test_a_table_that_looks_like_a_log_is_asked_about(tmp_path, name):
    tables = (("items", "item_id TEXT, title TEXT"), (name, "a TEXT, b TEXT"))
    with pytest.raises(DataError, match=f"CREATE VIEW interactions .* FROM {name}"):
        read_dataset(database(tmp_path / "shop.db", *tables))


def test_other_tables_are_no_hindrance(tmp_path):
    tables = (
        ("items", "item_id TEXT, title TEXT"),
        ("sections", "a TEXT"),
        ("relations", "id TEXT, user_id TEXT"),
    )
    assert read_dataset(database(tmp_path / "shop.db", *tables)).n_items == 1


def test_an_empty_table_says_that_nothing_was_done(tmp_path):
    tables = (
        ("items", "item_id TEXT, title TEXT"),
        ("interactions", "user_id TEXT, item_id TEXT"),
        ("orders", "a TEXT"),
    )
    assert read_dataset(database(tmp_path / "shop.db", *tables)).n_interactions == 0
