"""The process around the trainer: joins the others, opens the recipe, leaves a report whatever happens.

Started by `modelyard.training.launch` on a laptop, and by torchrun in a cluster:
`torchrun --nproc-per-node 2 -m modelyard.training.rank JOB OUT CODE`.
"""

import faulthandler
import os
import signal
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from modelyard.data.prepared import load_prepared
from modelyard.errors import BadInput, ModelyardError, StageFailed
from modelyard.model.folder import write_model_folder
from modelyard.model.recipe import BUILT_IN, Facts, RecipeError, open_recipe
from modelyard.processes import die_with_parent
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import write_text
from modelyard.training import weights
from modelyard.training.device import backend, own_device
from modelyard.training.failures import TOLD_TO_STOP, Report
from modelyard.training.files import FINISHED, PROGRESS
from modelyard.training.job import CHECKPOINTS, MODEL, WEIGHTS, TrainedModel, TrainJob
from modelyard.training.progress import Teller
from modelyard.training.stop import ToldToStop
from modelyard.training.trainer import Trainer

_kept: list[Trainer] = []
"""What a finished process holds until it is gone: taking DDP and gloo apart was seen to hang now and then."""
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others; validation of a recipe's metrics happens in one of them."""

TRACE_BYTES = 2000
"""Of a traceback that reach a report; a pod's status holds 4096 of the whole."""


def main(job_file: str, out: str, code: str) -> None:
    """Run one process of a training, its rank and world from the environment that torchrun sets.

    Exits with 2 for bad input, 1 for other failures, each with a report beside the progress; with 143 after the
    checkpoint that SIGTERM asks for.
    """
    _settle()
    rank = int(os.environ.get("RANK", "0"))
    folder = Path(out)
    try:
        _train(Path(job_file), folder, Path(code), rank)
    except ToldToStop as told:
        sys.stdout.write(f"{told}\n")
        sys.stdout.flush()
        os._exit(TOLD_TO_STOP)
    except Exception as error:
        _report(error, folder, rank)
        traceback.print_exc()
        sys.stderr.flush()
        # no farewell to the others: they may wait for us, and the agent ends them
        os._exit(2 if isinstance(error, (BadInput, RecipeError)) else 1)


def _settle() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # a fork has the agent's handlers
    die_with_parent()
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def _train(job_file: Path, out: Path, code: Path, rank: int) -> None:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    job = from_json(TrainJob, job_file.read_bytes(), where=str(job_file))
    torch.set_num_threads(job.train.resources.threads_per_process)
    device = own_device()
    if world > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group(backend(device), timeout=COLLECTIVE_TIMEOUT)
    facts = Facts.from_json(load_prepared(Path(job.data)).facts)
    recipe = job.train.recipe
    loaded = open_recipe(code, recipe.use, recipe.with_, facts)
    teller = Teller(out / PROGRESS if rank == 0 else None)
    trainer = Trainer(job, loaded, checkpoints=out / CHECKPOINTS, rank=rank, world=world, teller=teller, device=device)
    trainer.stop.listen()
    trained = trainer.run()
    whole = weights.whole(trainer.model)
    if rank == 0:
        digest = weights.save_weights(whole, out / WEIGHTS)
        names = loaded.inputs(trainer.model, trainer.first)
        sample = {
            name: {"shape": list(trainer.first[name].shape[1:]), "dtype": str(trainer.first[name].dtype).split(".")[1]}
            for name in names
        }
        write_model_folder(
            out / MODEL, kind="eager", model=out / WEIGHTS, recipe={"use": recipe.use, "with": dict(recipe.with_)},
            facts=facts, inputs=names, code=None if recipe.use in BUILT_IN else Path(job.code), sample=sample,
        )  # fmt: skip
        finished = TrainedModel(
            digest=digest, epochs=trained.epochs, best_epoch=trained.best_epoch, steps=trained.steps,
            world_size=world, threads=torch.get_num_threads(), examples_per_second=trained.examples_per_second,
            initialized_from=trained.origin,
        )  # fmt: skip
        write_text(out / FINISHED, to_json(finished))
        teller.tell("finished")
    _kept.append(trainer)
    if world > 1:
        dist.barrier()


def _report(error: Exception, out: Path, rank: int) -> None:
    trace = ""
    if isinstance(error, (ModelyardError, RecipeError)):
        kind, what, do = type(error).__name__, error.what, error.do
    else:
        told = "".join(traceback.format_exception_only(error)).strip()
        kind, what, do = StageFailed.__name__, told, "read the log"
        trace = "".join(traceback.format_tb(error.__traceback__))[-TRACE_BYTES:]
    report = Report(rank=rank, kind=kind, what=what, do=do, at=time.time(), trace=trace)
    write_text(out / f"failure-{rank}.json", to_json(report))


if __name__ == "__main__":
    main(*sys.argv[1:4])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
