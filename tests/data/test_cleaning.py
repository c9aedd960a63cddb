"""Cleaning rules: every action of every rule does what its sentence says, and is counted."""

import pytest

from zhiyin.data.checking import check, inspect
from zhiyin.data.description import Description
from zhiyin.data.reading import read_checked
from zhiyin.data.rules import RULES
from zhiyin.domain import NO_TIMESTAMP

NOW = 1_760_000_000.0
ROWS = [f"u{n % 3},i{n % 4},{1_700_000_000 + n},view,{n % 5 + 1}" for n in range(30)]
ITEMS = [f"i{n},Thing {n},{n}.5" for n in range(4)]


def read(folder, *, interactions=(), items=(), cleaning="", rest=""):
    """Read the good rows followed by the given ones, cleaned as told."""
    header = "user_id,item_id,timestamp,event,value"
    (folder / "interactions.csv").write_text("\n".join([header, *ROWS, *interactions]))
    (folder / "items.csv").write_text("\n".join(["item_id,title,price", *ITEMS, *items]))
    (folder / "dataset.toml").write_text(f"{rest}\n[cleaning]\n{cleaning}\n")
    return inspect(folder, now=NOW)


CASES = {
    "missing_id": (["u1,,1700000100,view,1"], ""),
    "missing_timestamp": (["u1,i1,,view,1"], ""),
    "implausible_timestamp": (["u1,i1,5,view,1"], ""),
    "future_timestamp": (["u1,i1,1900000000,view,1"], ""),
    "missing_event": (["u1,i1,1700000100,,1"], ""),
    "unreadable_value": (["u1,i1,1700000100,view,some"], ""),
    "value_out_of_range": (["u1,i1,1700000100,view,9"], "[values]\nmaximum = 5"),
    "duplicate_event": ([ROWS[-1]], ""),
    "unknown_item": (["u1,i7,1700000100,view,1"], ""),
    "unreadable_row": (["u1,i1"], ""),
}


@pytest.mark.parametrize("rule", CASES)
def test_drop_leaves_the_row_out_and_counts_it(rule, tmp_path):
    rows, rest = CASES[rule]
    dataset, report = read(tmp_path, interactions=rows, cleaning=f'{rule} = "drop"', rest=rest)
    assert dataset is not None, report.render()
    assert dataset.n_interactions == 30
    assert dataset.n_items == 4
    assert report.cleaned == {rule: 1}
    assert "dropped" in next(problem.done for problem in report.warnings)


@pytest.mark.parametrize("rule", CASES)
def test_error_stops_and_names_the_row(rule, tmp_path):
    rows, rest = CASES[rule]
    dataset, report = read(tmp_path, interactions=rows, cleaning=f'{rule} = "error"', rest=rest)
    assert dataset is None
    (problem,) = report.errors
    assert (problem.kind, problem.rows, problem.done) == (rule, ("31",), "")
    assert f"[cleaning]  {rule} = " in problem.remedy


def last_event(dataset, user="u1"):
    histories = dataset.histories
    at = histories.offsets[dataset.users.index(user) + 1] - 1
    return int(histories.timestamp[at]), float(histories.value[at]), int(histories.item_index[at])


def test_without_a_word_rows_are_kept_where_that_is_safe(tmp_path):
    rows = ["u1,i1,,view,1"]
    dataset, _ = read(tmp_path, interactions=rows)
    assert last_event(dataset)[0] == NO_TIMESTAMP
    assert dataset.n_interactions == 31


def test_a_time_before_1990_still_orders(tmp_path):
    dataset, _ = read(tmp_path, interactions=["u1,i3,5,view,1"])
    start = dataset.histories.offsets[dataset.users.index("u1")]
    assert dataset.histories.timestamp[start] == 5


def test_future_times_are_clipped_to_the_present(tmp_path):
    dataset, _ = read(
        tmp_path, interactions=["u1,i1,1900000000,view,1"], cleaning='future_timestamp = "clip"'
    )
    assert last_event(dataset)[0] == int(NOW)


def test_values_are_clipped_to_the_limits(tmp_path):
    dataset, _ = read(tmp_path, interactions=["u1,i1,1700000100,view,9"], rest="[values]\nmaximum = 5")
    assert last_event(dataset)[1] == 5.0


def test_events_and_values_are_filled(tmp_path):
    dataset, report = read(tmp_path, interactions=["u1,i1,1700000100,,x"])
    assert dataset.event_kinds == ("view", "interaction")
    assert last_event(dataset)[1] != last_event(dataset)[1]
    assert report.cleaned == {"missing_event": 1, "unreadable_value": 1}


def test_unknown_items_are_added_without_a_text(tmp_path):
    dataset, _ = read(tmp_path, interactions=["u1,i7,1700000100,view,1"])
    assert dataset.catalogue.items.ids.to_list() == ["i0", "i1", "i2", "i3", "i7"]
    assert dataset.catalogue.table["title"][-1] is None


@pytest.mark.parametrize(("action", "title"), [("first", "Thing 2"), ("last", "Two")])
def test_of_two_descriptions_one_is_kept(tmp_path, action, title):
    dataset, report = read(tmp_path, items=["i2,Two,7"], cleaning=f'duplicate_row = "{action}"')
    assert dataset.catalogue.table.height == 4
    titles = dict(dataset.catalogue.table.select("item_id", "title").iter_rows())
    assert titles["i2"] == title
    assert report.cleaned == {"duplicate_row": 1}


def test_untidy_names_are_one_thing_unless_told_otherwise(tmp_path):
    rows = [" u1 ,i1,1700000100, View ,1"]
    dataset, report = read(tmp_path, interactions=rows)
    assert dataset.n_users == 3
    assert dataset.event_kinds == ("view",)
    assert report.cleaned == {"untidy_name": 2}
    dataset, report = read(tmp_path, interactions=rows, cleaning='untidy_name = "keep"')
    assert dataset.n_users == 4
    assert dataset.users.ids[3] == " u1 "
    assert report.cleaned == {}


def test_prices_are_read_without_their_currency(tmp_path):
    prices = ["i4,a,$5.00", 'i5,b,"1,299.5"', "i6,c,¥30", "i7,d,12.5 EUR", "i8,e,free", "i9,f,"]
    dataset, report = read(tmp_path, items=prices)
    assert dataset.catalogue.table["price"].to_list()[4:] == [5.0, 1299.5, 30.0, 12.5, 0.0, None]
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("written", "paths"),
    [
        ("Beauty > Hair", ["Beauty > Hair"]),
        ("Action|Comedy", ["Action", "Comedy"]),
        ("Action; Comedy", ["Action", "Comedy"]),
        ('["Action", "Comedy"]', ["Action", "Comedy"]),
        ('[["Toys", "Dolls"], ["Gifts"]]', ["Toys > Dolls", "Gifts"]),
    ],
)
def test_categories_become_a_list_of_paths(tmp_path, written, paths):
    (tmp_path / "interactions.csv").write_text("user_id,item_id\nu,a\nu,b\n")
    quoted = written.replace('"', '""')
    (tmp_path / "items.csv").write_text(f'item_id,categories\na,"{quoted}"\nb,\n')
    dataset, _ = read_checked(tmp_path)
    assert dataset.catalogue.table["categories"].to_list() == [paths, None]


def test_a_user_of_whom_nothing_is_left_is_no_user(tmp_path):
    dataset, _ = read(tmp_path, interactions=["ghost,,1700000100,view,1"])
    assert dataset.n_users == 3
    assert "ghost" not in dataset.users


def test_the_description_is_obeyed(tmp_path):
    dataset, report = read(
        tmp_path, rest='name = "corner shop"\n[events]\nview = 0.5\n[values]\npositive = 4'
    )
    assert dataset.name == "corner shop"
    assert dataset.event_weights.tolist() == [0.5]
    assert dataset.positive_value == 4.0
    assert report.problems == ()


def test_a_larger_share_may_be_dropped_when_it_is_asked_for(tmp_path):
    rows = [f"u1,,{1_700_000_100 + n},view,1" for n in range(10)]
    dataset, report = read(tmp_path, interactions=rows)
    assert dataset is None
    assert "25% of the rows would be dropped" in report.errors[0].message
    dataset, _ = read(tmp_path, interactions=rows, cleaning="largest_dropped_share = 0.3")
    assert dataset.n_interactions == 30


def test_every_rule_has_an_action_that_is_its_default():
    for name, rule in RULES.items():
        assert Description().action(name) == rule.default
        assert rule.default != "error"


def test_the_report_counts_what_the_dataset_holds(tmp_path):
    dataset, report = read(tmp_path, interactions=["u1,,1700000100,view,1"], items=["i8,,", "i9,Unseen,"])
    summary = report.summary
    assert (summary.n_users, summary.n_items) == (dataset.n_users, dataset.n_items) == (3, 6)
    assert (summary.n_interactions, summary.n_interactions_read) == (30, 31)
    assert summary.event_kinds == {"view": 30}
    assert summary.first_day == summary.last_day == "2023-11-14"
    assert summary.density == pytest.approx(30 / 18)
    assert (summary.events_per_user, summary.users_with_three) == (10.0, 3)
    assert summary.text_coverage == pytest.approx(5 / 6)
    assert summary.cold_share == pytest.approx(2 / 6)


def test_the_text_of_a_report_fits_a_terminal(tmp_path):
    _, report = read(tmp_path, interactions=["u1,,1700000100,view,1"] * 3 + ["u1,i7,1,VIEW,x"])
    lines = report.render().splitlines()
    assert max(len(line) for line in lines) <= 100
    assert "rows 31, 32, 33" in " ".join(lines)


def test_the_report_as_json_says_the_same(tmp_path):
    import json

    _, report = read(tmp_path, interactions=["u1,,1700000100,view,1"])
    told = json.loads(report.to_json())
    assert told["usable"] is True
    assert told["cleaned"] == {"missing_id": 1}
    assert told["summary"]["n_interactions"] == 30
    assert told["problems"][0]["rows"] == ["31"]
    assert told["problems"][0]["severity"] == "warning"


def test_checking_never_depends_on_the_clock_it_is_given(tmp_path):
    read(tmp_path)
    assert check(tmp_path, now=0.0).warnings[0].kind == "future_timestamp"
    assert check(tmp_path, now=NOW).warnings == ()


def test_html_in_texts_becomes_plain_text(tmp_path):
    items = ["i8,Bed &amp;amp; Bath&#9733;<br/>now <b>2 < 3</b> &c,1", "i9,A&B; 1<2,1"]
    dataset, report = read(tmp_path, items=items)
    titles = dict(zip(dataset.catalogue.items.ids, dataset.catalogue.table["title"], strict=True))
    assert titles["i8"] == "Bed & Bath★ now 2 < 3 &c"
    assert titles["i9"] == "A&B; 1<2"
    assert report.cleaned == {"html_in_text": 1}
    kept, _ = read(tmp_path, items=items, cleaning='html_in_text = "keep"')
    assert "&amp;amp;" in kept.catalogue.table["title"][4]
    stopped, report = read(tmp_path, items=items, cleaning='html_in_text = "error"')
    assert stopped is None
    assert report.errors[0].rows == ("5",)
