"""The structure of a pipeline's pods, from the project's `pipeline` section: fixed when it is compiled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

from kfp import dsl, kubernetes

from modelyard.spec.pipeline import Pipeline, Retries, StepPod
from modelyard.units import Duration
from modelyard_pipelines.components.choose import choose
from modelyard_pipelines.components.compress import compress
from modelyard_pipelines.components.ended import inconclusive, skipped, unchanged, waiting
from modelyard_pipelines.components.evaluate import evaluate
from modelyard_pipelines.components.evaluate_version import evaluate_version
from modelyard_pipelines.components.gate import gate
from modelyard_pipelines.components.look import look
from modelyard_pipelines.components.package import package
from modelyard_pipelines.components.prepare import prepare
from modelyard_pipelines.components.promote import promote
from modelyard_pipelines.components.register import register
from modelyard_pipelines.components.rollout import rollout
from modelyard_pipelines.components.summarize import summarize
from modelyard_pipelines.components.train import train

FUNCTIONS: tuple[Callable[..., Any], ...] = (
    look, prepare, train, evaluate, gate, compress, package, register, promote, rollout, skipped, inconclusive,
    summarize, choose, evaluate_version, unchanged, waiting,
)  # fmt: skip
CACHED = ("prepare", "train", "evaluate", "compress", "package")
"""What depends on nothing but its inputs. The others ask the registry, or tell of this one run."""
NVIDIA = "nvidia.com/gpu"
JOB_LABEL = "metadata.labels['pipeline/runid']"
"""What Kubeflow calls the run, on each of its pods. As a parameter it would be part of every cache key."""


@dataclass(frozen=True)
class Steps:
    """Steps of one project's pipelines: a call makes a task, dressed as its file says."""

    pipeline: Pipeline

    def __call__(self, name: str, /, *, title: str = "", **inputs: Any) -> Any:
        """A task of the component of that name.

        Args:
            name: the component, `train`.
            title: what the UI shows; the name when absent.
            inputs: of the component.
        """
        task = components(self.pipeline.image)[name](**inputs)
        dress(task, name, self.pipeline)
        return task.set_display_name(title or name)


@cache
def components(image: str) -> Mapping[str, Any]:
    """All components with one image. Nothing is installed when a step starts: what runs is what the digest names.

    Made once: each reads and tokenizes its function's source, and a pipeline asks for each of its steps.
    """
    make = dsl.component(base_image=image, install_kfp_package=False)
    return {function.__name__: make(function) for function in FUNCTIONS}


def dress(task: Any, name: str, pipeline: Pipeline) -> None:
    """Give a task what the file says of its pod."""
    pod = pod_of(pipeline, name)
    task.set_caching_options(enable_caching=name in CACHED and pod.cache is not False)
    kubernetes.use_field_path_as_env(task, env_name="MODELYARD_JOB", field_path=JOB_LABEL)
    for variable, value in sorted(pipeline.environment.items()):
        task.set_env_variable(variable, value)
    _mount(task, pipeline)
    if name == "train":
        kubernetes.use_field_path_as_env(task, env_name="MODELYARD_NAMESPACE", field_path="metadata.namespace")
        task.set_env_variable("MODELYARD_IMAGE", pipeline.image)  # of a training job, unless train.resources names one
    if name == "train" and pipeline.work:
        task.set_env_variable("MODELYARD_WORK", pipeline.work)
    _size(task, pod)
    for label, value in sorted((pod.node_selector or {}).items()):
        kubernetes.add_node_selector(task, label_key=label, label_value=value)
    for one in pod.tolerations or ():
        kubernetes.add_toleration(task, key=one.key, operator=one.operator, value=one.value, effect=one.effect)
    if pod.timeout is not None:
        kubernetes.set_timeout(task, seconds=_whole(pod.timeout))
    retries = pod.retries or Retries()
    if retries.most:
        task.set_retry(
            num_retries=retries.most,
            backoff_duration=f"{_whole(retries.backoff)}s",
            backoff_factor=retries.factor,
            backoff_max_duration=f"{_whole(retries.longest)}s",
        )


def pod_of(pipeline: Pipeline, name: str) -> StepPod:
    """The pod of a step: its own fields over the defaults."""
    own = pipeline.steps.get(name, StepPod())
    given = {one.name: value for one in fields(own) if (value := getattr(own, one.name)) is not None}
    return replace(pipeline.defaults, **given)


def _size(task: Any, pod: StepPod) -> None:
    if pod.cpu is not None:
        task.set_cpu_request(str(pod.cpu)).set_cpu_limit(str(pod.cpu))
    if pod.memory is not None:
        task.set_memory_request(str(pod.memory)).set_memory_limit(str(pod.memory))
    if pod.gpus:
        task.set_accelerator_type(pod.gpu_type or NVIDIA).set_accelerator_limit(pod.gpus)
    if pod.shared_memory is not None:
        kubernetes.empty_dir_mount(
            task,
            volume_name="shm",
            mount_path="/dev/shm",  # noqa: S108
            medium="Memory",
            size_limit=str(pod.shared_memory),
        )


def _mount(task: Any, pipeline: Pipeline) -> None:
    for one in pipeline.secrets:
        if one.env:
            kubernetes.use_secret_as_env(task, secret_name=one.name, secret_key_to_env=dict(one.env))
        if one.mount:
            kubernetes.use_secret_as_volume(task, secret_name=one.name, mount_path=one.mount)
    for one in pipeline.config_maps:
        if one.env:
            kubernetes.use_config_map_as_env(task, config_map_name=one.name, config_map_key_to_env=dict(one.env))
        if one.mount:
            kubernetes.use_config_map_as_volume(task, config_map_name=one.name, mount_path=one.mount)
    for claim in pipeline.claims:
        kubernetes.mount_pvc(task, pvc_name=claim.name, mount_path=claim.mount)
    if pipeline.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(pipeline.pull_secrets))


def _whole(length: Duration) -> int:
    return max(1, round(length.seconds))
