"""Records in memory, as strict as a Kubernetes API: versions, generations, spec and status apart."""

from collections.abc import Callable
from dataclasses import replace

from modelyard.errors import Conflict
from modelyard.spec.deployment import DeploymentStatus, ModelDeployment
from modelyard.spec.rollout import ModelRollout, RolloutStatus

Stored = ModelDeployment | ModelRollout


class FakeRecords:
    """The `Records` port. `writes` counts what changed something."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], Stored] = {}
        self.writes = 0
        self.before_write: Callable[[Stored | None, Stored], None] = lambda _before, _after: None
        """What must hold when a record changes."""

    def keys(self) -> tuple[str, ...]:
        return tuple(sorted(f"{each.metadata.namespace}/{each.metadata.name}" for each in self._all(ModelDeployment)))

    def deployment(self, key: str) -> ModelDeployment | None:
        found = self.stored.get(("ModelDeployment", key))
        assert found is None or isinstance(found, ModelDeployment)
        return found

    def rollouts(self, key: str) -> tuple[ModelRollout, ...]:
        namespace, _, name = key.partition("/")
        mine = [
            each
            for each in self._all(ModelRollout)
            if isinstance(each, ModelRollout) and each.metadata.namespace == namespace and each.spec.deployment == name
        ]
        return tuple(sorted(mine, key=lambda each: each.metadata.name))

    def write(self, record: Stored) -> Stored:
        place = (record.kind, f"{record.metadata.namespace}/{record.metadata.name}")
        before = self.stored.get(place)
        if (before.metadata.resource_version if before else "") != record.metadata.resource_version:
            raise Conflict(f"{record.metadata.name} changed since it was read", do="look again")
        if before is None:
            assert record.status in (DeploymentStatus(), RolloutStatus()), "a record is made with its default status"
            generation = 1
        else:
            assert record.spec == before.spec or record.status == before.status, "spec and status in one write"
            generation = before.metadata.generation + (record.spec != before.spec)
        metadata = replace(record.metadata, generation=generation)
        if before is not None and replace(record, metadata=metadata) == before:
            return before
        self.before_write(before, record)
        self.writes += 1
        written = replace(record, metadata=replace(metadata, resource_version=str(self.writes)))
        self.stored[place] = written
        return written

    def delete(self, record: Stored) -> None:
        place = (record.kind, f"{record.metadata.namespace}/{record.metadata.name}")
        self.writes += self.stored.pop(place, None) is not None

    def _all(self, kind: type[Stored]) -> list[Stored]:
        return [each for each in self.stored.values() if isinstance(each, kind)]
