"""The one job of a training in the cluster: found or made, let go on, suspended, deleted; never a second one."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from modelyard.errors import BadInput, Conflict
from modelyard.kube.metadata import fit, owner_reference
from modelyard.kube.port import POD, Cluster, Object
from modelyard.processes import wait_until
from modelyard.training.apis import Api
from modelyard.training.job import ClusterJob
from modelyard.training.pod import KEY_ANNOTATION, TRAINING_LABEL
from modelyard.training.state import Phase
from modelyard.training.train import Progress

MANAGER: Final = "modelyard-launcher"
SUSPENDED_ANNOTATION: Final = "modelyard.dev/suspended"
"""On a job that a launcher suspended because it was cancelled; the next one lets it go on."""
GONE_S = 180.0
"""How long a job that is deleted may take: its pods may save a checkpoint."""


class TheJob:
    """A job by its name, whether it is there or not."""

    def __init__(self, kube: Cluster, api: Api, described: ClusterJob, say: Progress) -> None:
        self._kube, self._api, self._described, self._say = kube, api, described, say
        self.name, self.namespace, self.kind = described.name, described.namespace, api.kind.kind
        self.labels: dict[str, str | None] = {TRAINING_LABEL: fit(described.name)}
        """Those of its pods."""

    def get(self) -> Object | None:
        """The job; None where it is not there."""
        return self._kube.get(self._api.kind, self.namespace, self.name)

    def begin(self) -> None:
        """Find the job, or make it; never a second one.

        Raises:
            BadInput: there is one of that name which is not ours.
        """
        found = self.get()
        if found is not None and "deletionTimestamp" in found["metadata"]:
            self._say(f"waiting until the {self.kind} before it is gone", None)
            self._await_end()
            found = None
        if found is not None and self._api.state_of(found).phase is Phase.FAILED:
            self._say(f"{self.kind} {self.name} has failed before: starting again", None)
            self.delete()
            found = None
        if found is not None:
            if found["metadata"].get("annotations", {}).get(KEY_ANNOTATION) != self._described.key:
                raise BadInput(f"{self.kind} {self.namespace}/{self.name} is not ours",
                               do="delete or rename it")  # fmt: skip
            self._say(f"found {self.kind} {self.namespace}/{self.name}", None)
            self._resume()
            return
        for _, build in self._api.before:
            with suppress(Conflict):
                self._kube.create(build(self._described), manager=MANAGER)
        with suppress(Conflict):  # another launcher was quicker: it is the same job
            self._kube.create(self._api.job(self._described), manager=MANAGER)
            self._say(f"made {self.kind} {self.namespace}/{self.name}", None)
        self._own_what_it_needs()

    def _own_what_it_needs(self) -> None:
        """Let the runtime go with its job."""
        owner = self.get()
        for kind, _ in self._api.before if owner else ():
            needed: Any = self._kube.get(kind, self.namespace, self.name)
            if owner and needed and not needed["metadata"].get("ownerReferences"):
                needed["metadata"]["ownerReferences"] = [owner_reference(owner, controller=False)]
                with suppress(Conflict):
                    self._kube.replace(needed, manager=MANAGER)

    def _resume(self) -> None:
        """Let a job go on that a launcher suspended; one that waits in a queue goes on waiting."""
        self._own_what_it_needs()
        self._change(lambda found: SUSPENDED_ANNOTATION in (found["metadata"].get("annotations") or {}), suspend=False)

    def suspend(self) -> None:
        """Let it rest until the next launcher lets it go on; one that is over stays so."""
        self._change(lambda found: not self._api.state_of(found).phase.over, suspend=True)

    def _change(self, wanted: Callable[[Object], bool], *, suspend: bool) -> None:
        for _ in range(10):
            found = self.get()
            if found is None or not wanted(found):
                return
            changed: Any = self._api.suspended(found, suspend)
            notes = changed["metadata"].setdefault("annotations", {})
            if suspend:
                notes[SUSPENDED_ANNOTATION] = "true"
            else:
                notes.pop(SUSPENDED_ANNOTATION, None)
            with suppress(Conflict):  # its operator writes too
                self._kube.replace(changed, manager=MANAGER)
                return

    def delete(self, *, wait: bool = True) -> None:
        """Remove it, and what goes with it; with `wait`, until its pods are gone too."""
        self._kube.delete(self._api.kind, self.namespace, self.name)
        if wait:
            self._await_end()
        for kind, _ in self._api.before:
            self._kube.delete(kind, self.namespace, self.name)

    def _await_end(self) -> None:
        def gone() -> bool:
            return self.get() is None and not self._kube.list(POD, namespace=self.namespace, labels=self.labels).items

        wait_until(gone, deadline_s=GONE_S, what=f"the end of {self.kind} {self.name}")
