"""Bundles: whole or not at all, and refused with a reason."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.domain.errors import BundleError
from zhiyin.pipeline.bundle import load_bundle, read_card, save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe


@pytest.fixture
def bundle(trained, tmp_path):
    return save_bundle(trained, tmp_path / "bundle", facts={"dataset": "colours"}, report={"a.json": "{}"})


def test_a_bundle_answers_as_the_pipeline_did(trained, bundle, split):
    loaded = load_bundle(bundle)
    before, after = (pipeline.recommend(split.test.queries, 5) for pipeline in (trained, loaded))
    np.testing.assert_array_equal(before.item_index, after.item_index)
    np.testing.assert_allclose(before.column("score"), after.column("score"), rtol=1e-6)
    assert loaded.queries_for(["u3"]).histories.item_index.tolist() == (
        trained.queries_for(["u3"]).histories.item_index.tolist()
    )
    assert loaded.search(["blue thing f"], 1).item_index[0, 0] == 5


def test_a_bundle_can_be_read_without_zhiyin(bundle):
    card = read_card(bundle)
    assert card["training"] == {"dataset": "colours"}
    assert card["pipeline"]["recipe"] == "fast"
    assert pl.read_parquet(bundle / "items.parquet").columns == ["item_id", "title", "price"]
    assert json.loads((bundle / "sources/item_graph/facts.json").read_text())["columns"] == ["title"]
    assert not [path for path in bundle.rglob("*") if path.suffix in {".pkl", ".pickle", ".pt", ".bin"}]


def test_items_added_and_removed_later_are_saved_too(pipeline, tmp_path):
    pipeline.add_items(pl.DataFrame({"item_id": ["new"], "title": ["blue thing j"]}))
    pipeline.remove_items(np.array([0]))
    loaded = load_bundle(save_bundle(pipeline, tmp_path / "later"))
    assert loaded.catalogue.items.index("new") == 24
    assert loaded.removed[0]
    np.testing.assert_array_equal(
        loaded.similar(np.array([24]), 3).item_index, pipeline.similar(np.array([24]), 3).item_index
    )


def test_a_bundle_is_replaced_whole(trained, bundle):
    (bundle / "stale.txt").write_text("old")
    save_bundle(trained, bundle)
    assert not (bundle / "stale.txt").exists()
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_folder_that_is_no_bundle_is_left_alone(trained, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dog.png").write_text("woof")
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        save_bundle(trained, tmp_path / "photos")
    assert (tmp_path / "photos" / "dog.png").read_text() == "woof"


def test_a_write_that_fails_leaves_the_old_bundle(trained, bundle, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("zhiyin.pipeline.bundle.write_state", fail)
    with pytest.raises(BundleError, match="No space left"):
        save_bundle(trained, bundle)
    load_bundle(bundle)
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


GRAPH = "sources/item_graph/arrays.safetensors"
DAMAGES = {
    "no folder": (shutil.rmtree, "does not exist"),
    "no card": (lambda b: (b / "bundle.toml").unlink(), "is not a bundle: it has no bundle.toml"),
    "card cut": (lambda b: (b / "bundle.toml").write_text('format = 1\nfiles = "'), "toml is damaged"),
    "card lacks": (lambda b: (b / "bundle.toml").write_text("format = 1\n"), "it lacks event_kinds, files"),
    "newer": (lambda b: edit(b, "format = 2", "format = 99"), "format 99.*reads formats up to 2.*Upgrade"),
    "byte flipped": (lambda b: flip_a_byte(b / GRAPH), "is not what was written"),
    "file gone": (lambda b: (b / "merge/facts.json").unlink(), r"lacks its file merge/facts\.json"),
    "file cut": (lambda b: (b / "items.parquet").write_bytes(b"PAR1"), "parquet is not what was written"),
    "unknown source": (lambda b: edit(b, "sources.item_graph]", "sources.item_grape]"), "Did you mean 'item"),
}


def edit(bundle, old, new):
    card = (bundle / "bundle.toml").read_text()
    assert old in card
    (bundle / "bundle.toml").write_text(card.replace(old, new))


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_said_in_words(bundle, kind):
    damage, message = DAMAGES[kind]
    damage(bundle)
    with pytest.raises(Exception, match="(?s)" + message) as caught:
        load_bundle(bundle)
    assert type(caught.value).__module__ == "zhiyin.domain.errors"


def test_a_replacement_killed_in_the_middle_leaves_the_old_bundle(trained, bundle):
    taken_away = bundle.parent / ".bundle.0123abcd.old"
    bundle.rename(taken_away)
    assert load_bundle(bundle).config.recipe == "fast"
    assert not taken_away.exists()
    bundle.rename(taken_away)
    save_bundle(trained, bundle)
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_places_kept_for_new_items_are_saved_too(split, tmp_path):
    settings = {"new_items.slots": "1", "new_items.place": "3", "new_items.most_lost": "1"}
    pipeline = Pipeline(recipe("fast", settings))
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    pipeline.add_items(pl.DataFrame({"item_id": ["new"], "title": ["blue thing j"]}))
    asked = pipeline.queries_for(["u1"])
    shown = pipeline.recommend(asked, 3).item_index[0]
    assert np.isin(shown[2], [22, 23, 24]), "nobody has touched these"
    assert not np.isin(shown[:2], [22, 23, 24]).any()
    loaded = load_bundle(save_bundle(pipeline, tmp_path / "kept"))
    assert loaded.recommend(asked, 3).item_index[0].tolist() == shown.tolist()
    assert loaded.new_items.bound == pipeline.new_items.bound
