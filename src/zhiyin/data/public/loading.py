"""From the name of a public data set to a data folder on this machine."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl

from zhiyin.data.public.archives import find_files
from zhiyin.data.public.checksums import FirstUse, published_md5, verify
from zhiyin.data.public.download import PATIENT, Patience, download, fetch_text
from zhiyin.data.public.sets import PublicSet, RemoteFile, public_set
from zhiyin.data.public.tables import Tables, write_tables
from zhiyin.domain import Progress, Silent
from zhiyin.domain.errors import DataError

_SILENT = Silent()
_README = """{name}, converted by Zhiyin into its data folder layout.

Source: {source}
Terms as the source states them, in short: {terms}
"""


def cache_folder() -> Path:
    """Return where downloads are kept: the variable ``ZHIYIN_CACHE``, or ``~/.cache/zhiyin``."""
    return Path(os.environ.get("ZHIYIN_CACHE") or Path.home() / ".cache" / "zhiyin")


def load_public(
    name: str,
    *,
    folder: str | Path | None = None,
    cache: str | Path | None = None,
    base_url: str | None = None,
    progress: Progress = _SILENT,
    patience: Patience = PATIENT,
) -> Path:
    """Bring a public data set onto this machine, once, and return a folder that `read_dataset` reads.

    Files are verified with the checksum their source publishes; where it publishes none, the checksum of
    the first download is written down, and later downloads must be the same.

    Args:
        name: Such as ``movielens-100k``, ``goodbooks-10k``, ``amazon-2014-beauty``, ``amazon-2023-books``.
        folder: A folder or archive with the files of the source, read instead of downloading.
        cache: Where to keep it; `cache_folder` by default.
        base_url: Another server, which holds the files under their own names.
        progress: Who listens.
        patience: How often and how long to try when the network fails.

    Raises:
        DataError: when the set is not known, cannot be downloaded, is damaged or lacks a file.
    """
    public = public_set(name)
    home = Path(cache) / "public" / name if cache else cache_folder() / "public" / name
    data = home / "data"
    if folder is None and (data / "interactions.parquet").exists():
        return data
    location = Path(folder) if folder is not None else home / "raw"
    try:
        if folder is None:
            _download_all(public, location, base_url, progress, patience)
        home.mkdir(parents=True, exist_ok=True)
        with progress.stage(f"Converting {name}"), tempfile.TemporaryDirectory(dir=home) as scratch:
            tables = _read(public, location, Path(scratch))
    except OSError as error:
        raise DataError(f"{home} cannot be used: {error.strerror or error}.") from None
    if folder is None:
        _remember_all(public, location)
    tables = replace(tables, description={"name": public.name, **tables.description})
    write_tables(tables, data, _README.format(name=name, source=public.source, terms=public.terms))
    progress.say(
        f"{name}: {tables.interactions.height:,} interactions, {tables.items.height:,} items in {data}"
    )
    return data


def _download_all(
    public: PublicSet, raw: Path, base_url: str | None, progress: Progress, patience: Patience
) -> None:
    first_use = FirstUse(raw)
    for remote in public.remote:
        target = raw / remote.name
        url = f"{base_url.rstrip('/')}/{remote.name}" if base_url else remote.url
        if not target.exists():
            download(url, target, progress=progress, patience=patience)
        _verify(target, url, remote, first_use, patience)


def _verify(target: Path, url: str, remote: RemoteFile, first_use: FirstUse, patience: Patience) -> None:
    """Compare with what is written down, else with what the source publishes, else with what is known."""
    written_down = first_use.known(remote.name)
    if written_down:
        verify(target, written_down, source=first_use.name)
        return
    published = fetch_text(url + ".md5", patience=patience) if remote.has_md5_file else None
    published_checksum = published_md5(published) if published else None
    if published_checksum:
        verify(target, published_checksum, source=f"{url}.md5")
    elif remote.checksum:
        verify(target, remote.checksum, source="Zhiyin's list of public data sets")


def _remember_all(public: PublicSet, raw: Path) -> None:
    """Write down the checksums of files that could be read, so that a damaged one is never believed."""
    first_use = FirstUse(raw)
    for remote in public.remote:
        if first_use.known(remote.name) is None:
            first_use.remember(raw / remote.name)


def _read(public: PublicSet, location: Path, scratch: Path) -> Tables:
    files = find_files(location, (*public.needed, *public.optional), scratch)
    missing = [name for name in public.needed if name not in files]
    if missing:
        raise DataError(
            f"{location} lacks {', '.join(missing)} of {public.name}.",
            possible=f"It needs {', '.join(public.needed)}, as they are or in {public.remote[0].name}.",
        )
    try:
        return public.read(files)
    except (pl.exceptions.PolarsError, ValueError, KeyError) as error:
        raise DataError(
            f"The files of {public.name} in {location} are not in its format: {error}.",
            remedy="Delete them and download them again, or look whether they are of another release.",
        ) from None
