"""The demo: from nothing to served recommendations, on a simulated shop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from zhiyin.cli.learning import read_with_notes
from zhiyin.cli.progress import TerminalProgress
from zhiyin.cli.serving import run_service, show_user
from zhiyin.cli.terminal import ERR, OUT, command_line, metrics_table
from zhiyin.data.checking import check
from zhiyin.data.dataset import Dataset
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import Shop, simulate_shop
from zhiyin.experiments.training import Outcome, train
from zhiyin.pipeline.recipes import recipe

_SHOWN_USERS = 3
_BRIEF = {
    "sources.sequence.training.learning_rate": "0.004",
    "sources.sequence.training.max_epochs": "8",
}
"""A newcomer waits a minute, not five: steeper and shorter training, a little worse than the defaults."""


def demo(
    folder: Annotated[Path, typer.Option(help="Where the shop and the bundle go.")] = Path("zhiyin-demo"),
    no_serve: Annotated[bool, typer.Option("--no-serve", help="End after printing.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 8000,
    seed: Annotated[int, typer.Option(min=0, help="Of the shop and the training.")] = 7,
) -> None:
    """Build the embedded shop, train, evaluate and serve it; works offline."""
    progress = TerminalProgress(ERR)
    with progress.stage("building a simulated shop"):
        shop = simulate_shop(ShopConfig(seed=seed))
        shop.write(folder / "shop")
    OUT.print("[bold]A simulated shop[/bold] (no real people, no real goods; its truth is known)\n")
    with progress.stage("checking its data"):
        report = check(folder / "shop")
    print(report.render())
    dataset = read_with_notes(str(folder / "shop"), progress)
    OUT.print("\n[bold]Training and evaluating[/bold]: last action of each user, whole catalogue ranked\n")
    shown = train(
        dataset,
        recipe("hybrid", _BRIEF),
        folder / "bundle",
        seed=seed,
        progress=progress,
        command=command_line(),
    )
    OUT.print(metrics_table(shown.evaluations))
    OUT.print("\nIntervals hold 95 % (bootstrap over users).")
    _show_users(shown, shop, dataset)
    OUT.print(f"\nData   {folder / 'shop'}\nBundle {folder / 'bundle'}")
    OUT.print(f"Report {folder / 'bundle' / 'report.html'}")
    if no_serve:
        OUT.print(f"Serve  zhiyin serve {folder / 'bundle'}")
        return
    OUT.print("\n[bold]Serving[/bold]\n")
    run_service(folder / "bundle", None, None, host="127.0.0.1", port=port)


def _show_users(shown: Outcome, shop: Shop, dataset: Dataset) -> None:
    lengths = dataset.histories.lengths
    readable = np.flatnonzero((lengths >= 6) & (lengths <= 20))
    for user in readable[np.linspace(0, len(readable) - 1, _SHOWN_USERS, dtype=np.int64)]:
        OUT.print(f"\n[dim]The truth of the simulation: {shop.describe_user(int(user))}[/dim]")
        show_user(shown.pipeline, dataset.users.id(int(user)), 5, explain=True)
