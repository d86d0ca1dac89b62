"""The cluster of the run, and what stands in it: images, gateway, stores, the chart."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.cluster import build

from modelyard.processes import wait_until

T = TypeVar("T")
HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]
TEAM: Final = "modelyard-e2e-vision"
STORES: Final = "modelyard-e2e-stores"
SYSTEM: Final = "modelyard-e2e-system"
GATEWAYS: Final = "modelyard-e2e-gateway"
ENVOY: Final = "envoy-gateway-system"
METRICS: Final = "modelyard-e2e-metrics"
NAMESPACES: Final = (TEAM, STORES, SYSTEM, GATEWAYS, METRICS)


@dataclass(frozen=True)
class Site:
    """A cluster by its kubeconfig."""

    kubeconfig: Path
    ours: bool
    """Whether it is a node of our own."""

    def kubectl(self, *words: str, text: str = "", check: bool = True, timeout: float = 120) -> str:
        """Run kubectl, `text` as its input; gives what it wrote."""
        found = build.place("kubectl")
        done = subprocess.run(
            [found, f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.kubeconfig}.cache", *words],
            input=text, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *words: str) -> Any:
        """An object or a list, as data; empty where there is none."""
        told = self.kubectl("get", *words, "-o", "json", "--ignore-not-found")
        return json.loads(told) if told.strip() else {}

    def items(self, *words: str) -> list[dict[str, Any]]:
        """A list's objects."""
        found: list[dict[str, Any]] = self.get(*words).get("items", [])
        return found

    def apply(self, file: Path | str) -> None:
        """Apply a manifest of this folder, or its text."""
        text = (HERE / "manifests" / file).read_text() if isinstance(file, Path) else file
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=text)

    def install(self, chart: Path, name: str, namespace: str, values: Mapping[str, Any]) -> None:
        """Install or upgrade a Helm release, and wait until what it made is ready."""
        from helm_python import Config

        with Config(kubeconfig_path=self.kubeconfig, namespace=namespace) as helm:
            there = name in {each["name"] for each in helm.list(all_states=True)}
            act = helm.upgrade if there else helm.install
            more: dict[str, Any] = {} if there else {"create_namespace": True}
            act(chart, name, dict(values), namespace=namespace, timeout=300, wait="watcher", **more)

    def rolled_out(self, namespace: str, name: str, *, deadline_s: float = 240) -> None:
        """Wait until a Deployment has all its replicas ready."""
        self.kubectl(
            "rollout", "status", f"deployment/{name}", "-n", namespace, f"--timeout={deadline_s:g}s",
            timeout=deadline_s + 10,
        )  # fmt: skip

    def address(self, namespace: str, *selector: str) -> str:
        """The address of the one Service that is selected, with its first port."""
        service = self.items("service", "-n", namespace, *selector)[0]["spec"]
        return f"{service['clusterIP']}:{service['ports'][0]['port']}"

    def status(self, name: str = "digits") -> Mapping[str, Any]:
        """Of a ModelDeployment."""
        found: Mapping[str, Any] = self.get("modeldeployment", name, "-n", TEAM).get("status") or {}
        return found

    def rollouts(self) -> list[dict[str, Any]]:
        """All attempts, oldest first."""
        found = self.items("modelrollout", "-n", TEAM)
        return sorted(found, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))

    def live(self) -> str:
        """The version that is stable; empty: none."""
        return str((self.status().get("stable") or {}).get("version") or "")

    def ended(self, version: str) -> dict[str, Any] | None:
        """The newest attempt of all, if it is one with this version and has ended."""
        newest = self.rollouts()[-1:]
        mine = [each for each in newest if each["spec"]["version"] == version]
        phase = (mine[0].get("status") or {}).get("phase") if mine else None
        return mine[0] if phase in ("Successful", "Failed") else None

    def servers(self) -> list[dict[str, Any]]:
        """Pods that serve, but for those that are about to end."""
        found = self.items("pods", "-n", TEAM, "-l", "modelyard.dev/deployment=digits")
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def wait(self, check: Callable[[], T | None], what: str, *, deadline_s: float = 240) -> T:
        """Wait for a condition; on failure the message shows what the cluster says."""
        try:
            found = wait_until(check, deadline_s=deadline_s, what=what)
        except Exception as error:
            raise AssertionError(f"{error}\n{self.snapshot()}") from error
        assert found is not None
        return found

    def snapshot(self) -> str:
        """What somebody who looks into a failure would ask for first."""
        parts = [
            self.kubectl("get", "pods", "-A", "-o", "wide", check=False),
            self.kubectl("get", "mdep,mro", "-A", "-o", "yaml", check=False)[-6000:],
            self.kubectl("get", "events", "-n", TEAM, "--sort-by=.lastTimestamp", check=False)[-3000:],
        ]
        return "\n".join(parts)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether it takes requests."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def say(line: str) -> None:
    """Show progress, also under pytest."""
    sys.__stderr__ and sys.__stderr__.write(f"[{time.strftime('%H:%M:%S')}] {line}\n")
