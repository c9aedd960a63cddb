"""Tenants that have bundles of which none can be loaded; the others are served meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from zhiyin.domain.errors import BundleError, ZhiyinError
from zhiyin.serving.problems import Refused
from zhiyin.stores.bundle_files import no_whole_bundle
from zhiyin.stores.records import StoredBundle

_LOG = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS = 2.0
_TRY_AGAIN_SECONDS = 60.0
"""After how long the same bundles are loaded again: somebody may have mended the database itself."""


@dataclass(slots=True)
class _Unserved:
    """Why a tenant is not served.

    Attributes:
        error: What was wrong with the last bundle that was tried.
        bundles: What was there.
        looked_at: When the store was asked for bundles the last time.
        tried_at: When they were loaded the last time.
    """

    error: BundleError
    bundles: Sequence[StoredBundle]
    looked_at: float
    tried_at: float


class Unserved:
    """Remembers which tenants cannot be served, and says when to try again."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, _Unserved] = {}

    @property
    def tenants(self) -> list[str]:
        """Those that cannot be served, by name."""
        return sorted(self._by_tenant)

    def add(self, tenant: str, bundles: Sequence[StoredBundle], error: ZhiyinError) -> BundleError:
        """Remember a tenant; return the error that names it."""
        told = no_whole_bundle(tenant, error.problem)
        if not isinstance(error, BundleError):  # nothing is wrong with the bundle itself
            told.remedy = error.remedy
        _LOG.error("%s", told)
        now = time.monotonic()
        self._by_tenant[tenant] = _Unserved(told, bundles, now, now)
        return told

    def drop(self, tenant: str) -> None:
        """Forget a tenant that is served now."""
        self._by_tenant.pop(tenant, None)

    def is_due(self, tenant: str) -> bool:
        """Whether the store should be asked again what bundles it has."""
        found = self._by_tenant.get(tenant)
        return found is None or time.monotonic() - found.looked_at > _LOOK_AGAIN_SECONDS

    def is_hopeless(self, tenant: str, bundles: Sequence[StoredBundle]) -> bool:
        """Whether these are the bundles that could not be loaded a moment ago."""
        found = self._by_tenant.get(tenant)
        if found is None:
            return False
        found.looked_at = time.monotonic()
        return found.bundles == bundles and found.looked_at - found.tried_at < _TRY_AGAIN_SECONDS

    def refusal(self, tenant: str) -> Refused | None:
        """Return what the tenant is answered; None when nothing is wrong with its bundles."""
        found = self._by_tenant.get(tenant)
        if found is None:
            return None
        return Refused(
            "no-whole-bundle",
            found.error.problem,
            remedy=found.error.remedy,
            headers={"Retry-After": f"{_LOOK_AGAIN_SECONDS:.0f}"},
        )
