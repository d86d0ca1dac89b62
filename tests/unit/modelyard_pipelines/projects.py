"""A project with a `pipeline` section."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from modelyard.spec.parse import parse_project_text
from modelyard.spec.project import ModelProject
from modelyard_pipelines.compiling import compiled

IMAGE = "registry.example.com/modelyard/pipelines-python@sha256:" + "0" * 64
TEXT = f"""
kind: ModelProject
metadata: {{name: digits}}
data: {{source: "s3://data/digits.npz", splits: {{train: 0.5, validation: 0.2, test: 0.3}}}}
train:
  recipe: {{use: "recipe.py:Recipe", with: {{width: 16, rate: 0.5, bias: true}}}}
  epochs: 3
gates:
- {{metric: accuracy, atLeast: 0.6}}
- {{metric: accuracy, notWorseThanChampion: {{margin: 0.02}}}}
compress: {{maxDrop: {{accuracy: 0.1}}}}
promote: automatic
pipeline:
  image: {IMAGE}
  store: s3://models/code
"""
PODS = """
image: IMAGE
store: s3://models/code
pullSecrets: [registry]
environment: {MLFLOW_TRACKING_URI: "https://mlflow.example.com", AWS_ENDPOINT_URL: "https://s3.example.com"}
secrets:
- {name: s3, env: {accessKey: AWS_ACCESS_KEY_ID, secretKey: AWS_SECRET_ACCESS_KEY}}
- {name: signing, mount: /etc/signing}
configMaps: [{name: certificates, mount: /etc/certificates}]
claims: [{name: work, mount: /mnt}]
work: /mnt/digits
defaults: {cpu: "1", memory: 2Gi, retries: {most: 2, backoff: 30s, longest: 5m}, nodeSelector: {pool: general}}
steps:
  train:
    cpu: "8"
    memory: 64Gi
    gpus: 2
    gpuType: nvidia.com/gpu
    sharedMemory: 16Gi
    nodeSelector: {pool: gpu}
    tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
    timeout: 6h
  compress: {cache: false}
deployment: vision/digits
notify: https://chat.example.com/hook
"""


def project(changes: Mapping[str, str] | None = None) -> ModelProject:
    """The project, with fields changed as `--set` would."""
    return parse_project_text(TEXT, overrides=changes or {})


def with_pods() -> ModelProject:
    """The project, with all that can be said of its pods."""
    return project({"pipeline": PODS.replace("IMAGE", IMAGE)})


@cache
def compiled_once(name: str) -> str:
    """A compiled pipeline: the whole way with all that can be said of its pods, the others as plain as they can be.

    In a thread, whose stack is short: Kubeflow reads the source of each of its callers, at each field of each task.
    """
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(compiled, with_pods() if name == "train-and-release" else project(), name).result()
