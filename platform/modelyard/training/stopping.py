"""Early stopping: which epoch was the best, and whether waiting still makes sense. Pure."""

from collections.abc import Mapping

from modelyard.record import record
from modelyard.spec.train import EarlyStopping


@record
class Watch:
    """What has been seen so far."""

    best: float | None = None
    best_epoch: int = 0

    def after(self, epoch: int, value: float, *, higher: bool, min_delta: float) -> "Watch":
        """The watch after one more epoch; the first value is always the best so far."""
        gain = 0.0 if self.best is None else (value - self.best if higher else self.best - value)
        if self.best is None or gain > min_delta:
            return Watch(best=value, best_epoch=epoch)
        return self

    def over(self, epoch: int, spec: EarlyStopping) -> bool:
        """Whether `patience` epochs passed without something better."""
        return self.best is not None and epoch - self.best_epoch >= spec.patience


def watched(spec: EarlyStopping, validation_loss: float | None, metrics: Mapping[str, float]) -> float | None:
    """The value that early stopping looks at; None when this training does not measure it."""
    return validation_loss if spec.metric == "loss" else metrics.get(spec.metric)
