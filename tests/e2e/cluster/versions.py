"""Versions of digits: trained, gated and packaged here, registered in the cluster's MLflow and S3."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.e2e.cluster.site import ROOT

from modelyard.project import Project

if TYPE_CHECKING:
    from modelyard.registry.mlflow import MLflowRegistry

MODEL: Final = "digits"
RECIPES: Final[Mapping[str, Mapping[str, str]]] = {
    "1": {"train.recipe.use": "recipe.py:Mlp"},
    "2": {"train.recipe.use": "recipe.py:Cnn"},
    "3": {"train.recipe.use": "recipe.py:AugmentedCnn"},
    "4": {"train.recipe.use": "recipe.py:Cnn", "train.seed": "4"},
}
"""The third fails live."""


class Versions:
    """A project whose versions go to one MLflow.

    Args:
        folder: kept between runs: stages whose inputs did not change are taken from there.
    """

    def __init__(self, folder: Path) -> None:
        shutil.copytree(ROOT / "examples" / "digits", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        self._folder = folder
        self.uri = ""
        """Of the MLflow."""

    def at(self, uri: str, *, s3: str, key: str, secret: str) -> "Versions":
        """Register there from now on."""
        os.environ |= {
            "MLFLOW_S3_ENDPOINT_URL": s3, "AWS_ENDPOINT_URL": s3, "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        self.uri = uri
        return self

    def register(self, version: str) -> str:
        """Make one, as `modelyard run --tracking-uri URI --until register` does; gives its number in MLflow."""
        run = self._project(RECIPES[version]).run(until="register", tracking_uri=self.uri)
        assert run.version is not None, f"{run}: {run.verdict}"
        return run.version

    def known(self, model: str = MODEL) -> tuple[str, ...]:
        """Numbers of all that are registered."""
        return tuple(each.version for each in self._registry().versions(model))

    def champion(self) -> str | None:
        """What the alias names."""
        from modelyard.registry.port import Version

        found = self._registry().resolve(MODEL, "champion")
        return found.version if isinstance(found, Version) else None

    def promote(self, version: str) -> None:
        """Move the alias, as a person does in MLflow's pages."""
        self._registry().move_alias(MODEL, "champion", version, expected=self.champion())

    def _registry(self) -> "MLflowRegistry":
        from modelyard.registry.mlflow import MLflowRegistry

        return MLflowRegistry(self.uri)

    def _project(self, changes: Mapping[str, str]) -> Project:
        return Project.load(self._folder, set={**changes, "compress.timeBudget": "5s"})
