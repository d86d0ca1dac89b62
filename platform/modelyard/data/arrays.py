"""Arrays that lie in a `.npz` file, and the data set that comes with scikit-learn.

A `.npz` is a zip archive: its members are read as a stream, never unpacked to disk, and never as pickles.
"""

import importlib.util
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from modelyard.data.columns import Array, Columns, Values
from modelyard.errors import BadInput
from modelyard.spec.data import Data

CHUNK_BYTES = 32 << 20
MAX_BYTES = 1 << 30
MAX_RATIO = 200
"""An archive that unpacks to more than 1 GB and 200 times its size is taken for a zip bomb."""


class NpzSource:
    """A `.npz` file: each array is a column, its first axis the examples."""

    id: str | None = None

    def __init__(self, path: Path, spec: Data) -> None:
        self.path = path
        self.name = path.name
        self._declared = {name: column.type for name, column in spec.columns.items() if column.type}
        self._headers = self._read_headers()

    def types(self) -> dict[str, str]:
        """By each array's dtype and shape."""
        return {
            name: self._declared.get(name) or array_type(dtype, shape[1:])
            for name, (shape, dtype) in self._headers.items()
        }

    def chunks(self) -> Iterator[Columns]:
        """As many examples as fit into some megabytes."""
        count = next(iter(self._headers.values()))[0][0]
        width = sum(dtype.itemsize * int(np.prod(shape[1:])) for shape, dtype in self._headers.values())
        step = max(1, CHUNK_BYTES // max(width, 1))
        with ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(self.path))
            streams = {name: stack.enter_context(archive.open(f"{name}.npy")) for name in self._headers}
            for stream in streams.values():
                _header(stream)
            for at in range(0, count, step):
                yield {name: self._rows(name, stream, min(step, count - at)) for name, stream in streams.items()}

    def where(self, row: int) -> str:
        """Places are counted from 0, as in numpy."""
        return f"example {row} of {self.name}"

    def _rows(self, name: str, stream: IO[bytes], count: int) -> Values:
        shape, dtype = self._headers[name]
        wanted = count * dtype.itemsize * int(np.prod(shape[1:]))
        try:
            raw = stream.read(wanted)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise BadInput(f"{self.path} is damaged in {name} ({error})", do="write it again") from error
        if len(raw) < wanted:
            raise BadInput(f"{self.path} is cut short in {name}", do="write it again")
        return tidy(np.frombuffer(raw, dtype).reshape(count, *shape[1:]))

    def _read_headers(self) -> dict[str, tuple[tuple[int, ...], "np.dtype[Any]"]]:
        """Shape and dtype of each array, by column."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                _refuse_bomb(self.path, archive)
                headers = {}
                for member in archive.infolist():
                    with archive.open(member) as stream:
                        shape, fortran, dtype = _header(stream)
                    name = member.filename.removesuffix(".npy")
                    if dtype.hasobject:
                        raise BadInput(
                            f"{self.path}: {name} holds Python objects (a pickle), which are never loaded",
                            do="store numbers or text arrays",
                        )
                    if fortran and len(shape) > 1:
                        raise BadInput(
                            f"{self.path}: {name} is stored by columns", do="store np.ascontiguousarray of it"
                        )
                    headers[name] = (shape, dtype)
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise BadInput(
                f"{self.path} is no .npz that can be read ({error})", do="write it with numpy.savez"
            ) from error
        counts = {name: shape[0] if shape else 0 for name, (shape, _) in headers.items()}
        if len(set(counts.values())) != 1 or 0 in counts.values():
            raise BadInput(
                f"{self.path}: its arrays have {counts or 'no'} examples", do="give each array the same first axis"
            )
        return headers


class ArraySource:
    """Arrays in memory, with ids."""

    id: str | None = "id"

    def __init__(self, name: str, columns: Columns) -> None:
        self.name = name
        self._columns = columns

    def types(self) -> dict[str, str]:
        """By each array's dtype and shape."""
        return {
            name: array_type(values.dtype, values.shape[1:]) if isinstance(values, np.ndarray) else "text"
            for name, values in self._columns.items()
        }

    def chunks(self) -> Iterator[Columns]:
        """All at once."""
        yield dict(self._columns)

    def where(self, row: int) -> str:
        """Places are counted from 0."""
        return f"example {row} of {self.name}"


def bundled(name: str) -> ArraySource:
    """A data set that comes with a library: `digits`, 1,797 real images (8, 8) of handwritten digits, values 0–16.

    Raises:
        BadInput: no such data set, or scikit-learn is not installed.
    """
    if name != "digits":
        raise BadInput(f"data.source: there is no bundled data set {name!r}", do="use bundled:digits or a path")
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise BadInput("bundled:digits comes with scikit-learn, which is not installed", do="install modelyard[train]")
    # Its file is read as it lies there: importing scikit-learn itself takes longer than all the rest.
    table = np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",", dtype=np.int64)
    return ArraySource(
        "bundled:digits",
        {
            "id": [f"digits-{at:04}" for at in range(len(table))],
            "image": table[:, :-1].reshape(-1, 8, 8).astype(np.uint8),
            "label": table[:, -1],
        },
    )


def tidy(array: Array) -> Values:
    """An array as a column: numbers (N,) widened, text as a list."""
    if array.dtype.kind in "US":
        return [str(value) or None for value in array.astype(str).reshape(len(array), -1)[:, 0]]
    if array.ndim == 1 and array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.ndim == 1 and array.dtype.kind == "f":
        return array.astype(np.float64)
    if array.ndim > 1 and array.dtype == bool:
        return array.astype(np.uint8)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def array_type(dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> str:
    """What a column is by the dtype and shape of one value.

    >>> array_type(np.dtype("u1"), (28, 28)), array_type(np.dtype("f4"), (32, 32, 3)), array_type(np.dtype("f8"), (7,))
    ('image', 'image', 'array')
    """
    if not shape:
        return {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}.get(dtype.kind, "text")
    return "image" if len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3, 4)) else "array"


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    """Shape, whether stored by columns, and dtype of the `.npy` that begins here."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def _refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_BYTES and unpacked > MAX_RATIO * path.stat().st_size:
        raise BadInput(
            f"{path} of {path.stat().st_size / 1e6:.1f} MB unpacks to {unpacked / 1e9:.1f} GB, like a zip bomb",
            do="store it with numpy.savez, uncompressed",
        )
