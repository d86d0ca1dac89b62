"""Pictures: a folder of them by class, and single ones that a table names or holds."""

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from modelyard.data.columns import Array, Columns, Values
from modelyard.errors import BadInput
from modelyard.spec.data import Data

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
GREY = ("1", "L", "I;16", "I", "F")
CHUNK_BYTES = 32 << 20


class ImageFolder:
    """`folder/<class>/…/picture.png`: columns `image` and the label; a picture's id is its path."""

    id: str | None = "id"

    def __init__(self, path: Path, spec: Data) -> None:
        self.path = path
        self.name = path.name
        self._label = spec.labels.column
        self._names = self._list()

    def types(self) -> dict[str, str]:
        """Fixed."""
        return {"id": "text", "image": "image", self._label: "text"}

    def chunks(self) -> Iterator[Columns]:
        """Pictures as uint8 (H, W) where all are grey, else (H, W, 3)."""
        names: list[str] = []
        pictures: list[Array] = []
        taken = 0
        for name in self._names:
            names.append(name)
            pictures.append(self._decode(name))
            taken += pictures[-1].nbytes
            if taken > CHUNK_BYTES:
                yield self._chunk(names, pictures)
                names, pictures, taken = [], [], 0
        if names:
            yield self._chunk(names, pictures)

    def where(self, row: int) -> str:
        """The picture's path."""
        return f"{self.name}/{self._names[row]}"

    def _chunk(self, names: list[str], pictures: list[Array]) -> Columns:
        return {"id": list(names), "image": stacked(pictures), self._label: [name.split("/")[0] for name in names]}

    def _decode(self, name: str) -> Array:
        return decoded((self.path / name).read_bytes(), f"{self.name}/{name}", colour=self._colour)

    @cached_property
    def _colour(self) -> bool:
        """Whether any picture has colours: only the heads of the files are read."""
        return any(self._mode(name) not in GREY for name in self._names)

    def _mode(self, name: str) -> str:
        with _readable(f"{self.name}/{name}"), Image.open(self.path / name) as image:
            return str(image.mode)

    def _list(self) -> list[str]:
        names = []
        for root, folders, files in os.walk(self.path):
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            for file in files:
                if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                    names.append((Path(root) / file).relative_to(self.path).as_posix())  # noqa: PERF401
        if not names:
            raise BadInput(
                f"data.source: {self.path} holds no images", do=f"put {' or '.join(SUFFIXES)} into a folder per class"
            )
        if loose := [name for name in sorted(names) if "/" not in name]:
            raise BadInput(f"{self.path / loose[0]} is in no class's folder", do="put each image into <class>/")
        return sorted(names)


def decoded(raw: bytes, where: str, *, colour: bool | None = None) -> Array:
    """A picture as uint8: (H, W) for grey, (H, W, 3) for colours; `colour` forces one of them.

    Raises:
        BadInput: it is no picture, is cut short, or would take too much memory; the message names it.
    """
    with _readable(where), Image.open(io.BytesIO(raw)) as image:
        image.load()
        grey = image.mode in GREY if colour is None else not colour
        return np.asarray(image.convert("L" if grey else "RGB"))


def stacked(pictures: list[Any]) -> Values:
    """One array where all have one shape and dtype, else the list."""
    if pictures and all(
        isinstance(p, np.ndarray) and (p.shape, p.dtype) == (pictures[0].shape, pictures[0].dtype) for p in pictures
    ):
        return np.stack(pictures)
    return pictures


def named_pictures(names: Sequence[str | None], folder: Path, where: Callable[[int], str]) -> Values:
    """Pictures that a table names by their paths, relative to the table's folder.

    Raises:
        BadInput: a path leads out of the folder, or nothing or no picture is there.
    """
    pictures: list[Array | None] = []
    for row, name in enumerate(names):
        if name is None:
            pictures.append(None)
            continue
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise BadInput(
                f"{where(row)}: {name!r} leads out of {folder}", do="keep the pictures below the table's folder"
            )
        if not path.is_file():
            raise BadInput(
                f"{where(row)}: there is no file {path}", do="correct the path; it starts at the table's folder"
            )
        pictures.append(decoded(path.read_bytes(), name))
    return stacked(pictures)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn Pillow's many ways to refuse a file into one that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"{where} is too large to be opened ({error})", do="scale it down") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        told = str(error).split(" <")[0] or type(error).__name__
        raise BadInput(f"{where} is no image that can be read ({told})", do="replace or remove it") from error
