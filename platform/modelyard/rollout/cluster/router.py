"""Weights as an HTTPRoute of the Gateway API. Another router is another class with these two verbs.

Asked is what our route says. Confirmed is what the gateway says it accepted (each parent's Accepted and ResolvedRefs at
the route's generation) *and* what the arms' counters agree with (`modelyard.rollout.cluster.confirm`).
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from modelyard.errors import BadInput, Conflict, Forbidden, NotInstalled
from modelyard.kube.metadata import DEPLOYMENT_LABEL, MANAGED_BY, key_of, name_of, resource_version_of
from modelyard.kube.port import BACKEND_TRAFFIC_POLICY, DEPLOYMENT, HTTP_ROUTE, MODEL_DEPLOYMENT, Kube, Object
from modelyard.rollout.cluster import confirm, render_route
from modelyard.rollout.cluster.arm_state import TRIES, annotation, belongs, owner_of
from modelyard.rollout.cluster.render import object_name
from modelyard.rollout.observation import Weights
from modelyard.rollout.ports import Counters
from modelyard.spec.deployment import DeploymentSpec, ModelDeployment
from modelyard.spec.objects import from_object

MANAGER: Final = "modelyard"
ROUTES: Final = {DEPLOYMENT_LABEL: None, MANAGED_BY: "modelyard-operator"}
RENDERED: Final = "modelyard.dev/rendered"
"""Hash of the route and its policy but for the weights, as they were last applied."""


class RouteRouter:
    """`Router` over HTTPRoutes."""

    def __init__(self, kube: Kube, counters: Counters, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._counters, self._clock = kube, counters, clock
        self._lock = threading.Lock()
        self._trials: dict[str, tuple[str, confirm.Trial]] = {}
        """By key: the route's version, and what was seen of it."""
        self._read: dict[str, Object] = {}
        """Routes of ours by key, as the current look read or wrote them."""
        self._believed: dict[str, tuple[str, Mapping[str, int]]] = {}
        """By key: the last weights that were confirmed, and the route's version then."""
        self._alone: dict[str, frozenset[tuple[str, ...]]] = {}
        """By key: what its route answers to, once it was seen there that no other does."""

    # The port of the loop.

    def weights(self, key: str) -> Weights:
        """What our route asks for, and what is believed; `confirmed` is None where the route cannot be read."""
        namespace, _, name = key.partition("/")
        try:
            route = self._kube.get(HTTP_ROUTE, namespace, name)
        except (NotInstalled, Forbidden):
            return Weights(confirmed=None)
        if route is None or not belongs(route, name):
            self._forget(key)
            return Weights(confirmed={})
        self._read[key] = route
        asked, version = render_route.shares(route), _version(route)
        return Weights(asked=asked, confirmed=self._confirmed(key, route, asked), resource_version=version)

    def set_weights(self, key: str, weights: Mapping[str, int], *, expected: str) -> None:
        """Ask for these shares; returns before they are in force.

        Raises:
            Conflict: the route is not at `expected` any more.
            BadInput: they are no whole percents that sum to 100, nothing says where traffic comes from, or the route
                belongs to somebody else.
        """
        _check(weights)
        namespace, _, name = key.partition("/")
        owner = self._kube.get(MODEL_DEPLOYMENT, namespace, name)
        if owner is None:
            raise Conflict(f"ModelDeployment {key} is gone", do="look again")
        spec = from_object(ModelDeployment, owner).spec
        before = self._kube.get(HTTP_ROUTE, namespace, name)
        mine = before is not None and belongs(before, name)
        now = _version(before) if before is not None and mine else ""
        if now != expected:
            raise Conflict(f"the route of {key} is at version {now!r}, not {expected!r}", do="look again")
        if before is not None and mine and render_route.shares(before) == dict(weights):
            return
        there = render_route.shares(before) if before is not None and mine else {}
        for arm in weights:
            if arm not in there and self._kube.get(DEPLOYMENT, namespace, object_name(name, arm)) is None:
                raise BadInput(f"{key} has no arm {arm!r}", do="ensure it first")
        self._refuse(key, spec, before)
        self._write(owner, spec, weights, before)

    # What follows the wish.

    def keep(self, key: str, spec: DeploymentSpec) -> None:
        """Let time-outs, filters, matches and retries be as the wish says; the weights stay.

        Raises:
            BadInput: another deployment claims the same requests.
            NotInstalled: the gateway's retry policy is not installed; the route was written all the same.
        """
        route = self._read.get(key)
        if route is None:
            return
        owner = owner_of(route, key.partition("/")[2])
        if annotation(route, RENDERED) != _hash(owner, spec):
            self._refuse(key, spec, route)
            self._write(owner, spec, render_route.shares(route), route)

    # Behind it.

    def _write(self, owner: Object, spec: DeploymentSpec, weights: Mapping[str, int], before: Object | None) -> None:
        ours = before is not None and belongs(before, name_of(owner))
        route = render_route.http_route(owner, spec, weights, before=before if ours else None)
        policy, missing = render_route.traffic_policy(owner, spec.traffic), None
        hashed = _hash(owner, spec)
        same = ours and before is not None and annotation(before, RENDERED) == hashed
        known = same and before is not None and render_route.shares(before).keys() == weights.keys()
        if policy is not None and not known:
            try:
                self._kube.apply(policy, manager=MANAGER, force=True)
            except NotInstalled as error:
                missing = error
        said = {} if missing is not None else {RENDERED: hashed}
        wanted = {**route, "metadata": {**route["metadata"], "annotations": said}}
        self._read[key_of(route)] = self._apply_at(wanted, before)
        if policy is None and not known:
            self._drop_policy(owner)
        if missing is not None:
            raise NotInstalled(missing.what, do="install Envoy Gateway's CRDs, or write traffic.gateway: Other")

    def _apply_at(self, wanted: Object, before: Object | None) -> Object:
        """Write a route that is as it was read; what gateways said of it meanwhile is no conflict."""
        now = before
        for tries_left in reversed(range(TRIES)):
            at = {} if now is None else {"resourceVersion": resource_version_of(now)}
            try:
                return self._kube.apply(
                    {**wanted, "metadata": {**wanted["metadata"], **at}}, manager=MANAGER, force=True
                )
            except Conflict:
                namespace, name = wanted["metadata"]["namespace"], name_of(wanted)
                now = self._kube.get(HTTP_ROUTE, namespace, name)
                if not tries_left or now is None or before is None or _version(now) != _version(before):
                    raise
        raise AssertionError("the last try returns or raises")

    def _drop_policy(self, owner: Object) -> None:
        namespace, name = owner["metadata"]["namespace"], name_of(owner)
        try:
            found = self._kube.get(BACKEND_TRAFFIC_POLICY, namespace, name)
            if found is not None and belongs(found, name):
                self._kube.delete(BACKEND_TRAFFIC_POLICY, namespace, name)
        except NotInstalled:
            return

    def _refuse(self, key: str, spec: DeploymentSpec, before: Object | None) -> None:
        """Refuse what would take requests from somebody else, or none at all."""
        namespace, _, name = key.partition("/")
        traffic = spec.traffic
        if not traffic.parent_refs:
            raise BadInput(
                f"ModelDeployment {key} names no gateway, so that nothing can be routed", do="give traffic.parentRefs"
            )
        if before is not None and not belongs(before, name) and not traffic.adopt:
            raise BadInput(
                f"HTTPRoute {key} exists and is not ours", do="rename the deployment, or write traffic.adopt: true"
            )
        wanted = render_route.claims(render_route.http_route({"apiVersion": "", "kind": "", "metadata": {
            "name": name, "namespace": namespace, "uid": ""}}, spec, {}))  # fmt: skip
        if self._alone.get(key) == wanted:
            return
        for other in self._kube.list(HTTP_ROUTE, namespace=namespace, labels=ROUTES).items:
            if key_of(other) == key:
                continue
            if both := wanted & render_route.claims(other):
                place = "; ".join(" ".join(filter(None, each)) for each in sorted(both))
                raise BadInput(
                    f"{key_of(other)} already answers at {place}", do="give one of the two other hostnames or matches"
                )
        # Who comes later is refused; of two that came at once, each sees the other once its own route is there.
        if before is not None and render_route.claims(before) == wanted:
            self._alone[key] = wanted

    def _confirmed(self, key: str, route: Object, asked: Mapping[str, int]) -> Mapping[str, int] | None:
        version = _version(route)
        with self._lock:
            believed = self._believed.get(key)
            if believed is not None and believed[0] == version:
                return believed[1]
        before = None if believed is None else believed[1]
        if not accepted(route):
            return before
        counts = {arm: each.requests for arm, each in self._counters.counts(key).items()}
        now = self._clock()
        with self._lock:
            tried = self._trials.get(key)
            trial = tried[1] if tried is not None and tried[0] == version else confirm.begun(asked, counts, now)
            trial, sure = confirm.weighed(trial, counts, now)
            self._trials[key] = (version, trial)
            if sure:
                self._believed[key] = (version, asked)
                return asked
        return before

    def _forget(self, key: str) -> None:
        with self._lock:
            self._trials.pop(key, None)
            self._believed.pop(key, None)
            self._read.pop(key, None)
            self._alone.pop(key, None)


def accepted(route: Object) -> bool:
    """Whether every gateway that the route names says that it took this generation of it, and found its services.

    One that has not said anything yet has not taken it.
    """
    generation = route["metadata"].get("generation", 0)
    parents = (route.get("status") or {}).get("parents") or ()
    return all(
        any(_same(parent, status.get("parentRef") or {}, route) and _took(status, generation) for status in parents)
        for parent in route["spec"].get("parentRefs") or ()
    )


def _took(status: Mapping[str, Any], generation: int) -> bool:
    said = {each.get("type"): each for each in status.get("conditions") or ()}
    return all(
        (each := said.get(name, {})).get("status") == "True" and each.get("observedGeneration", 0) >= generation
        for name in ("Accepted", "ResolvedRefs")
    )


def _same(parent: Mapping[str, Any], told: Mapping[str, Any], route: Object) -> bool:
    here = route["metadata"].get("namespace")
    return all(
        parent.get(name, default) == told.get(name, default)
        for name, default in (("name", ""), ("namespace", here), ("sectionName", None), ("port", None))
    )


def _check(weights: Mapping[str, int]) -> None:
    if weights and (sum(weights.values()) != 100 or min(weights.values()) < 0):
        raise BadInput(f"weights {dict(weights)} are no shares", do="give whole percents that sum to 100")


def _version(route: Object) -> str:
    """Changes with every change of the route's spec, not with what gateways say of it."""
    about = route["metadata"]
    return f"{str(about['uid'])[:8]}.{about.get('generation', 1)}"


def _hash(owner: Object, spec: DeploymentSpec) -> str:
    """Of all but the weights."""
    rendered = [render_route.http_route(owner, spec, {}), render_route.traffic_policy(owner, spec.traffic)]
    return hashlib.sha256(json.dumps(rendered, sort_keys=True).encode()).hexdigest()[:16]
