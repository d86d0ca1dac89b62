"""The two kinds of job that a cluster may know, behind one face. Pure."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from modelyard.kube.port import PYTORCH_JOB, TRAIN_JOB, TRAINING_RUNTIME, Kind, Object
from modelyard.training import pytorchjob, trainjob
from modelyard.training.job import ClusterJob
from modelyard.training.state import JobState


@dataclass(frozen=True, kw_only=True)
class Api:
    """One kind of job."""

    kind: Kind
    container: str
    """The one that trains."""
    before: tuple[tuple[Kind, Callable[[ClusterJob], Object]], ...]
    """What must be there before the job, and goes with it."""
    job: Callable[[ClusterJob], Object]
    state_of: Callable[[Object], JobState]
    run_policy: tuple[str, ...]
    """Where `suspend` stands."""

    def suspended(self, job: Object, suspend: bool) -> Object:
        """The job, suspended or let go on."""
        changed: Any = deepcopy(dict(job))
        at = changed
        for step in self.run_policy:
            at = at[step]
        at["suspend"] = suspend
        return dict(changed)


PYTORCH = Api(
    kind=PYTORCH_JOB, container=pytorchjob.CONTAINER, before=(), job=pytorchjob.pytorch_job,
    state_of=pytorchjob.state_of, run_policy=("spec", "runPolicy"),
)  # fmt: skip
TRAINER = Api(
    kind=TRAIN_JOB, container=trainjob.CONTAINER, before=((TRAINING_RUNTIME, trainjob.training_runtime),),
    job=trainjob.train_job, state_of=trainjob.state_of, run_policy=("spec",),
)  # fmt: skip
APIS = (PYTORCH, TRAINER)
"""In the order in which they are taken where a cluster knows both."""
