"""Data read from a real PostgreSQL."""

import polars as pl
import sqlalchemy as sql

from zhiyin.data.reading import read_dataset


def test_tables_and_views_of_a_real_server(postgres_url: str) -> None:
    engine = sql.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        connection.exec_driver_sql("CREATE TABLE sold (who text, what text, at timestamptz, paid numeric)")
        rows = ", ".join(
            f"('u{n % 4}', 'i{n % 5}', '2026-01-0{n % 9 + 1} 12:00:00+00', {n}.5)" for n in range(20)
        )
        connection.exec_driver_sql(f"INSERT INTO sold VALUES {rows}")
        connection.exec_driver_sql(
            "CREATE VIEW interactions AS SELECT who AS user_id, what AS item_id, at AS timestamp, "
            "paid AS value FROM sold"
        )
        connection.exec_driver_sql("CREATE TABLE items (item_id text, title text, price double precision)")
        connection.exec_driver_sql("INSERT INTO items VALUES ('i0', '春茶', 3.5), ('i1', 'Cup', NULL)")
    engine.dispose()
    dataset = read_dataset(postgres_url)
    assert dataset.n_interactions == 20
    assert dataset.n_users == 4
    assert dataset.has_timestamps
    items = dataset.catalogue.table
    assert items.filter(pl.col("item_id") == "i0")["title"].to_list() == ["春茶"]
    assert sorted(dataset.histories.value.tolist())[:2] == [0.5, 1.5]
