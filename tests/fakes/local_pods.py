"""A kubelet that runs a training's containers as processes of this machine, in folders instead of volumes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fakes.training_cluster import Pod

from modelyard.processes import free_port


class LocalPods:
    """A script for `Operator`: real init containers and real nodes. `claim` is a folder that all nodes mount."""

    def __init__(
        self, home: Path, *, processes: int, nodes: int = 1,
        seen: "Callable[[LocalPods, str, str], None]" = lambda _pods, _name, _line: None,
    ) -> None:  # fmt: skip
        self.home, self.processes, self.nodes, self.seen = home, processes, nodes, seen
        self.port = free_port()
        self.running: dict[str, subprocess.Popen[str]] = {}

    def __call__(self, pod: Pod) -> None:
        root = self.home / f"{pod.name}-{pod.start}"
        log = root / "termination-log"
        root.mkdir(parents=True)
        log.touch()
        init, main = pod.spec["initContainers"][0], pod.spec["containers"][0]
        done = subprocess.run(self._argv(init, root), env=self._env(pod), capture_output=True, text=True, check=False)
        if done.returncode:
            message = log.read_text() or done.stderr
            pod.end(done.returncode, message=message, container=init["name"])
            return
        pod.begin()
        process = subprocess.Popen(
            self._argv(main, root),
            env=self._env(pod),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.running[pod.name] = process
        assert process.stdout is not None
        for line in process.stdout:
            pod.write(line.rstrip("\n"))
            self.seen(self, pod.name, line)
        code = process.wait()
        pod.end(code if code >= 0 else 128 - code, message=log.read_text())

    def _argv(self, container: dict, root: Path) -> list[str]:
        words = [*container["command"], *container["args"], f"--termination-log={root / 'termination-log'}"]
        (self.home / "checkpoints").mkdir(exist_ok=True)
        return [
            sys.executable,
            *(
                word.replace("=/training/", f"={root}/training/").replace("=/checkpoints", f"={self.home}/checkpoints")
                for word in words[1:]
            ),
        ]

    def _env(self, pod: Pod) -> dict[str, str]:
        return {
            **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PET_NNODES": str(self.nodes),
            "PET_NPROC_PER_NODE": str(self.processes), "PET_NODE_RANK": str(pod.index),
            "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(self.port), "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
