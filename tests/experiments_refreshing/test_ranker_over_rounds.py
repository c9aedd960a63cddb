"""A ranker over rounds of the loop: it learns on where the log says what it learns, and is kept elsewhere."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.experiments.refreshing.versions import publish
from zhiyin.experiments.training import train
from zhiyin.pipeline.bundle import load_bundle, read_card
from zhiyin.pipeline.recipes import recipe

SMALL = {
    "ranker.network.dimension": 4,
    "ranker.network.hidden": 8,
    "ranker.network.training.max_epochs": 2,
    "ranker.network.training.tokens_per_batch": 256,
    "ranker.network.training.devices": "cpu",
}
ODD = {"ranker.tasks.odd.column": "event", "ranker.tasks.odd.yes_words": '["purchase"]'}
PHONE = {"ranker.tasks.phone.column": "device", "ranker.tasks.phone.yes_words": '["phone"]'}


@pytest.fixture(scope="module", params=["odd", "phone"])
def bundle_of(request, circle_shop, tmp_path_factory):
    """Odd items are bought, even ones viewed; the device of an event is in no log of a service."""
    item = circle_shop.histories.item_index
    histories = replace(circle_shop.histories, event_index=(item % 2).astype(np.int16))
    device = pl.Series("device", np.where(np.arange(len(item)) % 3 > 0, "phone", "desk"))
    dataset = replace(circle_shop, histories=histories, context={"device": device})
    folder = tmp_path_factory.mktemp("bundles") / request.param
    train(dataset, recipe("fast", SMALL | (ODD if request.param == "odd" else PHONE)), folder)
    return request.param, folder


@pytest.mark.parametrize("way", ["incremental", "full"])
def test_after_a_round(store, bundle_of, new_walks, learn_once, tmp_path, way):
    name, bundle = bundle_of
    publish(store, bundle, activate=True)
    store.append_events(new_walks(200, step=3, seed=1)).result()
    done = learn_once(store, way)
    store.fetch_bundle(done.version, tmp_path / "fetched")
    has_learned = name == "odd"
    told = next(step for step in done.steps if step.name == "refresh")
    assert ("odd, " in told.message and "log_loss" in told.message) == has_learned
    predictions = read_card(tmp_path / "fetched")["training"]["predictions"]
    assert set(predictions) == ({"odd"} if has_learned else set())
    before, after = load_bundle(bundle), load_bundle(tmp_path / "fetched")
    assert len(after.users) == len(before.users) + 200
    slate = after.recommend(after.queries_for(["u1", after.users.id(300), "stranger"]), 5)
    assert np.isfinite(slate.column(f"predicted:{name}")).all()
    old, new = (pipeline.ranker.ranker.trained.parts[0].network for pipeline in (before, after))
    assert (len(new.users.weight) > len(old.users.weight)) == has_learned
    assert bool((old.first.weight == new.first.weight).all()) != has_learned
