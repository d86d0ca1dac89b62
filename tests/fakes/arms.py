"""Arms in memory. Nothing is ready before `settle`, and what is broken never is."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from modelyard.errors import Conflict
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.observation import Arm
from modelyard.verdict import Verdict


class FakeArms:
    """The `Arms` port. An arm that was asked for is ready after `settle`; one that was retired is gone after it."""

    def __init__(self) -> None:
        self.there: dict[str, dict[str, Arm]] = {}
        self.broken: dict[str, Verdict | None] = {}
        """Digests that cannot become ready, and what is known about why."""
        self.acts = 0
        self.before_retire: Callable[[str, str], None] = lambda _key, _name: None
        """What must hold when an arm is retired."""

    def arms(self, key: str) -> Mapping[str, Arm]:
        return dict(self.there.get(key, {}))

    def ensure(self, key: str, arm: EnsureArm) -> None:
        assert arm.replicas >= 1, "an arm is never scaled to nothing: it is retired"
        mine = self.there.setdefault(key, {})
        before = mine.get(arm.name)
        if (before.resource_version if before else "") != arm.expected:
            raise Conflict(f"arm {arm.name} changed since it was read", do="look again")
        if before is not None:
            assert before.digest == arm.digest, "one name, two digests"
            if (before.replicas, before.rollout) == (arm.replicas, arm.rollout):
                return
            ready = min(before.ready, arm.replicas)
            after = replace(before, replicas=arm.replicas, ready=ready, rollout=arm.rollout)
        else:
            after = Arm(
                name=arm.name,
                version=arm.version,
                digest=arm.digest,
                replicas=arm.replicas,
                ready=0,
                rollout=arm.rollout,
            )
        self.acts += 1
        mine[arm.name] = replace(after, resource_version=str(self.acts))

    def retire(self, key: str, name: str, *, expected: str) -> None:
        before = self.there.get(key, {}).get(name)
        if before is None:
            return
        if before.resource_version != expected:
            raise Conflict(f"arm {name} changed since it was read", do="look again")
        if before.replicas:
            self.before_retire(key, name)
            self.acts += 1
            self.there[key][name] = replace(before, replicas=0, resource_version=str(self.acts))

    # what happens in the world

    def settle(self) -> None:
        """Let everything that can become ready be so."""
        for mine in self.there.values():
            for name, arm in list(mine.items()):
                if not arm.replicas:
                    del mine[name]
                elif arm.digest in self.broken:
                    mine[name] = replace(arm, ready=0, failure=self.broken[arm.digest])
                else:
                    mine[name] = replace(arm, ready=arm.replicas, failure=None)

    def crash(self, key: str, name: str) -> None:
        """All replicas of an arm die; they come back with `settle`."""
        if name in self.there.get(key, {}):
            self.there[key][name] = replace(self.there[key][name], ready=0)
