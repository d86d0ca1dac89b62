"""Versions of digits: trained, gated and packaged here, registered in the cluster's MLflow and S3."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.e2e.cluster.site import ROOT

from modelyard.project import Project
from modelyard.training.job import Tracking

if TYPE_CHECKING:
    from modelyard.registry.mlflow import MLflowRegistry
    from modelyard.rollout.ports import Records

MODEL: Final = "digits"
RECIPES: Final[Mapping[str, str]] = {"1": "recipe.py:Mlp", "2": "recipe.py:Cnn", "3": "recipe.py:AugmentedCnn"}


class Shared:
    """A registry that is there already, in place of the one that a laptop starts for itself."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def registry(self) -> "MLflowRegistry":
        """At its address."""
        from modelyard.registry.mlflow import MLflowRegistry

        return MLflowRegistry(self._uri)

    def records(self) -> "Records":
        """None: runs end with the version."""
        raise AssertionError("the operator rolls out, not this run")

    def tracking(self) -> Tracking | None:
        """No curves."""
        return None

    def alive(self) -> bool:
        """A rollout loop: none."""
        return False

    def give_up(self) -> None:
        """Nothing was started."""


class Versions:
    """A project whose versions go to one MLflow.

    Args:
        folder: kept between runs: stages whose inputs did not change are taken from there.
    """

    def __init__(self, folder: Path) -> None:
        shutil.copytree(ROOT / "examples" / "digits", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        self._folder = folder
        self._shared: Shared | None = None

    def prepare(self) -> None:
        """Train and evaluate all of them."""
        for recipe in RECIPES.values():
            self._project(recipe).run(until="evaluate")

    def at(self, uri: str, *, s3: str, key: str, secret: str) -> "Versions":
        """Register there from now on."""
        os.environ |= {
            "MLFLOW_S3_ENDPOINT_URL": s3, "AWS_ENDPOINT_URL": s3, "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        self._shared = Shared(uri)
        return self

    def register(self, version: str) -> str:
        """Make one, as `modelyard run --until register` does; gives its number in MLflow."""
        assert self._shared is not None
        project, shared = self._project(RECIPES[version]), self._shared
        project._laptop = lambda _walk: shared  # type: ignore[method-assign,assignment,return-value]
        run = project.run(until="register")
        assert run.version is not None, f"{run}: {run.verdict}"
        return run.version

    def champion(self) -> str | None:
        """What the alias names."""
        from modelyard.registry.port import Version

        assert self._shared is not None
        found = self._shared.registry().resolve(MODEL, "champion")
        return found.version if isinstance(found, Version) else None

    def promote(self, version: str) -> None:
        """Move the alias, as a person does in MLflow's pages."""
        assert self._shared is not None
        self._shared.registry().move_alias(MODEL, "champion", version, expected=self.champion())

    def tags(self, version: str) -> Mapping[str, str]:
        """What is said of a version."""
        assert self._shared is not None
        found = self._shared.registry().versions(MODEL)
        return next(each.tags for each in found if each.version == version)

    def _project(self, recipe: str) -> Project:
        return Project.load(self._folder, set={"train.recipe.use": recipe, "compress.timeBudget": "5s"})
