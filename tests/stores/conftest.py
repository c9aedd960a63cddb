"""A database of each kind, for tests that one contract suite does not hold."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from zhiyin.stores.database import SqlDatabase
from zhiyin.stores.opening import open_database


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    is_sqlite = request.param == "sqlite"
    return f"sqlite:///{tmp_path}/store.db" if is_sqlite else request.getfixturevalue("postgres_url")


@pytest.fixture
def database(url: str) -> Iterator[SqlDatabase]:
    opened = open_database(url)
    assert isinstance(opened, SqlDatabase)
    yield opened
    opened.close()
