"""The example's language model on little text: what tests of sharded training share."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.fakes.trainings import job_of

from modelyard.data.prepare import prepare
from modelyard.spec.data import Data, Labels, Splits
from modelyard.spec.train import Optimizer, RecipeRef, Schedule
from modelyard.training.job import TrainJob

EXAMPLE = Path(__file__).parents[2] / "examples" / "language_model"


def text_data(folder: Path, *, examples: int = 60) -> Path:
    """Sums in words, prepared in one shard."""
    spec = importlib.util.spec_from_file_location("make_text", EXAMPLE / "make_text.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = [json.dumps(row) + "\n" for row in module.rows(examples)]
    (folder / "text.jsonl").write_text("".join(lines))
    splits = Splits(train=0.6, validation=0.2, test=0.2)
    data = Data(source="text.jsonl", labels=Labels(column="next"), features=("context",), splits=splits)
    prepare(data, base=folder, out=folder / "prepared")
    return folder / "prepared"


def language_job(data: Path, work: Path, *, layers: int = 1, **changes: Any) -> TrainJob:
    """Fifty updates of 16 examples, two an epoch; clipped."""
    given = {
        "optimizer": Optimizer(name="adamw", lr=1e-3), "schedule": Schedule(), "epochs": 25, "clip_norm": 0.5,
        "batch_size": 16, "global_batch_size": 16, "checkpoint_every": 1, "source": (EXAMPLE / "recipe.py").read_text(),
    }  # fmt: skip
    job = job_of(data, work, **given | changes)
    recipe = RecipeRef(use="recipe.py:CharacterModel", with_={"width": 32, "layers": layers})
    return replace(job, train=replace(job.train, recipe=recipe))
