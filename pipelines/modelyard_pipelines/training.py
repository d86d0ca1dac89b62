"""What the train step does: in its own pod, or as a job of the cluster beside it."""

from collections.abc import Mapping

from modelyard.data.prepared import PreparedData
from modelyard.errors import BadInput
from modelyard.runs.walk import Result
from modelyard.training.job import TrainedModel
from modelyard_pipelines.step import Step


def trained_on(place: str, at: Step, data: Result[PreparedData]) -> TrainedModel:
    """Train `here` or on `kubernetes`; a try after a killed one goes on from its last checkpoint where that was kept.

    Raises:
        BadInput: training jobs are not part of this image.
    """
    if place == "here":
        return at.way.train(data).value
    raise BadInput(f"pipeline.trainOn: {place} is not known to this image", do="write here")


def told(trained: TrainedModel) -> Mapping[str, float]:
    """What the UI shows of a training: numbers of the epoch whose weights were kept."""
    best = next((one for one in trained.epochs if one.epoch == trained.best_epoch), None)
    found = {"epochs": float(len(trained.epochs)), "examples_per_second": round(trained.examples_per_second, 1)}
    if best is not None:
        found["train_loss"] = best.train_loss
        found |= {"validation_loss": best.validation_loss} if best.validation_loss is not None else {}
        found |= {f"validation_{name}": value for name, value in best.validation_metrics.items()}
    return found
