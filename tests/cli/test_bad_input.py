"""What users bring that is broken: every command says so in words, and nothing is half written."""

import gzip
import hashlib
import os
import shutil
import sys
import tomllib

import numpy as np
import polars as pl
import pytest
import tomli_w
from safetensors.numpy import load_file, save_file

from zhiyin.cli.main import main


@pytest.fixture
def zhiyin(monkeypatch, capsys):
    """Run a command line; return exit code and everything said, on one line."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["zhiyin", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        said = " ".join((told.out + told.err).split())
        assert "Traceback" not in said
        assert "should not have" not in said
        return int(ended.value.code or 0), said

    return run


LINES = [f"u{n % 8},i{n % 11},{1_700_000_000 + n * 3600}" for n in range(120)]
GOOD = "user_id,item_id,timestamp\n" + "\n".join(LINES) + "\n"
TOML = "dataset.toml"


def toml(text):
    return {"interactions.csv": GOOD.encode(), TOML: text.encode()}


FILES = {
    "noise": ({"interactions.csv": bytes(range(128, 256)) * 20}, "interactions.csv"),
    "utf-16 without a mark": ({"interactions.csv": GOOD.encode("utf-16-le")}, "user_id"),
    "utf-32": ({"interactions.csv": GOOD.encode("utf-32")}, "interactions.csv"),
    "gzip cut": ({"interactions.csv.gz": gzip.compress(GOOD.encode())[:200]}, "gzip file is damaged"),
    "gzip of noise": ({"interactions.csv.gz": gzip.compress(bytes(range(128, 256)))}, "interactions.csv.gz"),
    "parquet of four bytes": ({"interactions.parquet": b"PAR1"}, "damaged or not parquet"),
    "parquet cut": ({"interactions.parquet": b"PAR1" + bytes(300)}, "damaged or not parquet"),
    "json nested without end": (
        {"interactions.jsonl": b'{"user_id":' + b"[" * 50_000 + b"]" * 50_000 + b"}\n"},
        "interactions.jsonl",
    ),
    "json scalars": ({"interactions.jsonl": b'1\n"a"\nnull\n'}, "interactions.jsonl"),
    "toml cut": (toml("[files\nx="), TOML),
    "toml of another type": (toml("files = 5\n"), TOML),
    "toml naming a number": (toml("[files]\ninteractions = 5\n"), TOML),
    "an encoding of fiction": (toml('[files]\nencoding = "klingon"\n'), "'klingon' is not known"),
    "an encoding that never encodes": (toml('[files]\nencoding = "undefined"\n'), "'undefined' is not known"),
    "an encoding that is no text": (toml('[files]\nencoding = "hex"\n'), "'hex' is not known"),
    "a separator of two signs": (toml('[files]\nseparator = "ab"\n'), "separator"),
    "a column that is not there": (toml('[columns.interactions]\nuser_id = "nope"\n'), "nope"),
}


@pytest.mark.parametrize("command", ["check", "train"])
@pytest.mark.parametrize("kind", FILES)
def test_broken_files(zhiyin, tmp_path, kind, command):
    files, message = FILES[kind]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    out = tmp_path.parent / f"{tmp_path.name}-out"
    code, said = zhiyin(command, tmp_path, *(["--out", out] if command == "train" else []))
    assert code == 1
    assert message in said
    assert not out.exists()


def test_ids_of_nothing(zhiyin, tmp_path):
    frame = pl.DataFrame({"user_id": [None] * 20, "item_id": ["x", "y"] * 10})
    frame.write_parquet(tmp_path / "interactions.parquet")
    code, said = zhiyin("check", tmp_path)
    assert code == 1
    assert "have no user_id" in said


@pytest.mark.parametrize("target", ["itself", "nothing"])
def test_links_that_lead_nowhere(zhiyin, tmp_path, target):
    link = tmp_path / "interactions.csv"
    os.symlink(link if target == "itself" else tmp_path / "gone", link)
    code, said = zhiyin("check", tmp_path)
    assert code == 1
    assert "interactions.csv" in said


SETTINGS = {
    "no number": ("sources.item_graph.window=nan", "sources.item_graph.window"),
    "below its range": ("sources.item_graph.window=-1", "greater than"),
    "no setting but a table": ("sources.item_graph=3", "item_graph"),
    "no place": ("=1", "not known"),
    "an unknown source": ("sources.klingon.x=1", "klingon"),
    "zero candidates": ("merge.n_candidates=0", "merge.n_candidates"),
    "below a setting": ("merge.n_candidates.x=1", "merge.n_candidates"),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_that_cannot_be(zhiyin, shop, tmp_path, kind):
    setting, message = SETTINGS[kind]
    code, said = zhiyin("train", shop, "--out", tmp_path / "b", "--set", setting)
    assert code == 1
    assert message in said
    assert not list(tmp_path.iterdir())


def card_with(**changes):
    def change(folder):
        path = folder / "bundle.toml"
        path.write_text(tomli_w.dumps({**tomllib.loads(path.read_text()), **changes}))

    return change


def vouched(folder):
    """Let the card of a bundle vouch for its files as they are now."""
    path = folder / "bundle.toml"
    card = tomllib.loads(path.read_text())
    card["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in card["files"]}
    path.write_text(tomli_w.dumps(card))


def with_rows(name, n):
    def change(folder):
        pl.read_parquet(folder / name).head(n).write_parquet(folder / name)
        vouched(folder)

    return change


def with_histories(change_of):
    def change(folder):
        (path,) = folder.glob("histories/*.safetensors")
        save_file({k: np.ascontiguousarray(v) for k, v in change_of(load_file(path)).items()}, path)
        vouched(folder)

    return change


def loop(folder):
    shutil.rmtree(folder)
    os.symlink(folder, folder)


def file_instead(folder):
    shutil.rmtree(folder)
    folder.write_text("no folder")


BUNDLES = {
    "files that are no table": (card_with(files=3), "'files' is no table"),
    "training that is no table": (card_with(training=3), "'training' is no table"),
    "settings that are no table": (card_with(pipeline=3), "'pipeline' is no table"),
    "kinds that are no list": (card_with(event_kinds=3), "'event_kinds' is no list"),
    "a format in words": (card_with(format="x"), "has format 'x'"),
    "items of another training": (with_rows("items.parquet", 5), "items.parquet holds 5 items"),
    "no items": (with_rows("items.parquet", 0), "items.parquet holds 0 items"),
    "users of another training": (with_rows("users.parquet", 1), "users.parquet holds 1 users"),
    "histories of another shape": (
        with_histories(lambda a: {name: array[:, None] for name, array in a.items()}),
        "is damaged",
    ),
    "histories of other items": (
        with_histories(lambda a: {**a, "item_index": a["item_index"] + 1000}),
        "name items outside",
    ),
    "a link to itself": (loop, "does not exist"),
    "a file": (file_instead, "does not exist"),
}


@pytest.mark.parametrize("kind", BUNDLES)
@pytest.mark.parametrize("command", ["recommend", "serve"])
def test_broken_bundles(zhiyin, bundle, tmp_path, kind, command):
    damage, message = BUNDLES[kind]
    copy = tmp_path / "b"
    shutil.copytree(bundle, copy)
    damage(copy)
    code, said = zhiyin(command, copy, *(["--user", "u"] if command == "recommend" else ["--port", 0]))
    assert code == 1
    assert message in said


def test_a_bundle_is_no_table_of_the_data(zhiyin, shop):
    code, said = zhiyin("train", shop, "--out", shop / "items")
    assert code == 1
    assert "would be read as the table 'items'" in said
    assert not (shop / "items").exists()


def test_somebody_who_has_everything(zhiyin, tmp_path):
    (tmp_path / "interactions.csv").write_text(GOOD)
    assert zhiyin("train", tmp_path, "--out", tmp_path / "bundle")[0] == 0
    code, said = zhiyin("recommend", tmp_path / "bundle", "--user", "u1")
    assert code == 1
    assert "is one they had" in said


def test_a_user_that_is_no_text(zhiyin, bundle):
    code, said = zhiyin("recommend", bundle, "--user", "u\udcff")
    assert code == 1
    assert "not written in UTF-8" in said


def test_a_folder_that_is_a_link_to_itself(zhiyin, tmp_path):
    os.symlink(tmp_path / "data", tmp_path / "data")
    code, said = zhiyin("check", tmp_path / "data")
    assert code == 1
    assert "There is no folder or file" in said


def test_a_pipe_is_no_file(zhiyin, tmp_path):
    os.mkfifo(tmp_path / "interactions.csv")
    code, said = zhiyin("check", tmp_path)
    assert code == 1
    assert "no interactions.csv" in said


def test_an_encoder_that_nothing_reads_with_is_refused(zhiyin, tmp_path):
    (tmp_path / "interactions.csv").write_text(GOOD)
    code, said = zhiyin("evaluate", tmp_path, "--recipe", "fast", "--set", "encoder=some/model")
    assert code == 1
    assert "encoder=some/model changes nothing: no source of recipe 'fast' reads texts with it" in said
    assert "--recipe hybrid" in said
