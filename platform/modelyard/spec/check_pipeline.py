"""What must be true of the `pipeline` section beyond each field's type."""

import re
from collections.abc import Iterator

from modelyard.record import camel_case
from modelyard.spec.check_numbers import at_least, positive
from modelyard.spec.pipeline import STEPS, Pipeline, StepPod
from modelyard.spec.problem import FieldPath, Problem, did_you_mean

_IMAGE = r"[^\s@]+@sha256:[0-9a-f]{64}"
_RESOURCE = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_ADDRESS = r"(s3://[^/\s]+(/\S*)?|/\S*)"


def check_pipeline(pipeline: Pipeline, promote: str, at: FieldPath) -> Iterator[Problem]:
    """What is wrong with a `pipeline` section.

    Args:
        pipeline: the section.
        promote: the project's `promote`.
        at: where the section stands.
    """
    for name, pattern, example in (
        ("image", _IMAGE, "registry.example.com/modelyard/pipelines@sha256:… (a tag would move)"),
        ("store", _ADDRESS, "s3://bucket/prefix, or an absolute path on a mounted claim"),
        ("work", r"/\S*", "an absolute path on a mounted claim"),
        ("deployment", r"[a-z0-9.-]+/[a-z0-9.-]+", "namespace/name"),
        ("notify", r"https?://\S+", "https://chat.example.com/hook"),
    ):
        given = getattr(pipeline, name)
        if given and not re.fullmatch(pattern, given):
            yield Problem(field=(*at, name), message=f"{given!r} cannot be used; write it like {example}")
    if pipeline.wait_for_promotion.seconds and promote == "automatic":
        message = "cannot act with promote: automatic, which waits for nobody"
        yield Problem(field=(*at, "waitForPromotion"), message=message)
    if pipeline.work and not any(_below(pipeline.work, claim.mount) for claim in pipeline.claims):
        message = f"{pipeline.work} lies on none of the claims, so it would go with the pod; add one to pipeline.claims"
        yield Problem(field=(*at, "work"), message=message)
    yield from _mounts(pipeline, at)
    yield from _pod(pipeline.defaults, (*at, "defaults"))
    for name, pod in pipeline.steps.items():
        if name not in STEPS:
            message = f"there is no such step; {did_you_mean(name, STEPS)}"
            yield Problem(field=(*at, "steps", name), message=message)
        yield from _pod(pod, (*at, "steps", name))
    if pipeline.train_on == "kubernetes" and pipeline.store and not pipeline.store.startswith("s3://"):
        message = f"{pipeline.store} is not seen by a training job; with trainOn: kubernetes it is s3://bucket/prefix"
        yield Problem(field=(*at, "store"), message=message)
    if pipeline.train_on == "kubernetes" and (pipeline.steps.get("train") or StepPod()).gpus:
        message = "cannot act with trainOn: kubernetes: the step only watches; the job's GPUs stand in train.resources"
        yield Problem(field=(*at, "steps", "train", "gpus"), message=message)


def _mounts(pipeline: Pipeline, at: FieldPath) -> Iterator[Problem]:
    taken: dict[str, str] = {}
    for kind in ("secrets", "config_maps", "claims"):
        for index, one in enumerate(getattr(pipeline, kind)):
            here = (*at, camel_case(kind), str(index))
            if kind != "claims" and not one.env and one.mount is None:
                yield Problem(field=here, message=f"{one.name} is neither env nor mount; give one of them")
            if one.mount is None:
                continue
            if not one.mount.startswith("/"):
                yield Problem(field=(*here, "mount"), message=f"{one.mount!r} is no absolute path")
            elif one.mount in taken:
                message = f"{one.mount} has {taken[one.mount]} already"
                yield Problem(field=(*here, "mount"), message=message)
            taken[one.mount] = one.name


def _pod(pod: StepPod, at: FieldPath) -> Iterator[Problem]:
    if pod.gpus is not None:
        yield from at_least(0, pod.gpus, (*at, "gpus"))
    if pod.gpu_type is not None and not re.fullmatch(_RESOURCE, pod.gpu_type):
        message = f"{pod.gpu_type!r} is no resource of a node; write it like nvidia.com/gpu"
        yield Problem(field=(*at, "gpuType"), message=message)
    if pod.timeout is not None:
        yield from positive(pod.timeout, (*at, "timeout"))
    if pod.retries is not None:
        yield from at_least(0, pod.retries.most, (*at, "retries", "most"))
        if pod.retries.factor < 1:
            yield Problem(field=(*at, "retries", "factor"), message=f"{pod.retries.factor:g} is less than 1")
    for index, one in enumerate(pod.tolerations or ()):
        here = (*at, "tolerations", str(index))
        if one.operator == "Exists" and one.value is not None:
            yield Problem(field=(*here, "value"), message="cannot act with operator: Exists")
        if one.operator == "Equal" and one.key is None:
            yield Problem(field=here, message="names no key; give one, or operator: Exists to tolerate every taint")


def _below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")
