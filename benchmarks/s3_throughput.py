"""How fast a bucket is written and read, beside `aws s3 cp` in the same run; and in how much memory.

    .venv/bin/uv venv build/awscli && .venv/bin/uv pip install -p build/awscli/bin/python awscli
    .venv/bin/python benchmarks/s3_throughput.py --aws build/awscli/bin/aws [--megabytes 512] [--rounds 5]

The server is `rclone serve s3` on this machine. Each transfer is a process of its own and takes turns with the other
side's; its start counts, and so does the SHA-256 of the whole that ours computes at each end and the other does not.
Printed are medians of wall time and of CPU time, their ratios (theirs over ours: more is better; goal 0.9 of wall
time on a quiet machine), and the most memory that a process had at once, beside the same with a file of 1 MB.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fakes.s3_servers import credentials, rclone

OURS = """
import shutil, sys
from pathlib import Path
from modelyard.storage.s3 import S3Store
how, key, path = sys.argv[1:]
store = S3Store("s3://mine")
if how == "up":
    store.write(key, Path(path))
else:
    with store.opened(key) as found:
        shutil.move(found, path)
"""


PROBE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


class Took(NamedTuple):
    """One transfer."""

    wall: float
    cpu: float
    memory_mb: float


def took(argv: Sequence[str | Path], environment: Mapping[str, str]) -> Took:
    """Run a process to its end, as a child of a process of its own: its peak memory is then its own too."""
    began = time.perf_counter()
    command = [sys.executable, "-c", PROBE, *map(str, argv)]
    done = subprocess.run(command, env=dict(environment), check=True, capture_output=True, text=True)
    cpu, memory = map(float, done.stdout.split())
    return Took(time.perf_counter() - began, cpu, memory)


def rounds(
    aws: Path, home: Path, environment: Mapping[str, str], *, megabytes: int, count: int
) -> dict[str, list[Took]]:
    """Both sides, both ways, in turns."""
    source, target = home / f"{megabytes}", home / "back"
    source.write_bytes(os.urandom(megabytes * 1_000_000))
    found: dict[str, list[Took]] = {}
    for number in range(count):
        for how in ("up", "down"):
            path = source if how == "up" else target
            ends = [str(path), "s3://mine/theirs"]
            sides: dict[str, list[str | Path]] = {
                f"ours {how}": [sys.executable, "-c", OURS, how, "ours", path],
                f"theirs {how}": [aws, "s3", "cp", *(ends if how == "up" else ends[::-1])],
            }
            for name, argv in list(sides.items())[:: -1 if number % 2 else 1]:  # who writes first waits for the disk
                found.setdefault(name, []).append(took(argv, environment))
                if how == "down":
                    assert target.stat().st_size == source.stat().st_size
                    target.unlink()
    return found


def main() -> None:
    """Print a table, and all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--aws", type=Path, required=True, help="the command of awscli")
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="s3-throughput-") as folder, rclone(Path(folder)) as endpoint:
        environment = {**os.environ, **credentials(endpoint), "HOME": folder}
        large = rounds(given.aws, Path(folder), environment, megabytes=given.megabytes, count=given.rounds)
        small = rounds(given.aws, Path(folder), environment, megabytes=1, count=1)
    middle = {
        name: Took(*(statistics.median(each) for each in zip(*all_, strict=True))) for name, all_ in large.items()
    }
    for name, one in middle.items():
        print(
            f"{name:12} {one.wall:6.2f} s, {given.megabytes / one.wall:6.0f} MB/s, {one.cpu:6.2f} CPU s, "
            f"{one.memory_mb:5.0f} MB (a file of 1 MB: {small[name][0].memory_mb:.0f} MB)"
        )
    for how in ("up", "down"):
        ours, theirs = middle[f"ours {how}"], middle[f"theirs {how}"]
        print(
            f"{how}: {theirs.wall / ours.wall:.2f} of aws s3 cp by wall time, {theirs.cpu / ours.cpu:.2f} by CPU time"
        )
    print(json.dumps({name: [one._asdict() for one in all_] for name, all_ in large.items()}))


if __name__ == "__main__":
    main()
