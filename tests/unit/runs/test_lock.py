"""One run at a time on a project."""

import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.errors import BadInput, Busy
from modelyard.runs.lock import exclusive, is_held
from modelyard.runs.stages import Stage, stage_named

HOLD = """
import sys
from pathlib import Path
from modelyard.runs.lock import exclusive, is_held
with exclusive(Path(sys.argv[1]), what="modelyard run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_at_once_are_refused_with_the_holder_named(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    argv = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match=rf"modelyard run \(process {holder.pid}"), exclusive(lock, what="another"):
            pass
        holder.kill()
    with exclusive(lock, what="another"):  # the lock went with its process
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(BadInput, match=r"is in the way: File exists\. Remove what stands there"),
        exclusive(tmp_path / "file" / "lock", what="run"),
    ):
        pass


def test_a_stage_that_does_not_exist_is_refused_with_those_that_do() -> None:
    assert stage_named("train") is Stage.TRAIN
    with pytest.raises(BadInput, match="prepare, train, evaluate"):
        stage_named("trian")


def test_whether_a_lock_is_held_can_be_asked_without_taking_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    with exclusive(lock, what="run"):
        assert is_held(lock)
    assert not is_held(lock)
