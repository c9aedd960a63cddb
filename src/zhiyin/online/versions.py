"""Which bundle to serve: the one that was handed over, or the one the store says is active."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from zhiyin.data.attributes import rows_of
from zhiyin.domain.errors import BundleError, StoreError
from zhiyin.online.unknown import unknown_bundle
from zhiyin.pipeline.bundle import load_bundle, read_attributes, read_card
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import StoredBundle
from zhiyin.stores.unpacking import unpacking_folder

_LOG = logging.getLogger(__name__)
IN_MEMORY = "in-memory"
"""Version of a pipeline that was never written."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A bundle in memory.

    Attributes:
        pipeline: Ready to answer.
        version: Of the bundle.
        position: Place in the change log up to which its training data reach.
        timestamp: UTC seconds when the store took it; 0 where it did not.
    """

    pipeline: Pipeline
    version: str
    position: int = 0
    timestamp: int = 0


def bundle_version(folder: str | Path) -> str:
    """Return a short name of what a bundle holds: the digest of its card, which holds those of its files."""
    return hashlib.sha256((Path(folder) / "bundle.toml").read_bytes()).hexdigest()[:12]


def load_version(store: EventStore, version: str) -> Loaded:
    """Load a bundle that the store holds.

    Raises:
        UnknownBundle: when the store does not hold it.
        BundleError: when it is damaged.
    """
    stored = {bundle.version: bundle for bundle in store.bundles()}.get(version)
    if stored is None:
        raise unknown_bundle(version)
    return _loaded(store, stored)


def _loaded(store: EventStore, stored: StoredBundle) -> Loaded:
    version = stored.version
    with unpacking_folder() as folder:
        place = folder / version
        store.fetch_bundle(version, place)
        return Loaded(load_bundle(place), version, stored.position, stored.timestamp)


def stored_attributes(store: EventStore) -> pl.Schema | None:
    """Return the attributes of the items that a service answers with from this store, and their types.

    Nothing is loaded: the table of items of the active bundle says it, and the items that were put since.

    Returns:
        None where the store holds no active bundle.
    """
    active = next((stored for stored in store.bundles() if stored.is_active), None)
    if active is None:
        return None
    with unpacking_folder() as folder:
        place = folder / active.version
        store.fetch_bundle(active.version, place)
        attributes = read_attributes(place)
    put = [{**item.attributes, "item_id": item.item_id} for item in store.items()]
    return rows_of(put, attributes).schema


def bundle_to_serve(store: EventStore, bundle: str | Path | Pipeline | None) -> Loaded:
    """Choose what to serve and load it.

    A folder the store has not seen is put there and becomes active. Of one it has seen, whatever is active
    by now is served: a bundle that was learned since, or an older one that somebody went back to. When the
    active bundle cannot be loaded, the newest other one that can be is served instead, and the log says so;
    the same goes for a damaged folder, as long as the store holds any bundle.

    Args:
        store: Of the tenant.
        bundle: A folder, a pipeline in memory, or None for what the store says.

    Raises:
        BundleError: when no bundle can be loaded.
        StoreError: when the store cannot be used, or nothing was named and it holds no bundle.
    """
    if isinstance(bundle, Pipeline):
        return Loaded(bundle, IN_MEMORY)
    known = {stored.version: stored for stored in store.bundles()}
    if bundle is not None:
        try:
            named = _named(store, Path(bundle), known)
        except BundleError as error:
            if not known:
                raise
            _LOG.error("the bundle in %s cannot be served, the store is asked for one: %s", bundle, error)
            named = None
        if named is not None:
            return named
    return _newest_that_loads(store, list(known.values()))


def _named(store: EventStore, folder: Path, known: Mapping[str, StoredBundle]) -> Loaded | None:
    """Load the bundle of a folder; None when the store knows it and another one is active."""
    read_card(folder)
    version = bundle_version(folder)
    if version not in known:
        return _taken_over(store, folder, version)
    if not known[version].is_active:
        return None
    return Loaded(load_bundle(folder), version, known[version].position, known[version].timestamp)


def _taken_over(store: EventStore, folder: Path, version: str) -> Loaded:
    pipeline = load_bundle(folder)
    store.put_bundle(version, folder, position=0, facts=read_card(folder).get("training", {}))
    store.activate_bundle(version).result()
    return Loaded(pipeline, version)


def _newest_that_loads(store: EventStore, known: list[StoredBundle]) -> Loaded:
    if not known:
        raise StoreError(
            f"The store holds no bundle for the tenant '{store.tenant}'.",
            remedy="Name one:  zhiyin serve BUNDLE --store URL, "
            "or put one there:  zhiyin publish BUNDLE --store URL",
        )
    newest_first = known[::-1]
    for stored in sorted(newest_first, key=lambda bundle: not bundle.is_active):
        try:
            return _loaded(store, stored)
        except (BundleError, StoreError) as error:
            _LOG.error("bundle %s cannot be served: %s", stored.version, error)
            failed = error
    raise failed
