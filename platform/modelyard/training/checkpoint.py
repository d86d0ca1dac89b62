"""Checkpoints: tensors by torch.distributed.checkpoint, everything else as JSON, a folder that is there or is not.

DCP's `.metadata` is a pickle, and a crafted one runs code when it is read. So the digest of each file is recorded when
it is written and compared before anything is opened, and nothing else of ours is stored as a pickle.

    checkpoints/step-0000000120/
      state.json          step, position, curves, optimizer's structure, digests of the files below
      tensors/            __0_0.distcp … .metadata
"""

import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from modelyard.errors import Tampered
from modelyard.storage.atomic import digest_file, explained
from modelyard.training.files import UNFINISHED, remove_unfinished

logging.getLogger("c10d-NullHandler-dcp_logger").setLevel(logging.WARNING)  # it formats a line for each tensor

TENSOR = "$tensor"
"""Marks a place in a JSON structure where a tensor belongs."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose bytes were verified."""

    folder: Path
    state: Mapping[str, Any]

    def tensors(self, template: Callable[[str], Tensor | None]) -> dict[str, Tensor]:
        """Read all tensors: in place where there is a template of that shape, else into new ones.

        Args:
            template: name → the tensor to fill; a shard of one, where processes share a model.
        """
        reader = FileSystemReader(self.folder / "tensors")
        stored = reader.read_metadata().state_dict_metadata
        target: dict[str, Any] = {}
        for name, described in stored.items():
            assert isinstance(described, TensorStorageMetadata)  # nothing else is written
            found = template(name)
            fits = found is not None and found.shape == described.size
            target[name] = found if fits else torch.empty(described.size, dtype=described.properties.dtype)
        if target:
            with _quiet():
                dcp_load(target, storage_reader=reader, no_dist=not dist.is_initialized())
        return target


def save(
    folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, step: int, keep: int,
    group: dist.ProcessGroup | None = None,
) -> None:  # fmt: skip
    """Write a checkpoint, and remove older ones but the last `keep`. Every process calls it with its own tensors.

    Processes talk over `group`, the default one when absent.

    Raises:
        StageFailed: no space left; older checkpoints are intact.
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    final = folder / f"step-{step:010d}"
    staged = folder / UNFINISHED.replace("*", f"{step:010d}")
    with explained(folder):
        if rank == 0:
            remove_unfinished(folder)
            (staged / "tensors").mkdir(parents=True)
        if dist.is_initialized():
            dist.barrier(group)
        writer = FileSystemWriter(staged / "tensors", sync_files=True)
        with _quiet():
            dcp_save(dict(tensors), storage_writer=writer, process_group=group, no_dist=not dist.is_initialized())
        if rank == 0:
            files = {path.name: digest_file(path) for path in sorted((staged / "tensors").iterdir())}
            text = json.dumps({**state, "step": step, "files": files}, indent=1)
            with (staged / "state.json").open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if final.exists():
                shutil.rmtree(final)
            staged.rename(final)
            for old in _folders(folder)[:-keep]:
                shutil.rmtree(old)


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint, its files compared with their digests; None when there is none.

    Raises:
        Tampered: a file is missing, was changed, or does not belong there. Nothing was opened.
    """
    there = _folders(folder)
    if not there:
        return None
    newest = there[-1]
    do = f"remove {newest} to go on from the checkpoint before it"
    try:
        state = json.loads((newest / "state.json").read_text("utf-8"))
        recorded = dict(state["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Tampered(f"{newest / 'state.json'} cannot be read ({error})", do=do) from None
    found = {path.name: digest_file(path) for path in (newest / "tensors").glob("*") if path.is_file()}
    if found != recorded:
        names = sorted(name for name in {*found, *recorded} if found.get(name) != recorded.get(name))
        raise Tampered(f"{newest}: {', '.join(names)} is not what was written", do=do)
    return Checkpoint(folder=newest, state=state)


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def take_apart(value: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """A structure as JSON data; its tensors are put into `tensors` and leave a mark. For an optimizer's state."""
    if isinstance(value, Tensor):
        tensors[prefix] = value
        return {TENSOR: prefix}
    if isinstance(value, Mapping):
        return {"$map": [[key, take_apart(item, f"{prefix}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [take_apart(item, f"{prefix}.{at}", tensors) for at, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    return value


def put_together(data: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `take_apart`."""
    if isinstance(data, list):
        return [put_together(item, tensors) for item in data]
    if isinstance(data, Mapping):
        if TENSOR in data:
            return tensors[data[TENSOR]]
        if "$tuple" in data:
            return tuple(put_together(item, tensors) for item in data["$tuple"])
        return {key: put_together(item, tensors) for key, item in data["$map"]}
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """DCP's own deprecations are no news to users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
