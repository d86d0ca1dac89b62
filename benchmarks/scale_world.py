"""What an operator of a thousand models lives beside: a real control plane, nodes of kwok, and a gateway, a Prometheus
and an MLflow that answer at once, all in this process.

The gateway accepts each route; the Prometheus counts the requests that its weights would send; the MLflow has one
version of each model, named by the alias `champion`.
"""

import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.cluster import build
from tests.cluster.control_plane import start_api, start_controllers
from tests.cluster.keeper import install

from modelyard.errors import ModelyardError
from modelyard.kube.client import KubeClient, connect
from modelyard.kube.metadata import name_of
from modelyard.kube.port import HTTP_ROUTE, NAMESPACE, NODE, Kind, Object
from modelyard.processes import Child, spawn, wait_until

RPS = 1000
"""Requests a second of each model."""
NODES, PODS_A_NODE = 8, 1000
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")
STAGES = ("node/fast/node-initialize.yaml", "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
          "pod/fast/pod-ready.yaml", "pod/fast/pod-complete.yaml", "pod/fast/pod-delete.yaml")  # fmt: skip
"""What kwok plays, from its own sources."""
Json = Mapping[str, Any]


class Plane:
    """A control plane with nodes, from `start` until the stack is closed."""

    def __init__(self, home: Path, *definitions: Path) -> None:
        self.home, self._running = home, ExitStack()
        build.build(PROGRAMS)
        programs = {name: build.place(name) for name in PROGRAMS}
        plane = start_api(home / "plane", programs)
        self._running.callback(plane.stop)
        self.kubeconfig, self.kubectl = plane.kubeconfig, programs["kubectl"]
        self.kube: KubeClient = connect(plane.kubeconfig)
        wait_until(lambda: self.kube.get(NAMESPACE, "", "default"), deadline_s=60, what="the first namespace")
        install(self.kube, build.definitions(), *definitions)
        self._running.callback(start_controllers(plane, programs["kube-controller-manager"]).stop)
        account = plane.home / "kube-scheduler.kubeconfig"
        self._run("kube-scheduler", [
            programs["kube-scheduler"], f"--kubeconfig={account}", f"--authentication-kubeconfig={account}",
            f"--authorization-kubeconfig={account}", "--leader-elect=false", "--secure-port=0", "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ])  # fmt: skip
        stages = build.module("kwok", "sigs.k8s.io/kwok") / "kustomize" / "stage"
        self._run("kwok", [
            programs["kwok"], f"--kubeconfig={self.kubeconfig}", "--manage-all-nodes",
                "--node-lease-duration-seconds=40",
            "--cidr=10.128.0.0/14", *(f"--config={stages / file}" for file in STAGES),
        ])  # fmt: skip
        for number in range(NODES):
            room = {"cpu": "1000", "memory": "4000Gi", "pods": str(PODS_A_NODE), "nvidia.com/gpu": "64"}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}"}}
            self.kube.create(node, manager="bench")
            found = self.kube.get(NODE, "", f"node-{number}") or {}
            status = {"capacity": room, "allocatable": room}
            with suppress(ModelyardError):  # kwok was faster, and gives room enough
                self.kube.replace({**found, "status": status}, manager="bench", subresource="status")
        wait_until(self._nodes_ready, deadline_s=120, what="the nodes")

    def _run(self, name: str, argv: list[Any]) -> None:
        child = spawn(argv, log=self.home / f"{name}.log")
        self._running.callback(lambda: child.stop(grace=3.0))

    def _nodes_ready(self) -> bool:
        nodes = self.kube.list(NODE).items
        for node in nodes:
            if node["spec"].get("taints"):  # set at its making; whoever takes it away does not run here
                with suppress(ModelyardError):
                    self.kube.replace({**node, "spec": {**node["spec"], "taints": []}}, manager="bench")
        return all(_is(node, "Ready") and not node["spec"].get("taints") for node in nodes)

    def stop(self) -> None:
        self._running.close()


def _is(thing: Object, condition: str) -> bool:
    said = (thing.get("status") or {}).get("conditions") or ()
    return any(each["type"] == condition and each["status"] == "True" for each in said)


class Following:
    """Every change of a kind, told in a thread of its own until `stop`."""

    def __init__(self, kube: KubeClient, kind: Kind, tell: Callable[[Object, float], None]) -> None:
        self._kube, self._kind, self._tell, self._end = kube, kind, tell, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()

    def _run(self) -> None:
        while not self._end.is_set():
            with suppress(ModelyardError):
                found = self._kube.list(self._kind)
                for each in found.items:
                    self._tell(each, time.monotonic())
                version = found.resource_version
                while not self._end.is_set():
                    for change in self._kube.watch(self._kind, resource_version=version, deadline_s=60):
                        version = change.object["metadata"]["resourceVersion"]
                        if change.type in ("ADDED", "MODIFIED"):
                            self._tell(change.object, time.monotonic())


class Gateway:
    """Accepts routes, and counts what their weights send where."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube, self._lock = kube, threading.Lock()
        self._weights: dict[str, list[int]] = {}
        self._counts: dict[str, dict[int, float]] = defaultdict(dict)
        self._since: dict[str, float] = {}
        self._watch = Following(kube, HTTP_ROUTE, self._seen)

    def counts(self, key: str) -> Mapping[int, int]:
        """Requests by backend of a route."""
        with self._lock:
            self._advance(key)
            return {place: int(count) for place, count in self._counts[key].items()}

    def stop(self) -> None:
        self._watch.stop()

    def _seen(self, route: Object, _at: float) -> None:
        key = f"{route['metadata']['namespace']}/{name_of(route)}"
        backends = (route["spec"].get("rules") or [{}])[0].get("backendRefs") or ()
        with self._lock:
            self._advance(key)
            self._weights[key] = [int(each.get("weight", 1)) for each in backends]
        generation = route["metadata"]["generation"]
        parents = (route.get("status") or {}).get("parents") or ()
        if any(each["observedGeneration"] == generation for parent in parents for each in parent["conditions"]):
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        said = [
            {"type": name, "status": "True", "reason": name, "message": "", "observedGeneration": generation,
             "lastTransitionTime": now}
            for name in ("Accepted", "ResolvedRefs")
        ]  # fmt: skip
        told = [{"parentRef": each, "controllerName": "example.com/bench", "conditions": said}
                for each in route["spec"]["parentRefs"]]  # fmt: skip
        with suppress(ModelyardError):  # changed again: that is told too
            self._kube.replace({**route, "status": {"parents": told}}, manager="gateway", subresource="status")

    def _advance(self, key: str) -> None:
        now = time.monotonic()
        passed = now - self._since.get(key, now)
        self._since[key] = now
        weights, counts = self._weights.get(key, []), self._counts[key]
        for place, weight in enumerate(weights):
            counts[place] = counts.get(place, 0.0) + RPS * passed * weight / max(1, sum(weights))


@contextmanager
def serving(answer: Callable[[str, Mapping[str, str]], Json]) -> Iterator[str]:
    """Answer GET in JSON on a port of 127.0.0.1; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            body = json.dumps(answer(url.path, {name: each[0] for name, each in parse_qs(url.query).items()})).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def prometheus(gateway: Gateway) -> Callable[[str, Mapping[str, str]], Json]:
    """Answers the operator's query about one route."""

    def answer(_path: str, query: Mapping[str, str]) -> Json:
        found = re.search(r"httproute/([^/]+)/(.+?)/\.\*", query["query"])
        assert found is not None, query
        key = f"{found[1]}/{found[2]}".replace("\\", "")
        name = f"httproute/{key}/rule/0/backend"
        labels = {"__name__": "envoy_cluster_upstream_rq_xx", "envoy_response_code_class": "2", "pod": "proxy-1"}
        series = [
            {"metric": {**labels, "envoy_cluster_name": f"{name}/{place}"}, "values": [[time.time(), str(count)]]}
            for place, count in gateway.counts(key).items()
        ]
        return {"status": "success", "data": {"resultType": "matrix", "result": series}}

    return answer


def mlflow(models: Callable[[], list[str]]) -> Callable[[str, Mapping[str, str]], Json]:
    """One version of each model, which `champion` names."""

    def version(name: str) -> Json:
        digest = "sha256:" + "1" * 64
        return {"name": name, "version": "1", "source": "s3://models/1",
                "tags": [{"key": "modelyard.digest", "value": digest}]}  # fmt: skip

    def answer(path: str, query: Mapping[str, str]) -> Json:
        if path.endswith("registered-models/search"):
            begin, size = int(query.get("page_token", 0)), int(query.get("max_results", 100))
            names = models()
            page = [{"name": each, "aliases": [{"alias": "champion", "version": "1"}]}
                    for each in names[begin : begin + size]]  # fmt: skip
            more = str(begin + size) if begin + size < len(names) else ""
            return {"registered_models": page, "next_page_token": more}
        return {"model_version": version(query.get("name", "")), "model_versions": [version(query.get("name", ""))]}

    return answer


class Process:
    """A child whose CPU seconds and memory are measured."""

    def __init__(self, child: Child) -> None:
        import psutil

        self.child, self._process, self.peak_mib = child, psutil.Process(child.pid), 0.0

    def cpu_s(self) -> float:
        used = self._process.cpu_times()
        return float(used.user + used.system)

    def mib(self) -> float:
        now = float(self._process.memory_info().rss) / 2**20
        self.peak_mib = max(self.peak_mib, now)
        return now
