"""Back-translation as a rewriter: English texts to Spanish and back, by the rules of Apertium.

Needs the Debian packages ``apertium`` and ``apertium-eng-spa``; no model is loaded and nothing is sent away.
In the settings of a fine-tuning it is named ``back_translation:through_spanish``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def through_spanish(texts: Sequence[str], seed: int) -> list[str]:  # noqa: ARG001 - rewriters have one
    """Return each text as it comes back from Spanish; there is one way back, whatever the seed.

    Raises:
        RuntimeError: when the translator gives back another number of texts than it was given.
        subprocess.CalledProcessError: when it fails.
    """
    back = _translated(_translated([" ".join(text.split()) for text in texts], "eng-spa"), "spa-eng")
    return [after or before for before, after in zip(texts, back, strict=True)]


def _translated(texts: list[str], direction: str) -> list[str]:
    # A line of its own between two texts keeps a sentence from running on into the next one.
    done = subprocess.run(
        ["apertium", "-u", direction], input="\n\n".join(texts), capture_output=True, text=True, check=True
    )
    found = done.stdout.split("\n\n")
    if len(found) != len(texts):
        raise RuntimeError(f"apertium {direction} gave {len(found)} texts back for {len(texts)}.")
    return [text.strip() for text in found]
