"""PostgreSQL fulfils the contract of databases."""

import pytest

from zhiyin.testing.store_contract import DatabaseContract


class TestPostgres(DatabaseContract):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url
