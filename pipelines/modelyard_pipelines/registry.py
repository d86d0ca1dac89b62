"""The model registry as a pod of a pipeline reaches it."""

import os
from pathlib import Path
from typing import Any, cast

from modelyard.registry.port import Candidate, Version
from modelyard.registry.rest import Credentials, RestRegistry


class PodRegistry(RestRegistry):
    """Over REST; MLflow's own client, whose import takes seconds, only where bytes are moved."""

    def __init__(self, uri: str) -> None:
        known = Credentials(
            username=os.environ.get("MLFLOW_TRACKING_USERNAME", ""),
            password=os.environ.get("MLFLOW_TRACKING_PASSWORD", ""),
            token=os.environ.get("MLFLOW_TRACKING_TOKEN", ""),
        )
        super().__init__(uri, workspace=os.environ.get("MLFLOW_WORKSPACE", ""), credentials=known)

    def register(self, candidate: Candidate) -> Version:
        """The one version with the candidate's digest."""
        return cast("Version", self._whole().register(candidate))

    def fetch(self, version: Version, into: Path) -> Path:
        """The archive of a version, its digest verified."""
        return cast("Path", self._whole().fetch(version, into))

    def _whole(self) -> Any:
        from modelyard.registry.mlflow import MLflowRegistry  # noqa: PLC0415

        return MLflowRegistry(self.uri)
