"""Bundles: whole or not at all, and refused with a reason."""

import json
import shutil
import tomllib

import numpy as np
import polars as pl
import pytest
import tomli_w

from zhiyin.contracts import ComponentState, TrainingData
from zhiyin.domain.errors import BundleError
from zhiyin.pipeline.bundle import _digest, load_bundle, read_card, save_bundle
from zhiyin.pipeline.files import read_state, write_state
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
    "newer": (lambda b: edit(b, "format = 3", "format = 99"), "format 99.*reads formats up to 3.*Upgrade"),
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


def as_format_1(bundle, *, counts: np.ndarray | None) -> np.ndarray:
    """Rewrite a bundle as it was before weights had corners, and return its only weights.

    Counts of events stood among what places for new items had learned, where there were such places.
    """
    merge = read_state(bundle / "merge")
    weights = np.array(merge.arrays["weights"][0])
    merge_before = ComponentState({**merge.arrays, "weights": weights}, merge.facts)
    replaced = {"merge": merge_before}
    if counts is not None:
        learned = read_state(bundle / "new_items")
        replaced["new_items"] = ComponentState({"counts": counts}, learned.facts)
    shutil.rmtree(bundle / "item_counts")
    for name, state in replaced.items():
        write_state(state, bundle / f"{name}.new")
        shutil.rmtree(bundle / name)
        (bundle / f"{name}.new").rename(bundle / name)
    card = tomllib.loads((bundle / "bundle.toml").read_text())
    files = [path for path in bundle.rglob("*") if path.is_file() and path.name != "bundle.toml"]
    card["files"] = {path.relative_to(bundle).as_posix(): _digest(path) for path in files}
    (bundle / "bundle.toml").write_text(tomli_w.dumps({**card, "format": 1}))
    return weights


@pytest.mark.parametrize("slots", [0, 1])
def test_bundles_of_format_1_are_read(split, tmp_path, slots):
    pipeline = Pipeline(recipe("fast", {"new_items.slots": str(slots), "new_items.place": "3"}))
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    save_bundle(pipeline, tmp_path / "bundle")
    n_items = len(pipeline.removed)
    known = np.arange(n_items) + 5 if slots else None
    weights = as_format_1(tmp_path / "bundle", counts=known)
    loaded = load_bundle(tmp_path / "bundle")
    assert (loaded.merge.weights == weights).all()
    expected = (
        np.bincount(pipeline.histories.item_index, minlength=len(pipeline.removed))
        if known is None
        else known
    )
    np.testing.assert_array_equal(loaded.counts.state().arrays["counts"], expected)
