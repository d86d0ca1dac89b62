"""Kubeflow's artifacts without Kubeflow: a place and metadata, as a step is given them."""

import json
from pathlib import Path
from typing import Any


class FakeArtifact:
    """Of any type; what a step logs of metrics is kept."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = str(folder / name)
        self.uri = f"s3://artifacts/{name}"
        self.metadata: dict[str, Any] = {}
        self.numbers: dict[str, float] = {}
        self.confusion: Any = None

    def log_metric(self, name: str, value: float) -> None:
        self.numbers[name] = value

    def log_confusion_matrix(self, classes: list[str], matrix: list[list[int]]) -> None:
        self.confusion = (classes, matrix)

    def text(self) -> str:
        return Path(self.path).read_text("utf-8")

    def handed_on(self) -> "FakeArtifact":
        """As the next step gets it: metadata went through a Struct, in which every number is a double."""
        taken = FakeArtifact(Path(self.path).parent, Path(self.path).name)
        taken.metadata = json.loads(json.dumps(self.metadata), parse_int=float)
        return taken
