"""How long training stands still for a checkpoint: written while it waits, and beside it (`train.asyncCheckpoints`).

    .venv/bin/python -m benchmarks.checkpoint_stall

A transformer of about 20 million parameters (240 MB with AdamW's state) as FSDP2 shards of two processes over gloo.
Rounds of a few updates with one checkpoint in them, in turns; the trainer's own update and save, through DCP, with
digests and fsync. Aim: `stall_ratio`, the time that `save` holds training up, at most 0.4 of the synchronous one.
`round_ratio` is the same for whole rounds less a round without a checkpoint, the last write waited for: on two cores
that are both training, what is written beside still takes its share. On a busy machine believe the ratios only.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tests.fakes.language import EXAMPLE, language_job, text_data

from modelyard.data.prepared import load_prepared
from modelyard.model.recipe import Facts, open_recipe
from modelyard.spec.train import RecipeRef, TrainStrategy
from modelyard.training.feed import Batch
from modelyard.training.job import TrainJob
from modelyard.training.progress import Teller
from modelyard.training.resume import Position
from modelyard.training.trainer import Trainer

_kept: list[object] = []


def main() -> None:
    """Measure and print one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--processes", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--updates", type=int, default=8, help="in a round")
    arguments.add_argument("--width", type=int, default=640)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        job = language_job(text_data(work, examples=400), work, batch_size=4, global_batch_size=8)
        recipe = RecipeRef(use=job.train.recipe.use, with_={"width": given.width, "layers": 4})
        job = replace(job, train=replace(job.train, recipe=recipe, strategy=TrainStrategy(type="FSDP2")))
        asked = (job, work, given.processes, given.rounds, given.updates)
        mp.start_processes(_process, asked, nprocs=given.processes, start_method="fork")
        print((work / "answer.json").read_text())


def _process(rank: int, job: TrainJob, work: Path, world: int, rounds: int, updates: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{work}/store", rank=rank, world_size=world)
    facts = Facts.from_json(load_prepared(Path(job.data)).facts)
    loaded = open_recipe(EXAMPLE, job.train.recipe.use, job.train.recipe.with_, facts)

    def trainer(*, beside: bool) -> Trainer:
        asked = replace(job, train=replace(job.train, async_checkpoints=beside))
        folder = work / f"checkpoints-{beside}"
        return Trainer(asked, loaded, checkpoints=folder, rank=rank, world=world, teller=Teller(None))

    ways = {"none": trainer(beside=False), "sync": trainer(beside=False), "async": trainer(beside=True)}
    stalls: dict[str, list[float]] = {way: [] for way in ways}
    walls: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, one in ways.items():
            dist.barrier()
            began = time.perf_counter()
            step(one, one.first, number)
            if way != "none":
                before = time.perf_counter()
                one.resumable.save(Position(step=number), {})
                stalls[way].append(time.perf_counter() - before)
            for _ in range(updates - 1):
                step(one, one.first, number)
            one.resumable.finish()
            dist.barrier()
            walls[way].append(time.perf_counter() - began)
    if rank == 0:
        stall = {way: statistics.median(stalls[way][1:]) for way in ("sync", "async")}  # the first round warms up
        wall = {way: statistics.median(walls[way][1:]) for way in ways}
        numbers = sum(p.numel() for p in ways["sync"].model.parameters())
        result = {
            "parameters": numbers, "processes": world, "stall_s": {way: round(s, 3) for way, s in stall.items()},
            "stall_ratio": round(stall["async"] / stall["sync"], 3),
            "round_s": {way: round(s, 2) for way, s in wall.items()},
            "round_ratio": round((wall["async"] - wall["none"]) / (wall["sync"] - wall["none"]), 2),
        }  # fmt: skip
        (work / "answer.json").write_text(json.dumps(result))
    dist.barrier()
    _kept.append(ways)  # see modelyard.training.rank


def step(trainer: Trainer, batch: Batch, number: int) -> None:
    """One update."""
    trainer.update([batch], [1.0], step=number, epoch=1)


if __name__ == "__main__":
    main()
