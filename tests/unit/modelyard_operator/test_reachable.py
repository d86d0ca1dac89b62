"""A ModelRegistry says whether it answers, and since when; a poll that changes nothing writes nothing."""

from typing import Any

import pytest
from tests.fakes.cluster import FakeKube
from tests.fakes.source import Source

from modelyard.kube.port import MODEL_REGISTRY
from modelyard.spec.metadata import Metadata
from modelyard.spec.objects import from_object
from modelyard.spec.registry import MLflow, ModelRegistry, ModelRegistrySpec, SecretRef
from modelyard_operator.due import Queue
from modelyard_operator.index import Index
from modelyard_operator.metrics import Metrics
from modelyard_operator.polling import Polling
from modelyard_operator.reachable import Reachable
from modelyard_operator.registries import PATIENCE_S, Registries

KEY = "vision/main"


class Scene:
    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.kube, self.source = FakeKube(clock=lambda: self.now), Source()
        looks, index = Queue(), Index()
        self.registries = Registries(self.kube, connect=lambda *_: self.source, clock=lambda: self.now)  # type: ignore[arg-type, return-value]
        self.polling = Polling(
            self.registries, polls=Queue(), looks=looks, index=index, metrics=Metrics(index, looks),
            reachable=Reachable(self.kube, clock=lambda: self.now), leading=lambda: True,
        )  # fmt: skip
        self.spec()

    def spec(self, **mlflow: Any) -> None:
        made = ModelRegistrySpec(mlflow=MLflow(tracking_uri="http://mlflow.test", **mlflow))
        self.registries.put(KEY, ModelRegistry(metadata=Metadata(name="main", namespace="vision"), spec=made))
        about = {"name": "main", "namespace": "vision"}
        secret = {"credentialsSecretRef": {"name": "mlflow"}} if mlflow else {}
        spec = {"type": "MLflow", "mlflow": {"trackingURI": "http://mlflow.test", **secret}}
        self.kube.apply({"apiVersion": MODEL_REGISTRY.api_version, "kind": "ModelRegistry", "metadata": about,
                         "spec": spec}, manager="kubectl", force=True)  # fmt: skip

    def polls(self, times: int = 1, every: float = 5.0) -> None:
        for _ in range(times):
            self.now += every
            self.polling.turn(KEY)

    def said(self) -> tuple[str, str, str]:
        found = self.kube.get(MODEL_REGISTRY, "vision", "main")
        assert found is not None
        (ready,) = from_object(ModelRegistry, found).status.conditions
        return ready.status, ready.reason, ready.message


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_registry_that_answers_says_so_once(scene: Scene) -> None:
    scene.polls()
    assert scene.said()[:2] == ("True", "Answers")
    writes = scene.kube.writes
    scene.polls(100)
    assert scene.kube.writes == writes


def test_one_that_is_away_says_why_and_when_it_was_last_read_until_it_is_back(scene: Scene) -> None:
    scene.polls()
    scene.source.away = True
    scene.polls(2)
    assert scene.said()[0] == "True", "a lost poll is no news"
    scene.polls(round(PATIENCE_S / 5))
    status, reason, message = scene.said()
    assert (status, reason) == ("False", "RegistryUnavailable")
    assert message.endswith("last read at 1970-01-12T13:46:45Z")
    writes = scene.kube.writes
    scene.polls(720)
    assert scene.kube.writes == writes, "an hour away is one write"
    scene.source.away = False
    scene.polls()
    assert scene.said()[:2] == ("True", "Answers")


def test_a_secret_that_is_not_there_is_named(scene: Scene) -> None:
    scene.spec(credentials_secret_ref=SecretRef(name="mlflow"))
    scene.polls()
    assert scene.said()[:2] == ("False", "RegistryUnavailable")
    assert "there is no Secret mlflow in namespace vision" in scene.said()[2]


def test_another_spec_is_another_generation_and_no_transition(scene: Scene) -> None:
    scene.polls()
    found: Any = scene.kube.get(MODEL_REGISTRY, "vision", "main")
    before = found["status"]["conditions"][0]
    found["spec"]["pollInterval"] = "9s"
    scene.kube.replace(found, manager="kubectl")
    scene.polls()
    (after,) = (scene.kube.get(MODEL_REGISTRY, "vision", "main") or {})["status"]["conditions"]
    assert after["observedGeneration"] == before["observedGeneration"] + 1
    assert after["lastTransitionTime"] == before["lastTransitionTime"]
