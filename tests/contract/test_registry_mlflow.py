"""What MLflow brings with it: doubles, requests, restarts, what pyfunc loads, what a killed registration leaves."""

import secrets
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
from tests.contract.registries import MLflowServer, MLflowWorld, candidate
from tests.fakes.small_model import image_of, model_folder

from modelyard.errors import Unavailable
from modelyard.processes import free_port
from modelyard.registry.port import Version
from modelyard.registry.promote import promote
from modelyard.registry.rest import RestRegistry
from modelyard.verdict import Reason, Verdict


@pytest.mark.process
def test_all_aliases_of_a_registry_come_in_one_request_for_a_thousand_models(
    mlflow_world: MLflowWorld, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search of versions gives no aliases (mlflow/mlflow #16734); one of models does."""
    for at, content in enumerate((b"one", b"two")):
        mlflow_world.registry.register(candidate(tmp_path / str(at), model, content))
    promote(mlflow_world.registry, model, "2", "champion")
    promote(mlflow_world.registry, model, "1", "candidate")
    mlflow_world.registry.register(candidate(tmp_path / "other", f"{model}-other", b"other"))
    rest = RestRegistry(mlflow_world.registry.uri)
    asked: list[str] = []
    send = httpx.Client.send
    monkeypatch.setattr(
        httpx.Client,
        "send",
        lambda self, request, **rest: (asked.append(str(request.url)), send(self, request, **rest))[1],
    )
    assert rest.aliases()[model] == {"champion": "2", "candidate": "1"}
    assert len(asked) == 1
    monkeypatch.setattr("modelyard.registry.rest.PAGE", 1)
    assert rest.aliases()[model] == {"champion": "2", "candidate": "1"}
    assert len(asked) >= 1 + 2, "pages are followed to the last"
    rest.close()


@pytest.mark.process
def test_a_double_that_a_killed_writer_left_is_removed(mlflow_world: MLflowWorld, tmp_path: Path, model: str) -> None:
    import modelyard.registry.mlflow as home

    given = candidate(tmp_path, model)
    first = mlflow_world.registry.register(given)
    mlflow_world.by_hand(first, tags={home.DIGEST: given.digest})
    assert len(mlflow_world.registry.versions(model)) == 2
    assert mlflow_world.registry.register(given) == first
    assert len(mlflow_world.registry.versions(model)) == 2, "its writer may still be alive"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(home, "ABANDONED_S", -10.0)
        assert mlflow_world.registry.register(given) == first
    assert len(mlflow_world.registry.versions(model)) == 1


@pytest.mark.process
def test_a_version_registered_by_hand_is_no_target(mlflow_world: MLflowWorld, tmp_path: Path, model: str) -> None:
    mlflow_world.by_hand(mlflow_world.registry.register(candidate(tmp_path, model)), tags={})
    promote(mlflow_world.registry, model, "2", "champion")
    named = mlflow_world.registry.resolve(model, "champion")
    assert isinstance(named, Verdict)
    assert named.reason == Reason.ARTIFACT_MISSING
    assert promote(mlflow_world.registry, model, "1", "champion") == "2", "the way back is open"


@pytest.mark.process
def test_the_alias_is_asked_for_in_one_request(
    mlflow_world: MLflowWorld, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    mlflow_world.registry.register(candidate(tmp_path, model))
    promote(mlflow_world.registry, model, "1", "champion")
    asked: list[str] = []
    send = requests.Session.send
    monkeypatch.setattr(
        requests.Session,
        "send",
        lambda self, request, **rest: (asked.append(request.url), send(self, request, **rest))[1],
    )
    assert isinstance(mlflow_world.registry.resolve(model, "champion"), Version)
    assert len(asked) == 1


@pytest.mark.process
def test_a_registry_that_is_away_is_told_within_seconds(tmp_path: Path, model: str) -> None:
    from modelyard.registry.mlflow import MLflowRegistry

    registry = MLflowRegistry(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    for ask in (
        lambda: registry.resolve(model, "champion"),
        lambda: registry.versions(model),
        lambda: registry.register(candidate(tmp_path, model)),
        lambda: registry.move_alias(model, "champion", "1", expected=None),
        lambda: registry.fetch(Version(model=model, version="1", digest="sha256:0", source="models:/m-1"), tmp_path),
    ):
        with pytest.raises(Unavailable, match="is away"):
            ask()
    assert time.monotonic() - began < 10
    assert not list(tmp_path.glob(".*")), "nothing is left behind"


@pytest.mark.process
@pytest.mark.parametrize("installed", [True, False], ids=["where Modelyard is installed", "where only the model is"])
def test_pyfunc_loads_the_champion_in_another_process(
    mlflow_world: MLflowWorld, tmp_path: Path, model: str, installed: bool
) -> None:
    given = replace(candidate(tmp_path, model, secrets.token_bytes(8)), folder=str(model_folder(tmp_path / "real")))
    mlflow_world.registry.register(given)
    promote(mlflow_world.registry, model, "1", "champion")
    script = tmp_path / "notebook.py"
    script.write_text(
        "import sys\n"
        + ("" if installed else "sys.path[:] = [p for p in sys.path if not p.endswith('/platform')]\n")
        + "import mlflow, json, pandas as pd, importlib.util\n"
        f"mlflow.set_tracking_uri({mlflow_world.registry.uri!r})\n"
        f"champion = mlflow.pyfunc.load_model('models:/{model}@champion')\n"
        f"image = {image_of(2).tolist()!r}\n"
        "rows = champion.predict([{'image': image}, {'image': image}])\n"
        "one = champion.predict({'image': image})\n"
        "frame = champion.predict(pd.DataFrame({'image': [image]}, index=[7]))\n"
        "print(json.dumps([rows[1]['label'], one[0]['label'], frame.label[7], len(rows)]))\n"
        + (
            "import modelyard.units\n"
            if installed
            else "assert 'modelyard_carried' in sys.modules['modelyard'].__file__\n"
        )
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '["right", "right", "right", 2]'


@pytest.mark.process
def test_mlflow_answers_on_loopback_only_and_keeps_state_over_a_restart(
    mlflow: MLflowServer, tmp_path: Path, model: str
) -> None:
    from modelyard.registry.mlflow import MLflowRegistry

    made = MLflowRegistry(mlflow.uri).register(candidate(tmp_path, model))
    bound = {c.laddr.ip for c in psutil.Process(mlflow.child.pid).net_connections("inet") if c.status == "LISTEN"}
    assert bound == {"127.0.0.1"}
    before = mlflow.child
    mlflow.restart()
    assert not before.alive()
    assert MLflowRegistry(mlflow.uri).versions(model) == (made,)
    assert httpx.get(mlflow.uri, timeout=5).status_code == 200


@pytest.mark.process
def test_what_a_killed_registration_uploaded_can_be_found_and_forgotten(
    mlflow_world: MLflowWorld, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import modelyard.registry.mlflow as home

    registry = mlflow_world.registry
    kept = registry.register(candidate(tmp_path / "kept", model))
    left = registry._upload(candidate(tmp_path / "left", model, b"other"))
    assert left not in registry.orphans(), "its writer may still be alive"
    monkeypatch.setattr(home, "ABANDONED_S", -10.0)
    assert left in registry.orphans()
    assert kept.source.removeprefix("models:/") not in registry.orphans()
    registry.forget(left)
    assert left not in registry.orphans()
    assert registry.fetch(kept, tmp_path / "fetched").read_bytes() == b"archive"
