"""What each process runs: one loop, the same on a laptop and in a cluster.

Nothing here depends on when a process was started: data order, augmentation and dropout are functions of seed and
position, schedules are walked again, and every start ends with the same throw-away iterations. So a run that was
killed at any step and resumed ends with the very bits of the unbroken one.
"""

import random
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelyard.errors import BadInput
from modelyard.model.recipe import Loaded
from modelyard.record import record
from modelyard.spec.metrics import metric_kind
from modelyard.training import parallel, plan, weights
from modelyard.training.device import CPU, moved
from modelyard.training.feed import Feed, nonempty
from modelyard.training.job import EpochCurve, Origin, TrainJob
from modelyard.training.layout import layout_of
from modelyard.training.optimizers import check_optimizer, make_optimizer
from modelyard.training.progress import Teller
from modelyard.training.resume import Position, Resumable
from modelyard.training.schedules import Rates, check_schedule
from modelyard.training.stop import Stop, ToldToStop
from modelyard.training.stopping import watched
from modelyard.training.update import Updater, backward, counted, forward, precision_of
from modelyard.training.validation import validate

CHECKPOINT_EVERY_S = 2.0
"""At the end of an epoch, unless `checkpointEvery` says otherwise: no more is lost than this and one epoch."""


@record
class Trained:
    """What the loop came to, but for the files."""

    epochs: tuple[EpochCurve, ...]
    best_epoch: int
    steps: int
    examples_per_second: float
    origin: Origin | None


class Trainer:
    """One training in one process."""

    def __init__(
        self, job: TrainJob, loaded: Loaded, *, checkpoints: Path, rank: int, world: int, teller: Teller,
        device: torch.device = CPU,
    ) -> None:  # fmt: skip
        """Make model, data and optimizer ready; nothing is written before everything was checked.

        Raises:
            BadInput: a setting cannot be used.
            RecipeError: the recipe cannot be used.
        """
        spec = self.spec = job.train
        self.loaded, self.teller, self.device = loaded, teller, device
        layout = self.layout = layout_of(spec.strategy, rank=rank, world=world)
        check_optimizer(spec.optimizer)
        check_schedule(spec.schedule)
        workers = spec.resources.loader_workers
        folder = Path(job.data)
        self.feed = nonempty(Feed(loaded, folder, "train", seed=spec.seed, workers=workers), world=layout.data_world)
        self.validation = Feed(loaded, folder, "validation", seed=spec.seed, workers=workers)
        self.cut = plan.Cut(
            world=layout.data_world, size=spec.batch_size, accumulate=spec.accumulate, whole=spec.global_batch_size
        )
        self.taken = self._check_updates()
        self.higher = self._check_stopping(job)

        seed_everything(spec.seed)
        self.model = loaded.model()
        self.origin = weights.initialize(self.model, spec.initialize, job.weights) if spec.initialize else None
        weights.freeze(self.model, spec.freeze)
        weights.train_mode(self.model, spec.freeze)
        self.first = moved(self.feed.batch(0, next(self._updates(0, skip=0))[0].places), device)
        seed_everything(plan.update_seed(spec.seed, update=0, rank=layout.data_rank))
        self.wrapped = parallel.spread(self.model, loaded, spec.strategy, layout, device=device, attempt=self._attempt)
        params = [p for p in self.wrapped.parameters() if p.requires_grad]
        self.optimizer = loaded.optimizer(params) or make_optimizer(spec.optimizer, params)
        updates = len(self.taken) * spec.epochs
        self.rates = Rates(spec.schedule, self.optimizer, updates=updates, epochs=spec.epochs)
        self.update = Updater(self.wrapped, loaded, self.optimizer, spec, world=world, device=device)
        self.resumable = Resumable(
            job, checkpoints, self.model, self.optimizer, self.rates, layout=layout, taken=self.taken
        )
        self.best: dict[str, Tensor] = {}
        self.saved_at = time.monotonic()
        self.stop = Stop(world=world)

    def run(self) -> Trained:
        """Train to the end, from the last checkpoint if there is one. The model then has the weights to keep.

        Raises:
            ToldToStop: a checkpoint is written.
        """
        at, self.best = self.resumable.resume()
        self.teller.tell("start", epoch=at.epoch, step=at.step, epochs=self.spec.epochs, curves=len(at.curves))
        done, spent = 0, 0.0
        while at.epoch < self.spec.epochs and not self._over(at):
            at, examples, seconds = self.epoch(at)
            done, spent = done + examples, spent + seconds
        self.resumable.finish()
        if self.best:
            own = self.model.state_dict()
            with torch.no_grad():
                for name, value in self.best.items():
                    own[name].copy_(value)
        return Trained(
            epochs=at.curves,
            best_epoch=at.watch.best_epoch if self.spec.early_stopping else len(at.curves),
            steps=at.step,
            examples_per_second=done * self.layout.data_world / spent if spent else 0.0,
            origin=self.origin,
        )

    def epoch(self, at: Position) -> tuple[Position, int, float]:
        """The rest of one epoch; gives the position after it, and examples and seconds of its training steps."""
        began, examples, spec = time.perf_counter(), 0, self.spec
        lr = 0.0
        done = bisect_right(self.taken, at.taken)
        ahead, updates = tee(self._updates(at.epoch, skip=done))
        stream = self.feed.batches(at.epoch, (part.places for parts in ahead for part in parts))
        for taken, parts in zip(self.taken[done:], updates, strict=True):
            seed_everything(plan.update_seed(spec.seed, update=at.step + 1, rank=self.layout.data_rank))
            batches = [moved(batch, self.device) for batch in islice(stream, len(parts))]
            weights = [part.weight for part in parts]
            lr = float(self.optimizer.param_groups[0]["lr"])
            summed = self.update(batches, weights, step=at.step + 1, epoch=at.epoch + 1)
            self.rates.after_update()
            count = counted(batches, weights)
            examples += count
            at = at.after_update(taken=taken, loss=summed, examples=count)
            self._tell_step(at, summed / max(1, count), lr)
            stop = self.stop.after_update()
            due = spec.checkpoint_every and at.step % spec.checkpoint_every == 0
            if (due or stop) and taken < self.taken[-1]:
                self._save(at, leave=stop)
        trained_s = time.perf_counter() - began
        return self._end_epoch(at, lr, began), examples, trained_s

    def _end_epoch(self, at: Position, lr: float, began: float) -> Position:
        parallel.same_buffers(self.wrapped, world=self.layout.world)
        due = float(self.layout.rank == 0 and time.monotonic() - self.saved_at > CHECKPOINT_EVERY_S)
        loss_sum, seen, due = parallel.total([at.loss_sum, float(at.examples), due], world=self.layout.world)
        loss, metrics = validate(
            self.model, self.loaded, self.validation, layout=self.layout, size=self.spec.batch_size,
            precision=precision_of(self.spec, self.device),
            alive=lambda: self.teller.sometimes("validating", epoch=at.epoch + 1),
        )  # fmt: skip
        weights.train_mode(self.model, self.spec.freeze)
        curve = EpochCurve(
            epoch=at.epoch + 1, train_loss=loss_sum / seen, validation_loss=loss, validation_metrics=metrics,
            lr=lr, seconds=time.perf_counter() - began,
        )  # fmt: skip
        self.rates.after_epoch(curve.train_loss if loss is None else loss)
        at = at.after_epoch(curve)
        if self.spec.early_stopping:
            value = watched(self.spec.early_stopping, loss, metrics)
            assert value is not None  # _check_stopping
            watch = at.watch.after(at.epoch, value, higher=self.higher, min_delta=self.spec.early_stopping.min_delta)
            if watch is not at.watch:
                self.best = {name: value.clone() for name, value in self.resumable.tensors().items()}
            at = replace(at, watch=watch)
        self.teller.tell("epoch", **_told(curve), step=at.step)
        every = self.spec.checkpoint_every
        over = at.epoch == self.spec.epochs or self._over(at)
        if over or self.stop.heard or (at.step % every == 0 if every else due):
            self._save(at, leave=self.stop.heard and not over)
            self.saved_at = time.monotonic()
        return at

    def _save(self, at: Position, *, leave: bool) -> None:
        self.resumable.save(at, self.best)
        if leave:
            self.resumable.finish()
            raise ToldToStop(f"Told to stop: the checkpoint of step {at.step} is written, start again to go on from it")

    def _attempt(self, model: nn.Module) -> None:
        backward(forward(model, self.loaded, self.first, self.spec, precision_of(self.spec, self.device)), self.loaded)

    def _updates(self, epoch: int, *, skip: int) -> Iterator[tuple[plan.Part, ...]]:
        """This process's part in each update of an epoch, from update `skip` on."""
        lengths, seed = self.feed.lengths, self.spec.seed
        return islice(self.cut.updates(lengths, seed=seed, epoch=epoch, rank=self.layout.data_rank), skip, None)

    def _over(self, at: Position) -> bool:
        return self.spec.early_stopping is not None and at.watch.over(at.epoch, self.spec.early_stopping)

    def _tell_step(self, at: Position, loss: float, lr: float) -> None:
        share = (at.epoch + at.taken / self.taken[-1]) / self.spec.epochs
        self.teller.sometimes("step", step=at.step, epoch=at.epoch + 1, loss=loss, lr=lr, share=share)

    def _check_updates(self) -> tuple[int, ...]:
        """How many examples were taken after each update of an epoch.

        Raises:
            BadInput: `globalBatchSize` cannot be had.
        """
        whole, taken = self.spec.global_batch_size, self.cut.taken(len(self.feed))
        if whole and self.spec.accumulate != 1:
            raise BadInput("train.accumulate cannot act with train.globalBatchSize", do="leave one of them out")
        if whole and not self.layout.data_world <= whole <= len(self.feed):
            raise BadInput(
                f"train.globalBatchSize is {whole}; there are {self.layout.data_world} processes that see different "
                f"examples and {len(self.feed)} examples to train on",
                do="choose a number between these two",
            )
        return taken

    def _check_stopping(self, job: TrainJob) -> bool:
        """Whether higher is better for what early stopping watches.

        Raises:
            BadInput: this training does not measure it.
        """
        stopping = self.spec.early_stopping
        if stopping is None:
            return False
        own = self.loaded.metrics()
        measured = ["loss", *(own or (["accuracy"] if self.loaded.facts.kind == "class" else []))]
        kind = metric_kind(stopping.metric, job.metrics)
        if stopping.metric not in measured or kind is None:
            raise BadInput(
                f"train.earlyStopping.metric: {stopping.metric!r} is not measured while training",
                do=f"name one of {', '.join(measured)}, or give it in the recipe's metrics()",
            )
        if not len(self.validation):
            raise BadInput("train.earlyStopping: the validation split is empty", do="give data.splits.validation more")
        return kind.better == "higher"


def seed_everything(seed: int) -> None:
    """Seed the global generators, for recipes that use them; ours are functions of the position."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed % 2**63)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(seed % 2**63)


def _told(curve: EpochCurve) -> dict[str, Any]:
    return {
        "epoch": curve.epoch, "train_loss": curve.train_loss, "validation_loss": curve.validation_loss,
        "metrics": dict(curve.validation_metrics), "lr": curve.lr, "seconds": curve.seconds,
    }  # fmt: skip
