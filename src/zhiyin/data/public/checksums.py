"""Whether a file is the one it should be."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from zhiyin.domain.errors import DataError

RECORD_NAME = "checksums.json"
_CHUNK = 1 << 20
_LENGTHS = {"md5": 32, "sha256": 64}


def checksum_of(path: Path, algorithm: str = "sha256") -> str:
    """Return ``algorithm:hex digits`` of a file."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


def published_md5(text: str) -> str | None:
    """Find the digest in the text of an ``.md5`` file; None when there is none.

    Both forms in use are read: ``d41d8… name`` and ``MD5 (name) = d41d8…``.
    """
    found = re.search(rf"\b[0-9a-fA-F]{{{_LENGTHS['md5']}}}\b", text)
    return f"md5:{found.group().lower()}" if found else None


def verify(path: Path, expected: str, *, source: str) -> None:
    """Compare a file with its checksum, and delete the file when it differs.

    Args:
        path: The file.
        expected: ``md5:…`` or ``sha256:…``.
        source: Where the checksum is from, for the error.

    Raises:
        DataError: when the file is another one.
    """
    actual = checksum_of(path, expected.partition(":")[0])
    if actual != expected:
        path.unlink()
        raise DataError(
            f"{path.name} is damaged or another file: its checksum is {actual}, "
            f"but {expected} according to {source}.",
            remedy="The file was deleted. Try again; if it happens again, the source has another file now.",
        )


class FirstUse:
    """Checksums written down at the first download, for files whose source publishes none.

    Trust on first use: the first download is believed, every later one must be the same.

    Args:
        folder: Where the files lie; the record is ``checksums.json`` in it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORD_NAME

    def known(self, name: str) -> str | None:
        """Return the checksum written down for a file, if any."""
        return self._read().get(name)

    def remember(self, path: Path) -> None:
        """Write down the checksum of a file."""
        record = {**self._read(), path.name: checksum_of(path)}
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
        partial.replace(self._path)

    @property
    def name(self) -> str:
        """What errors call the record."""
        return f"the first download ({self._path}; delete that file to accept a new release)"

    def _read(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        try:
            record = json.loads(self._path.read_text(encoding="utf-8"))
        except ValueError:
            raise DataError(
                f"{self._path} cannot be read.", remedy="Delete it, and the checksums are written down anew."
            ) from None
        return {str(name): str(checksum) for name, checksum in record.items()}
