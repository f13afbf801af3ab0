"""Data that nobody can learn from, through the command line: exit code 2, what is wrong and where, and nothing written."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from fleet_contract import limits
from model_tools.cli import main

VECTOR = 'kind = "vector"'
CSV = 'reader = "csv"\nfile = "r.csv"\ntarget = "y"'
PARQUET = 'reader = "parquet"\nfile = "r.parquet"\ntarget = "y"'
LINES = 'reader = "jsonl"\nfile = "r.jsonl"\ntarget = "y"'
NUMPY = 'reader = "numpy"\nfile = "r.npz"'
PICTURES = 'reader = "images"\nfolder = "frames"'


@dataclass(frozen=True)
class Case:
    """`make` writes the data. `field` and `limit` as the error names them; `said` is in its words."""

    make: Callable[[Path], object]
    field: str
    said: str
    limit: object = None
    data: str = CSV
    shape: str = VECTOR
    kind: str = "classification"
    more: str = ""


def csv(lines: str = "", rows: int = 40, header: str = "a,b,y") -> Callable[[Path], object]:
    body = "".join(f"{at},{at % 7},{'uv'[at % 2]}\n" for at in range(rows))
    return lambda folder: (folder / "r.csv").write_text(f"{header}\n{body}{lines}")


def same(column: str) -> Callable[[Path], object]:
    """Every input constant, or every target."""
    body = "".join(f"{1 if column == 'inputs' else at},2,{3 if column == 'target' else at % 2}\n" for at in range(40))
    return lambda folder: (folder / "r.csv").write_text("a,b,y\n" + body)


def text(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def lines(*extra: object) -> Callable[[Path], object]:
    rows = [*({"a": at, "y": "uv"[at % 2]} for at in range(40)), *extra]
    return text("r.jsonl", "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))


def table(**columns: object) -> Callable[[Path], object]:
    whole = {"a": [float(at) for at in range(40)], "y": ["uv"[at % 2] for at in range(40)], **columns}
    return lambda folder: parquet.write_table(pa.table(whole), folder / "r.parquet")


def arrays(**held: np.ndarray) -> Callable[[Path], object]:
    whole = {"x": np.random.default_rng(0).normal(size=(40, 3)), "y": np.arange(40) % 2, **held}
    return lambda folder: np.savez(folder / "r.npz", **whole)


def claimed(shape: str) -> Callable[[Path], object]:
    """An archive whose header says more than it holds."""

    def make(folder: Path) -> None:
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        with zipfile.ZipFile(folder / "r.npz", "w") as archive:
            archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(16))

    return make


def pictures(spoil: bytes | None = None, per_class: int = 12) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        for name in ("red", "blue"):
            (folder / "frames" / name).mkdir(parents=True)
            for at in range(per_class):
                cv2.imwrite(str(folder / "frames" / name / f"{at:02}.png"), np.full((9, 9), at, np.uint8))
        if spoil is not None:
            (folder / "frames/red/03.png").write_bytes(spoil)

    return make


IMAGE = 'kind = "image"\nheight = 8\nwidth = 8\nchannels = 1'
WINDOW = 'kind = "window"\nlength = {length}'

CASES = {
    "unknown-column": Case(csv(), "oil", "a, b, y", shape=VECTOR + '\ncolumns = ["oil"]'),
    "unknown-target": Case(csv(), "state", "a, b, y", data=CSV.replace('"y"', '"state"')),
    "unknown-group": Case(csv(), "machine", "a, b, y", more='[split]\ngroup = "machine"'),
    "mixed-types": Case(csv("1,hot,u\n"), "b", "row 41, column 'b': 'hot'", "row 41"),
    "one-class": Case(lambda folder: csv()(folder) and csv(rows=1, lines="1,2,u\n" * 40)(folder), "y", "two classes", 2),
    "three-rows": Case(csv(rows=3), "r.csv", "3 rows, at least 20", 20),
    "a-class-of-two-rows": Case(csv("1,2,w\n1,2,w\n"), "y", "'w' has 2 rows", 3),
    "numbers-as-classes": Case(
        text("r.csv", "a,y\n" + "".join(f"{at},{at / 7}\n" for at in range(40))), "y", 'task.kind = "regression"', 3
    ),
    "constant-features": Case(same("inputs"), "r.csv", "constant", kind="classification"),
    "constant-target": Case(same("target"), "y", "nothing to estimate", kind="regression"),
    "a-target-of-words": Case(csv(), "y", "row 1: the target 'u'", "row 1", kind="regression"),
    "a-target-that-is-not-there": Case(csv("1,2,nan\n"), "y", "row 41 has no label", "row 41", kind="regression"),
    "a-huge-target": Case(
        text("r.csv", "a,y\n" + "".join(f"{at},{at}\n" for at in range(40)) + "1,1e30\n"),
        "y",
        "row 41: the target",
        "row 41",
        kind="regression",
    ),
    "the-commonest-number": Case(
        csv(), "input.label", "last sample", "last", shape=WINDOW.format(length=4) + '\nlabel = "most"', kind="regression"
    ),
    "huge-values": Case(csv("1,1e30,u\n"), "b", "row 41, column 'b': 1e+30 is not within 1e+18", limits.MAX_TABLE_SCALE),
    "infinite-values": Case(csv("1,-inf,u\n"), "b", "row 41, column 'b': -inf is not a finite number", limits.MAX_TABLE_SCALE),
    "a-line-without-end": Case(text("r.csv", "a,b,y\n" + "1" * 1_000_010), "r.csv", "line over the limit", limits.MAX_CSV_LINE_CHARS),
    "too-many-columns": Case(text("r.csv", ",".join(map(str, range(5000)))), "r.csv", "5000 columns", limits.MAX_CSV_COLUMNS),
    "not-utf-8": Case(
        text("r.csv", b"a,b,y\n1,1,\xe9t\xe9\n"), "r.csv", "(byte 0xe9); save it as UTF-8, or convert it by iconv -f WINDOWS-1252"
    ),
    "utf-16": Case(text("r.csv", "a,b,y\n".encode("utf-16")), "r.csv", "iconv -f UTF-16"),
    "decimal-commas": Case(
        csv('1,"0,5",u\n'), "b", "row 41, column 'b': '0,5' is not a finite number; decimals are wanted with a point", "row 41"
    ),
    "fewer-labels-than-rows": Case(
        lambda folder: csv()(folder) and text("y.csv", "u\nv\n")(folder),
        "data.labels",
        "2 labels",
        2,
        data=CSV.replace("y", "z") + '\nlabels = "y.csv"',
    ),
    "the-target-twice": Case(
        lambda folder: csv()(folder) and text("y.csv", "u\n" * 40)(folder), "data.labels", "itself", data=CSV + '\nlabels = "y.csv"'
    ),
    "no-normal-row": Case(csv(), "y", "output.normal", "0, false, good, no, normal, ok", kind="anomaly"),
    "a-time-that-is-none": Case(csv("x,2,u\n"), "a", "row 41", "row 41", more='[split]\ntime = "a"'),
    "no-parquet": Case(text("r.parquet", "PAR1 nothing"), "r.parquet", "r.parquet", data=PARQUET),
    "cut-parquet": Case(
        lambda folder: table()(folder) or (folder / "r.parquet").write_bytes((folder / "r.parquet").read_bytes()[:-40]),
        "r.parquet",
        "r.parquet",
        data=PARQUET,
    ),
    "lists-in-parquet": Case(table(b=[[1.0]] * 40), "b", "list<", data=PARQUET),
    "huge-values-in-parquet": Case(table(b=[1e30] * 40), "b", "row 1, column 'b'", limits.MAX_TABLE_SCALE, data=PARQUET),
    "nulls-in-parquet": Case(table(b=[None] + [1.0] * 39), "b", "row 1, column 'b': there is no value", "row 1", data=PARQUET),
    "no-json": Case(lines("{oops"), "row 41", "no JSON object", data=LINES),
    "a-list-as-a-line": Case(lines("[1, 2]"), "row 41", "no JSON object", data=LINES),
    "nested-json": Case(lines({"a": {"b": 1}, "y": "u"}), "a", "row 41", "row 41", data=LINES),
    "deep-json": Case(lines('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"), "row 41", "no JSON object", data=LINES),
    "pickled-arrays": Case(arrays(x=np.array([{"a": 1}] * 40)), "x", "neither numbers nor words", data=NUMPY),
    "no-archive": Case(text("r.npz", b"PK\x03\x04 no"), "r.npz", "archive", data=NUMPY),
    "no-such-array": Case(arrays(), "inputs", "x, y", data=NUMPY + '\ninputs = "inputs"'),
    "fewer-targets-than-rows": Case(arrays(y=np.arange(39)), "y", "[39] beside 40 rows", 40, data=NUMPY),
    "nan-in-an-array": Case(arrays(x=np.full((40, 2), [1, np.nan])), "x2", "row 1, column 'x2'", "row 1", data=NUMPY),
    "windows-for-vectors": Case(arrays(x=np.zeros((40, 5, 2))), "x", "(rows, columns)", "(rows, columns)", data=NUMPY),
    "an-archive-that-claims-too-much": Case(claimed("(1000000000, 64)"), "x", "memory", limits.MAX_DATASET_BYTES, data=NUMPY),
    "an-archive-cut-short": Case(claimed("(40, 3)"), "x", "damaged", data=NUMPY),
    "a-corrupt-picture": Case(pictures(b"\x89PNG\r\n\x1a\nnothing"), "red/03.png", "no readable picture", data=PICTURES, shape=IMAGE),
    "an-empty-picture": Case(pictures(b""), "red/03.png", "no readable picture", data=PICTURES, shape=IMAGE),
    "few-pictures": Case(pictures(per_class=4), "data.folder", "8 pictures, at least 20", 20, data=PICTURES, shape=IMAGE),
    "no-folder": Case(lambda folder: None, "data.folder", "there is no folder", data=PICTURES, shape=IMAGE),
    "an-empty-folder": Case(lambda folder: (folder / "frames").mkdir(), "data.folder", "folder per class", 1, data=PICTURES, shape=IMAGE),
    "a-window-longer-than-the-test": Case(csv(), "input.length", "no window of 30 samples", 30, shape=WINDOW.format(length=30)),
    "a-window-larger-than-memory": Case(
        csv(), "input.length", "too large", limits.MAX_WINDOW_VALUES, shape=WINDOW.format(length=4_000_000)
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_it_is_told_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: Case) -> None:
    case.make(tmp_path)
    task = tmp_path / "task.toml"
    task.write_text(f'[task]\nname = "t"\nkind = "{case.kind}"\n[input]\n{case.shape}\n[data]\n{case.data}\n{case.more}')
    before = {*tmp_path.rglob("*")}
    with pytest.raises(SystemExit) as ended:
        main(["data", "card", str(task), "--out", str(tmp_path / "card.md"), "--json"])
    error = json.loads(capsys.readouterr().err.splitlines()[-1])["error"]
    assert (ended.value.code, error["field"], error["limit"]) == (2, case.field, case.limit)
    assert case.said in error["message"]
    assert {*tmp_path.rglob("*")} == before
