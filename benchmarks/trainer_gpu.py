"""Tokens per second and model FLOPs utilization of the trainer on this machine's GPUs, and what a checkpoint costs.

    .venv/bin/python -m benchmarks.trainer_gpu

A GPT of about 350 million parameters with sequences of 1,024 tokens, bf16, as FSDP2 shards of all GPUs, each block
compiled: the trainer's own epochs, data loading in them. MFU counts 6 N + 12 L D T operations a token (Chowdhery et al.
2022, PaLM, appendix B) and divides by the GPU's dense bf16 peak. `checkpoint_share` is the part of an epoch that an
asynchronous checkpoint holds it up; aim: below 0.05.

Without a GPU nothing is measured, and it says so. `--without-gpu` runs the same code, very small, on the CPU over
gloo: whether the benchmark itself works, no number of it means anything.
"""

import argparse
import json
import os
import sys
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
from modelyard.storage.code import unpack
from modelyard.training.device import backend, own_device
from modelyard.training.job import TrainJob
from modelyard.training.progress import Teller
from modelyard.training.resume import Position
from modelyard.training.trainer import Trainer

PEAK = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
    "A10G": 70e12, "A10": 125e12,
}  # fmt: skip
"""Dense bf16 operations per second, from NVIDIA's data sheets."""
RECIPE = """

class Tokens:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, at):
        found = torch.randint(0, 96, (CONTEXT + 1,), generator=torch.Generator().manual_seed(at))
        return {"tokens": found[:-1], "label": found[-1]}


class Long(CharacterModel):
    example = None

    def __init__(self, width, layers, count):
        super().__init__(width, layers)
        self.count = count

    def model(self):
        return Transformer(96, self.width, self.layers)

    def dataset(self, split):
        return Tokens(self.count if split == "train" else 0)
"""
_kept: list[object] = []


def main() -> None:
    """Measure and print one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--without-gpu", action="store_true")
    arguments.add_argument("--batch", type=int, default=16, help="sequences of each GPU in a step")
    arguments.add_argument("--steps", type=int, default=20, help="of an epoch")
    given = arguments.parse_args()
    if not torch.cuda.is_available() and not given.without_gpu:
        print("SKIPPED: there is no GPU here. NOTHING WAS MEASURED: neither tokens/s nor MFU nor the stall.")
        return
    world = 2 if given.without_gpu else torch.cuda.device_count()
    shape = {"width": 1024, "layers": 24, "context": 1024, "batch": given.batch, "steps": given.steps}
    if given.without_gpu:
        shape = {"width": 64, "layers": 2, "context": 32, "batch": 2, "steps": 3}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        job = _job(work, world=world, compiled=not given.without_gpu, **shape)
        mp.start_processes(_process, (job, work, world, shape), nprocs=world, start_method="spawn")
        print((work / "answer.json").read_text())


def _job(work: Path, *, world: int, compiled: bool, width: int, layers: int, context: int, batch: int,
         steps: int) -> TrainJob:  # fmt: skip
    source = (EXAMPLE / "recipe.py").read_text()
    constant = "CONTEXT, HEAD = 32, 16"
    assert constant in source
    source = source.replace(constant, f"CONTEXT, HEAD = {context}, {64 if width > 64 else 16}") + RECIPE
    job = language_job(
        text_data(work, examples=40), work, source=source, precision="bf16", epochs=10**6, batch_size=batch,
        global_batch_size=batch * world, async_checkpoints=True, strategy=TrainStrategy(type="FSDP2", compile=compiled),
    )  # fmt: skip
    with_ = {"width": width, "layers": layers, "count": batch * world * steps}
    return replace(job, train=replace(job.train, recipe=RecipeRef(use="recipe.py:Long", with_=with_)))


def _process(rank: int, job: TrainJob, work: Path, world: int, shape: dict[str, int]) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world)}
    torch.set_num_threads(1)
    device = own_device()
    dist.init_process_group(backend(device), init_method=f"file://{work}/store", rank=rank, world_size=world)
    facts = Facts.from_json(load_prepared(Path(job.data)).facts)
    code = unpack(Path(job.code), job.code_digest, work / f"code-{rank}")
    loaded = open_recipe(code, job.train.recipe.use, job.train.recipe.with_, facts)
    trainer = Trainer(
        job, loaded, checkpoints=work / "checkpoints", rank=rank, world=world, teller=Teller(None), device=device
    )
    trainer.saved_at = float("inf")  # checkpoints only where they are measured
    at, _, _ = trainer.epoch(Position())  # warms up
    at, examples, seconds = trainer.epoch(at)
    began = time.perf_counter()
    trainer.resumable.save(at, {})
    stall = time.perf_counter() - began
    at, _, beside = trainer.epoch(at)  # while it is written
    trainer.resumable.finish()
    if rank == 0:
        parameters = sum(p.numel() for p in trainer.model.parameters())
        tokens = examples * world * shape["context"] / seconds
        per_token = 6 * parameters + 12 * shape["layers"] * shape["width"] * shape["context"]
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        peak = next((peak for part, peak in PEAK.items() if part in name), None)
        result = {
            "device": name, "processes": world, "parameters": parameters, "tokens_per_s": round(tokens),
            "mfu": round(tokens * per_token / (peak * world), 3) if peak else None,
            "checkpoint_stall_s": round(stall, 3),
            "checkpoint_share": round((stall + beside - seconds) / seconds, 3),
        }  # fmt: skip
        if device.type == "cuda":
            result["memory_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 1)
        (work / "answer.json").write_text(json.dumps(result))
    dist.barrier()
    _kept.append(trainer)  # see modelyard.training.rank
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
