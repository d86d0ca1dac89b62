"""Batches for the model: whole columns at once where the recipe lets us, example by example where it augments.

Randomness of an augmentation is a function of seed, epoch and the example's place, so neither resuming nor the number
of loader workers changes a bit. Workers send arrays through pipes: `/dev/shm` is 64 MB in most containers
(kubeflow/pipelines #9893).
"""

import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from modelyard.data.shards import SplitReader, plain
from modelyard.errors import BadInput
from modelyard.model.recipe import Loaded, RecipeError
from modelyard.processes import die_with_parent
from modelyard.training.held import HeldShards
from modelyard.training.plan import Places

Batch = dict[str, Any]


class Feed:
    """The examples of one split as batches. `lengths` is what the plan of steps is made from."""

    def __init__(self, loaded: Loaded, folder: Path, split: str, *, seed: int, workers: int = 0) -> None:
        self.loaded = loaded
        self.train = split == "train"
        self.workers = workers
        self._seed = seed
        self._dataset = loaded.dataset(split)
        self._folder, self._split = folder, split
        self._reader: SplitReader | None = None
        self._held: HeldShards | None = None
        if self._dataset is None:
            self.lengths: tuple[int, ...] = self.reader.lengths
        else:
            self.lengths = (len(self._dataset),)
        if self._dataset is None and not workers and HeldShards.fits(loaded, self.reader):
            self._held = HeldShards(loaded, self.reader)

    @property
    def reader(self) -> SplitReader:
        """The prepared shards; opened anew in each worker."""
        if self._reader is None:
            self._reader = SplitReader(self._folder, self._split)
        return self._reader

    def __len__(self) -> int:
        return sum(self.lengths)

    def batch(self, epoch: int, places: Places) -> Batch:
        """The examples at these places (n,) as a batch of n.

        Raises:
            RecipeError: the recipe's `example` or `dataset` gave something else than examples.
        """
        if self._dataset is not None:
            return self.loaded.collate([self._item(epoch, int(place)) for place in places])
        if not self.loaded.defines("example"):
            return self._held.take(places) if self._held else self.loaded.batch(self.reader.take(places))
        columns = self.reader.take(places)
        rows = [{name: plain(values[at]) for name, values in columns.items()} for at in range(len(places))]
        return self.loaded.collate(
            [
                self.loaded.example(row, train=self.train, rng=self._rng(epoch, int(place)))
                for row, place in zip(rows, places, strict=True)
            ]
        )

    def batches(self, epoch: int, places: Iterable[Places]) -> Iterator[Batch]:
        """A batch for each group of places, in their order, made in workers if there are any."""
        if not self.workers:
            for group in places:
                yield self.batch(epoch, group)
            return
        loader: DataLoader[Any] = DataLoader(
            _Fetch(self, epoch),  # type: ignore[arg-type]
            sampler=_Places(places),
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_unchanged,
            worker_init_fn=_begin_worker,
            multiprocessing_context="fork",
            generator=torch.Generator(),  # its own: the global one must not depend on how often we resumed
        )
        for packed in loader:
            if isinstance(packed, RecipeError):
                raise packed
            yield {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in packed.items()}

    def _item(self, epoch: int, place: int) -> Mapping[str, Any]:
        assert self._dataset is not None
        item = self._dataset[place]
        if not isinstance(item, Mapping):
            raise RecipeError(
                f"{self.loaded.where}.dataset gives {type(item).__name__} at {place}",
                do="let it give dicts: tensors by column, and label",
            )
        if self.loaded.defines("example"):
            item = self.loaded.example(item, train=self.train, rng=self._rng(epoch, place))
        return {"id": str(place), **item}

    def _rng(self, epoch: int, place: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, epoch, place))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}


class _Places:
    def __init__(self, places: Iterable[Places]) -> None:
        self._places = places

    def __iter__(self) -> Iterator[Places]:
        return iter(self._places)


class _Fetch:
    """What a worker runs: places in, a batch of arrays out."""

    def __init__(self, feed: Feed, epoch: int) -> None:
        self._feed, self._epoch = feed, epoch

    def __getitem__(self, places: Places) -> dict[str, Any] | RecipeError:
        try:
            batch = self._feed.batch(self._epoch, places)
        except RecipeError as error:  # as a value: the loader would rebuild it from its message alone
            return error
        return {name: value.numpy() if isinstance(value, Tensor) else value for name, value in batch.items()}


def _unchanged(batch: Any) -> Any:
    return batch


def _begin_worker(_number: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork has the trainer's handler
    die_with_parent()


def nonempty(feed: Feed, *, world: int) -> Feed:
    """The feed, if it has examples for every process.

    Raises:
        BadInput: it has not.
    """
    if len(feed) < world * min(2, len(feed) or 1) or not len(feed):
        raise BadInput(
            f"The training split has {len(feed)} examples for {world} processes",
            do="give it more, or lower train.resources.processesPerNode",
        )
    return feed
