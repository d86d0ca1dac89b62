"""How far a job on a cluster is, whichever operator runs it. Pure."""

from enum import StrEnum

from modelyard.record import record


class Phase(StrEnum):
    """Where a job stands."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    """By a person, or until its queue has room."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def over(self) -> bool:
        """Whether nothing more happens."""
        return self in (Phase.SUCCEEDED, Phase.FAILED)


@record
class JobState:
    """What the operator says of a job."""

    phase: Phase
    reason: str = ""
    message: str = ""
