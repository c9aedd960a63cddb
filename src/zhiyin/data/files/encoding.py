"""From the bytes of a file to text."""

from __future__ import annotations

import gzip
from pathlib import Path

from zhiyin.data.description import FILE_NAME, Description
from zhiyin.domain.errors import DataError

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_GUESSES = ("gb18030", "latin-1")


def is_plain_utf8(path: Path, description: Description) -> bool:
    """Whether a file can be read as it lies there: not compressed, not in another encoding."""
    with path.open("rb") as file:
        start = file.read(2)
    return _says_utf8(description) and start not in (*UTF16_MARKS, b"\x1f\x8b")


def _says_utf8(description: Description) -> bool:
    return description.encoding.lower().replace("-", "").replace("_", "") == "utf8"


def text_of(path: Path, description: Description) -> str:
    """Return a file as text.

    Raises:
        DataError: when its bytes are not in the encoding; the message shows what they would be in others.
    """
    content = bytes_of(path)
    encoding = description.encoding
    if content[:2] in UTF16_MARKS:
        encoding = "utf-16"
    elif _says_utf8(description):
        encoding = "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(content, error) from None


def bytes_of(path: Path) -> bytes:
    """Return the bytes of a file, uncompressed.

    Raises:
        DataError: when a compressed file is damaged.
    """
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"The gzip file is damaged: {error}.", remedy="Copy or download it again.") from None


def _wrong_encoding(content: bytes, error: UnicodeDecodeError) -> DataError:
    line = content.count(b"\n", 0, error.start)
    row = f"data row {line}" if line else "the header"
    start = content.rfind(b"\n", 0, error.start) + 1
    stop = content.find(b"\n", error.start)
    sample = content[start : stop if stop >= 0 else None].strip()
    readings = []
    for encoding in _GUESSES:
        try:
            readings.append(f'as {encoding} it reads "{_shortened(sample.decode(encoding))}"')
        except UnicodeDecodeError:
            continue
    return DataError(
        f"{row[0].upper()}{row[1:]} is not {error.encoding.removesuffix('-sig')}: it has the byte "
        f"0x{content[error.start]:02x}; {'; '.join(readings)}.",
        remedy=f"Save the file as UTF-8, or name its encoding in {FILE_NAME}:  "
        f'[files]  encoding = "{readings[0].split()[1] if readings else "gb18030"}"',
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
