"""What an API tells of logs where no kubelet is: the one in memory and a real one. The rest is seen on a node only."""

from typing import Any

import pytest
from tests.fakes.training_cluster import TrainingCluster

from modelyard.kube.port import SERVICE_ACCOUNT
from modelyard.processes import wait_until


@pytest.mark.parametrize("where", ["memory", pytest.param("server", marks=pytest.mark.process)])
def test_a_container_that_has_not_begun_has_no_log_and_a_pod_that_is_gone_neither(
    where: str, request: pytest.FixtureRequest
) -> None:
    kube: Any = TrainingCluster()
    namespace = "default"
    if where == "server":
        cluster, namespace = request.getfixturevalue("cluster"), request.getfixturevalue("namespace")
        kube = cluster.kube
        if cluster.collects:
            wait_until(lambda: kube.get(SERVICE_ACCOUNT, namespace, "default"), deadline_s=30, what="a ServiceAccount")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": namespace}}
    kube.create({**pod, "spec": {"containers": [{"name": "main", "image": "image:1"}]}}, manager="m")
    assert list(kube.log(namespace, "a", container="main") or ()) == []
    assert list(kube.log(namespace, "a", container="main", since="2026-01-02T03:04:05.6Z", deadline_s=1) or ()) == []
    assert kube.log(namespace, "gone", container="main") is None
