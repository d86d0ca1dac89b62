"""The parent's eyes on a training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from modelyard.training.watch import Watcher


def test_the_log_of_a_recipe_that_prints_at_every_step_stays_bounded(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_bytes(b"a line of a step\n" * 1_000_000 + b"the last line\n")
    child = cast("Any", SimpleNamespace(log=log, pid=2**22 + 1))  # no such process
    curves = cast("Any", SimpleNamespace(system=lambda *_: None))
    Watcher(child, stall_s=60, epochs=1).look((), curves, lambda *_: None)
    assert log.stat().st_size == 0
    kept = (tmp_path / "train.log.1").read_bytes()
    assert kept.endswith(b"the last line\n")
    assert len(kept) < 6_000_000
