"""How fast prepared shards are read, beside `torch.utils.data` over a tensor in memory; and in how much memory.

    .venv/bin/python benchmarks/read_shards.py [--rounds 7] [--examples 50000]

Prints two ratios (goal: the first at least 0.9): examples a second from shards, shuffled, as tensors, over a
DataLoader on a TensorDataset of the same images; and the memory that a pass over CIFAR-sized images takes over what
they take on disk. Rounds take turns, so that a machine that gets slower or faster is fair to all. `litdata`, no
dependency of ours, is read beside them where it can be imported:

    .venv/bin/uv pip install --target build/litdata --no-deps litdata lightning-utilities tqdm obstore
    PYTHONPATH=build/litdata .venv/bin/python benchmarks/read_shards.py
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch.utils.data import DataLoader, TensorDataset

from modelyard.data.prepare import SplitReader, prepare
from modelyard.spec.data import Data, Splits
from modelyard.training.plan import batches

BATCH = 64
ALL = Splits(train=1.0, validation=0.0, test=0.0)
Pass = Callable[[int], Iterator[tuple[torch.Tensor, torch.Tensor]]]


def from_shards(folder: Path) -> Pass:
    """One epoch of shuffled batches, as the trainer reads them."""
    reader = SplitReader(folder, "train")

    def epoch(number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for places in batches(reader.lengths, seed=0, epoch=number, world=1, size=BATCH):
            columns = reader.take(places[0])
            yield torch.from_numpy(columns["image"]), torch.from_numpy(columns["label"])

    return epoch


def from_memory(folder: Path) -> Pass:
    """The same images in one tensor, read by PyTorch's own loader."""
    reader = SplitReader(folder, "train")
    columns = reader.take(range(len(reader)))
    dataset = TensorDataset(torch.from_numpy(columns["image"]), torch.from_numpy(columns["label"]))
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True)
    return lambda _number: iter(loader)


def from_litdata(folder: Path, work: Path) -> Pass:
    """The same images as litdata's own shards, streamed from the disk."""
    import litdata

    reader = SplitReader(folder, "train")
    rows = [(torch.from_numpy(row["image"].copy()), row["label"]) for row in reader.rows()]
    litdata.optimize(fn=rows.__getitem__, inputs=list(range(len(rows))), output_dir=str(work), chunk_size=4096)
    loader = litdata.StreamingDataLoader(litdata.StreamingDataset(str(work), shuffle=True), batch_size=BATCH)
    return lambda _number: iter(loader)


def rate(read: Pass, number: int, *, seconds: float) -> float:
    """Examples a second, over as many epochs as fit into the time."""
    seen, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for images, _labels in read(number):
            seen += len(images)
        number += 1
    return seen / (time.perf_counter() - began)


def speed(folder: Path, work: Path, rounds: int) -> dict[str, float]:
    """Median rates and their ratios."""
    ways = {"shards": from_shards(folder), "memory": from_memory(folder)}
    if importlib.util.find_spec("litdata"):
        ways["litdata"] = from_litdata(folder, work)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, read in ways.items():
            rates[name].append(rate(read, number, seconds=0.5))
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    return {f"{name}_per_s": round(value) for name, value in medians.items()} | {
        f"shards_over_{name}": round(medians["shards"] / medians[name], 2) for name in medians if name != "shards"
    }


def make_cifar(path: Path, examples: int) -> None:
    """Random images of CIFAR's size, written without holding them all."""
    rng = np.random.default_rng(0)
    images = open_memmap(path.with_suffix(".image.npy"), mode="w+", dtype=np.uint8, shape=(examples, 32, 32, 3))
    for at in range(0, examples, 1000):
        images[at : at + 1000] = rng.integers(0, 255, (min(1000, examples - at), 32, 32, 3), np.uint8)
    np.savez(path, image=images, label=np.arange(examples) % 10)
    path.with_suffix(".image.npy").unlink()


def memory(what: str, folder: Path, source: str) -> None:
    """In a process of its own: what one pass adds to the memory in use, in bytes."""
    before = peak()
    if what == "prepare":
        prepare(Data(source=source, splits=ALL), base=folder, out=folder / "cifar")
    else:
        for _ in from_shards(folder / "cifar")(0):
            pass
    print(peak() - before)


def peak() -> int:
    """Most memory that this process has held, in bytes; mapped files count and `ru_maxrss` outlives exec."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        memory(given.memory[0], Path(given.memory[1]), given.memory[2])
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(Data(source="bundled:digits", splits=ALL), base=folder, out=folder / "digits")
        result: dict[str, object] = dict(speed(folder / "digits", folder / "litdata", given.rounds))
        make_cifar(folder / "cifar.npz", given.examples)
        size = (folder / "cifar.npz").stat().st_size
        for what in ("prepare", "read"):
            argv = [sys.executable, __file__, "--memory", what, str(folder), "cifar.npz"]
            began = time.perf_counter()
            added = int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
            result[f"cifar_{what}_s"] = round(time.perf_counter() - began, 1)
            result[f"cifar_{what}_memory_mb"] = round(added / 1e6)
            result[f"cifar_{what}_memory_over_data"] = round(added / size, 2)
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
