"""How large the simulated shop is, and from which seed it grows."""

from __future__ import annotations

from dataclasses import dataclass, fields

from zhiyin.domain.errors import ConfigError

START = 1_735_689_600
"""Opening day: 2025-01-01 00:00 UTC, in seconds."""
DAY = 86_400

_ITEMS_PER_PLACE = 4
_BOUNDS: dict[str, tuple[float, float]] = {
    "n_items": (200, 2_000_000),
    "n_users": (1, 2_000_000),
    "n_days": (7, 3_650),
    "seed": (0, 2**63 - 1),
    "visits_per_user": (0.1, 1_000),
    "slate_size": (1, 50),
    "share_new_items": (0.0, 0.9),
}


@dataclass(frozen=True)
class ShopConfig:
    """Settings of the simulated shop.

    Attributes:
        n_items: I, items of the catalogue.
        n_users: U, users.
        n_days: Days the log covers.
        seed: Of everything; the same settings give the same bytes.
        visits_per_user: Visits of an average user within those days.
        slate_size: Items shown at the start of a visit.
        share_new_items: Share of items that arrive while the log runs.

    Raises:
        ConfigError: when a setting is out of range.
    """

    n_items: int = 3_000
    n_users: int = 2_000
    n_days: int = 120
    seed: int = 7
    visits_per_user: float = 9.0
    slate_size: int = 8
    share_new_items: float = 0.2

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            low, high = _BOUNDS[setting.name]
            whole = isinstance(setting.default, int)
            number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise ConfigError(
                    f"Setting 'shop.{setting.name}' cannot be {value!r}.",
                    possible=f"It is a {'whole ' if whole else ''}number from {low:g} to {high:g}.",
                    remedy=f"Leave it out for the default, {setting.default:g}.",
                )
        if self.n_items * (1 - self.share_new_items) < _ITEMS_PER_PLACE * self.slate_size:
            raise ConfigError(
                f"A shop that opens with {self.n_items * (1 - self.share_new_items):.0f} items cannot show "
                f"'shop.slate_size' = {self.slate_size} different ones again and again.",
                possible=f"It needs {_ITEMS_PER_PLACE} times as many items as places.",
                remedy="Raise n_items, or lower slate_size or share_new_items.",
            )
