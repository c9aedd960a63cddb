"""Tables as they are printed."""

from types import SimpleNamespace

from rich.console import Console

from zhiyin.cli.terminal import metrics_table
from zhiyin.evaluation.intervals import Interval


class Judged(SimpleNamespace):
    settings = SimpleNamespace(longest=10)

    def interval(self, metric: str) -> Interval:
        return Interval(self.metrics[metric], self.metrics[metric] - 0.01, self.metrics[metric] + 0.01)


def test_what_only_some_recommenders_have_stands_beside_a_dash():
    reads, counts = {"recall_at_10": 0.25, "diversity_at_10": 0.5}, {"recall_at_10": 0.125}
    for columns in ({"reads": reads, "counts": counts}, {"counts": counts, "reads": reads}):
        console = Console(width=80)
        with console.capture() as said:
            console.print(metrics_table({name: Judged(metrics=told) for name, told in columns.items()}))
        rows = {line.split()[0]: line.split()[1:] for line in said.get().splitlines()[1:] if line.strip()}
        assert set(rows) == {"recall_at_10", "diversity_at_10"}
        assert dict(zip(columns, rows["recall_at_10"][::2], strict=True)) == {
            "reads": ".2500",
            "counts": ".1250",
        }
        diversity = [cell for cell in rows["diversity_at_10"] if cell[0] != "±"]
        assert dict(zip(columns, diversity, strict=True)) == {"reads": ".5000", "counts": "–"}
