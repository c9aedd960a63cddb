"""A trained pipeline on disk: a folder that a person can read, without pickle."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tomli_w

from zhiyin import __version__
from zhiyin.contracts import ComponentState
from zhiyin.domain import Catalogue, Vocabulary
from zhiyin.domain.errors import BundleError, MissingExtra, ShapeMismatch, ZhiyinError
from zhiyin.pipeline.chances import Chances
from zhiyin.pipeline.content import Content
from zhiyin.pipeline.files import histories_of, histories_state, read_state, write_state
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.ranker_files import read_ranker_stage, write_ranker_stage
from zhiyin.pipeline.reranking_files import read_reranking, write_reranking
from zhiyin.pipeline.settings import PipelineConfig
from zhiyin.pipeline.trends import Trends
from zhiyin.policy.item_counts import ItemCounts
from zhiyin.stores.events import BATCH_SCHEMA
from zhiyin.stores.whole_folder import bring_back, whole_folder

BUNDLE_FORMAT = 3
"""Raised when a bundle written now could not be read by the version before."""

_CARD = "bundle.toml"
_TRENDS = "trends"
_COUNTS = "item_counts"
_NEW_ITEMS = "new_items"
_ITEMS = "items.parquet"
_CHANCES = "chances"
_EARLY = "early.parquet"
"""Bundles that were written before chances were fitted have none, and answer without them."""
_RERANKING = "rerank"
_RANKER = "ranker"
_CONTENT_VECTORS = "vectors"
_KINDS: dict[str, type] = {"files": dict, "pipeline": dict, "training": dict, "event_kinds": list}


def save_bundle(
    pipeline: Pipeline,
    folder: Path | str,
    *,
    facts: Mapping[str, Any] | None = None,
    report: Mapping[str, str] | None = None,
) -> Path:
    """Write a trained pipeline.

    The folder appears whole or not at all: it is written beside its place and moved there. A bundle
    that stood there is replaced; anything else is left alone.

    Args:
        pipeline: Trained.
        folder: Where the bundle goes.
        facts: What to remember of the training (data set, protocol, seed, …); TOML values.
        report: File name → text, kept beside the weights (metrics as JSON, the report as HTML).

    Raises:
        BundleError: when the folder holds something that is not a bundle, or cannot be written.
    """
    folder = Path(folder)
    refuse_foreign_folder(folder)
    try:
        with whole_folder(folder) as draft:
            _write_parts(pipeline, draft)
            for name, text in (report or {}).items():
                (draft / name).write_text(text, encoding="utf-8")
            card = _card(pipeline, draft, facts or {})
            (draft / _CARD).write_text(tomli_w.dumps(card), encoding="utf-8")
    except OSError as error:
        raise BundleError(
            f"The bundle {folder} cannot be written: {error}.", remedy="Nothing was changed there."
        ) from None
    return folder


def load_bundle(folder: Path | str) -> Pipeline:
    """Read a trained pipeline.

    Raises:
        BundleError: when the folder is not a bundle, is damaged, or is from a newer version.
        ConfigError: when it re-ranks by a language model whose base is not on this machine.
        MissingExtra: when it re-ranks or predicts and the packages for language models are not installed.
    """
    folder = Path(folder)
    card = read_card(folder)
    _check_files(folder, card["files"])
    config = PipelineConfig.parse(card["pipeline"], where="bundle.toml: pipeline")
    pipeline = Pipeline(config)
    try:
        _read_parts(pipeline, folder, tuple(card["event_kinds"]))
    except (BundleError, MissingExtra):
        raise
    except KeyError as error:
        raise BundleError(
            f"The bundle {folder} was written by another state of Zhiyin ({card.get('zhiyin', '?')}): "
            f"it lacks {error}.",
            remedy=f"This is Zhiyin {__version__}; train the bundle again with it.",
        ) from None
    except (
        *(OSError, ValueError, TypeError, IndexError, AttributeError),
        *(pl.exceptions.PolarsError, ZhiyinError),
    ) as error:
        raise BundleError(
            f"The bundle {folder} is damaged: {error}", remedy="Train it again, or restore a copy."
        ) from None
    if config.rerank.is_on:
        # Not among the parts: a base that is not on this machine is no damage of the bundle.
        place = folder / _RERANKING
        pipeline.reranking = read_reranking(place, config.rerank, pipeline.catalogue_or_raise())
    return pipeline


def read_attributes(folder: Path | str) -> pl.Schema:
    """Return the attributes of a bundle's items and their types; the rest is not looked at."""
    return Catalogue.from_table(pl.read_parquet(Path(folder) / _ITEMS)).table.schema


def read_card(folder: Path | str) -> dict[str, Any]:
    """Return what a bundle says about itself.

    Raises:
        BundleError: when the folder is not a bundle or is from a newer version.
    """
    bring_back(Path(folder))
    path = Path(folder) / _CARD
    if not path.is_file():
        what = "is not a bundle: it has no bundle.toml" if Path(folder).is_dir() else "does not exist"
        raise BundleError(
            f"{folder} {what}.", remedy=f"Train one:  zhiyin train DATA --recipe fast --out {folder}"
        )
    try:
        card = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged: {error}.", remedy="Train the bundle again.") from None
    version = card.get("format")
    if not isinstance(version, int) or version > BUNDLE_FORMAT:
        raise BundleError(
            f"The bundle {folder} has format {version!r}, written by Zhiyin {card.get('zhiyin', '?')}.",
            possible=f"This is Zhiyin {__version__}, which reads formats up to {BUNDLE_FORMAT}.",
            remedy="Upgrade Zhiyin, or train the bundle again with this version.",
        )
    missing = {"files", "pipeline", "event_kinds"} - card.keys()
    if missing:
        raise BundleError(
            f"{path} is damaged: it lacks {', '.join(sorted(missing))}.", remedy="Train the bundle again."
        )
    for name, kind in _KINDS.items():
        if not isinstance(card.get(name, kind()), kind):
            raise BundleError(
                f"{path} is damaged: '{name}' is no {'table' if kind is dict else 'list'}.",
                remedy="Train the bundle again.",
            )
    return card


def refuse_foreign_folder(folder: Path) -> None:
    """Raise when a bundle written to ``folder`` would destroy something that is not one."""
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not is_empty and not (folder / _CARD).is_file():
        raise BundleError(
            f"{folder} exists and is not a bundle.", remedy="Choose another place; nothing was written."
        )


def _write_parts(pipeline: Pipeline, draft: Path) -> None:
    catalogue = pipeline.catalogue_or_raise()
    for source in pipeline.sources:
        write_state(source.state(), draft / "sources" / source.name)
    write_state(pipeline.merge.state(), draft / "merge")
    write_state(pipeline.counts.state(), draft / _COUNTS)
    if pipeline.trends is not None:
        write_state(pipeline.trends.state(), draft / _TRENDS)
    if pipeline.chances is not None:
        write_state(pipeline.chances.state(), draft / _CHANCES)
    if pipeline.new_items.is_on:
        write_state(pipeline.new_items.state(), draft / _NEW_ITEMS)
    if pipeline.reranking is not None:
        write_reranking(pipeline.reranking, draft / _RERANKING)
    if pipeline.ranker is not None:
        write_ranker_stage(pipeline.ranker, draft / _RANKER)
    write_state(histories_state(pipeline.histories), draft / "histories")
    kept: dict[str, Any] = {"removed": pipeline.removed}
    vectors = pipeline.content.vectors
    if vectors is not None:
        kept[_CONTENT_VECTORS] = vectors
    write_state(ComponentState(kept), draft / "catalogue")
    catalogue.table.write_parquet(draft / _ITEMS)
    pl.DataFrame({"user_id": pipeline.users.ids}).write_parquet(draft / "users.parquet")
    if pipeline.early.height:
        pipeline.early.write_parquet(draft / _EARLY)


def _read_parts(pipeline: Pipeline, folder: Path, event_kinds: tuple[str, ...]) -> None:
    for source in pipeline.sources:
        source.restore(read_state(folder / "sources" / source.name))
    pipeline.merge.restore(read_state(folder / "merge"))
    if (folder / _TRENDS).is_dir():
        pipeline.trends = Trends.from_state(read_state(folder / _TRENDS))
    if (folder / _CHANCES).is_dir():
        pipeline.chances = Chances.from_state(read_state(folder / _CHANCES))
    if pipeline.new_items.is_on:
        pipeline.new_items.restore(read_state(folder / _NEW_ITEMS))
    kept = read_state(folder / "catalogue").arrays
    catalogue = Catalogue.from_table(pl.read_parquet(folder / _ITEMS))
    vectors = kept.get(_CONTENT_VECTORS)
    content = Content.of(catalogue, None if vectors is None else np.asarray(vectors, dtype=np.float32))
    pipeline.take_over(catalogue, content, removed=np.asarray(kept["removed"], dtype=np.bool_))
    pipeline.users = Vocabulary(pl.read_parquet(folder / "users.parquet")["user_id"])
    if (folder / _EARLY).is_file():
        pipeline.early = pl.read_parquet(folder / _EARLY).match_to_schema(BATCH_SCHEMA)
    pipeline.histories = histories_of(read_state(folder / "histories"))
    _refuse_other_sizes(pipeline, catalogue)
    pipeline.counts = _read_counts(pipeline, folder)
    pipeline.event_kinds = event_kinds
    if pipeline.config.ranker.is_on:
        pipeline.ranker = read_ranker_stage(folder / _RANKER, pipeline.config.ranker, catalogue)


def _read_counts(pipeline: Pipeline, folder: Path) -> ItemCounts:
    """Bundles of format 1 count events for new items alone, or leave them to the histories."""
    for kept in (_COUNTS, _NEW_ITEMS):
        if (folder / kept).is_dir():
            return ItemCounts.from_state(read_state(folder / kept))
    return ItemCounts(np.bincount(pipeline.histories.item_index, minlength=len(pipeline.removed)))


def _refuse_other_sizes(pipeline: Pipeline, catalogue: Catalogue) -> None:
    """Raise when the parts are not of one training: files edited by hand, or mixed from two bundles."""
    n_items, n_removed = len(catalogue.items), len(pipeline.removed)
    if n_items != n_removed:
        raise ShapeMismatch(f"items.parquet holds {n_items:,} items; {n_removed:,} were written.")
    n_users, n_histories = len(pipeline.users), len(pipeline.histories)
    if n_users != n_histories:
        raise ShapeMismatch(f"users.parquet holds {n_users:,} users; there are {n_histories:,} histories.")
    met = pipeline.histories.item_index
    if met.ndim != 1 or (met.size and not 0 <= met.min() <= met.max() < n_items):
        raise ShapeMismatch(f"The histories name items outside of the {n_items:,} that there are.")


def _card(pipeline: Pipeline, draft: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    return {
        "format": BUNDLE_FORMAT,
        "zhiyin": __version__,
        "created": datetime.now(UTC).replace(microsecond=0),
        "event_kinds": list(pipeline.event_kinds),
        "training": dict(facts),
        "pipeline": json.loads(pipeline.config.model_dump_json(exclude_none=True)),
        "files": {path.relative_to(draft).as_posix(): _digest(path) for path in files},
    }


def _check_files(folder: Path, digests: Mapping[str, str]) -> None:
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"The bundle {folder} lacks its file {name}.", remedy="Restore or retrain it.")
        if _digest(path) != digest:
            raise BundleError(
                f"The bundle {folder} is damaged: {name} is not what was written.",
                remedy="Restore a copy, or train it again.",
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
