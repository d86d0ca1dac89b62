"""When checkpoints are written: while training waits, or beside it.

Beside it, the tensors are copied while training waits, and a thread writes the copies. Its collectives go over a gloo
group of their own: on the group of training they would meet those of the next steps, and hang.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.staging import BlockingAsyncStager

from modelyard.training import checkpoint
from modelyard.training.device import gloo_group
from modelyard.training.weights import check_finite


class Writer:
    """Writes the checkpoints of one training; every process makes one at the same point."""

    def __init__(self, folder: Path, *, keep: int, beside: bool) -> None:
        self._folder, self._keep = folder, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if beside else None
        self._group = gloo_group() if beside else None
        self._writing: Future[None] | None = None

    def write(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, step: int) -> None:
        """Write a checkpoint, or begin to; waits for the one before.

        Raises:
            StageFailed: a weight is NaN or Inf, or no space is left; of this checkpoint, or of the one before.
        """
        self.finish()
        if self._thread is None:
            self._write(tensors, state, step)
        else:
            self._writing = self._thread.submit(self._write, _copies(tensors), state, step)

    def finish(self) -> None:
        """Wait until what was begun is written.

        Raises:
            StageFailed: it could not be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], step: int) -> None:
        check_finite({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
        checkpoint.save(self._folder, tensors, state, step=step, keep=self._keep, group=self._group)


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in main memory."""
    if all(value.device.type == "cpu" for value in tensors.values()):
        return {name: value.detach().clone() for name, value in tensors.items()}  # a third of the stager's time
    copies: dict[str, Tensor] = BlockingAsyncStager().stage(dict(tensors))
    return copies
