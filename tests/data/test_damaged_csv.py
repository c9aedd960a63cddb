"""Damaged csv, read as the standard library reads it, only faster."""

import csv
import io
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from zhiyin.data.description import Description
from zhiyin.data.files.csv_file import read_csv

fields = st.text(alphabet='ab,"\n é', max_size=4)


@given(st.lists(st.lists(fields, min_size=1, max_size=4), min_size=1, max_size=8))
@example([["", "", ""], ["", "", "\n"]])
def test_damaged_csv_is_read_as_the_standard_library_reads_it(rows):
    """Rows with three fields are kept, all others reported; a line of nothing is no row."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["x", "y", "z"])
    for row in rows:
        writer.writerow(row)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text(buffer.getvalue(), newline="")
        table = read_csv(path, Description())
    assert table.frame.columns == ["x", "y", "z"]
    kept = [row for row in rows if len(row) == 3]
    assert [[cell or "" for cell in row] for row in table.frame.rows()] == kept
    assert list(table.bad_rows) == [n for n, row in enumerate(rows, start=1) if len(row) != 3]
