"""What stands behind the routes: one database, one engine a tenant, and who computes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import polars as pl

from zhiyin.domain import Catalogue, Vocabulary
from zhiyin.domain.errors import BundleError, MissingExtra, StoreError
from zhiyin.domain.memory import give_back_unused
from zhiyin.experiments.refreshing.drift import LEVELS
from zhiyin.experiments.refreshing.loop import DRIFT_KIND
from zhiyin.online.engine import EngineSettings, LiveEngine
from zhiyin.online.following import AskTheLog, Heads
from zhiyin.online.live import as_they_are
from zhiyin.online.versions import bundle_to_serve
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.serving.access.audit import AuditLog
from zhiyin.serving.access.secret import open_secrets
from zhiyin.serving.batching import Batcher
from zhiyin.serving.border import Border
from zhiyin.serving.collecting import spare_what_came_later
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.problems import Refused
from zhiyin.serving.settings import ServingSettings
from zhiyin.serving.tenant_state import ArmCounts, TenantState
from zhiyin.serving.unserved import Unserved
from zhiyin.stores.events import DEFAULT_TENANT, Database
from zhiyin.stores.records import StoredDocument

_LOOK_AGAIN_SECONDS = 2.0
"""How long a tenant without a bundle is believed to have none."""


class Service:
    """Engines of all tenants of one database.

    Args:
        bundle: What the tenant ``default`` is served with: a folder, a pipeline in memory, or None for what
            the database says.
        database: Holds everything durable; `close` closes it.
        settings: Of the service.
        metrics: Counts.
        heads: Who knows the newest positions of the logs, where processes share the database.

    Attributes:
        border: Turns the shop's ids into those of the store.
        audit: Notes what is done with power.
        batcher: Computes answers.
        is_stopping: Whether no more requests should come here.
        unserved: Tenants whose bundles cannot be loaded.

    Raises:
        BundleError: when the bundle cannot be read, or of no tenant any can be.
        StoreError: when the database cannot be used, or holds no bundle and none was named.
    """

    def __init__(
        self,
        bundle: str | Path | Pipeline | None,
        database: Database,
        settings: ServingSettings,
        metrics: Metrics,
        *,
        heads: Heads | None = None,
    ) -> None:
        self.database = database
        self.settings = settings
        self.metrics = metrics
        self._heads = heads or AskTheLog()
        secrets = open_secrets(settings.privacy, database.store(DEFAULT_TENANT))
        self.border = Border(secrets, settings.privacy)
        self.audit = AuditLog(database.access, secrets)
        self._engines: dict[str, LiveEngine] = {}
        self._no_bundle_at: dict[str, float] = {}
        self.unserved = Unserved()
        self._opening = threading.Lock()
        self.is_stopping = False
        self.batcher = Batcher(settings.answers, metrics)
        metrics.watch_queue("recommend", lambda: self.batcher.depth, settings.answers.max_waiting)
        metrics.watch_queue("writer", database.queue_depth, database.queue_capacity)
        self._open_all(bundle)

    @property
    def engines(self) -> dict[str, LiveEngine]:
        """Tenant → engine, of those that are being served."""
        return dict(self._engines)

    def engine_at_once(self, tenant: str) -> LiveEngine | None:
        """Return the engine of a tenant that is being served already."""
        return self._engines.get(tenant)

    def engine(self, tenant: str) -> LiveEngine:
        """Return the engine of a tenant; the first call after its bundle was published loads it.

        Raises:
            Refused: when the tenant has no bundle, or none that can be loaded.
        """
        found = self._engines.get(tenant)
        if found is not None:
            return found
        with self._opening:
            found = self._engines.get(tenant)
            if (
                found is None
                and time.monotonic() - self._no_bundle_at.get(tenant, -1e9) > _LOOK_AGAIN_SECONDS
                and self.unserved.is_due(tenant)
            ):
                with suppress(BundleError):  # what is wrong is remembered
                    found = self._opened(tenant)
        if found is None:
            raise self.unserved.refusal(tenant) or Refused(
                "no-bundle",
                f"The tenant {tenant} has no bundle yet.",
                remedy=f"Put one there:  zhiyin publish BUNDLE --store URL --tenant {tenant}",
                headers={"Retry-After": "2"},
            )
        return found

    def catalogue_and_users(self) -> tuple[Catalogue, Vocabulary]:
        """Return what examples may speak of: items and users of the first tenant, as callers know them."""
        engine = next(iter(self._engines.values()), None)
        if engine is None:
            return Catalogue.from_table(pl.DataFrame({"item_id": ["item-1"]})), Vocabulary([])
        return engine.live.catalogue.current, engine.pipeline.users

    def stop(self) -> None:
        """Say on `/readyz` that no more requests should come here; what comes is answered still.

        It is called where signals are handled, so nothing here may wait.
        """
        self.is_stopping = True
        # Whoever waits for a database that hangs is told so before requests are cut off.
        self.database.end_within(max(1.0, self.settings.stop_seconds - 1.0))

    def close(self) -> None:
        """Finish what was accepted, and let go of everything."""
        self.stop()
        self.batcher.close()
        for engine in self._engines.values():
            engine.close()
        self.database.close()
        for engine in self._engines.values():
            engine.close_lives()

    def _heard(self, tenant: str, documents: Sequence[StoredDocument]) -> None:
        """Keep the newest drift that a learning loop has measured, in whichever process it runs."""
        for document in documents:
            if document.kind == DRIFT_KIND and document.body is not None:
                for measured in document.body.get("measured", ()):
                    if measured.get("level") in LEVELS:  # another version of Zhiyin may have written it
                        level = LEVELS.index(measured["level"])
                        self.metrics.set_drift(tenant, str(measured.get("name")), level)

    def _swapped(self, tenant: str, succeeded: bool) -> None:
        self.metrics.count_swap(tenant, succeeded=succeeded)
        spare_what_came_later()
        give_back_unused()

    def _open_all(self, bundle: str | Path | Pipeline | None) -> None:
        failed: BundleError | None = None
        try:
            tenants = set(self.database.tenants())
            if bundle is not None or not any(self.database.store(name).bundles() for name in tenants):
                self._add(DEFAULT_TENANT, bundle)
            for tenant in sorted(tenants - self._engines.keys()):
                try:
                    self._opened(tenant)
                except BundleError as error:  # the others shall not suffer for it
                    failed = error
            if failed is not None and not self._engines:
                raise failed
        except BaseException:
            self.close()
            raise

    def _opened(self, tenant: str) -> LiveEngine | None:
        bundles = self.database.store(tenant).bundles() if tenant in self.database.tenants() else []
        if not bundles:
            self._no_bundle_at[tenant] = time.monotonic()
            self.unserved.drop(tenant)
            return None
        if self.unserved.is_hopeless(tenant, bundles):
            return None
        try:
            engine = self._add(tenant, None)
        except (BundleError, MissingExtra) as error:
            self.metrics.count_swap(tenant, succeeded=False)
            raise self.unserved.add(tenant, bundles, error) from None
        except StoreError:
            self._no_bundle_at[tenant] = time.monotonic()
            raise
        self.unserved.drop(tenant)
        return engine

    def _add(self, tenant: str, bundle: str | Path | Pipeline | None) -> LiveEngine:
        store, vectors = self.database.store(tenant), self.settings.sharing.vectors
        engine = LiveEngine(
            bundle_to_serve(store, bundle),
            store,
            heads=self._heads,
            settings=EngineSettings(
                impression_capacity=self.settings.answers.impression_capacity,
                is_shared=self.database.is_shared,
                observe=self.metrics.observe_stage,
                stage_seconds=self.settings.answers.stage_budget_ms / 1_000,
                swapped=partial(self._swapped, tenant),
                heard=partial(self._heard, tenant),
                rename=self.border.people_of_bundle if self.border.renames else as_they_are,
                vectors=vectors.get_secret_value() if vectors is not None else None,
            ),
        )
        self._heard(tenant, store.documents(DRIFT_KIND))
        self._engines[tenant] = engine
        self.metrics.watch_tenant(tenant, lambda: _state_of(engine))
        self.metrics.engines.add_clicks(lambda: _clicks_of(engine))
        return engine


def _clicks_of(engine: LiveEngine) -> list[ArmCounts]:
    return [
        ArmCounts(experiment, arm, counts.slates, counts.clicks, counts.conversions)
        for (experiment, arm), counts in engine.clicks.outcomes().items()
    ]


def _state_of(engine: LiveEngine) -> TenantState:
    live = engine.live
    return TenantState(
        bundle=live.version,
        n_items=live.catalogue.n_items,
        n_users=live.histories.n_users,
        created=engine.loaded_since or None,
        trained_position=live.trained_until,
        applied_position=engine.following.applied,
        newest_position=engine.following.applied + engine.following.lag(),
        source_failures=live.pipeline.stages.failures,
        impressions_dropped=engine.impressions.n_dropped,
    )
