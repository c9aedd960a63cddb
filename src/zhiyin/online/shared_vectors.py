"""Indexes of bundles in a store of vectors that all processes ask, instead of one in each."""

from __future__ import annotations

import hashlib
import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from zhiyin.online.versions import IN_MEMORY
from zhiyin.sources.nearest import Indexed, ItemVectors, taken
from zhiyin.stores.events import EventStore
from zhiyin.stores.vectors.index import VectorIndex
from zhiyin.stores.vectors.opening import check_stored, drop_stored, open_stored_index
from zhiyin.stores.vectors.shared import SharedIndex

if TYPE_CHECKING:
    from zhiyin.pipeline.pipeline import Pipeline

_LOG = logging.getLogger(__name__)
KIND = "vectors"
"""Of the documents that say which indexes a store of events has filled, so that it removes no others."""


class SharedVectors:
    """Brings the indexes of one tenant's bundles into a store, and removes those of bundles that are gone.

    Args:
        url: Of PostgreSQL with pgvector, or of Milvus.
        store: Of the tenant.

    Raises:
        StoreError: when the URL is of another kind.
    """

    def __init__(self, url: str, store: EventStore) -> None:
        check_stored(url)
        self._url = url
        self._place = hashlib.sha256(url.encode("utf-8")).hexdigest()[:16]
        self._store = store

    def bring(self, pipeline: Pipeline, version: str) -> None:
        """Let the sources of a bundle that have an index search in the store, which is filled where needed.

        Args:
            pipeline: Just loaded, with the items of training alone.
            version: Of the bundle; a pipeline that was never written keeps its own index.

        Raises:
            StoreError: when the store of vectors is away.
            MissingExtra: when its client is not installed.
        """
        if version == IN_MEMORY:
            return
        self._drop_what_is_gone(version)
        indexed = [one for one in pipeline.sources if isinstance(one, Indexed) and not one.is_dense]
        for source in indexed:
            source.search_in(partial(self._stored, f"{version}/{source.name}"))
        if not indexed:
            _LOG.info("bundle %s compares all items: the shared store of vectors is not asked", version)

    def _stored(self, name: str, vectors: ItemVectors) -> VectorIndex:
        index = open_stored_index(self._url, name=name, dimension=vectors.shape[1], tenant=self._store.tenant)
        if len(index) < len(vectors):
            self._store.put_document(KIND, name, {"place": self._place}).result()
            _LOG.info("vectors of %s: %d are being put into the shared store", name, len(vectors))
            index.fill(taken(vectors, np.arange(len(vectors))))
        return SharedIndex(index, len(vectors))

    def _drop_what_is_gone(self, version: str) -> None:
        kept = {version, *(bundle.version for bundle in self._store.bundles())}
        for document in self._store.documents(KIND):
            is_here = (document.body or {}).get("place") == self._place
            if is_here and document.name.partition("/")[0] not in kept:
                _LOG.info("vectors of %s are removed from the shared store, as is the bundle", document.name)
                drop_stored(self._url, name=document.name, tenant=self._store.tenant)
                self._store.put_document(KIND, document.name, None).result()
