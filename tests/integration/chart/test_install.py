"""A release on a real API server, by Helm's own code: made, changed, refused, removed; its rights suffice."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from helm_python import Chart, Config, HelmError
from tests.cluster.fixtures import Cluster
from tests.unit.chart.chart import CHART, chart

from modelyard.kube.port import DEPLOYMENT, LEASE, PDB, SERVICE
from modelyard.processes import free_port, spawn, wait_until

pytestmark = pytest.mark.process

NAMESPACED = {"operator": {"namespaced": True, "prometheus": "http://127.0.0.1:9"}, "crds": {"install": False}}


@pytest.fixture
def helm(cluster: Cluster, namespace: str) -> Iterator[Config]:
    if not cluster.ours:
        pytest.skip("releases are tried in a control plane of our own only")
    with Config(kubeconfig_path=str(cluster.kubeconfig), namespace=namespace) as made:
        yield made


def test_a_release_is_made_changed_and_removed_and_leaves_nothing(
    helm: Config, cluster: Cluster, namespace: str
) -> None:
    helm.install(chart(), "modelyard", NAMESPACED, namespace=namespace)
    made = cluster.kube.get(DEPLOYMENT, namespace, "modelyard-operator")
    assert made is not None
    assert cluster.kube.get(PDB, namespace, "modelyard-operator") is not None
    assert "kubectl -n" in str(helm.status("modelyard").get("notes", helm.status("modelyard")))

    one = {**NAMESPACED, "operator": {**NAMESPACED["operator"], "replicas": 1}}
    helm.upgrade(chart(), "modelyard", one, namespace=namespace)
    changed = cluster.kube.get(DEPLOYMENT, namespace, "modelyard-operator")
    assert changed is not None
    assert changed["spec"]["replicas"] == 1
    assert changed["spec"]["template"] == made["spec"]["template"], (
        "an upgrade without another template restarts nobody"
    )
    assert cluster.kube.get(PDB, namespace, "modelyard-operator") is None

    helm.uninstall("modelyard")
    for kind in (DEPLOYMENT, SERVICE):
        assert not [each for each in cluster.kube.list(kind, namespace=namespace).items
                    if each["metadata"].get("deletionTimestamp") is None]  # fmt: skip


def test_a_second_release_for_the_whole_cluster_is_refused(helm: Config, namespace: str) -> None:
    wide: dict[str, Any] = {"crds": {"install": False}}
    helm.install(chart(), "one", wide, namespace=namespace)
    try:
        with pytest.raises(HelmError, match="has an operator already"):
            helm.install(chart(), "two", wide, namespace=namespace)
    finally:
        helm.uninstall("one")


def test_a_cluster_that_is_too_old_is_refused(helm: Config, namespace: str, tmp_path: Path) -> None:
    """No older API server is at hand: the chart asks for one that does not exist yet."""
    copy = tmp_path / "modelyard"
    shutil.copytree(CHART, copy)
    about = copy / "Chart.yaml"
    about.write_text(about.read_text().replace('kubeVersion: ">=1.30.0-0"', 'kubeVersion: ">=1.99.0-0"'))
    with pytest.raises(HelmError, match=r"chart requires kubeVersion: >=1\.99\.0-0 which is incompatible"):
        helm.install(Chart.load(str(copy)), "modelyard", NAMESPACED, namespace=namespace)


def test_definitions_of_others_are_not_taken_over(helm: Config, namespace: str) -> None:
    """Here they were applied by the tests: Helm finds them without a release's name."""
    with pytest.raises(HelmError, match="cannot be imported into the current release"):
        helm.install(chart(), "modelyard", {"operator": {"namespaced": True}}, namespace=namespace)


def test_the_operator_leads_with_the_rights_of_its_service_account_and_is_refused_nothing(
    helm: Config, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    helm.install(chart(), "modelyard", NAMESPACED, namespace=namespace)
    token = cluster.kubectl("create", "token", "modelyard-operator", "-n", namespace)
    assert token.returncode == 0, token.stderr
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": each["name"], "user": {"token": token.stdout.strip()}} for each in config["users"]]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))

    port = free_port()
    argv = ["-m", "modelyard_operator", "--serving-image=s:1", f"--namespace={namespace}", "--host=127.0.0.1",
            f"--lease-namespace={namespace}", f"--port={port}", f"--kubeconfig={kubeconfig}"]  # fmt: skip
    child = spawn([sys.executable, *argv], cwd=tmp_path, log=tmp_path / "log")
    try:
        url = f"http://127.0.0.1:{port}"

        def leads() -> bool:
            try:
                text = httpx.get(f"{url}/metrics", timeout=5.0).text
            except httpx.HTTPError:
                return False
            return "modelyard_operator_leader 1.0" in text and httpx.get(f"{url}/readyz").status_code == 200

        wait_until(leads, deadline_s=60.0, what="an operator that leads", child=child)
        assert cluster.kube.get(LEASE, namespace, "modelyard-operator") is not None
        applied = cluster.kubectl("apply", "-n", namespace, "-f", "-", text=_wish(namespace))
        assert applied.returncode == 0, applied.stderr

        def looked() -> bool:
            found = cluster.kubectl("get", "mdep", "digits", "-n", namespace, "-o", "json")
            return bool(json.loads(found.stdout).get("status", {}).get("conditions"))

        wait_until(looked, deadline_s=60.0, what="a status of the deployment", child=child)
        text = httpx.get(f"{url}/metrics", timeout=5.0).text
        assert 'error="Forbidden"' not in text, [line for line in text.splitlines() if "Forbidden" in line]
        assert "no right to" not in (tmp_path / "log").read_text()
    finally:
        child.stop()
        helm.uninstall("modelyard")


def _wish(namespace: str) -> str:
    registry = {"type": "MLflow", "mlflow": {"trackingURI": "http://127.0.0.1:9"}}
    spec = {"model": {"registryRef": {"name": "main"}, "name": "digits", "alias": "champion"},
            "traffic": {"parentRefs": [{"name": "public"}]}}  # fmt: skip
    return yaml.safe_dump_all(
        {
            "apiVersion": "modelyard.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        for kind, name, spec in (("ModelRegistry", "main", registry), ("ModelDeployment", "digits", spec))
    )
