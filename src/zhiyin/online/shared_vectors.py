"""Indexes of bundles in a store of vectors that all processes ask, instead of one in each."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np

from zhiyin.domain.errors import StoreError
from zhiyin.online.versions import IN_MEMORY
from zhiyin.sources.nearest import Indexed, ItemVectors, taken
from zhiyin.stores.events import EventStore
from zhiyin.stores.vectors.index import VectorIndex
from zhiyin.stores.vectors.opening import drop_stored, open_stored_index, stored_url
from zhiyin.stores.vectors.shared import SharedIndex

if TYPE_CHECKING:
    from zhiyin.pipeline.pipeline import Pipeline

_LOG = logging.getLogger(__name__)
KIND = "vectors"
"""Of the documents that say which indexes a store of events has filled, so that it removes no others."""
_INSTALLATION = "installation"


class SharedVectors:
    """Brings the indexes of one tenant's bundles into a store, and removes those of bundles that are gone.

    Args:
        url: Of PostgreSQL with pgvector, or of Milvus.
        store: Of the tenant.

    Raises:
        StoreError: when the URL is of another kind.
    """

    def __init__(self, url: str, store: EventStore) -> None:
        self._url = stored_url(url)
        self._place = _place_of(self._url)
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
        indexed = [one for one in pipeline.sources if isinstance(one, Indexed) and not one.is_dense]
        if indexed:
            prefix = f"{self._installation()}/{version}"
            for source in indexed:
                source.search_in(partial(self._stored, f"{prefix}/{source.name}"))
        else:
            _LOG.info("bundle %s compares all items: the shared store of vectors is not asked", version)
        self._drop_what_is_gone(version)

    def _installation(self) -> str:
        """Return what tells this store of events from others that share the store of vectors."""
        for document in self._store.documents(KIND):
            if document.name == _INSTALLATION and document.body is not None:
                return str(document.body["id"])
        self._store.put_document(KIND, _INSTALLATION, {"id": uuid4().hex[:12]}).result()
        return self._installation()  # that of another process, where two began at once

    def _stored(self, name: str, vectors: ItemVectors) -> VectorIndex:
        index = open_stored_index(self._url, name=name, dimension=vectors.shape[1], tenant=self._store.tenant)
        shared = SharedIndex(index, len(vectors))
        if len(index) < len(vectors):
            self._store.put_document(KIND, name, {"place": self._place}).result()
            _LOG.info("vectors of %s: %d are being put into the shared store", name, len(vectors))
            index.fill(taken(vectors, np.arange(len(vectors))))
        return shared

    def _drop_what_is_gone(self, version: str) -> None:
        """Remove vectors of bundles that the store of events no longer holds; what cannot be stays."""
        documents = self._store.documents(KIND)  # before the bundles: one may be published meanwhile
        kept = {version, *(bundle.version for bundle in self._store.bundles())}
        for document in documents:
            is_here = (document.body or {}).get("place") == self._place
            if not is_here or document.name.split("/")[1] in kept:
                continue
            try:
                drop_stored(self._url, name=document.name, tenant=self._store.tenant)
                self._store.put_document(KIND, document.name, None).result()
            except StoreError as error:
                _LOG.warning("vectors of %s, whose bundle is gone, stay there: %s", document.name, error)
            else:
                _LOG.info("vectors of %s are removed from the shared store, as is the bundle", document.name)


def _place_of(url: str) -> str:
    """Return where a URL leads, without user, password and options, which change."""
    parts = urlsplit(url)
    return f"{parts.scheme.partition('+')[0]}://{parts.netloc.rpartition('@')[2]}{parts.path}"
