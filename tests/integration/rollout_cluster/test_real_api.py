"""Everything that an arm is made of, taken by a real API server under strict validation."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.fakes.cluster_ports import ClusterPorts
from tests.unit.rollout_cluster import wishes
from tests.unit.rollout_cluster.wishes import arm, spec_of

from modelyard.errors import NotInstalled
from modelyard.kube.metadata import resource_version_of
from modelyard.kube.port import (
    BACKEND_TRAFFIC_POLICY,
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HPA,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    NETWORK_POLICY,
    PDB,
    POD_MONITOR,
    SCALED_OBJECT,
    SERVICE,
    Kind,
)
from modelyard.processes import wait_until
from modelyard.spec.codec import to_data
from modelyard.spec.deployment import DeploymentSpec

if TYPE_CHECKING:
    from tests.cluster.fixtures import Cluster

pytestmark = pytest.mark.process
OWN = (CONFIG_MAP, CONTROLLER_REVISION, SERVICE, PDB, NETWORK_POLICY, DEPLOYMENT)


def there(ports: ClusterPorts, kind: Kind) -> bool:
    try:
        return any(
            "digits" in each["metadata"]["name"] for each in ports.kube.list(kind, namespace=ports.namespace).items
        )
    except NotInstalled:
        pytest.skip(f"{kind.kind} is not installed")


def wish(ports: ClusterPorts, spec: DeploymentSpec) -> None:
    ports._put(MODEL_DEPLOYMENT, "digits", to_data(spec))


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (wishes.FULL, (*OWN, HPA, HTTP_ROUTE, BACKEND_TRAFFIC_POLICY, POD_MONITOR)),
        (wishes.QUERY, (*OWN, HTTP_ROUTE, SCALED_OBJECT)),
    ],
    ids=["an HPA and Envoy Gateway", "KEDA and another gateway"],
)
def test_every_object_is_taken_and_a_second_look_changes_nothing(
    cluster: "Cluster", namespace: str, text: str, kinds: tuple[Kind, ...]
) -> None:
    ports, spec = ClusterPorts(cluster.kube, namespace), spec_of(text)
    wish(ports, spec)
    wanted = arm(spec)
    ports.arms.ensure(ports.key, wanted)
    ports.arms.keep(ports.key, spec)
    ports.router.set_weights(ports.key, {wanted.name: 100}, expected="")
    ports.router.keep(ports.key, spec)
    for kind in kinds:
        assert there(ports, kind), f"no {kind.kind}"

    def versions() -> dict[str, str]:
        return {
            kind.kind: resource_version_of(each)
            for kind in kinds
            if kind != DEPLOYMENT  # its controller writes its status
            for each in ports.kube.list(kind, namespace=namespace).items
        }

    before, generation = versions(), deployment(ports)["metadata"]["generation"]
    ports.arms.arms(ports.key)
    ports.arms.ensure(ports.key, replace(wanted, expected=ports.arms.arms(ports.key)[wanted.name].resource_version))
    ports.arms.keep(ports.key, spec)
    ports.router.keep(ports.key, spec)
    assert versions() == before
    assert deployment(ports)["metadata"]["generation"] == generation


def deployment(ports: ClusterPorts) -> dict:  # type: ignore[type-arg]
    (found,) = ports.kube.list(DEPLOYMENT, namespace=ports.namespace).items
    return found  # type: ignore[return-value]


def test_from_a_number_to_an_autoscaler_no_replica_is_lost_between(cluster: "Cluster", namespace: str) -> None:
    """A field that its one owner gives up falls back to its default: stable went to 1 (Argo Rollouts #1415)."""
    ports, spec = ClusterPorts(cluster.kube, namespace), spec_of(wishes.PLAIN)
    wanted = arm(spec, replicas=5)
    ports.arms.ensure(ports.key, wanted)
    ports.arms.keep(ports.key, spec)
    scaled = replace(spec, autoscaling=spec_of(wishes.FULL).autoscaling)
    wish(ports, scaled)
    ports.arms.arms(ports.key)
    ports.arms.keep(ports.key, scaled)
    assert there(ports, HPA)
    assert deployment(ports)["spec"]["replicas"] == 5
    ports.arms.ensure(
        ports.key, replace(wanted, replicas=2, expected=ports.arms.arms(ports.key)[wanted.name].resource_version)
    )
    assert deployment(ports)["spec"]["replicas"] == 5


def test_deleting_the_wish_deletes_everything(cluster: "Cluster", namespace: str) -> None:
    if not cluster.collects:
        pytest.skip("no garbage collector")
    ports, spec = ClusterPorts(cluster.kube, namespace), spec_of(wishes.FULL)
    wish(ports, spec)
    ports.arms.ensure(ports.key, arm(spec))
    ports.arms.keep(ports.key, spec)
    ports.router.set_weights(ports.key, {arm(spec).name: 100}, expected="")
    cluster.kube.delete(MODEL_DEPLOYMENT, namespace, "digits")
    kinds = (*OWN, HPA, HTTP_ROUTE)
    wait_until(lambda: not any(there(ports, kind) for kind in kinds), deadline_s=60, what="the end of all objects")
