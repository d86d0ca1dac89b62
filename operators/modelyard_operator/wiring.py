"""The one place of this shell that makes things."""

from pathlib import Path

from modelyard.kube.client import connect
from modelyard.kube.port import Kube
from modelyard.rollout.cluster.arms import KubeArms
from modelyard.rollout.cluster.counters import (
    ClusterCounters,
    EnvoyCounters,
    PodCounters,
    PrometheusCounters,
    scraper,
)
from modelyard.rollout.cluster.records import KubeRecords
from modelyard.rollout.cluster.render import Settings as Rendering
from modelyard.rollout.cluster.router import RouteRouter
from modelyard.rollout.ports import Counters, World
from modelyard.rollout.prometheus import Asking
from modelyard.spec.deployment import DeploymentSpec
from modelyard_operator.lease import DURATION_S, RENEW_S
from modelyard_operator.operator import Made, Operator, Settings
from modelyard_operator.registries import Following

MANAGER = "modelyard"
REQUEST_S = DURATION_S - RENEW_S - 1.0
"""A request is given up before another replica can lead."""


def operator(
    settings: Settings, *, serving_image: str, prometheus: str = "", kubeconfig: Path | None = None
) -> Operator:
    """The operator of a cluster.

    Raises:
        BadInput: no cluster is configured.
    """
    kube = connect(kubeconfig, timeout_s=REQUEST_S)
    rendering = Rendering(serving_image=serving_image)
    return Operator(kube, settings, make=lambda fenced: made(fenced, rendering, settings.namespace, prometheus))


def made(kube: Kube, rendering: Rendering, namespace: str, prometheus: str) -> Made:
    """The cluster's world: its ports, and what it does at the end of each look."""
    scrape = scraper()
    router: Counters = PrometheusCounters(kube, prometheus) if prometheus else EnvoyCounters(kube, scrape)
    counters = ClusterCounters(kube, router=router, pods=PodCounters(kube, scrape))
    arms, routes = KubeArms(kube, rendering), RouteRouter(kube, counters)

    def then(key: str, spec: DeploymentSpec) -> None:
        try:
            arms.keep(key, spec)
        finally:  # what the cluster lacks for one must not hold up the other
            routes.keep(key, spec)

    world = World(
        records=KubeRecords(kube, manager=MANAGER, namespace=namespace),
        registry=Following(None, why="each look has its own"),
        arms=arms,
        router=routes,
        counters=counters,
        queries=Asking(lambda _: prometheus, hint="set operator.prometheus in the chart's values"),
    )
    return Made(world, then)
