"""Where the shop's ids become the store's: as they are, or pseudonyms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zhiyin.domain.pseudonyms import looks_like_one
from zhiyin.serving.access.pseudonyms import Pseudonyms
from zhiyin.serving.access.receipts import Receipts
from zhiyin.serving.access.secret import Secrets
from zhiyin.serving.settings import PrivacySettings


class Border:
    """Names of people on both sides of the service.

    Args:
        secrets: The secret of the service.
        settings: Whether pseudonyms are used, and which fields are personal.
    """

    def __init__(self, secrets: Secrets, settings: PrivacySettings) -> None:
        self._secrets = secrets
        self._settings = settings
        self._pseudonyms: dict[str, Pseudonyms] = {}

    @property
    def renames(self) -> bool:
        """Whether ids in the store differ from those of the shop."""
        return self._settings.pseudonymise

    def people(self, tenant: str, user_ids: list[str]) -> list[str]:
        """Return ids of users as they are stored."""
        return self._of(tenant).of_many(user_ids) if self.renames else user_ids

    def people_of_bundle(self, tenant: str, user_ids: list[str]) -> list[str]:
        """Return ids of a bundle's users as they are stored; those learned from the store are named so."""
        if not self.renames:
            return user_ids
        plain = [user_id for user_id in user_ids if not looks_like_one(user_id)]
        named = dict(zip(plain, self.people(tenant, plain), strict=True))
        return [named.get(user_id, user_id) for user_id in user_ids]

    def attributes(self, tenant: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return attributes of a user, or a context, as they are stored."""
        return self._of(tenant).attributes(attributes) if self.renames else dict(attributes)

    def receipts(self, tenant: str) -> Receipts:
        """Return who signs what was erased."""
        return Receipts(self._secrets, tenant)

    def _of(self, tenant: str) -> Pseudonyms:
        found = self._pseudonyms.get(tenant)
        if found is None:
            fields = self._settings.personal_fields
            found = self._pseudonyms[tenant] = Pseudonyms(self._secrets, tenant, fields)
        return found
