"""The demo: from nothing to served recommendations, on a simulated shop."""

from __future__ import annotations

import shutil
import tempfile
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

TRY = """
curl -s {url}/v1/recommend -H 'content-type: application/json' -d '{{"user_id": "{user}", "n": 5, "explain": true}}'
curl -s {url}/v1/events    -H 'content-type: application/json' -d '{{"user_id": "{user}", "item_id": "{item}", "event": "purchase"}}'
curl -s {url}/v1/search    -H 'content-type: application/json' -d '{{"text": "{words}", "n": 5}}'
curl -s {url}/v1/similar   -H 'content-type: application/json' -d '{{"item_id": "{item}", "n": 5}}'
""".strip()  # noqa: E501 - each must be one line to be pasted


def demo(
    folder: Annotated[Path | None, typer.Option(help="Where the shop and the bundle go.")] = None,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="End after printing.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 8000,
    seed: Annotated[int, typer.Option(min=0, help="Of the shop and the training.")] = 7,
) -> None:
    """Build the embedded shop, train, evaluate and serve it; works offline."""
    place = folder or Path(tempfile.mkdtemp(prefix="zhiyin-demo-"))
    progress = TerminalProgress(ERR)
    with progress.stage("1/5 building a simulated shop"):
        shop = simulate_shop(ShopConfig(seed=seed))
        shop.write(place / "shop")
    OUT.print("[bold]A simulated shop[/bold] (no real people, no real goods; its truth is known)\n")
    with progress.stage("2/5 checking its data"):
        report = check(place / "shop")
    print(report.render())
    dataset = read_with_notes(str(place / "shop"), progress)
    OUT.print("\n[bold]Training and evaluating[/bold]: last action of each user, whole catalogue ranked\n")
    shown = train(
        dataset, recipe("hybrid"), place / "bundle", seed=seed, progress=progress, command=command_line()
    )
    OUT.print(metrics_table(shown.evaluations))
    OUT.print("\nIntervals hold 95 % (bootstrap over users).")
    _show_users(shown, shop, dataset)
    OUT.print(
        f"\nData {place / 'shop'}\nBundle {place / 'bundle'}\nReport {place / 'bundle' / 'report.html'}"
    )
    if no_serve:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
        return
    _say_what_to_try(dataset, port)
    run_service(place / "bundle", None, "127.0.0.1", port)


def _show_users(shown: Outcome, shop: Shop, dataset: Dataset) -> None:
    lengths = dataset.histories.lengths
    readable = np.flatnonzero((lengths >= 6) & (lengths <= 20))
    for user in readable[np.linspace(0, len(readable) - 1, _SHOWN_USERS, dtype=np.int64)]:
        OUT.print(f"\n[dim]The truth of the simulation: {shop.describe_user(int(user))}[/dim]")
        show_user(shown.pipeline, dataset.users.id(int(user)), 5, explain=True)


def _say_what_to_try(dataset: Dataset, port: int) -> None:
    user, item = dataset.users.id(0), dataset.catalogue.items.id(0)
    words = str(dataset.catalogue.table["title"][0]).lower()
    OUT.print("\n[bold]Serving. Try in another terminal:[/bold]\n")
    url = f"http://127.0.0.1:{port}"
    print(TRY.format(url=url, user=user, item=item, words=words))
    print(f"\nAll routes: {url}/docs\n")
