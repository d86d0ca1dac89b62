"""The way of requests to the arms: an HTTPRoute whose `rules` are ours, and the gateway's own retry policy. Pure.

Envoy Gateway makes a cluster for each place of a rule, and takes it away with its place, or when its weight is 0. It
does so before requests go elsewhere: those that are under way are lost. So for Envoy Gateway there are always two
places, what has no share keeps one request in a million, and an arm stays at its place for as long as it is there
(docs/decisions/0043-no-place-of-a-route-vanishes.md).
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelyard.kube.metadata import name_of, namespace_of, owner_reference
from modelyard.kube.port import BACKEND_TRAFFIC_POLICY, HTTP_ROUTE, Kind, Object
from modelyard.rollout.cluster.render import labels, object_name
from modelyard.spec.deployment import DeploymentSpec, Traffic

ARM_HEADER: Final = "x-modelyard-arm"
FINE: Final = 10_000
"""Of these makes a percent for Envoy Gateway."""
PLENTY: Final = 4096
"""The default allows three retries at once: the fourth client would see the failure."""


def http_route(
    owner: Object, spec: DeploymentSpec, weights: Mapping[str, int], *, before: Object | None = None
) -> Object:
    """The HTTPRoute.

    Each arm has a filter of its own. Envoy Gateway makes a cluster for each backend only then: one cluster for all
    would let a retry go to the other arm, and would count both together.

    Args:
        owner: the ModelDeployment.
        spec: the wish; its `traffic` is what is rendered.
        weights: whole percents by arm; empty: nothing is live.
        before: the route as it is, whose arms stay where they are.
    """
    traffic = spec.traffic
    rewrite = {"path": {"type": "ReplaceFullPath", "replaceFullPath": f"/predictions/{spec.model.name}"}}
    rule: dict[str, Any] = {
        "matches": [dict(one) for one in traffic.matches] or matches(spec.model.name),
        "filters": [{"type": "URLRewrite", "urlRewrite": rewrite}, *(dict(one) for one in traffic.filters)],
        "backendRefs": [_backend(name_of(owner), arm, share) for arm, share in _placed(traffic, weights, before)],
        "timeouts": {"request": gateway_duration(traffic.timeout.seconds)},
    }
    parents = [_parent(one.name, one.namespace, one.section_name) for one in traffic.parent_refs]
    hosts = {"hostnames": list(traffic.hostnames)} if traffic.hostnames else {}
    return _object(owner, HTTP_ROUTE, spec={"parentRefs": parents, **hosts, "rules": [rule]})


def matches(model: str) -> list[dict[str, Any]]:
    """The requests of a model, where the wish names none."""
    paths = (f"/v1/models/{model}:predict", f"/predictions/{model}")
    return [{"path": {"type": "Exact", "value": path}, "method": "POST"} for path in paths]


def traffic_policy(owner: Object, traffic: Traffic) -> Object | None:
    """Retries and limits as Envoy Gateway takes them; None for another gateway.

    A request's retries stay inside its arm, and each attempt may take an equal part of the time.
    https://gateway.envoyproxy.io/docs/api/extension_types/#backendtrafficpolicy
    """
    if traffic.gateway != "EnvoyGateway":
        return None
    target = {"group": HTTP_ROUTE.group, "kind": HTTP_ROUTE.kind, "name": name_of(owner)}
    each = gateway_duration(traffic.timeout.seconds / (traffic.retries + 1))
    spec: dict[str, Any] = {
        "targetRefs": [target],
        "loadBalancer": {"type": "RoundRobin"},
        "circuitBreaker": {
            "maxConnections": PLENTY, "maxPendingRequests": PLENTY,
            "maxParallelRequests": PLENTY, "maxParallelRetries": PLENTY,
        },
    }  # fmt: skip
    if traffic.retries:
        spec["retry"] = {
            "numRetries": traffic.retries,
            "retryOn": {"triggers": ["5xx", "reset", "connect-failure", "refused-stream"]},
            "perRetry": {"timeout": each, "backOff": {"baseInterval": "5ms", "maxInterval": "50ms"}},
        }
    return _object(owner, BACKEND_TRAFFIC_POLICY, spec=spec)


def shares(route: Object) -> dict[str, int]:
    """The whole percents that a route of ours asks for, by arm, in its order."""
    found: dict[str, int] = {}
    for arm, share in places(route):
        if arm:
            found[arm] = found.get(arm, 0) + share
    return found


def places(route: Object) -> list[tuple[str, int]]:
    """Arm and whole percents of each place, in the order by which a gateway counts; no name: it is not ours."""
    backends = [each for rule in route.get("spec", {}).get("rules", ()) for each in rule.get("backendRefs", ())]
    weights = [int(each.get("weight", 1)) for each in backends]
    size = FINE if sum(weights) > 100 else 1
    return [(_arm(backend), weight // size) for backend, weight in zip(backends, weights, strict=True)]


def arranged(before: Sequence[tuple[str, int]], weights: Mapping[str, int]) -> list[tuple[str, int]]:
    """Arm and whole percents of each place: who is there stays, who comes takes a free one, the largest has the others.

    >>> arranged([], {"a": 100})
    [('a', 100), ('a', 0)]
    >>> arranged([("a", 100), ("a", 0)], {"a": 80, "b": 20})
    [('a', 80), ('b', 20)]
    >>> arranged([("a", 0), ("b", 100)], {"b": 100})
    [('b', 0), ('b', 100)]
    >>> arranged([("b", 0), ("b", 100)], {"b": 80, "c": 20})
    [('c', 20), ('b', 80)]
    """
    if not weights:
        return []
    there = sorted(enumerate(before), key=lambda each: each[1][1])  # of an arm's places, the last one has its share
    own = {arm: at for at, (arm, _) in there if arm in weights}
    free = [at for at in range(len(before) + len(weights)) if at not in own.values()]
    own |= zip([arm for arm in weights if arm not in own], free, strict=False)
    largest, at_place = max(weights, key=lambda arm: weights[arm]), {at: arm for arm, at in own.items()}
    count = max(2, max(at_place) + 1)
    return [(at_place[at], weights[at_place[at]]) if at in at_place else (largest, 0) for at in range(count)]


def _placed(traffic: Traffic, weights: Mapping[str, int], before: Object | None) -> list[tuple[str, int]]:
    """Arm and weight of each place, as the gateway of this wish is told."""
    there = places(before) if before is not None else []
    if traffic.gateway == "EnvoyGateway":
        return [(arm, max(1, share * FINE)) for arm, share in arranged(there, weights)]
    first = [arm for arm in dict(there) if arm in weights]
    return [(arm, weights[arm]) for arm in dict.fromkeys((*first, *weights))]


def gateway_duration(seconds: float) -> str:
    """A length of time as the Gateway API writes it (GEP-2257): whole units, at most five digits each.

    >>> gateway_duration(15), gateway_duration(7.5), gateway_duration(86400 * 3)
    ('15s', '7s500ms', '72h')
    """
    rest = max(1, math.floor(seconds * 1000 + 0.5))
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def _backend(deployment: str, arm: str, weight: int) -> dict[str, Any]:
    told = {"set": [{"name": ARM_HEADER, "value": arm}]}
    return {
        "group": "",
        "kind": "Service",
        "name": object_name(deployment, arm),
        "port": 80,
        "weight": weight,
        "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": told}],
    }


def _arm(backend: Mapping[str, Any]) -> str:
    for one in backend.get("filters", ()):
        for header in one.get("responseHeaderModifier", {}).get("set", ()):
            if header.get("name") == ARM_HEADER:
                return str(header["value"])
    return ""


def _parent(name: str, namespace: str | None, section: str | None) -> dict[str, str]:
    place = {"group": HTTP_ROUTE.group, "kind": "Gateway", "name": name}
    return {
        **place,
        **({"namespace": namespace} if namespace else {}),
        **({"sectionName": section} if section else {}),
    }


def _object(owner: Object, kind: Kind, *, spec: Mapping[str, Any]) -> Object:
    about = {
        "name": name_of(owner),
        "namespace": namespace_of(owner),
        "labels": labels(name_of(owner)),
        "ownerReferences": [owner_reference(owner)],
    }
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": about, "spec": spec}


def claims(route: Object) -> frozenset[tuple[str, str, str]]:
    """What a route takes for itself: gateway, host name, and what of requests it matches."""
    spec = route["spec"]
    here = namespace_of(route)
    gateways = [f"{one.get('namespace', here)}/{one['name']}" for one in spec.get("parentRefs") or ()]
    hosts = spec.get("hostnames") or [""]
    wanted = [json.dumps(one, sort_keys=True) for rule in spec.get("rules") or () for one in rule.get("matches") or ()]
    return frozenset((gateway, host, match) for gateway in gateways for host in hosts for match in wanted)
