"""Both databases keep the promises of the change log."""

from pathlib import Path

import pytest

from zhiyin.testing.change_log_contract import ChangeLogContract


class TestSqliteLog(ChangeLogContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/store.db"


class TestPostgresLog(ChangeLogContract):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url
