"""Small sources of every kind, made by the tests."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from modelyard.data.prepare import PreparedData, SplitReader, prepare
from modelyard.spec.data import Data

Rows = list[dict[str, Any]]


def people(count: int = 60) -> Rows:
    """Rows with numbers, text, truth values and a class."""
    rng = np.random.default_rng(3)
    return [
        {
            "name": f"person {at}",
            "age": int(rng.integers(20, 80)),
            "height": round(float(rng.normal(170, 10)), 3),
            "smokes": bool(rng.integers(2)),
            "label": ["ill", "well"][at % 2],
        }
        for at in range(count)
    ]


def write_csv(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: "" if value is None else value for name, value in row.items()})
    return path


def write_jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=20)
    return path


def write_npz(path: Path, rows: Rows) -> Path:
    np.savez(path, **{name: np.array([row[name] for row in rows]) for name in rows[0]})
    return path


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet, "npz": write_npz}


def write_images(folder: Path, *, count: int = 20, size: tuple[int, int] = (6, 5), mode: str = "L") -> Path:
    """`folder/<class>/<n>.png`."""
    rng = np.random.default_rng(5)
    for at in range(count):
        path = folder / ["cat", "dog"][at % 2] / f"{at:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = size if mode == "L" else (*size, 3)
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(path)
    return folder


def prepared(tmp: Path, source: Path | str, out: str = "out", **spec: Any) -> PreparedData:
    """Prepare a source below `tmp`."""
    return prepare(Data(source=str(source), **spec), base=tmp, out=tmp / out)


def rows_of(folder: Path, splits: Sequence[str] = ("train", "validation", "test")) -> Rows:
    """All rows of prepared data."""
    return [row for split in splits for row in SplitReader(folder, split).rows()]
