"""A run whose registry is one that others share: it ends with the alias."""

from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import BadInput
from modelyard.project import Project
from modelyard.registry.port import AliasMoved
from modelyard.runs.champion import Champion
from modelyard.runs.release import Release, Services
from modelyard.runs.services import RemoteServices
from modelyard.runs.walk import Silent, Walk

URI = "https://mlflow.example.com"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "modelyard.yaml").write_text("""
metadata: {name: small}
data: {source: bundled:digits}
train: {recipe: {use: "recipe.py:Recipe"}}
promote: automatic
""")
    (tmp_path / "recipe.py").write_text("class Recipe: ...")
    return Project.load(tmp_path)


class Shared:
    """A registry in memory with two versions; alias `champion` names the first."""

    def __init__(self) -> None:
        self.champion = "1"

    def resolve(self, model: str, alias: str) -> Any:
        return None

    def move_alias(self, model: str, alias: str, version: str, *, expected: str | None) -> None:
        if expected != self.champion:
            raise AliasMoved(alias, model, now=self.champion, expected=expected)
        self.champion = version


class Second:
    version = "2"


def test_the_alias_is_moved_and_nothing_is_wished_on_this_machine(project: Project) -> None:
    shared, remote = Shared(), RemoteServices(URI, project.spec)
    run = project.journal.begin(project.spec, "sha256:0")
    walk = Walk(state=project.state, journal=project.journal, run=run, observer=Silent(), first=None, until=None)
    services = Services(
        registry=lambda: shared,  # type: ignore[arg-type,return-value]
        records=remote.records,
        tracking=remote.tracking,
        alive=remote.alive,
    )
    release = Release(walk=walk, project=project.spec, services=services)
    champion = Champion(version="1")

    release.promote(Second(), champion)  # type: ignore[arg-type]

    assert shared.champion == "2"
    assert not (project.home / "records").exists()


@pytest.mark.parametrize("uri", ["mlruns", "sqlite:///mlflow.db", "mlflow.example.com"])
def test_what_is_no_servers_address_is_refused_before_anything_is_written(project: Project, uri: str) -> None:
    with pytest.raises(BadInput, match="no server's address"):
        project.run(tracking_uri=uri)

    assert not project.state.exists()


def test_a_stage_that_the_cluster_does_is_refused(project: Project) -> None:
    with pytest.raises(BadInput, match="stage rollout is not this run's"):
        project.run(tracking_uri=URI, until="rollout")

    assert not project.state.exists()
