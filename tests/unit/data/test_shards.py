"""Shards: what is written comes back, over the mapped file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modelyard.data.columns import Values
from modelyard.data.shards import from_batch, open_shard, to_batch, write_shard

COLUMNS: dict[str, Values] = {
    "id": ["a", "ü", ""],
    "label": np.array([2, 0, 1]),
    "number": np.array([1.5, -0.0, 1e300]),
    "flag": np.array([True, False, True]),
    "small": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
    "half": np.ones((3, 4), np.float16),
    "single": np.ones((3, 1, 2, 3), np.float32),
    "ragged": [np.zeros((1, 2), np.uint8), np.ones((3, 3), np.float32), np.zeros((0,))],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_each_kind_of_column_comes_back(tmp_path: Path, name: str) -> None:
    shard = write_shard(tmp_path / "a.arrow", {name: COLUMNS[name]})
    (found,) = from_batch(open_shard(tmp_path / "a.arrow")).values()
    assert shard.examples == len(found) == 3
    assert type(found) is type(COLUMNS[name])
    for one, other in zip(found, COLUMNS[name], strict=True):
        np.testing.assert_array_equal(one, other)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_without_examples_comes_back(name: str) -> None:
    (found,) = from_batch(to_batch({name: COLUMNS[name][:0]})).values()
    assert len(found) == 0


def test_a_part_of_a_batch_is_that_part() -> None:
    part = from_batch(to_batch(COLUMNS).slice(1, 2))
    for name, values in COLUMNS.items():
        for one, other in zip(part[name], values[1:], strict=True):
            np.testing.assert_array_equal(one, other)


def test_numbers_lie_over_the_mapped_file(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.arrow", COLUMNS)
    columns = from_batch(open_shard(tmp_path / "a.arrow"))
    for name in ("label", "number", "small", "single"):
        assert not np.asarray(columns[name]).flags.owndata
        assert not np.asarray(columns[name]).flags.writeable


def test_neither_preparing_nor_reading_imports_pandas(tmp_path: Path) -> None:
    """Half a second in each trainer rank."""
    script = (
        "import sys; from pathlib import Path\n"
        "from modelyard.data.prepare import SplitReader, prepare; from modelyard.spec.data import Data\n"
        "out = Path(sys.argv[1]); prepare(Data(source='bundled:digits'), base=out, out=out / 'out')\n"
        "next(SplitReader(out / 'out', 'train').rows())\n"
        "assert not {'pandas', 'pandera', 'sklearn', 'torch', 'boto3'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
