"""What cannot be found, in words."""

from __future__ import annotations

from zhiyin.domain.errors import UnknownBundle, UnknownItem


def unknown_item(item_id: str) -> UnknownItem:
    """Say that the catalogue does not hold an item."""
    return UnknownItem(
        f"The catalogue does not hold the item {item_id!r}.",
        remedy="Add it with PUT /v1/items/{id}; it can be recommended at once.",
    )


def unknown_bundle(version: str) -> UnknownBundle:
    """Say that the store does not hold a version."""
    return UnknownBundle(
        f"The store holds no bundle {version}.",
        remedy="GET /v1/bundles lists them; `zhiyin publish BUNDLE --store URL` puts one there.",
    )
