"""How quickly the launcher tells, over a cluster in memory: `python -m benchmarks.launcher [ranks] [lines]`.

Prints the time from a line's writing to its showing, from the job's end to the launcher's, and how many lines of all
ranks came through (each once), with the CPU seconds of launcher and cluster together. The targets: 2 s, 2 s, all.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.fakes.training_cluster import Pod  # noqa: E402
from tests.unit.training.launching import NAMESPACE, World, job_in  # noqa: E402


def measure(ranks: int, lines: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), job_in(Path(folder) / "job", nodes=ranks))
        about = {"name": "checkpoints", "namespace": NAMESPACE}
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": about}
        world.cluster.create({**claim, "spec": {"accessModes": ["ReadWriteMany"]}}, manager="benchmark")
        times: dict[str, float] = {}
        ready = threading.Barrier(ranks)

        def script(pod: Pod) -> None:
            pod.begin()
            if pod.index == 0:
                times["first line written"] = time.monotonic()
                pod.write("[rank 0] first")
            ready.wait(120)
            for first in range(0, lines, 100):
                pod.write(*(f"[rank {pod.index}] {number}" for number in range(first, min(first + 100, lines))))
            if pod.index == 0:
                world.hand_in(pod)
                ready.wait(120)  # its end is the end of all
                times["job finished"] = time.monotonic()
                pod.end(0)
            else:
                pod.end(0)
                ready.wait(120)

        told: dict[str, list[str]] = {}

        class Shown(list[str]):
            def append(self, line: str) -> None:
                times.setdefault("first line shown", time.monotonic())
                rank, _, rest = line.partition("] ")
                told.setdefault(rank, []).append(rest)

        world.lines = Shown()
        began, cpu = time.monotonic(), time.process_time()
        world.train(script)
        ended = time.monotonic()
        wanted = [str(number) for number in range(lines)]
        whole = sum([line for line in found if line != "first"] == wanted for found in told.values())
        print(f"{ranks} ranks of {lines} lines: {whole} whole and in order")
        print(f"first line shown after {times['first line shown'] - times['first line written']:.2f} s")
        print(f"job finished → launcher finished {ended - times['job finished']:.2f} s")
        print(f"{ended - began:.1f} s, {time.process_time() - cpu:.1f} CPU s, cluster and pods included")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    measure(*(given + [64, 2000][len(given) :]))
