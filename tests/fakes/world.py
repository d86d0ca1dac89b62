"""A whole world in memory: one model, its versions, traffic that follows the weights, and what must always hold."""

import hashlib
from dataclasses import replace

from tests.fakes.arms import FakeArms
from tests.fakes.counters import FakeCounters
from tests.fakes.plain_registry import PlainRegistry
from tests.fakes.records import FakeRecords, Stored
from tests.fakes.router import FakeRouter

from modelyard.registry.port import Version
from modelyard.rollout.loop import look
from modelyard.rollout.observation import Memory, Trouble, arm_name
from modelyard.rollout.ports import Queries, World
from modelyard.rollout.states import TRANSITIONS, has_ended
from modelyard.spec.deployment import DeploymentSpec, ModelDeployment, ModelRef
from modelyard.spec.metadata import Metadata
from modelyard.spec.rollout import ModelRollout, Phase

KEY = "default/digits"
MODEL = "digits"


def digest_of(version: str) -> str:
    """The digest of a version, made up."""
    return "sha256:" + hashlib.sha256(version.encode()).hexdigest()


def leads_to(before: Phase, after: Phase) -> bool:
    """Whether the table has a way from one phase to the other; one look may go more than one step of it."""
    return any(line.before is before and (line.after is after or leads_to(line.after, after)) for line in TRANSITIONS)


class FakeWorld:
    """The five ports, a clock, and traffic."""

    def __init__(self, *, rps: int = 200) -> None:
        self.now = 1_000_000.0
        self.rps = rps
        self.records, self.arms, self.counters = FakeRecords(), FakeArms(), FakeCounters()
        self.router = FakeRouter(self.arms)
        self.registry = PlainRegistry()
        self.queries: Queries | None = None
        self.errors: dict[str, float] = {}
        """Share of failing requests by digest."""
        self.latency: dict[str, float] = {}
        self.memory: dict[str, Memory] = {}
        self.troubles: dict[str, Trouble] = {}
        self.served: dict[str, int] = {}
        """Requests by version."""
        self.unanswered: dict[str, int] = {}
        """Requests by version that met an arm without a ready replica."""
        self.arms.before_retire = self._may_retire
        self.records.before_write = self._may_write

    @classmethod
    def with_stable(cls, **spec: object) -> "FakeWorld":
        """Version 1 is stable under this wish, and all is at rest."""
        world = cls()
        world.wish(**spec)
        world.bring("1")
        return world

    # what people do

    def wish(self, **spec: object) -> None:
        """Apply a ModelDeployment: new, or with other fields."""
        before = self.records.deployment(KEY)
        if before is None:
            first = DeploymentSpec(model=ModelRef(name=MODEL, alias="champion"))
            before = ModelDeployment(metadata=Metadata(name=MODEL), spec=first)
        self.records.write(replace(before, spec=replace(before.spec, **spec)))  # type: ignore[arg-type]

    def version(self, number: str, *, errors: float = 0.0, latency_ms: float = 20.0) -> Version:
        """Register a version that behaves so."""
        digest = digest_of(number)
        self.errors[digest], self.latency[digest] = errors, latency_ms
        return self.registry.add(MODEL, number, digest)

    def alias(self, number: str | None) -> None:
        """Move the alias by hand."""
        self.registry.aliases[MODEL, "champion"] = number

    def patch(self, changed: ModelRollout) -> None:
        """What a command writes."""
        self.records.write(changed)

    # what is to be seen

    @property
    def deployment(self) -> ModelDeployment:
        found = self.records.deployment(KEY)
        assert found is not None
        return found

    @property
    def rollouts(self) -> tuple[ModelRollout, ...]:
        return self.records.rollouts(KEY)

    @property
    def attempt(self) -> ModelRollout:
        """The newest attempt."""
        return self.rollouts[-1]

    @property
    def stable(self) -> str | None:
        """The version that is stable by its status."""
        stable = self.deployment.status.stable
        return None if stable is None else stable.version

    def arm_of(self, number: str) -> str:
        return arm_name(digest_of(number), self.deployment.spec)

    def weight_of(self, number: str) -> int:
        """What requests follow."""
        return self.router.confirmed.get(KEY, {}).get(self.arm_of(number), 0)

    def condition(self, name: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        return next((each.status, each.reason) for each in self.deployment.status.conditions if each.type == name)

    # what always holds, whoever acts and however late

    def _may_retire(self, key: str, name: str) -> None:
        assert name not in self.router.asked.get(key, {}), f"arm {name} is retired while the route names it"
        assert name not in self.router.confirmed.get(key, {}), f"arm {name} is retired while the router knows it"
        trusted = [each.spec.arm for each in self.rollouts if each.status.phase is Phase.SUCCESSFUL]
        assert name not in trusted[-1:], f"stable arm {name} is retired"

    def _may_write(self, before: Stored | None, after: Stored) -> None:
        if not isinstance(after, ModelRollout) or not isinstance(before, ModelRollout):
            return
        then, now, name = before.status.phase, after.status.phase, after.metadata.name
        assert then == now or leads_to(then, now), f"{name}: {then} → {now}"
        if now is Phase.SUCCESSFUL and then is not now:
            shares = {arm: share for arm, share in self.router.confirmed.get(KEY, {}).items() if share}
            assert shares == {after.spec.arm: 100}, f"{name} is Successful while traffic goes to {shares}"
            asked_for = after.spec.promote or not after.spec.steps
            assert asked_for or after.status.passed is not None, f"{name} is Successful without evidence"
        if now is Phase.FAILED and then is not now:
            assert after.spec.arm not in self.router.asked.get(KEY, {})
            assert after.status.verdict is not None

    @property
    def acts(self) -> int:
        """All that was ever changed from outside."""
        return self.records.writes + self.arms.acts + self.router.acts + self.registry.acts

    # time

    @property
    def world(self) -> World:
        return World(
            records=self.records,
            registry=self.registry,
            arms=self.arms,
            router=self.router,
            counters=self.counters,
            queries=self.queries,
            memory=self.memory,
            troubles=self.troubles,
        )

    @property
    def tags(self) -> dict[str, str]:
        return {number: each.tags.get("modelyard.rollout", "") for (_, number), each in self.registry.known.items()}

    def look(self) -> float | None:
        """One look of the loop."""
        return look(self.world, KEY, now=self.now)

    def pass_time(self, seconds: float = 0.5) -> None:
        """Traffic follows the weights in force, then servers and the router catch up."""
        self.now += seconds
        self.traffic(int(self.rps * seconds))
        self.arms.settle()
        self.router.settle()

    def traffic(self, requests: int) -> None:
        """Clients send requests."""
        for name, share in self.router.confirmed.get(KEY, {}).items():
            arm = self.arms.there.get(KEY, {}).get(name)
            count = requests * share // 100
            if not count:
                continue
            assert arm is not None, f"traffic to arm {name}, which is not there"
            if not arm.ready:
                self.unanswered[arm.version] = self.unanswered.get(arm.version, 0) + count
            errors = round(count * self.errors.get(arm.digest, 0.0)) if arm.ready else count
            latency = self.latency.get(arm.digest, 20.0)
            self.counters.serve(KEY, name, at=self.now, requests=count, errors=errors, latency_ms=latency)
            self.served[arm.version] = self.served.get(arm.version, 0) + count

    def run(self, *, until: object = None, looks: int = 2000, seconds: float = 0.5) -> None:
        """Look and let time pass until a condition holds, or until nothing is left to do."""
        for _ in range(looks):
            again = self.look()
            for _ in range(10):
                if again is None or again > self.now:
                    break
                again = self.look()
            if until() if callable(until) else (again is None and self.at_rest):
                return
            self.pass_time(seconds)
        raise AssertionError(f"not there after {looks} looks: {self.attempt.status.phase}, {self.router.asked}")

    @property
    def at_rest(self) -> bool:
        return all(has_ended(each) for each in self.rollouts)

    def bring(self, number: str, **behaviour: float) -> None:
        """Register a version, let the alias name it, and run until all is at rest."""
        self.version(number, **behaviour)
        self.alias(number)
        self.run()

    def begin(self, number: str, *, until: object) -> None:
        """Register a version, let the alias name it, and run until a condition holds."""
        self.version(number)
        self.alias(number)
        self.run(until=until)

    def phase(self, phase: Phase) -> object:
        """For `run(until=…)`: the newest attempt is in this phase."""
        return lambda: bool(self.rollouts) and self.attempt.status.phase is phase
