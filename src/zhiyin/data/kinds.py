"""Words for event kinds that a bundle was not trained on."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import Histories

SAME_MEANING: tuple[frozenset[str], ...] = (
    frozenset({"view", "click", "open", "visit", "read", "watch", "play", "listen", "impression_click"}),
    frozenset(
        {"cart", "add_to_cart", "basket", "add_to_basket", "wishlist", "favorite", "favourite", "save"}
    ),
    frozenset({"purchase", "buy", "order", "checkout", "transaction", "conversion"}),
    frozenset({"rating", "rate", "review", "like", "star"}),
)
"""Groups of words that mean the same; a bundle that knows one of a group understands the others."""

USUAL_KIND = "interaction"
"""The kind of an event that does not say."""
NO_KINDS = (USUAL_KIND,)
"""The one kind there is where no event says."""


class EventKinds:
    """Finds for any word the event kind of the bundle that it is treated as.

    A word is looked up as it is, then without regard to upper case, spaces and hyphens, then in
    `SAME_MEANING`. A word that is still unknown counts as the commonest kind of the bundle.

    Args:
        known: Names of the bundle's event kinds.
        histories: What the bundle was trained on; tells which kind is the commonest.
    """

    def __init__(self, known: tuple[str, ...], histories: Histories) -> None:
        self.known = known or NO_KINDS
        counts = np.bincount(histories.event_index, minlength=len(self.known))
        self.commonest = int(counts.argmax())
        self._index = {kind: index for index, kind in enumerate(self.known)}
        self._plain = {_plain(kind): index for index, kind in enumerate(self.known)}

    def index(self, kind: str) -> int:
        """Return the position among the bundle's kinds."""
        exact = self._index.get(kind, self._plain.get(_plain(kind)))
        if exact is not None:
            return exact
        for group in SAME_MEANING:
            if _plain(kind) in group:
                for index, known in enumerate(self.known):
                    if _plain(known) in group:
                        return index
        return self.commonest

    def unknown(self, kinds: set[str]) -> dict[str, str]:
        """Return the words the bundle does not have, each with the kind it is treated as."""
        return {kind: self.known[self.index(kind)] for kind in sorted(kinds) if kind not in self._index}


def _plain(kind: str) -> str:
    return kind.strip().lower().replace("-", "_").replace(" ", "_")
