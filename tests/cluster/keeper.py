"""Keeps a control plane for one test run, however many workers it has: `python -m tests.cluster.keeper HOME OWNER`.

The first worker that needs it starts this process; it ends with the run's own process OWNER, also when that is killed.
"""

import json
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import yaml
from tests.cluster import build
from tests.cluster.control_plane import start_api, start_controllers

from modelyard.errors import NotInstalled, Unavailable
from modelyard.kube.client import KubeClient, connect
from modelyard.kube.port import NAMESPACE, Kind
from modelyard.processes import wait_until
from modelyard.storage.atomic import write_text

ROOT: Final = Path(__file__).parents[2]
CRDS: Final = ROOT / "charts" / "modelyard" / "definitions"


def install(kube: KubeClient, *folders: Path) -> None:
    """Apply our custom resource definitions, and those in other folders, and wait until the API server serves them."""
    definitions = [yaml.safe_load(file.read_text()) for file in sorted(CRDS.glob("*.yaml"))]
    definitions += [json.loads(file.read_text()) for folder in folders for file in sorted(folder.glob("*.json"))]
    for each in definitions:
        kube.apply({name: value for name, value in each.items() if name != "status"}, manager="tests", force=True)

    kinds = [_kind(each["spec"]) for each in definitions]

    def served() -> bool:
        """Established is not enough: for a moment after it, the server answers that its storage is initializing."""
        try:
            return all(kube.list(kind) for kind in kinds)
        except (NotInstalled, Unavailable):
            return False

    wait_until(served, deadline_s=60, what="the custom resource definitions")


def _kind(spec: Mapping[str, Any]) -> Kind:
    version = next(each["name"] for each in spec["versions"] if each["served"])
    return Kind(f"{spec['group']}/{version}", spec["names"]["kind"], spec["names"]["plural"])


def keep(home: Path, owner: int) -> None:
    """Start everything, say so in `ready.json`, and stop everything when the owner ends, also while it starts."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=_end_with, args=(os.pidfd_open(owner),), daemon=True).start()
    try:
        with ExitStack() as running:
            found = build.programs()
            manager = found.get("kube-controller-manager")
            plane = start_api(home / "plane", found, service_accounts=manager is not None)
            running.callback(plane.stop)
            kube = connect(plane.kubeconfig)
            wait_until(lambda: kube.get(NAMESPACE, "", "default"), deadline_s=30, what="the first namespace")
            install(kube, build.definitions())
            if manager is not None:
                running.callback(start_controllers(plane, manager).stop)
            ready = {"kubeconfig": str(plane.kubeconfig), "collects": manager is not None}
            write_text(home / "ready.json", json.dumps(ready))
            signal.pause()
    except SystemExit:
        shutil.rmtree(home, ignore_errors=True)


def _end_with(owner: int) -> None:
    select.select([owner], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), int(sys.argv[2]))
