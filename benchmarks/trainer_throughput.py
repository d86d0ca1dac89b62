"""Training throughput: our trainer against a hand-written DDP loop on the same model, data, batches and processes.

    .venv/bin/python benchmarks/trainer_throughput.py

Both run in the same processes, epoch by epoch in turns, so that whatever else the machine does hits both. Only training
steps are timed. The hand-written loop is the best we know to write: all data in memory as one tensor, one index per
batch, no DataLoader. Aim: `ratio` at least 0.97. On a busy machine look at `cpu_ratio` too: the same in seconds of
CPU for each example, ours with validation in it, which other processes disturb less.

Where `lightning` can be imported, its Trainer takes turns too, over a DataLoader of the same tensors, and
`lightning_ratio` is ours over its throughput (aim: at least 1). It is no dependency of ours; to have it beside:

    .venv/bin/uv pip install --target build/lightning --no-deps lightning lightning-utilities pytorch-lightning tqdm
    PYTHONPATH=build/lightning .venv/bin/python benchmarks/trainer_throughput.py
"""

import argparse
import importlib.util
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from modelyard.data.prepare import prepare
from modelyard.data.prepared import load_prepared
from modelyard.data.shards import SplitReader
from modelyard.model.recipe import Facts, Loaded, open_recipe
from modelyard.spec.data import Data, Splits
from modelyard.spec.train import Optimizer, RecipeRef, Train
from modelyard.training.job import TrainJob
from modelyard.training.progress import Teller
from modelyard.training.resume import Position
from modelyard.training.trainer import Trainer

EXAMPLES = Path(__file__).parent.parent / "examples" / "digits"
LR = 1e-3
_kept: list[object] = []


def main() -> None:
    """Measure and print one line of JSON for each model."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--processes", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--models", nargs="+", default=["Mlp", "Cnn"])
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = _digits(work)
        for recipe in given.models:
            store, answer = work / f"{recipe}.store", work / f"{recipe}.json"
            asked = ((str(data), recipe, str(store), str(answer)), given.processes, given.rounds, given.batch)
            mp.start_processes(_process, asked, nprocs=given.processes, start_method="fork")
            print(answer.read_text())


def _digits(work: Path) -> Path:
    """The bundled digits four times over, so that an epoch is long enough to be timed."""
    digits = load_digits()
    images = np.concatenate([digits.images.astype(np.float32) + 0.001 * copy for copy in range(4)])
    np.savez(work / "digits.npz", image=images, label=np.tile(digits.target.astype(str), 4))
    splits = Splits(train=0.9, validation=0.05, test=0.05, seed=1)
    prepare(Data(source="digits.npz", splits=splits), base=work, out=work / "data")
    return work / "data"


def _process(rank: int, places: tuple[str, ...], world: int, rounds: int, batch: int) -> None:
    data, recipe, store, answer = places
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    prepared = load_prepared(Path(data))
    loaded = open_recipe(EXAMPLES, f"recipe.py:{recipe}", {"width": 32}, Facts.from_json(prepared.facts))
    job = TrainJob(
        train=Train(
            recipe=RecipeRef(use=f"recipe.py:{recipe}", with_={"width": 32}), optimizer=Optimizer(lr=LR),
            epochs=10**6, batch_size=batch,
        ),
        data=data, data_fingerprint=prepared.fingerprint, code="", code_digest="",
    )  # fmt: skip
    trainer = Trainer(
        job, loaded, checkpoints=Path(answer).with_suffix(".checkpoints"), rank=rank, world=world, teller=Teller(None)
    )
    trainer.saved_at = float("inf")  # checkpoints are no part of this
    by_hand = _ByHand(data, loaded, rank=rank, world=world, batch=batch)
    ours: list[float] = []
    theirs: list[float] = []
    cpu: list[float] = []
    at = Position()

    def turn() -> None:
        nonlocal at
        first = len(ours) % 2  # whoever comes second finds warm caches: take turns in that too
        if first:
            theirs.append(by_hand.epoch())
        dist.barrier()
        cpu_before = time.process_time()
        at, examples, seconds = trainer.epoch(at)
        own_cpu = (time.process_time() - cpu_before) / examples
        ours.append(examples * world / seconds)
        if not first:
            theirs.append(by_hand.epoch())
        cpu.append(by_hand.cpu_per_example / own_cpu)

    by_lightning: list[float] = []
    if importlib.util.find_spec("lightning"):
        by_lightning = _lightning(by_hand, loaded, rounds=rounds + 1, turn=turn)
    else:
        for _ in range(rounds + 1):
            turn()
    ratios = [one / other for one, other in zip(ours[1:], theirs[1:], strict=True)]  # the first round warms up
    if rank == 0:
        result = {
            "model": recipe, "processes": world, "batch": batch,
            "ours_examples_per_s": round(statistics.median(ours[1:])),
            "by_hand_examples_per_s": round(statistics.median(theirs[1:])),
            "ratio": round(statistics.median(ratios), 3),
            "cpu_ratio": round(statistics.median(cpu[1:]), 3), "ratios": [round(ratio, 3) for ratio in ratios],
        }  # fmt: skip
        if by_lightning:
            pairs = zip(ours[1:], by_lightning[1:], strict=True)
            result["by_lightning_examples_per_s"] = round(statistics.median(by_lightning[1:]))
            result["lightning_ratio"] = round(statistics.median(one / other for one, other in pairs), 3)
        Path(answer).write_text(json.dumps(result))
    dist.barrier()
    _kept.append((trainer, by_hand))  # see modelyard.training.rank


class _ByHand:
    """What one writes without us."""

    def __init__(self, data: str, loaded: Loaded, *, rank: int, world: int, batch: int) -> None:
        reader = SplitReader(Path(data), "train")
        whole = loaded.batch(reader.take(np.arange(len(reader))))
        self.images, self.labels = whole["image"], whole["label"]
        self.model = DistributedDataParallel(loaded.model())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LR)
        self.rank, self.world, self.batch = rank, world, batch
        self.epochs = 0
        self.cpu_per_example = 0.0

    def epoch(self) -> float:
        """One epoch; gives examples per second of all processes."""
        dist.barrier()
        began, cpu, seen = time.perf_counter(), time.process_time(), 0
        self.epochs += 1
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(self.epochs))
        step = self.batch * self.world
        for first in range(0, len(order) - step + 1, step):
            mine = order[first + self.rank * self.batch : first + (self.rank + 1) * self.batch]
            images, labels = self.images[mine], self.labels[mine]
            loss = nn.functional.cross_entropy(self.model(images), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            seen += len(mine)
            if not torch.isfinite(loss):
                raise ArithmeticError("NaN")
        self.cpu_per_example = (time.process_time() - cpu) / seen
        return seen * self.world / (time.perf_counter() - began)


def _lightning(by_hand: _ByHand, loaded: Loaded, *, rounds: int, turn: Callable[[], None]) -> list[float]:
    """Lightning's Trainer on the same data; `turn` is called after each of its epochs. Examples/s of all processes."""
    import lightning  # type: ignore[import-not-found]
    from torch.utils.data import DataLoader, TensorDataset

    os.environ |= {"TORCHELASTIC_RUN_ID": "here", "RANK": str(by_hand.rank), "LOCAL_RANK": str(by_hand.rank)}
    os.environ |= {"WORLD_SIZE": str(by_hand.world), "LOCAL_WORLD_SIZE": str(by_hand.world), "GROUP_RANK": "0"}
    model = loaded.model()
    rates: list[float] = []

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _number: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=LR)

    class Turns(lightning.Callback):  # type: ignore[misc]
        def on_train_epoch_start(self, *_: object) -> None:
            dist.barrier()
            self.began = time.perf_counter()

        def on_train_epoch_end(self, *_: object) -> None:
            rates.append(len(by_hand.labels) / (time.perf_counter() - self.began))
            turn()

    data = DataLoader(TensorDataset(by_hand.images, by_hand.labels), batch_size=by_hand.batch, shuffle=True)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning.Trainer(
            accelerator="cpu", devices=by_hand.world, strategy="ddp", max_epochs=rounds, callbacks=[Turns()],
            limit_val_batches=0, **quiet,
        ).fit(Module(), data)  # fmt: skip
    return rates


if __name__ == "__main__":
    main()
