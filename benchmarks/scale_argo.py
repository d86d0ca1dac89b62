"""Argo Rollouts 1.9 with as many Rollouts, on the same control plane: what `operator_scale.py` compares with.

Each Rollout has one replica and the steps 20 %, pause: the changed ones stay in mid-canary, as ours do until their
verdict. It has no router to speak to, no analysis, no registry and one ReplicaSet an arm, where ours has nine objects.
Writes are read off the API server, of the kinds that it writes.
"""

import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import operator_scale as ours
import yaml
from scale_world import Following, Plane, Process
from tests.cluster import build

from modelyard.errors import Conflict
from modelyard.kube import port
from modelyard.kube.metadata import name_of
from modelyard.kube.port import REPLICA_SET, Kind, Object
from modelyard.processes import spawn, wait_until

ROLLOUT = Kind("argoproj.io/v1alpha1", "Rollout", "rollouts")
WRITTEN = ("rollouts", "replicasets", "analysisruns", "experiments", "events")
MODULE = "github.com/argoproj/argo-rollouts"


def measure_argo(size: int, home: Path, *, idle_s: float, changed: int) -> dict[str, Any]:
    """The same figures of Argo Rollouts, where it has them."""
    port._BY_NAME[ROLLOUT.api_version, ROLLOUT.kind] = ROLLOUT  # type: ignore[index]  a kind that only this file knows
    build.build(("argo-rollouts",))
    names = [f"model-{number:04d}" for number in range(size)]
    with ExitStack() as running:
        plane = Plane(home, _definitions(home))
        running.callback(plane.stop)
        kube = plane.kube
        kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ours.SPACE}}, manager="bench")
        child = spawn([
            build.place("argo-rollouts"), f"--kubeconfig={plane.kubeconfig}", f"--namespace={ours.SPACE}",
            "--leader-elect=false", "--loglevel=error", "--metricsport=0", "--healthzPort=0",
        ], log=home / "argo.log")  # fmt: skip
        running.callback(lambda: child.stop(grace=5.0))
        process = Process(child)
        came: dict[str, dict[str, float]] = {}

        def seen(thing: Object, at: float) -> None:
            owner = thing["metadata"].get("ownerReferences", [{"name": ""}])[0]["name"]
            came.setdefault(owner, {}).setdefault(name_of(thing), at)

        running.callback(Following(kube, REPLICA_SET, seen).stop)
        ours.say(f"{size}: Argo's first rollouts ...")
        made = time.monotonic()
        ours.each_of(names, lambda name: kube.create(_rollout(name), manager="bench"))
        wait_until(lambda: _healthy(plane, process) >= size, deadline_s=ours.LONG_S, what="Rollouts", child=child)
        result: dict[str, Any] = {"models": size, "changed": changed, "first_s": time.monotonic() - made,
                                  "first_cpu_s": process.cpu_s(), "first_mib": process.mib()}  # fmt: skip
        time.sleep(15.0)
        before, used = _writes(plane), process.cpu_s()
        time.sleep(idle_s)
        result["idle_writes_per_minute"] = sum((_writes(plane) - before).values()) * 60 / idle_s
        result["idle_cpu_percent"] = 100 * (process.cpu_s() - used) / idle_s
        at: dict[str, float] = {}

        def change(name: str) -> None:
            while True:
                found: Any = kube.get(ROLLOUT, ours.SPACE, name)
                found["spec"]["template"]["spec"]["containers"][0]["image"] = "serving:2"
                at.setdefault(name, time.monotonic())
                try:
                    kube.replace(found, manager="bench")
                    return
                except Conflict:
                    continue

        before, used = _writes(plane), process.cpu_s()
        ours.each_of(names[:changed], change)
        wait_until(lambda: all(len(came[name]) > 1 for name in names[:changed]), deadline_s=ours.LONG_S,
                   what="Argo's canaries")  # fmt: skip
        result |= ours.spread([max(came[name].values()) - at[name] for name in names[:changed]], "canary")
        time.sleep(15.0)
        result["writes_per_rollout"] = sum((_writes(plane) - before).values()) / changed
        result["cpu_s_per_rollout"] = (process.cpu_s() - used) / changed
        process.mib()
        result["peak_mib"] = process.peak_mib
        before = _writes(plane)
        time.sleep(idle_s)
        result["mid_canary_writes_per_minute"] = sum((_writes(plane) - before).values()) * 60 / idle_s
        return result


def _rollout(name: str) -> Object:
    labels = {"app": name}
    container = {"name": "server", "image": "serving:1", "resources": {"requests": {"cpu": "100m"}}}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        "strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}},
    }
    metadata = {"name": name, "namespace": ours.SPACE}
    return {"apiVersion": ROLLOUT.api_version, "kind": ROLLOUT.kind, "metadata": metadata, "spec": spec}


def _healthy(plane: Plane, process: Process) -> int:
    process.mib()
    time.sleep(1.0)
    found = plane.kube.list(ROLLOUT, namespace=ours.SPACE).items
    return sum((each.get("status") or {}).get("phase") == "Healthy" for each in found)


def _writes(plane: Plane) -> Counter[str]:
    """Writes that the API server answered, by resource. Those of ReplicaSets' status are a controller's of its own."""
    told = subprocess.run(
        [plane.kubectl, f"--kubeconfig={plane.kubeconfig}", "get", "--raw", "/metrics"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: Counter[str] = Counter()
    for line in told.stdout.splitlines():
        if line.startswith("apiserver_request_total{"):
            labels = dict(pair.split("=", 1) for pair in line[line.index("{") + 1 : line.rindex("}")].split(","))
            said = {name: value.strip('"') for name, value in labels.items()}
            controller = said["resource"] == "replicasets" and said.get("subresource") == "status"
            if said["verb"] in ("POST", "PUT", "PATCH", "DELETE") and said["resource"] in WRITTEN and not controller:
                found[said["resource"]] += int(float(line.rpartition(" ")[2]))
    return found


def _definitions(home: Path) -> Path:
    """Argo's definitions as JSON files, as the control plane takes others'."""
    import json

    folder = home / "argo-definitions"
    folder.mkdir(parents=True)
    for file in (build.module("argo", MODULE) / "manifests" / "crds").glob("*-crd.yaml"):
        definition = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        (folder / f"{file.stem}.json").write_text(json.dumps(definition))
    return folder
