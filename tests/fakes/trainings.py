"""Small data, recipes as text, and a trainer in this process: what tests of training have in common."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.data.prepare import prepare
from modelyard.data.prepared import load_prepared
from modelyard.model.recipe import Facts, recipe_in
from modelyard.spec.data import Data, Splits
from modelyard.spec.train import Optimizer, RecipeRef, Schedule, Train, TrainResources
from modelyard.storage.code import pack
from modelyard.training.job import TrainJob
from modelyard.units import Percentage

RECIPE = (Path(__file__).parent / "training_recipe.py").read_text()


def small_data(folder: Path, *, examples: int = 324, train: float = 0.7) -> Path:
    """Small images of four kinds, in shards of 40."""
    rng = np.random.default_rng(3)
    label = np.arange(examples) % 4
    image = rng.normal(0, 1, (examples, 8, 8)).astype(np.float32)
    image += label[:, None, None] * np.eye(8, dtype=np.float32)
    np.savez(folder / "small.npz", image=image, label=np.array([str(one) for one in label]))
    rest = (1 - train) / 2
    splits = Splits(train=train, validation=rest, test=rest, stratify="label", seed=1)
    prepare(Data(source="small.npz", splits=splits, shard_size=40), base=folder, out=folder / "prepared")
    return folder / "prepared"


def job_of(data: Path, work: Path, *, source: str = RECIPE, use: str = "recipe.py:Recipe", **changes: Any) -> TrainJob:
    """A job that trains a recipe given as text."""
    folder = work / "source"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.py").write_text(source)
    code = pack(folder, work / "archives")
    train = Train(
        recipe=RecipeRef(use=use), optimizer=Optimizer(name="adamw", lr=0.01, weight_decay=0.01),
        schedule=Schedule(name="cosine", warmup=Percentage("10%")), epochs=2, batch_size=8,
        resources=TrainResources(processes_per_node=1),
    )  # fmt: skip
    return TrainJob(
        train=replace(train, **changes), data=str(data), data_fingerprint=load_prepared(data).fingerprint,
        code=str(code.path), code_digest=code.digest,
    )  # fmt: skip


def with_train(job: TrainJob, **changes: Any) -> TrainJob:
    """The job with other settings of `train`."""
    return replace(job, train=replace(job.train, **changes))


def with_resources(job: TrainJob, **changes: Any) -> TrainJob:
    """The job with other `train.resources`."""
    return with_train(job, resources=replace(job.train.resources, **changes))


def train_here(job: TrainJob, work: Path, *, world: int = 1, **arguments: Any) -> Any:
    """Run the trainer in this process, alone; gives the trainer and what it came to."""
    from modelyard.training.progress import Teller
    from modelyard.training.trainer import Trainer

    facts = Facts.from_json(load_prepared(Path(job.data)).facts)
    with recipe_in(work / "source", job.train.recipe.use, job.train.recipe.with_, facts) as loaded:
        work.mkdir(parents=True, exist_ok=True)
        teller = Teller(work / "progress.jsonl")
        trainer = Trainer(
            job, loaded, checkpoints=work / "checkpoints", rank=0, world=world, teller=teller, **arguments
        )
        return trainer, trainer.run()
