"""Arms as Deployments. What was asked stands in annotations of the Deployment, so that nothing is remembered here.

- `ensure` changes the Deployment at the very version that was read; its template comes from the ControllerRevision of
  the arm, which is written once: an operator that renders otherwise restarts no pod.
- `retire` marks the arm and lets it shrink to nothing; `keep`, at the end of each look, removes what has drained.
- `keep` also lets Service, budget, policy, monitor and autoscaler be as the wish says now. What was rendered last
  stands as a hash in an annotation, so that a look at what is already so sends nothing.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from modelyard.errors import BadInput, Conflict, NotInstalled
from modelyard.kube.metadata import DEPLOYMENT_LABEL, fit, name_of, namespace_of, resource_version_of
from modelyard.kube.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HPA,
    MODEL_DEPLOYMENT,
    MODEL_REGISTRY,
    MODEL_ROLLOUT,
    NETWORK_POLICY,
    PDB,
    POD,
    POD_MONITOR,
    SCALED_OBJECT,
    SERVICE,
    Kind,
    Kube,
    Object,
    kind_of,
)
from modelyard.rollout.cluster import render
from modelyard.rollout.cluster.arm_state import (
    AUTOSCALED,
    PARTS,
    RETIRING,
    TRIES,
    annotation,
    asked,
    belongs,
    expect,
    is_retiring,
    observed,
    owner_of,
    ready,
    scaled,
    version_of,
)
from modelyard.rollout.cluster.render import (
    DIGEST_ANNOTATION,
    ROLLOUT_ANNOTATION,
    VERSION_ANNOTATION,
    Settings,
    Side,
)
from modelyard.rollout.cluster.render_pod import pod_template
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.observation import Arm
from modelyard.spec.codec import from_data
from modelyard.spec.deployment import Autoscaling, DeploymentSpec
from modelyard.spec.metadata import Metadata
from modelyard.spec.registry import ModelRegistry, ModelRegistrySpec

MANAGER: Final = "modelyard"
SCALER: Final = "modelyard-replicas"
"""Owns `spec.replicas`, where no autoscaler does: the field changes hands without being given up, or it would fall to 1
in between (Argo Rollouts #1415)."""
CHECK_S: Final = 10.0
"""Whether somebody removed a part is looked up at most this often."""
CHECKED: Final = (SERVICE, PDB, NETWORK_POLICY)
OWNED: Final = (SERVICE, PDB, NETWORK_POLICY, CONFIG_MAP, DEPLOYMENT)
"""Removed in this order: while the Deployment is there, whoever was killed in between finds the arm again."""

log = logging.getLogger(__name__)


class KubeArms:
    """`Arms` over the Kubernetes API."""

    def __init__(self, kube: Kube, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._settings, self._clock = kube, settings, clock
        self._seen: dict[str, dict[str, Object]] = {}
        """Deployments by key and arm, as the current look read or wrote them."""
        self._checked: dict[str, float] = {}

    # The port of the loop.

    def arms(self, key: str) -> Mapping[str, Arm]:
        """All arms of a deployment, as observed now: one request, and one more while some pod is not ready."""
        namespace, name = _split(key)
        listed = self._kube.list(DEPLOYMENT, namespace=namespace, labels={DEPLOYMENT_LABEL: fit(name)}).items
        mine = {arm: each for each in listed if (arm := render.arm_of(each)) and belongs(each, name)}
        self._seen[key] = mine
        unready = [each for each in mine.values() if not is_retiring(each) and ready(each) < scaled(each)]
        pods = self._pods(namespace, name) if unready else ()
        return {
            arm: observed(arm, each, [pod for pod in pods if render.arm_of(pod) == arm]) for arm, each in mine.items()
        }

    def ensure(self, key: str, arm: EnsureArm) -> None:
        """Make the arm, or change its replicas or whom it belongs to; returns before it is ready.

        Raises:
            Conflict: the arm is not at `arm.expected` any more.
            BadInput: its pod template, its registry or its deployment is not what it must be.
        """
        namespace, name = _split(key)
        owner = self._owner(namespace, name)
        side = render.side_of(owner, arm)
        before = self._at(side, arm.expected)
        if before is None:
            after = self._made(side, arm)
        elif (asked(before), annotation(before, ROLLOUT_ANNOTATION)) == (arm.replicas, arm.rollout):
            after = before
        else:
            after = self._change(side, before, rollout=arm.rollout, replicas=arm.replicas)
        if owner["spec"].get("autoscaling") is None:
            after = self._scale(side, after, arm.replicas)
        self._seen.setdefault(key, {})[arm.name] = after

    def retire(self, key: str, name: str, *, expected: str) -> None:
        """Let it shrink to nothing, in the background; nothing when it is gone or on its way.

        Raises:
            Conflict: the arm is not at resource version `expected` any more.
        """
        namespace, deployment = _split(key)
        found = self._kube.get(DEPLOYMENT, namespace, render.object_name(deployment, name))
        if found is None or is_retiring(found):
            return
        expect(found, expected, name)
        side = self._side(self._owner(namespace, deployment), found)
        rollout = annotation(found, ROLLOUT_ANNOTATION)
        after = self._change(side, found, rollout=rollout, replicas=0, more={RETIRING: "true"})
        self._seen.setdefault(key, {})[name] = self._shrink(side, after)

    # What follows the wish.

    def keep(self, key: str, spec: DeploymentSpec) -> None:
        """Let all that surrounds the arms be as the wish says, and remove what has drained.

        Raises:
            NotInstalled: the wish names a kind that the cluster lacks; everything else was done.
        """
        namespace, name = _split(key)
        arms = self._seen.get(key, {})
        if not arms:
            return
        missing: NotInstalled | None = None
        gone = self._gone(namespace, name, key)
        for arm, found in list(arms.items()):
            side = self._side(owner_of(found, name), found)
            if is_retiring(found):
                if self._is_empty(side, found):
                    # first the template: once its arm is gone, a leader that came after a kill would not look for it
                    self._forget_revisions(namespace, name, keep=set(arms) - {arm})
                    self._remove(side, found)
                    del arms[arm]
                continue
            try:
                arms[arm] = self._surround(side, found, spec.autoscaling, anew=side.name in gone)
            except NotInstalled as error:
                missing = error
        if missing is not None:
            raise missing

    # Behind it.

    def _made(self, side: Side, arm: EnsureArm) -> Object:
        """A new arm: what its pods need first, then the Deployment."""
        revision = self._revision(side, arm)
        data = revision["data"]
        self._apply(render.config_map(side, data["config"]))
        self._apply(render.service(side))
        after = self._apply(
            render.deployment(side, template=data["template"], rollout=arm.rollout, replicas=arm.replicas)
        )
        log.info("arm %s of %s was made for version %s", side.arm, name_of(side.owner), side.version)
        return after

    def _revision(self, side: Side, arm: EnsureArm) -> Object:
        """The arm's frozen template; rendered where there is none."""
        namespace = side.owner["metadata"]["namespace"]
        found = self._found(CONTROLLER_REVISION, side)
        if found is not None:
            return found
        registry = self._registry(namespace, arm.serving.model.registry_ref.name)
        template = pod_template(side, arm, registry, self._settings)
        rendered = render.revision(side, template=template, config=render.config(arm), number=_number(arm.rollout))
        return self._apply(rendered)

    def _change(
        self, side: Side, before: Object, *, rollout: str, replicas: int, more: Mapping[str, str] | None = None
    ) -> Object:
        """Write what is asked of the arm, at the version that was read; the template stays as it was frozen."""
        frozen = self._kube.get(CONTROLLER_REVISION, before["metadata"]["namespace"], side.name)
        template = before["spec"]["template"] if frozen is None else frozen["data"]["template"]
        wanted = render.deployment(side, template=template, rollout=rollout, replicas=replicas)
        said = {name: annotation(before, name) for name in (PARTS, AUTOSCALED)} | dict(more or {})
        kept = {name: value for name, value in said.items() if value}
        about = {**wanted["metadata"], "annotations": {**wanted["metadata"]["annotations"], **kept}}
        now = before
        for _ in range(TRIES - 1):
            try:
                return self._apply({**wanted, "metadata": {**about, "resourceVersion": resource_version_of(now)}})
            except Conflict:
                now = self._fresh(side, before)
        return self._apply({**wanted, "metadata": {**about, "resourceVersion": resource_version_of(now)}})

    def _scale(self, side: Side, found: Object, replicas: int) -> Object:
        if scaled(found) == replicas:
            return found
        return self._kube.apply(render.replicas(side, replicas), manager=SCALER, force=True)

    def _surround(self, side: Side, found: Object, scaling: Autoscaling | None, *, anew: bool) -> Object:
        """Apply what surrounds an arm, where it is not so already."""
        least = asked(found)
        scaler = None if scaling is None else render.autoscaler(side, scaling, least=least)
        parts = [
            render.service(side),
            render.disruption_budget(side),
            render.network_policy(side),
            render.pod_monitor(side),
            *([] if scaler is None else [scaler]),
        ]
        hashed = _hash(parts)
        if hashed == annotation(found, PARTS) and not anew:
            return found
        missing: NotInstalled | None = None
        for part in parts:
            try:
                if part is not scaler or self._may_scale(side, kind_of(part)):
                    self._apply(part)
                else:
                    return found  # the other one is still on its way out
            except NotInstalled as error:
                if part is scaler:
                    missing = error
                    self._scale(side, found, least)  # better a fixed number than one
                else:
                    log.info("%s; %s is left out", error.what, kind_of(part).kind)
        if scaler is None:
            self._drop_scalers(side)
        if missing is not None:
            raise missing
        rollout, scaled = annotation(found, ROLLOUT_ANNOTATION), "" if scaler is None else kind_of(scaler).kind
        return self._change(side, found, rollout=rollout, replicas=least, more={PARTS: hashed, AUTOSCALED: scaled})

    def _may_scale(self, side: Side, kind: Kind) -> bool:
        """Whether nobody else scales the arm: HPA and KEDA on one object wedge it (kserve/kserve #5196)."""
        namespace = side.owner["metadata"]["namespace"]
        other = SCALED_OBJECT if kind == HPA else HPA
        self._delete(other, namespace, side.name)
        ours, kedas = self._get(other, namespace, side.name), f"keda-hpa-{side.name}"
        return ours is None and (kind == SCALED_OBJECT or self._get(HPA, namespace, kedas) is None)

    def _drop_scalers(self, side: Side) -> None:
        for kind in (HPA, SCALED_OBJECT):
            self._delete(kind, side.owner["metadata"]["namespace"], side.name)

    def _shrink(self, side: Side, found: Object) -> Object:
        self._drop_scalers(side)
        return self._scale(side, found, 0)

    def _is_empty(self, side: Side, found: Object) -> bool:
        """Whether a retiring arm has no pod any more."""
        if scaled(found):
            self._shrink(side, found)
            return False
        status = found.get("status") or {}
        behind = status.get("observedGeneration", 0) < found["metadata"].get("generation", 0)
        return not status.get("replicas") and not behind

    def _remove(self, side: Side, found: Object) -> None:
        namespace = side.owner["metadata"]["namespace"]
        self._delete(POD_MONITOR, namespace, side.name)
        for kind in OWNED:
            at = resource_version_of(found) if kind == DEPLOYMENT else None
            self._kube.delete(kind, namespace, side.name, resource_version=at)

    def _forget_revisions(self, namespace: str, name: str, *, keep: set[str]) -> None:
        """Remove templates of arms that no attempt on record names: what `retain` keeps can be restored."""
        labels = {DEPLOYMENT_LABEL: fit(name)}
        rollouts = self._kube.list(MODEL_ROLLOUT, namespace=namespace, labels=labels).items
        kept = keep | {each["spec"]["arm"] for each in rollouts if each["spec"]["deployment"] == name}
        for each in self._kube.list(CONTROLLER_REVISION, namespace=namespace, labels=labels).items:
            if render.arm_of(each) not in kept and belongs(each, name):
                self._kube.delete(CONTROLLER_REVISION, namespace, name_of(each))

    def _gone(self, namespace: str, name: str, key: str) -> set[str]:
        """Names of arms of which somebody removed a part; looked up every `CHECK_S` seconds of looking."""
        now = self._clock()
        if now - self._checked.setdefault(key, now) < CHECK_S:
            return set()
        self._checked[key] = now
        labels = {DEPLOYMENT_LABEL: fit(name)}
        there = [
            {name_of(each) for each in self._kube.list(kind, namespace=namespace, labels=labels).items}
            for kind in CHECKED
        ]
        wanted = {name_of(each) for each in self._seen.get(key, {}).values()}
        return {each for each in wanted if any(each not in names for names in there)}

    def _found(self, kind: Kind, side: Side) -> Object | None:
        """The arm's object of a kind. Listed, since a cache knows for sure that nothing with our labels is there."""
        listed = self._kube.list(kind, namespace=namespace_of(side.owner), labels=side.selector).items
        return next((each for each in listed if name_of(each) == side.name), None)

    def _at(self, side: Side, expected: str) -> Object | None:
        found = self._found(DEPLOYMENT, side)
        if found is None and not expected:
            return None
        if found is None:
            raise Conflict(f"arm {side.arm} is gone", do="look again")
        expect(found, expected, side.arm)
        return found

    def _fresh(self, side: Side, seen: Object) -> Object:
        """The Deployment as it is now: what controllers said of it meanwhile is no conflict, what others did is."""
        now = self._at(side, version_of(seen))
        assert now is not None
        return now

    def _side(self, owner: Object, found: Object) -> Side:
        version, digest = annotation(found, VERSION_ANNOTATION), annotation(found, DIGEST_ANNOTATION)
        return Side(owner=owner, arm=render.arm_of(found), version=version, digest=digest)

    def _owner(self, namespace: str, name: str) -> Object:
        found = self._kube.get(MODEL_DEPLOYMENT, namespace, name)
        if found is None:
            raise Conflict(f"ModelDeployment {namespace}/{name} is gone", do="look again")
        return found

    def _registry(self, namespace: str, name: str) -> ModelRegistry:
        found = self._kube.get(MODEL_REGISTRY, namespace, name)
        if found is None:
            raise BadInput(f"there is no ModelRegistry {name} in namespace {namespace}", do="apply one")
        spec = from_data(ModelRegistrySpec, found["spec"], where=f"ModelRegistry {namespace}/{name}: spec")
        return ModelRegistry(metadata=Metadata(name=name, namespace=namespace), spec=spec)

    def _pods(self, namespace: str, name: str) -> tuple[Object, ...]:
        return self._kube.list(POD, namespace=namespace, labels={DEPLOYMENT_LABEL: fit(name)}).items

    def _apply(self, thing: Object) -> Object:
        return self._kube.apply(thing, manager=MANAGER, force=True)

    def _get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        try:
            return self._kube.get(kind, namespace, name)
        except NotInstalled:
            return None

    def _delete(self, kind: Kind, namespace: str, name: str) -> None:
        if self._get(kind, namespace, name) is not None:
            self._kube.delete(kind, namespace, name)


def _number(rollout: str) -> int:
    tail = rollout.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 1


def _split(key: str) -> tuple[str, str]:
    namespace, _, name = key.partition("/")
    return namespace, name


def _hash(parts: list[Object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
