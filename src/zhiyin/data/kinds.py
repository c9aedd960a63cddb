"""Words for event kinds that a bundle was not trained on."""

from __future__ import annotations

from collections.abc import Iterable

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
        found = self._found(kind)
        return self.commonest if found is None else found

    def knows(self, kind: str) -> bool:
        """Whether a word is a kind of the bundle, or means one."""
        return self._found(kind) is not None

    def _found(self, kind: str) -> int | None:
        exact = self._index.get(kind, self._plain.get(_plain(kind)))
        if exact is not None:
            return exact
        for group in SAME_MEANING:
            if _plain(kind) in group:
                for index, known in enumerate(self.known):
                    if _plain(known) in group:
                        return index
        return None

    def unknown(self, kinds: set[str]) -> dict[str, str]:
        """Return the words the bundle does not have, each with the kind it is treated as."""
        return {kind: self.known[self.index(kind)] for kind in sorted(kinds) if kind not in self._index}


def distinct_kinds(words: Iterable[str]) -> tuple[str, ...]:
    """Return words of which no two mean the same kind, the earlier one of those that do.

    The first is what words are taken for that mean none of them, until there are events to count.
    """
    nobody = Histories.empty(0)
    kinds: tuple[str, ...] = ()
    for word in words:
        if not kinds or not EventKinds(kinds, nobody).knows(word):
            kinds = (*kinds, word)
    return kinds


def _plain(kind: str) -> str:
    return kind.strip().lower().replace("-", "_").replace(" ", "_")
