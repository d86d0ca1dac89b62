"""What arms are made of: whole objects as golden files, held to Kubernetes' own schemas, and what must hold in each."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.unit.rollout_cluster import wishes
from tests.unit.rollout_cluster.wishes import DIGEST, REGISTRY, SETTINGS, arm, owner, spec_of

from modelyard.errors import BadInput
from modelyard.rollout.cluster import render, render_pod, render_route
from modelyard.rollout.observation import arm_name
from modelyard.serving.torchserve import properties
from modelyard.spec.deployment import DeploymentSpec, PodTemplate, Runtime, TorchServe

GOLDEN = Path(__file__).parents[2] / "golden" / "cluster"
WISHES = {"plain": wishes.PLAIN, "full": wishes.FULL, "query": wishes.QUERY}
OTHERS = ("modelyard.dev", "monitoring.coreos.com", "keda.sh", "gateway")
"""API groups whose schemas Kubernetes does not have."""


def objects(spec: DeploymentSpec, name: str = "digits") -> list[Mapping[str, Any]]:
    """All objects of one arm that has all traffic."""
    whose, wanted = owner(name), arm(spec)
    side = render.side_of(whose, wanted)
    template = render_pod.pod_template(side, wanted, REGISTRY, SETTINGS)
    config = render.config(wanted)
    found = [
        render.revision(side, template=template, config=config, number=1),
        render.config_map(side, config),
        render.service(side),
        render.disruption_budget(side),
        render.network_policy(side),
        render.pod_monitor(side),
        render.deployment(side, template=template, rollout=wanted.rollout, replicas=2),
        render_route.http_route(whose, spec, {wanted.name: 100}),
    ]
    policy = render_route.traffic_policy(whose, spec.traffic)
    scaler = [render.autoscaler(side, spec.autoscaling, least=2)] if spec.autoscaling else []
    return [*found, *([policy] if policy else []), *scaler]


def of_kind(found: list[Mapping[str, Any]], kind: str) -> Any:
    return next(each for each in found if each["kind"] == kind)


def server(found: list[Mapping[str, Any]]) -> Any:
    return of_kind(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("name", WISHES)
def test_an_arm_is_rendered_as_its_golden_file_says(name: str) -> None:
    """Run with MODELYARD_GOLDEN=write to change them."""
    rendered = yaml.safe_dump_all(json.loads(json.dumps(objects(spec_of(WISHES[name])))), sort_keys=True, width=110)
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("MODELYARD_GOLDEN") == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rendered)
    assert rendered == file.read_text()


@pytest.mark.parametrize("name", WISHES)
def test_kubernetes_own_schemas_take_every_object(name: str) -> None:
    for each in objects(spec_of(WISHES[name])):
        if not each["apiVersion"].startswith(OTHERS):
            kubernetes_validate.validate(dict(each), "1.36", strict=True)


@pytest.mark.parametrize("name", WISHES)
def test_replicas_stand_in_no_deployment(name: str) -> None:
    """They belong to whoever scales; an applied count would fight the autoscaler (Argo Rollouts #1415)."""
    assert "replicas" not in of_kind(objects(spec_of(WISHES[name])), "Deployment")["spec"]


def test_a_longest_name_still_fits_everywhere() -> None:
    for each in objects(spec_of(wishes.FULL), name="d" * 63):
        assert len(each["metadata"]["name"]) <= 63
        assert all(len(value) <= 63 for value in each["metadata"]["labels"].values())


def test_two_long_names_that_begin_alike_have_objects_of_their_own() -> None:
    assert render.object_name("d" * 62 + "a", "a1") != render.object_name("d" * 62 + "b", "a1")


def test_no_selector_of_an_arm_finds_another_arm_s_pods() -> None:
    """An HPA counted another's pods (kubernetes/kubernetes #116898, #124307)."""
    spec = spec_of(wishes.PLAIN)
    other = replace(spec, runtime=Runtime(torch_serve=TorchServe(workers=2)))
    assert arm_name(DIGEST, spec) != arm_name(DIGEST, other)
    chosen = [
        of_kind(objects(one, name), "Deployment")["spec"]["selector"]["matchLabels"].items()
        for one in (spec, other)
        for name in ("digits", "digits-2")
    ]
    pods = [
        of_kind(objects(one, name), "Deployment")["spec"]["template"]["metadata"]["labels"].items()
        for one in (spec, other)
        for name in ("digits", "digits-2")
    ]
    for place, selector in enumerate(chosen):
        assert [selector <= pod for pod in pods] == [number == place for number in range(4)]


def test_the_pod_is_restricted_and_only_the_container_that_fetches_has_credentials() -> None:
    found = of_kind(objects(spec_of(wishes.FULL)), "Deployment")["spec"]["template"]["spec"]
    for container in (found["containers"][0], *found["initContainers"]):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["runAsNonRoot"]
        assert security["capabilities"] == {"drop": ["ALL"]}
    assert not any("valueFrom" in variable for variable in found["containers"][0]["env"])
    assert "MLFLOW_TRACKING_PASSWORD" in {variable["name"] for variable in found["initContainers"][0]["env"]}
    assert {"medium": "Memory"} in [volume.get("emptyDir") for volume in found["volumes"]]


def test_what_the_user_says_of_the_pod_is_merged_into_ours() -> None:
    found = objects(spec_of(wishes.FULL))
    pod = of_kind(found, "Deployment")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "a100"}
    assert [each["name"] for each in pod["containers"]] == ["server", "sidecar"]
    assert server(found)["resources"] == {
        "requests": {"cpu": "4", "memory": "8Gi"}, "limits": {"nvidia.com/gpu": "1"},
    }  # fmt: skip
    assert {"name": "OMP_NUM_THREADS", "value": "4"} in server(found)["env"]
    assert {"name": "cache", "mountPath": "/cache"} in server(found)["volumeMounts"]
    assert server(found)["command"] == ["python", "-m", "modelyard.serving.supervisor"]


def test_the_server_spreads_its_workers_over_the_gpus_that_its_container_asks_for() -> None:
    told = json.loads(render.config(arm(spec_of(wishes.FULL)))["server.json"])
    assert told["gpus"] == 1
    assert "number_of_gpu=1\n" in properties("digits", Runtime(), port=1, work=Path("w"), room=Path("r"), gpus=1)
    assert "gpus" not in render.config(arm(spec_of(wishes.PLAIN)))["server.json"]


def test_what_would_break_ours_is_refused_also_where_nobody_checked_the_spec() -> None:
    spec = replace(spec_of(wishes.PLAIN), pod_template=PodTemplate(spec={"hostNetwork": True}))
    with pytest.raises(BadInput, match=r"podTemplate\.spec\.hostNetwork: is refused"):
        objects(spec)


def test_kubernetes_kills_a_pod_only_after_the_longest_request_may_have_ended() -> None:
    spec = spec_of(wishes.PLAIN)
    pod = of_kind(objects(spec), "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > spec.traffic.timeout.seconds + SETTINGS.endpoints_s


def test_retries_stay_inside_an_arm_because_each_arm_is_a_cluster_of_its_own() -> None:
    """A filter on the backend makes Envoy Gateway split the rule; else all arms are one cluster, and one count."""
    spec = spec_of(wishes.FULL)
    route = render_route.http_route(owner(), spec, {"a1": 95, "a2": 5})
    backends = route["spec"]["rules"][0]["backendRefs"]
    assert all(backend["filters"] for backend in backends)
    assert render_route.shares(route) == {"a1": 95, "a2": 5}
    policy = render_route.traffic_policy(owner(), spec.traffic)
    assert policy is not None
    assert policy["spec"]["retry"]["numRetries"] == 2
    assert policy["spec"]["retry"]["perRetry"]["timeout"] == "500ms"


def test_no_place_of_a_route_vanishes_while_requests_go_there() -> None:
    """Envoy Gateway 1.9 takes a backend's cluster away at weight 0, before the proxy has the new weights."""
    spec, before = spec_of(wishes.FULL), None
    for weights, placed in (
        ({"a1": 100}, [("a1", 1_000_000), ("a1", 1)]),
        ({"a1": 80, "a2": 20}, [("a1", 800_000), ("a2", 200_000)]),
        ({"a2": 100, "a1": 0}, [("a1", 1), ("a2", 1_000_000)]),  # promoted
        ({"a2": 100}, [("a2", 1), ("a2", 1_000_000)]),  # and the old one forgotten
        ({"a2": 80, "a3": 20}, [("a3", 200_000), ("a2", 800_000)]),
        ({"a2": 100, "a3": 0}, [("a3", 1), ("a2", 1_000_000)]),  # rolled back
        ({"a2": 100, "a3": 0, "a4": 0}, [("a3", 1), ("a2", 1_000_000), ("a4", 1)]),
        ({"a2": 100, "a4": 0}, [("a2", 1), ("a2", 1_000_000), ("a4", 1)]),
        ({"a2": 100}, [("a2", 1), ("a2", 1_000_000)]),
    ):
        route = render_route.http_route(owner(), spec, weights, before=before)
        backends = route["spec"]["rules"][0]["backendRefs"]
        assert [(each["name"].removeprefix("digits-"), each["weight"]) for each in backends] == placed
        assert render_route.shares(route) == weights
        before = route


def test_another_gateway_gets_whole_percents() -> None:
    route = render_route.http_route(owner(), spec_of(wishes.QUERY), {"a1": 100, "a2": 0})
    assert [each["weight"] for each in route["spec"]["rules"][0]["backendRefs"]] == [100, 0]
    assert render_route.shares(route) == {"a1": 100, "a2": 0}


def test_another_gateway_gets_no_policy_of_envoy_gateway() -> None:
    assert render_route.traffic_policy(owner(), spec_of(wishes.QUERY).traffic) is None


def test_a_floor_above_the_wished_maximum_raises_the_maximum() -> None:
    spec = spec_of(wishes.FULL)
    assert spec.autoscaling is not None
    scaler = render.autoscaler(render.side_of(owner(), arm(spec)), spec.autoscaling, least=30)
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (30, 30)
