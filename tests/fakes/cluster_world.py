"""A cluster in memory under the operator's own adapters: one model, its versions, traffic that follows the routes."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.cluster import FakeKube
from tests.fakes.controllers import Controllers, is_ready
from tests.fakes.counters import FakeCounters
from tests.fakes.plain_registry import PlainRegistry
from tests.fakes.world import KEY, MODEL, digest_of, leads_to

from modelyard.kube.metadata import ARM_LABEL, labels_of
from modelyard.kube.port import DEPLOYMENT, HTTP_ROUTE, MODEL_DEPLOYMENT, MODEL_ROLLOUT, POD, Kube, Object
from modelyard.registry.port import Version
from modelyard.rollout.cluster.arms import KubeArms
from modelyard.rollout.cluster.records import KubeRecords
from modelyard.rollout.cluster.render import DIGEST_ANNOTATION, Settings
from modelyard.rollout.cluster.render_route import shares
from modelyard.rollout.cluster.router import RouteRouter
from modelyard.rollout.observation import arm_name
from modelyard.rollout.ports import World
from modelyard.spec.codec import to_data
from modelyard.spec.deployment import DeploymentSpec, ModelDeployment, ModelRef, ParentRef, Traffic
from modelyard.spec.rollout import ModelRollout, Phase

NAMESPACE = "default"
SETTINGS = Settings(serving_image="serving:1")


class ClusterWorld:
    """The API server, what lives beside it, a registry, clients and a clock."""

    def __init__(self, *, rps: int = 2000) -> None:
        self.now, self.rps = 1_000_000.0, rps
        self.kube = FakeKube(clock=lambda: self.now, copies=False)
        self.controllers = Controllers(self.kube)
        self.registry, self.counters = PlainRegistry(), FakeCounters()
        self.errors: dict[str, float] = {}
        self.in_force: dict[str, int] = {}
        """What requests follow."""
        self.unanswered = 0
        """Requests that met an arm of a trusted version without a ready pod."""
        self._phases: dict[str, Phase] = {}
        self._checked: tuple[int, Mapping[str, int]] | None = None
        self._records = KubeRecords(self.kube, manager="modelyard")
        self._shares: tuple[Object, Mapping[str, int]] | None = None
        self._stable_seen = 0
        self._put("ModelRegistry", "main", {"type": "MLflow", "mlflow": {"trackingURI": "http://mlflow.test"}})

    def fork(self) -> "ClusterWorld":
        """The same world once more, to go on from here on its own."""
        other = ClusterWorld(rps=self.rps)
        other.now, other.unanswered = self.now, self.unanswered
        other.kube.take(self.kube)
        other.controllers.broken, other.controllers._made = dict(self.controllers.broken), self.controllers._made
        other.registry.known, other.registry.aliases = dict(self.registry.known), dict(self.registry.aliases)
        other.counters.seen = {key: dict(mine) for key, mine in self.counters.seen.items()}
        other.errors, other.in_force, other._phases = dict(self.errors), dict(self.in_force), dict(self._phases)
        return other

    # what people do

    def wish(self, **spec: object) -> None:
        """Apply a ModelDeployment: new, or with other fields."""
        first = DeploymentSpec(
            model=ModelRef(name=MODEL, alias="champion"), traffic=Traffic(parent_refs=(ParentRef(name="public"),))
        )
        before = self.found(MODEL_DEPLOYMENT, MODEL)
        data = dict(to_data(first) if before is None else before["spec"])
        for name, value in spec.items():
            data[name] = to_data(value) if not isinstance(value, str | int | bool) else value
        self._put("ModelDeployment", MODEL, data)

    def version(self, number: str, *, errors: float = 0.0) -> Version:
        """Register a version that behaves so."""
        self.errors[digest_of(number)] = errors
        return self.registry.add(MODEL, number, digest_of(number))

    def alias(self, number: str | None) -> None:
        """Move the alias by hand."""
        self.registry.aliases[MODEL, "champion"] = number

    def patch(self, change: Callable[[ModelRollout], ModelRollout]) -> None:
        """What a command writes: the newest attempt, changed."""
        with self.controllers.unseen():
            KubeRecords(self.kube, manager="modelyard").write(change(self.attempt))

    # what is to be seen

    def found(self, kind: Any, name: str) -> Object | None:
        """An object, unseen by the hooks."""
        return next((each for each in self.kube.peek(kind) if each["metadata"]["name"] == name), None)

    @property
    def deployment(self) -> ModelDeployment:
        with self.controllers.unseen():
            found = self._records.deployment(KEY)
        assert found is not None
        return found

    @property
    def rollouts(self) -> tuple[ModelRollout, ...]:
        with self.controllers.unseen():
            return self._records.rollouts(KEY)

    @property
    def attempt(self) -> ModelRollout:
        """The newest attempt."""
        return self.rollouts[-1]

    def phases(self) -> tuple[str, ...]:
        """Of all attempts, oldest first; cheaper than reading them."""
        return tuple((each.get("status") or {}).get("phase", "Pending") for each in self.kube.peek(MODEL_ROLLOUT))

    @property
    def at_rest(self) -> bool:
        return bool(self.phases()) and set(self.phases()) <= {Phase.SUCCESSFUL, Phase.FAILED}

    def arm_of(self, number: str) -> str:
        return arm_name(digest_of(number), self.deployment.spec)

    def arms(self) -> Mapping[str, Object]:
        """Deployments by arm."""
        return {labels_of(each)[ARM_LABEL]: each for each in self.kube.peek(DEPLOYMENT)}

    def ready(self, arm: str) -> int:
        """Ready pods of an arm."""
        return sum(is_ready(each) for each in self.kube.peek(POD) if labels_of(each).get(ARM_LABEL) == arm)

    @property
    def asked(self) -> Mapping[str, int]:
        route = self.found(HTTP_ROUTE, MODEL)
        if route is None:
            return {}
        if self._shares is None or self._shares[0] is not route:
            self._shares = route, shares(route)
        return self._shares[1]

    # the world as the operator has it

    def world(self, kube: Kube) -> World:
        """The five ports over a Kubernetes API."""
        return World(
            records=KubeRecords(kube, manager="modelyard"),
            registry=self.registry,
            arms=KubeArms(kube, SETTINGS, clock=lambda: self.now),
            router=RouteRouter(kube, self.counters, clock=lambda: self.now),
            counters=self.counters,
        )

    # time

    def pass_time(self, seconds: float = 1.0) -> None:
        """Traffic follows the routes in force, then controllers and gateway catch up."""
        self.now += seconds
        self._traffic(int(self.rps * seconds))
        self.controllers.settle()
        if self.controllers.gateway:
            self.in_force = {arm: share for arm, share in self.asked.items() if share}
        self.check()

    def _traffic(self, requests: int) -> None:
        arms, trusted = self.arms(), self._trusted()
        for arm, share in self.in_force.items():
            count = requests * share // 100
            found = arms.get(arm)
            ready = 0 if found is None else self.ready(arm)
            if not ready and arm in trusted:
                self.unanswered += count
            digest = "" if found is None else found["metadata"]["annotations"][DIGEST_ANNOTATION]
            errors = round(count * self.errors.get(digest, 0.0)) if ready else count
            self.counters.serve(KEY, arm, at=self.now, requests=count, errors=errors)

    # what always holds (design, section 4), whoever acts and however late

    def check(self) -> None:
        """The invariants over all that is stored now, if it is not what they were seen to hold of last."""
        if self._checked == (self.kube.revision, self.in_force):
            return
        self._checked = self.kube.revision, self.in_force
        asked, arms = self.asked, self.arms()
        assert not asked or sum(asked.values()) == 100, f"weights that do not sum to 100: {asked}"
        for arm, share in {**asked, **self.in_force}.items():
            assert not share or arm in arms, f"{share} % to arm {arm}, which is not there"
            assert not share or arms[arm]["spec"].get("replicas", 1), f"{share} % to arm {arm}, which has no replicas"
        rollouts = [(each["metadata"]["name"], each) for each in self.kube.peek(MODEL_ROLLOUT)]
        running = 0
        for name, each in rollouts:
            phase = Phase((each.get("status") or {}).get("phase", "Pending"))
            before = self._phases.get(name, Phase.PENDING)
            assert phase is before or leads_to(before, phase), f"{name}: {before} → {phase}"
            if phase is Phase.SUCCESSFUL and before is not phase:
                self._succeeded(each)
            self._phases[name] = phase
            running += phase not in (Phase.SUCCESSFUL, Phase.FAILED)
        assert running <= 1, "two attempts are under way"
        stable = self._trusted()[-1:]
        for arm in stable:
            assert arm in arms, f"stable arm {arm} is gone"
            wished = self.found(MODEL_DEPLOYMENT, MODEL)
            if wished is not None and self.in_force.get(arm):
                assert arms[arm]["spec"].get("replicas", 1) >= 1, f"stable arm {arm} was scaled to nothing"

    def _succeeded(self, rollout: Object) -> None:
        spec, status, name = rollout["spec"], rollout["status"], rollout["metadata"]["name"]
        assert self.in_force == {spec["arm"]: 100}, f"{name} is Successful while traffic goes to {self.in_force}"
        asked_for = spec.get("promote") or not spec.get("steps")
        assert asked_for or status.get("passed"), f"{name} is Successful without evidence"

    def _trusted(self) -> list[str]:
        rollouts = self.kube.peek(MODEL_ROLLOUT)
        return [each["spec"]["arm"] for each in rollouts if (each.get("status") or {}).get("phase") == "Successful"]

    def _put(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        metadata = {"name": name, "namespace": NAMESPACE}
        thing = {"apiVersion": "modelyard.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
        with self.controllers.unseen():
            self.kube.apply(thing, manager="kubectl", force=True)
