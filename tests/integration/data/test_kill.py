"""Prepare, killed at any of its steps and run again, ends in the same place as an unbroken run."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.data.prepare import prepare
from modelyard.spec.data import Data

pytestmark = pytest.mark.process

SCRIPT = """
import select
import sys
from pathlib import Path
from modelyard.data.prepare import prepare
from modelyard.spec.data import Data

left = int(sys.argv[2])

def stop(message, fraction):
    global left
    left -= 1
    if left < 0:
        print(message, flush=True)
        while not select.select([sys.stdin], [], [], 0.1)[0]:
            pass  # a signal just before a read that blocks would not be seen until its end

prepare(Data(source="bundled:digits", shard_size=300), base=Path("."), out=Path(sys.argv[1]), progress=stop)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=["KILL", "TERM", "INT"])
@pytest.mark.parametrize("step", [0, 1, 2, 4])
def test_a_killed_prepare_leaves_nothing_in_the_way(tmp_path: Path, step: int, number: signal.Signals) -> None:
    whole = prepare(Data(source="bundled:digits", shard_size=300), base=tmp_path, out=tmp_path / "whole")
    out = tmp_path / "killed" / "out"
    argv = [sys.executable, "-c", SCRIPT, str(out), str(step)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        assert other.stdout is not None
        assert other.stdout.readline(), "it got that far"
        other.send_signal(number)
        assert other.wait(timeout=30) != 0
    assert not out.exists()
    again = prepare(Data(source="bundled:digits", shard_size=300), base=tmp_path, out=out)
    assert again == whole
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
