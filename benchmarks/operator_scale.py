"""What the operator costs with 10, 100 and 1,000 models, on a real control plane with nodes of kwok.

    python benchmarks/operator_scale.py                          a few minutes: 10 and 100 models
    python benchmarks/operator_scale.py --sizes 10,100,1000 --argo --out scale.json
                                                                 the whole: half an hour on two quiet cores

For each size: so many ModelDeployments are made and become Ready; nothing changes for `--idle` seconds; at most 100 of
them change at once (`runtime.torchServe.workers`), which is a canary each; the operator is stopped and started again.
The time from a change to its canary's Deployment is taken by a watch of this process. `--argo` does the same with Argo
Rollouts 1.9: the time from a change of the image to the canary's ReplicaSet.

On a busy machine times mean nothing; CPU seconds and requests do.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from scale_world import Following, Gateway, Plane, Process, mlflow, prometheus, serving

from modelyard.errors import Conflict
from modelyard.kube.metadata import DEPLOYMENT_LABEL, labels_of, name_of
from modelyard.kube.port import DEPLOYMENT, MODEL_DEPLOYMENT, MODEL_ROLLOUT, Object
from modelyard.processes import spawn, wait_until

SPACE = "fleet"
CHANGED = 100
LONG_S = 1800.0
WRITES = ("create", "apply", "replace", "delete")
Result = dict[str, Any]


class Operator:
    """One replica, as a process."""

    def __init__(self, plane: Plane, home: Path, prometheus_url: str) -> None:
        self._log = home / f"operator-{time.monotonic_ns()}.log"
        began = time.monotonic()
        self.child = spawn([
            sys.executable, "-m", "modelyard_operator", "--serving-image", "serving:1", "--namespace", SPACE,
            "--lease-namespace", SPACE, "--host", "127.0.0.1", "--port", "0", "--prometheus", prometheus_url,
            "--kubeconfig", str(plane.kubeconfig),
        ], log=self._log)  # fmt: skip
        wait_until(self._port, deadline_s=120, what="the operator", child=self.child)
        wait_until(lambda: self.metric("modelyard_operator_leader") == 1.0, deadline_s=120, what="its lead")
        self.leads_after_s = time.monotonic() - began
        self.process = Process(self.child)

    def _port(self) -> int:
        lines = (json.loads(line) for line in self._log.read_text().splitlines() if line.startswith('{"'))
        return next((int(each["port"]) for each in lines if each.get("event") == "up"), 0)

    def _metrics(self) -> list[str]:
        return httpx.get(f"http://127.0.0.1:{self._port()}/metrics", timeout=30.0).text.splitlines()

    def metric(self, name: str) -> float:
        return sum(float(line.rpartition(" ")[2]) for line in self._metrics() if line.startswith(name))

    def requests(self) -> Counter[tuple[str, str]]:
        """Requests by verb and kind since the start."""
        found: Counter[tuple[str, str]] = Counter()
        for line in self._metrics():
            if line.startswith("modelyard_operator_api_requests_total{"):
                labels = dict(pair.split("=") for pair in line[line.index("{") + 1 : line.index("}")].split(","))
                found[labels["verb"].strip('"'), labels["kind"].strip('"')] += int(float(line.rpartition(" ")[2]))
        return found


class Stopwatch:
    """When the second arm of each deployment came."""

    def __init__(self, plane: Plane) -> None:
        self.first: dict[str, set[str]] = {}
        self.came: dict[str, float] = {}
        self._watch = Following(plane.kube, DEPLOYMENT, self._seen)

    def reset(self) -> None:
        self.came.clear()
        self.first = {name: set(arms) for name, arms in self.first.items()}

    def _seen(self, thing: Object, at: float) -> None:
        name = labels_of(thing).get(DEPLOYMENT_LABEL, "")
        arms = self.first.setdefault(name, set())
        if name_of(thing) not in arms:
            arms.add(name_of(thing))
            self.came[name] = at

    def stop(self) -> None:
        self._watch.stop()


def wish(name: str) -> Object:
    spec = {
        "model": {"name": name, "alias": "champion"},
        "replicas": 1,
        "traffic": {"parentRefs": [{"name": "public"}]},
        "strategy": {"type": "Canary", "canary": {"steps": [{"setWeight": 20}, {"analysis": {}}]}},
        "analysis": {"metrics": [{"name": "error-rate", "margin": {"type": "Absolute", "value": "5%"}}]},
    }
    metadata = {"name": name, "namespace": SPACE}
    return {"apiVersion": "modelyard.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": spec}


class Bench:
    """One size, on a control plane of its own."""

    def __init__(self, size: int, home: Path, running: ExitStack) -> None:
        self.names = [f"model-{number:04d}" for number in range(size)]
        self.changed = self.names[: min(CHANGED, size)]
        self.size, self.home = size, home
        self.plane = Plane(home)
        running.callback(self.plane.stop)
        self.kube = self.plane.kube
        gateway = Gateway(self.kube)
        running.callback(gateway.stop)
        self.metrics = running.enter_context(serving(prometheus(gateway)))
        registry = running.enter_context(serving(mlflow(lambda: self.names)))
        self.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}, manager="bench")
        spec = {"type": "MLflow", "mlflow": {"trackingURI": registry}}
        about = {"name": "main", "namespace": SPACE}
        self.kube.create({"apiVersion": MODEL_DEPLOYMENT.api_version, "kind": "ModelRegistry", "metadata": about,
                          "spec": spec}, manager="bench")  # fmt: skip
        self.operator = Operator(self.plane, home, self.metrics)
        running.callback(lambda: self.operator.child.stop(grace=30.0))
        self.watch = Stopwatch(self.plane)
        running.callback(self.watch.stop)

    def first(self) -> Result:
        """All models come for the first time."""
        say(f"{self.size}: first rollouts ...")
        made = time.monotonic()
        each_of(self.names, lambda name: self.kube.create(wish(name), manager="bench"))
        ended(self.plane, self.operator, self.size)
        seconds = time.monotonic() - made
        return {"changed": len(self.changed), "first_s": seconds, **since_start(self.operator, "first", self.size)}

    def idle(self, seconds: float) -> Result:
        """Nothing changes."""
        say(f"{self.size}: idle for {seconds:g} s ...")
        quiet(self.operator)
        before, used = self.operator.requests(), self.operator.process.cpu_s()
        time.sleep(seconds)
        return idle(self.operator.requests() - before, self.operator.process.cpu_s() - used, seconds)

    def change(self) -> Result:
        """Some change at once, and roll out to their ends."""
        say(f"{self.size}: {len(self.changed)} change at once ...")
        self.watch.reset()
        before, used, at = self.operator.requests(), self.operator.process.cpu_s(), dict[str, float]()
        began = time.monotonic()
        each_of(self.changed, lambda name: at.update({name: self._patch(name, workers=2)}))
        wait_until(lambda: set(self.changed) <= set(self.watch.came), deadline_s=LONG_S, what="the canaries")
        first = self.operator.process.cpu_s() - used
        ended(self.plane, self.operator, self.size + len(self.changed))
        seconds, count = time.monotonic() - began, len(self.changed)
        asked = of_kubernetes(self.operator.requests() - before)
        self.operator.process.mib()
        return {
            **spread([self.watch.came[name] - at[name] for name in self.changed], "canary"),
            "canary_cpu_s": first / count,
            "rollouts_s": seconds,
            "requests_per_rollout": sum(asked.values()) / count,
            "writes_per_rollout": sum(n for (verb, _), n in asked.items() if verb in WRITES) / count,
            "cpu_s_per_rollout": (self.operator.process.cpu_s() - used) / count,
            "by_kind": {" ".join(place): number for place, number in asked.most_common(12)},
            "peak_mib": self.operator.process.peak_mib,
        }

    def restart(self) -> Result:
        """The operator ends; one model changes; it comes back."""
        say(f"{self.size}: restart ...")
        self.operator.child.stop(grace=30.0)
        self.watch.reset()
        last = self.names[-1]
        self._patch(last, workers=3)
        again = time.monotonic()
        self.operator = Operator(self.plane, self.home, self.metrics)
        wait_until(lambda: last in self.watch.came, deadline_s=LONG_S, what="the first canary after the restart")
        ended(self.plane, self.operator, self.size + len(self.changed) + 1)
        return {
            "restart_leads_s": self.operator.leads_after_s,
            "restart_first_canary_s": self.watch.came[last] - again,
            **since_start(self.operator, "restart", self.size),
        }

    def _patch(self, name: str, *, workers: int) -> float:
        """Change the spec; gives when that began."""
        began = time.monotonic()
        while True:
            found: Any = self.kube.get(MODEL_DEPLOYMENT, SPACE, name)
            found["spec"]["runtime"] = {"type": "TorchServe", "torchServe": {"workers": workers}}
            try:
                self.kube.replace(found, manager="bench")
            except Conflict:
                continue
            return began


def measure(size: int, home: Path, *, idle_s: float) -> Result:
    """All figures for one size."""
    with ExitStack() as running:
        it = Bench(size, home, running)
        return {"models": size, **it.first(), **it.idle(idle_s), **it.change(), **it.restart()}


def ended(plane: Plane, operator: Operator, count: int) -> None:
    """Wait until so many attempts have ended, none of them badly."""

    def done() -> bool:
        operator.process.mib()
        time.sleep(1.0)  # the list costs what is measured beside it
        phases = [(each.get("status") or {}).get("phase") for each in plane.kube.list(MODEL_ROLLOUT).items]
        assert "Failed" not in phases, [each for each in plane.kube.list(MODEL_ROLLOUT).items if "Failed" in str(each)]
        return phases.count("Successful") >= count

    wait_until(done, deadline_s=LONG_S, what=f"{count} rollouts", child=operator.child)


def quiet(operator: Operator) -> None:
    """Wait until no request is made for some seconds."""
    last, since = of_kubernetes(operator.requests()), time.monotonic()
    deadline = since + 120
    while time.monotonic() - since < 12 and time.monotonic() < deadline:
        time.sleep(1.0)
        if (now := of_kubernetes(operator.requests())) != last:
            last, since = now, time.monotonic()


def of_kubernetes(asked: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Without the Lease, which is renewed every two seconds, and the watches."""
    return Counter(
        {(verb, kind): count for (verb, kind), count in asked.items() if kind != "Lease" and verb != "watch"}
    )


def idle(asked: Counter[tuple[str, str]], cpu_s: float, seconds: float) -> Result:
    others, minutes = of_kubernetes(asked), seconds / 60
    return {
        "idle_writes_per_minute": sum(n for (verb, _), n in others.items() if verb in WRITES) / minutes,
        "idle_reads_per_minute": sum(n for (verb, _), n in others.items() if verb not in WRITES) / minutes,
        "idle_lease_writes_per_minute": asked["replace", "Lease"] / minutes,
        "idle_cpu_percent": 100 * cpu_s / seconds,
    }


def since_start(operator: Operator, name: str, size: int) -> Result:
    asked = of_kubernetes(operator.requests())
    operator.process.mib()
    return {f"{name}_cpu_s": operator.process.cpu_s(), f"{name}_mib": operator.process.mib(),
            f"{name}_requests_per_model": sum(asked.values()) / size}  # fmt: skip


def spread(seconds: Sequence[float], name: str) -> Result:
    ordered = sorted(seconds)
    return {f"{name}_p{share}_s": ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for share in (50, 99)}


def each_of(names: Sequence[str], act: Callable[[str], object]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, names))


def say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row a figure, a column a size."""
    rows = [name for name in results[0] if name not in ("models", "by_kind")]
    head = ["figure", *(f"{each['models']} {each.get('who', '')}".strip() for each in results)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in dict.fromkeys(
        [*rows, *(name for each in results for name in each if name not in ("models", "by_kind", "who"))]
    ):
        said = [f"{each[row]:.2f}" if isinstance(each.get(row), float) else str(each.get(row, "")) for each in results]
        lines.append(f"| {row} | {' | '.join(said)} |")
    return "\n".join(lines)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--sizes", default="10,100", help="numbers of models (default: 10,100)")
    made.add_argument("--idle", type=float, default=60.0, help="seconds without a change (default: 60)")
    made.add_argument("--argo", action="store_true", help="Argo Rollouts beside it, at the same sizes")
    made.add_argument("--out", type=Path, help="a file for all figures, as JSON")
    given = made.parse_args()
    results: list[Result] = []
    for size in (int(each) for each in given.sizes.split(",")):
        for who in ("modelyard", *(["argo"] if given.argo else [])):
            home = Path(tempfile.mkdtemp(prefix="modelyard-scale-"))
            try:
                if who == "argo":
                    from scale_argo import measure_argo

                    result = measure_argo(size, home, idle_s=given.idle, changed=min(CHANGED, size))
                else:
                    result = measure(size, home, idle_s=given.idle)
            finally:
                shutil.rmtree(home, ignore_errors=True)
            results.append({"who": who, **result})
            say(json.dumps(results[-1]))
            if given.out is not None:
                given.out.write_text(json.dumps(results, indent=1))
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    threading.excepthook = lambda told: say(f"a thread ended: {told.exc_value!r}")
    main()
