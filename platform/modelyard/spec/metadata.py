"""Names and versions that every record on disk or in a cluster carries."""

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from modelyard.record import record

API_VERSION: Final = "modelyard.dev/v1alpha1"


@record
class Metadata:
    """The part of Kubernetes' ObjectMeta that we read."""

    name: str
    namespace: str = "default"
    generation: int = 1
    """Grows with each change of `spec`, not of `status`."""
    resource_version: str = ""
    """Changes with every write; empty for what was never stored."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
