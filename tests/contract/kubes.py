"""The Kubernetes APIs that the port's contract is held against: one in memory, a server, a cache that hears nothing.

The cache listed everything when it was empty and is told of no change: what it answers, it knows from its own writes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from tests.fakes.cluster import FakeKube

from modelyard.kube.cache import Cached, Store
from modelyard.kube.port import (
    CONFIG_MAP,
    DEPLOYMENT,
    GATEWAY,
    HTTP_ROUTE,
    LEASE,
    MODEL_DEPLOYMENT,
    POD,
    Change,
    Kube,
    Object,
)

SERVER = pytest.param("server", marks=pytest.mark.process)


@dataclass(frozen=True)
class Api:
    """A Kubernetes API and a namespace to write to."""

    kube: Kube
    namespace: str
    collects: bool
    real: bool

    def config(self, name: str = "a", *, labels: Mapping[str, str] | None = None, **data: str) -> dict[str, Any]:
        return self.named("v1", "ConfigMap", name, labels, data=data)

    def wish(self, name: str = "digits", **spec: Any) -> dict[str, Any]:
        wished = {"model": {"name": "digits", "alias": "champion"}, **spec}
        return self.named("modelyard.dev/v1alpha1", "ModelDeployment", name, spec=wished)

    def deployment(self, name: str = "a", **spec: Any) -> dict[str, Any]:
        container = {"name": "server", "image": "server:1"}
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
        return self.named(
            "apps/v1",
            "Deployment",
            name,
            spec={"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
        )

    def route(self, **weights: int) -> dict[str, Any]:
        backends = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
        return self.named(HTTP_ROUTE.api_version, "HTTPRoute", "r", spec={"rules": [{"backendRefs": backends}]})

    def named(
        self, api: str, kind: str, name: str, labels: Mapping[str, str] | None = None, **rest: Any
    ) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.namespace, **({"labels": dict(labels)} if labels else {})}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}

    def changes(self, since: str, enough: int, **selection: Any) -> list[Change]:
        """So many changes of ConfigMaps, bookmarks left out."""
        found: list[Change] = []
        watch = self.kube.watch(
            CONFIG_MAP, namespace=self.namespace, resource_version=since, deadline_s=20 if self.real else 0, **selection
        )
        for change in watch:
            found += [change] if change.type != "BOOKMARK" else []
            if len(found) == enough:
                break
        return found


@pytest.fixture(params=["memory", "cache", SERVER])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    if request.param != "server":
        kube: Kube = FakeKube(absent=(GATEWAY,))
        if request.param == "cache":
            kube = deaf(kube)
        yield Api(kube=kube, namespace="default", collects=True, real=False)
        return
    cluster = request.getfixturevalue("cluster")
    namespace = request.getfixturevalue("namespace")
    yield Api(kube=cluster.kube, namespace=namespace, collects=cluster.collects, real=True)


def deaf(kube: Kube) -> Cached:
    """A cache that has listed, and hears of nothing more."""
    made = Cached(kube, [Store(kind) for kind in (CONFIG_MAP, DEPLOYMENT, HTTP_ROUTE, LEASE, MODEL_DEPLOYMENT, POD)])
    made.renew()
    for store in made.stores.values():
        store.watched()
    return made


def version(thing: Object | None) -> str:
    assert thing is not None
    return str(thing["metadata"]["resourceVersion"])
