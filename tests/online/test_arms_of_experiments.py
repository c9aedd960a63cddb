"""Which bundle answers whom while experiments run, and how two slates become one."""

import logging
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from zhiyin.domain import Recommendation
from zhiyin.online.arms import INTERLEAVED, Arms, labelled
from zhiyin.online.asked import Answer, AskedSimilar, AskedSlate, Wanted
from zhiyin.online.slates import Shown
from zhiyin.online.trials.definition import KIND, parse_trial
from zhiyin.online.trials.trials import Assigned
from zhiyin.stores.records import Impression, StoredDocument

USERS = [f"u{n}" for n in range(400)]
BOOST = {"filter": {"brand": "Tea"}, "by": 2.0}


def live_with(version: str, *attributes: str) -> Any:
    """A bundle whose items have these attributes, and a brand."""
    table = pl.DataFrame(schema=dict.fromkeys(("brand", *attributes), pl.String))
    return SimpleNamespace(version=version, catalogue=SimpleNamespace(current=SimpleNamespace(table=table)))


class Shelf:
    """Loads versions, and notes which are loaded now."""

    def __init__(self) -> None:
        self.loaded: list[Any] = []
        self.missing: set[str] = set()

    def load(self, version: str) -> Any:
        if version in self.missing:
            raise LookupError(version)
        live = live_with(version)
        self.loaded.append(live)
        return live

    def drop(self, live: Any) -> None:
        self.loaded.remove(live)


MAIN = live_with("main")


def experiment(name: str = "order", *, kind: str = "ab", bundle: str = "b2", **new: Any) -> StoredDocument:
    arms = {"now": {"share": 0.5}, "new": {"share": 0.5, "bundle": bundle, **new}}
    trial = parse_trial({"name": name, "kind": kind, "arms": arms, "control": "now", "start": 0})
    body = {"trial": trial.model_dump(mode="json"), "buckets": [[0, 10_000]], "stopped": None}
    return StoredDocument(KIND, name, body)


def arms_with(shelf: Shelf, *documents: StoredDocument) -> Arms:
    arms = Arms(documents, shelf.load, shelf.drop)
    arms.load_missing()
    return arms


def asked(user_id: str, **wanted: Any) -> AskedSlate:
    return AskedSlate(user_id, Wanted(**wanted), "r")


def test_half_of_the_users_are_answered_by_the_other_bundle_with_the_settings_of_its_arm() -> None:
    shelf = Shelf()
    arms = arms_with(shelf, experiment(diversity=0.3, boost=[BOOST]))
    found = {user: arms.plan(MAIN, asked(user)) for user in USERS}
    assert all(len(plans) == 1 for plans in found.values())
    new = [user for user, [plan] in found.items() if plan.live is not MAIN]
    assert 140 < len(new) < 260
    for user, [plan] in found.items():
        assert plan.assigned is not None
        assert (plan.live.version, plan.assigned.arm) == (("b2", "new") if user in new else ("main", "now"))
        wanted = plan.asked.wanted  # type: ignore[union-attr]
        assert wanted.diversity == (0.3 if user in new else 0.0)
        assert wanted.boost == (((BOOST["filter"], 2.0),) if user in new else ())
    [plan] = arms.plan(MAIN, asked(new[0], diversity=0.9))
    assert plan.asked.wanted.diversity == 0.9  # type: ignore[union-attr]


def test_while_the_bundle_is_not_there_its_users_are_answered_as_usual_and_not_counted() -> None:
    shelf = Shelf()
    shelf.missing = {"b2"}
    arms = arms_with(shelf, experiment())
    assigned = [arms.plan(MAIN, asked(user))[0].assigned for user in USERS]
    assert {one.arm for one in assigned if one is not None} == {"now"}
    assert None in assigned
    shelf.missing = set()
    arms.load_missing()
    assert all(arms.plan(MAIN, asked(user))[0].assigned is not None for user in USERS)


def test_an_arm_that_no_longer_fits_answers_as_usual_is_not_counted_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    colour = {"filter": {"colour": "red"}, "by": 1.0}
    arms = arms_with(Shelf(), experiment(bundle="main", boost=[BOOST, colour]))
    coloured, plain = live_with("main", "colour"), live_with("main")
    with caplog.at_level(logging.WARNING):
        before = [arms.plan(coloured, asked(user))[0] for user in USERS]
        assert caplog.text == ""
        after = [arms.plan(plain, asked(user))[0] for user in USERS]
    assert caplog.text.count("arm 'new' of experiment 'order' cannot be applied") == 1
    assert "'colour'" in caplog.text
    assert {plan.assigned.arm for plan in before if plan.assigned} == {"now", "new"}
    for one, other in zip(before, after, strict=True):
        assert one.assigned is not None
        if one.assigned.arm == "new":
            assert other.assigned is None
            assert other.asked.wanted.boost == ()
        else:
            assert other.assigned == one.assigned
    assert arms.plan(coloured, asked(USERS[0]))[0].assigned == before[0].assigned, "the attribute came back"


def test_a_boost_that_was_stored_before_boosts_were_checked_hides_no_experiment() -> None:
    body: Any = experiment("old", bundle="main").body
    body["trial"]["arms"]["new"]["boost"] = [{}, BOOST, {"filter": {"brand": "Tea"}, "by": "x"}]
    arms = arms_with(Shelf(), StoredDocument(KIND, "old", body))
    plans = [arms.plan(MAIN, asked(user))[0] for user in USERS]
    wanted = [plan.asked.wanted.boost for plan in plans if plan.assigned and plan.assigned.arm == "new"]
    assert wanted == [((BOOST["filter"], 2.0),)] * len(wanted)
    assert wanted


def test_what_is_no_slate_and_who_has_no_session_take_no_part() -> None:
    arms = arms_with(Shelf(), experiment())
    [plan] = arms.plan(MAIN, AskedSimilar("i1", Wanted(), "r"))
    assert (plan.live, plan.assigned) == (MAIN, None)
    visitor = AskedSlate((), Wanted(), "r")
    assert arms.plan(MAIN, visitor)[0].assigned is None
    session = AskedSlate((), Wanted(context={"session": "s1"}), "r")
    found = {arms.plan(MAIN, session)[0].assigned.arm for _ in range(5)}  # type: ignore[union-attr]
    assert len(found) == 1


def test_bundles_come_and_go_with_their_experiments_and_are_built_anew_when_told() -> None:
    shelf = Shelf()
    arms = arms_with(shelf, experiment("one", bundle="b2"))
    [first] = shelf.loaded
    arms.load_anew()
    [second] = shelf.loaded
    assert second is not first
    assert second.version == "b2"
    assert any(arms.plan(MAIN, asked(user))[0].live is second for user in USERS)
    shelf.missing = {"b2"}
    arms.load_anew()
    assert shelf.loaded == [second]
    assert arms.take([StoredDocument(KIND, "one", None)])
    arms.load_missing()
    assert shelf.loaded == []
    assert not arms.take([])


def shown(*item_ids: str) -> Shown:
    items = tuple(_item(item_id, rank) for rank, item_id in enumerate(item_ids, 1))
    answer = Answer(items, "main", known_user=True)
    return Shown(answer, Impression("r", "u", 1, "recommend", "main", item_ids, (1.0,) * len(item_ids)))


def _item(item_id: str, rank: int) -> Any:
    return Recommendation(item_id=item_id, rank=rank, score=1.0 / rank)


def test_an_interleaved_slate_takes_turns_and_says_whose_each_place_is() -> None:
    arms = arms_with(Shelf(), experiment(kind="interleaving"))
    plans = arms.plan(MAIN, asked("u1"))
    assert [plan.live.version for plan in plans] == ["main", "b2"]
    both = (Assigned("order", "now", None, {}), Assigned("order", "new", "b2", {}))
    for _ in range(10):
        mixed = arms.mixed(shown("a", "b", "c"), shown("x", "a", "y"), both, 4)
        ids = [item.item_id for item in mixed.answer.items]
        said = (mixed.impression.arm or "").split(",")
        assert [item.rank for item in mixed.answer.items] == [1, 2, 3, 4]
        assert len(set(ids)) == len(said) == 4
        assert mixed.answer.experiment == ("order", INTERLEAVED)
        assert mixed.impression.item_ids == tuple(ids)
        assert set(said[:2]) == set(said[2:]) == {"now", "new"}
        for item_id, arm in zip(ids, said, strict=True):
            assert item_id in {"now": "abc", "new": "xay"}[arm]


def test_a_labelled_answer_names_its_arm_in_the_answer_and_in_what_is_stored() -> None:
    told = labelled(shown("a"), Assigned("order", "new", "b2", {}))
    assert told.answer.experiment == ("order", "new")
    assert (told.impression.experiment, told.impression.arm) == ("order", "new")


def test_a_slate_that_stands_in_is_noted_with_the_arm_that_was_too_slow() -> None:
    arms = arms_with(Shelf(), experiment(bundle="main"))
    for user in USERS[:50]:
        [plan] = arms.plan(MAIN, asked(user))
        assert plan.assigned is not None
        noted = arms.late(MAIN, asked(user), shown("a"))
        assert (noted.impression.experiment, noted.impression.arm) == ("order", f"{plan.assigned.arm}/late")
        assert noted.answer.experiment is None, "no arm has answered"
    unmarked = shown("a")
    assert arms.late(MAIN, AskedSlate((), Wanted(), "r"), unmarked) is unmarked
    both = arms_with(Shelf(), experiment(kind="interleaving"))
    assert both.late(MAIN, asked("u1"), unmarked) is unmarked


def test_an_experiment_of_a_newer_version_leaves_the_running_ones() -> None:
    arms = arms_with(Shelf(), experiment())
    strange = StoredDocument(KIND, "later", {"trial": {"what": 1}, "buckets": [], "stopped": None})
    arms.take([strange])
    assert arms.plan(MAIN, asked("u1"))[0].assigned is not None
    arms = arms_with(Shelf(), strange, experiment())
    assert arms.plan(MAIN, asked("u1"))[0].assigned is not None, "at a start, too"


def test_an_arm_with_the_bundle_in_use_is_answered_by_it() -> None:
    arms = arms_with(Shelf(), experiment(bundle="main"))
    assert {arms.plan(MAIN, asked(user))[0].live.version for user in USERS} == {"main"}
