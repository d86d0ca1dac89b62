"""Prometheus on the cluster, scraping what the chart's ServiceMonitor and the operator's PodMonitors name.

There is no Prometheus operator here: monitors and rules are turned into Prometheus' own configuration as that operator
does (https://github.com/prometheus-operator/prometheus-operator, `pkg/prometheus/promcfg.go`), so that what is tested
is what its users would get.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from tests.cluster import build, images
from tests.e2e.cluster.site import ENVOY, METRICS, SYSTEM, TEAM, Site
from tests.e2e.cluster.stage import load

IMAGE: Final = "modelyard.test/prometheus:1"
KINDS: Final = ("servicemonitors", "podmonitors", "prometheusrules")
EVERY: Final = "2s"
"""Between two scrapes of the gateway's proxies, whose counters are the evidence of a canary."""
URL: Final = f"http://prometheus.{METRICS}:9090"
"""As the operator reaches it."""


@dataclass(frozen=True)
class Prometheus:
    """One that runs, as tests reach it."""

    site: Site
    address: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The answer to a query now."""
        return list(self._got("query", query=query)["result"])

    def targets(self) -> dict[str, list[str]]:
        """Job → health of each of its targets."""
        found: dict[str, list[str]] = {}
        for each in self._got("targets", state="active")["activeTargets"]:
            found.setdefault(each["labels"]["job"], []).append(each["health"])
        return found

    def alerts(self) -> dict[str, str]:
        """Rule → whether it could be evaluated (`ok`) and what it says, such as `ok inactive`."""
        rules = [rule for group in self._got("rules", type="alert")["groups"] for rule in group["rules"]]
        return {rule["name"]: f"{rule['health']} {rule['state']}" for rule in rules}

    def _got(self, what: str, **params: str) -> Any:
        answer = httpx.get(f"http://{self.address}/api/v1/{what}", params=params, timeout=20).json()
        assert answer["status"] == "success", answer
        return answer["data"]


def define(site: Site) -> None:
    """The Prometheus operator's kinds, where the cluster does not know them."""
    folder = build.module("definitions", "github.com/prometheus-operator/prometheus-operator")
    for kind in KINDS:
        if not site.get("crd", f"{kind}.monitoring.coreos.com"):
            file = folder / "example" / "prometheus-operator-crd" / f"monitoring.coreos.com_{kind}.yaml"
            site.apply(file.read_text())


def install(site: Site) -> Prometheus:
    """Start one that scrapes the operator, the arms and the gateway's proxies, and knows the chart's alerts."""
    if site.ours:
        build.build(("prometheus",))
        load(images.small(IMAGE, {"prometheus": build.place("prometheus")}, command=("/prometheus",)))
    site.apply(Path("prometheus.yaml"))
    for namespace in (SYSTEM, TEAM, ENVOY):
        site.apply(json.dumps(_may_view(namespace)))
    (rules,) = site.items("prometheusrule", "-n", SYSTEM)
    files = {
        "prometheus.yaml": json.dumps(configuration(site)),
        "rules.yaml": json.dumps({"groups": rules["spec"]["groups"]}),
    }
    about = {"name": "prometheus", "namespace": METRICS}
    site.apply(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": files}))
    site.rolled_out(METRICS, "prometheus")
    return Prometheus(site, site.address(METRICS, "--field-selector", "metadata.name=prometheus"))


def configuration(site: Site) -> dict[str, Any]:
    """What to scrape, by the monitors that are there."""
    (operators,) = site.items("servicemonitor", "-n", SYSTEM)
    arms = site.items("podmonitor", "-n", TEAM)
    assert arms, "the operator made no PodMonitor"
    return {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [_of_service(operators), _of_pods(arms[-1]), _proxies()],
    }


def _of_service(monitor: Mapping[str, Any]) -> dict[str, Any]:
    """As the Prometheus operator turns a ServiceMonitor into a job."""
    (endpoint,) = monitor["spec"]["endpoints"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    relabel = [
        *(_keep(f"__meta_kubernetes_service_label_{_plain(name)}", value) for name, value in wanted.items()),
        _keep("__meta_kubernetes_endpoint_port_name", endpoint["port"]),
        *_copied("namespace", "pod", "service"),
        {"source_labels": ["__meta_kubernetes_service_name"], "target_label": "job"},
    ]
    return _job(
        "operator", "endpoints", monitor["spec"]["namespaceSelector"]["matchNames"], endpoint["path"],
        every="5s", relabel=relabel, honor_labels=endpoint["honorLabels"],
    )  # fmt: skip


def _of_pods(monitor: Mapping[str, Any]) -> dict[str, Any]:
    """As the Prometheus operator turns a PodMonitor into a job; of any arm, since they come and go during the run."""
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    wanted, told = monitor["spec"]["selector"]["matchLabels"], monitor["spec"]["podTargetLabels"]
    relabel = [
        *(_keep(f"__meta_kubernetes_pod_label_{_plain(name)}", ".+") for name in wanted),
        _keep("__meta_kubernetes_pod_container_port_name", endpoint["port"]),
        *_copied("namespace", "pod"),
        *(
            {"source_labels": [f"__meta_kubernetes_pod_label_{_plain(name)}"], "target_label": _plain(name)}
            for name in told
        ),
    ]
    return _job("arms", "pod", [monitor["metadata"]["namespace"]], endpoint["path"], every="5s", relabel=relabel)


def _proxies() -> dict[str, Any]:
    """Envoy Gateway's proxies, as `docs/operate.md` says."""
    relabel = [
        _keep("__meta_kubernetes_pod_label_app_kubernetes_io_name", "envoy"),
        _keep("__meta_kubernetes_pod_container_port_name", "metrics"),
        *_copied("namespace", "pod"),
    ]
    return _job("proxies", "pod", [ENVOY], "/stats/prometheus", every=EVERY, relabel=relabel)


def _job(
    name: str, role: str, namespaces: Sequence[str], path: str, *, every: str, relabel: Sequence[Mapping[str, Any]],
    **more: Any,
) -> dict[str, Any]:  # fmt: skip
    found = [{"role": role, "namespaces": {"names": list(namespaces)}}]
    return {
        "job_name": name, "kubernetes_sd_configs": found, "metrics_path": path, "scrape_interval": every,
        "scrape_timeout": EVERY, "relabel_configs": list(relabel), **more,
    }  # fmt: skip


def _keep(label: str, value: str) -> dict[str, Any]:
    return {"source_labels": [label], "regex": value, "action": "keep"}


def _copied(*names: str) -> list[dict[str, Any]]:
    places = {"namespace": "namespace", "pod": "pod_name", "service": "service_name"}
    return [{"source_labels": [f"__meta_kubernetes_{places[name]}"], "target_label": name} for name in names]


def _plain(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _may_view(namespace: str) -> dict[str, Any]:
    """Prometheus finds pods and endpoints in this namespace."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "modelyard-e2e-prometheus", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": METRICS}],
    }  # fmt: skip
