"""ModelDeployments of three kinds, and an arm of each."""

from typing import Any

from modelyard.kube.port import Object
from modelyard.rollout.cluster.render import Settings
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.observation import arm_name
from modelyard.spec.deployment import DeploymentSpec, ModelDeployment
from modelyard.spec.metadata import Metadata
from modelyard.spec.parse import parse_deployment
from modelyard.spec.registry import S3, Artifacts, MLflow, ModelRegistry, ModelRegistrySpec, SecretRef

DIGEST = "sha256:" + "ab" * 32
SETTINGS = Settings(serving_image="modelyard/serving:1.0")
REGISTRY = ModelRegistry(
    metadata=Metadata(name="main", namespace="vision"),
    spec=ModelRegistrySpec(
        mlflow=MLflow(tracking_uri="https://mlflow.example.com", credentials_secret_ref=SecretRef(name="mlflow")),
        artifacts=Artifacts(
            s3=S3(endpoint="https://s3.example.com", region="eu", credentials_secret_ref=SecretRef(name="s3"))
        ),
    ),
)
HEAD = "apiVersion: modelyard.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: digits, namespace: vision}\nspec:\n"
PLAIN = (
    HEAD
    + """
  model: {name: digits, alias: champion}
"""
)
FULL = (
    HEAD
    + """
  model: {name: digits, alias: champion, verification: {signature: Required, trustedKeys: [a2V5]}}
  runtime: {torchServe: {workers: 2, batchSize: 8, maxBatchDelay: 20ms}}
  podTemplate:
    metadata: {labels: {team: vision}, annotations: {prometheus.io/scrape: "false"}}
    spec:
      nodeSelector: {gpu: a100}
      tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
      imagePullSecrets: [{name: pull}]
      priorityClassName: serving
      containers:
      - name: server
        resources: {requests: {cpu: "4", memory: 8Gi}, limits: {nvidia.com/gpu: "1"}}
        env: [{name: OMP_NUM_THREADS, value: "4"}]
        volumeMounts: [{name: cache, mountPath: /cache}]
      - {name: sidecar, image: "log-shipper:1"}
      volumes: [{name: cache, emptyDir: {}}]
  autoscaling: {minReplicas: 2, maxReplicas: 20, metric: {type: QueueLatency, queueLatency: {average: 40ms}}}
  traffic:
    parentRefs: [{name: public, namespace: infra, sectionName: https}]
    hostnames: [digits.example.com]
    matches: [{path: {type: PathPrefix, value: /digits}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-team, value: vision}]}}]
    timeout: 1500ms
    retries: 2
"""
)
QUERY = (
    HEAD
    + """
  model: {name: digits, version: "7"}
  autoscaling:
    minReplicas: 1
    maxReplicas: 4
    metric:
      type: Prometheus
      prometheus: {serverAddress: "http://prometheus:9090", query: "sum(rate(x[1m]))", threshold: "50"}
  traffic: {parentRefs: [{name: public}], gateway: Other}
"""
)


def spec_of(text: str) -> DeploymentSpec:
    return parse_deployment(text).spec


def owner(name: str = "digits", *, uid: str = "u-1") -> Object:
    """The ModelDeployment as the API gives it."""
    about: dict[str, Any] = {"name": name, "namespace": "vision", "uid": uid, "resourceVersion": "1", "generation": 1}
    return {"apiVersion": "modelyard.dev/v1alpha1", "kind": ModelDeployment.__name__, "metadata": about, "spec": {}}


def arm(spec: DeploymentSpec, *, version: str = "7", digest: str = DIGEST, replicas: int = 2, **more: Any) -> EnsureArm:
    name = arm_name(digest, spec)
    return EnsureArm(
        name=name, version=version, digest=digest, replicas=replicas, serving=spec, rollout="digits-00001", **more
    )
