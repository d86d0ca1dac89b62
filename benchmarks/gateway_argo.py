"""Argo Rollouts 1.9 on the node: its template changed → first answer of the new pods through the gateway.

The same pods, the same gateway, the same client as in `gateway_first_response.py`. Argo has no plug-in for the gateway
here: one Service selects both sorts of pods, so that a canary's share is its share of the pods.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from scale_argo import MODULE, ROLLOUT
from tests.cluster import build
from tests.e2e.cluster import stage
from tests.e2e.cluster.site import TEAM, Site, say
from tests.e2e.cluster.traffic import PATH

from modelyard.processes import spawn, wait_until

HOST = "argo.modelyard.test"
LABELS = {"app": "argo"}
BODY = {"image": [[0.0] * 8] * 8}


def measured(site: Site, templates: list[dict[str, Any]], rounds: int) -> list[float]:
    """Seconds of each round; templates are of two versions, taken in turn."""
    build.build(("argo-rollouts",))
    for file in sorted((build.module("argo", MODULE) / "manifests" / "crds").glob("*-crd.yaml")):
        site.apply(file.read_text())
    (ours,) = site.items("httproute", "-n", TEAM)
    with tempfile.TemporaryDirectory() as folder:
        controller = spawn([
            build.place("argo-rollouts"), f"--kubeconfig={site.kubeconfig}", f"--namespace={TEAM}",
            "--leader-elect=false", "--loglevel=error", "--metricsport=0", "--healthzPort=0",
        ], log=Path(folder) / "argo.log")  # fmt: skip
        try:
            for made in (_service(), _route(ours), _rollout(templates[1])):
                site.apply(json.dumps(made))
            client, url = httpx.Client(timeout=10), f"http://{stage.gateway_address(site)}{PATH}"
            wait_until(lambda: _version(client, url), deadline_s=240, what="Argo's first pods", child=controller)
            found = []
            for number in range(rounds):
                found.append(_changed(site, templates[number % 2], client, url))
                say(f"  Argo, round {number + 1}: {found[-1]} s")
            return found
        finally:
            site.kubectl("delete", "rollouts.argoproj.io,service,httproute", "argo", "-n", TEAM, check=False)
            controller.stop(grace=5.0)


def _changed(site: Site, template: dict[str, Any], client: httpx.Client, url: str) -> float:
    before = _version(client, url)
    began = time.monotonic()
    site.apply(json.dumps(_rollout(template)))
    wait_until(lambda: _version(client, url) not in ("", before), deadline_s=240, what="an answer of the new pods")
    took = round(time.monotonic() - began, 2)
    wait_until(lambda: _settled(site), deadline_s=240, what="the end of Argo's rollout")
    return took


def _settled(site: Site) -> bool:
    status = site.get("rollouts.argoproj.io", "argo", "-n", TEAM)["status"]
    return bool(status.get("phase") == "Healthy" and status.get("replicas") == 2)


def _version(client: httpx.Client, url: str) -> str:
    """That answers, over a connection of its own; empty where none does."""
    answer = client.post(url, json=BODY, headers={"host": HOST, "connection": "close"})
    return answer.headers.get("x-modelyard-version", "") if answer.status_code == 200 else ""


def _rollout(template: dict[str, Any]) -> dict[str, Any]:
    """Two pods of which the canary is one; it goes on by itself."""
    spec = {
        "replicas": 2, "selector": {"matchLabels": LABELS},
        "template": {"metadata": {"labels": LABELS}, "spec": template["spec"]},
        "strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {"duration": "10s"}}]}},
    }  # fmt: skip
    return _object(ROLLOUT.api_version, ROLLOUT.kind, spec)


def _service() -> dict[str, Any]:
    return _object("v1", "Service", {"selector": LABELS, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]})


def _route(ours: dict[str, Any]) -> dict[str, Any]:
    (rule,) = ours["spec"]["rules"]
    rules = [{"backendRefs": [{"name": "argo", "port": 80}], "filters": rule["filters"], "matches": rule["matches"]}]
    return _object(ours["apiVersion"], "HTTPRoute", {**ours["spec"], "hostnames": [HOST], "rules": rules})


def _object(api: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "argo", "namespace": TEAM}, "spec": spec}
