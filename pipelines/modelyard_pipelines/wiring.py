"""The one place of this shell that makes things, from the environment of a step's pod."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

from modelyard.errors import BadInput
from modelyard.storage.atomic import digest_file
from modelyard.storage.code import CodeArchive
from modelyard.storage.port import open_store
from modelyard_pipelines.tracking import Runs

if TYPE_CHECKING:
    from modelyard.registry.port import Registry
    from modelyard.rollout.ports import Records

CODE = "code"
"""Folder of code archives in the store."""


def job() -> str:
    """The id that Kubeflow gave the pipeline run; its pods have it from their own label."""
    return os.environ.get("MODELYARD_JOB") or "by-hand"


def tracking_uri() -> str:
    """Where MLflow is.

    Raises:
        BadInput: nobody said so.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    raise BadInput(
        "MLFLOW_TRACKING_URI is not set in this step",
        do="set it in pipeline.environment, or let Kubeflow's MLflow integration do so",
    )


def runs(model: str) -> Runs | None:
    """The runs of the model's experiment, or of the one that Kubeflow named; None without MLflow."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return Runs(uri, experiment=model, experiment_id=os.environ.get("MLFLOW_EXPERIMENT_ID", "")) if uri else None


def registry() -> "Registry":
    """The model registry."""
    from modelyard_pipelines.registry import PodRegistry  # noqa: PLC0415 - httpx takes a quarter of a second

    return cast("Registry", PodRegistry(tracking_uri()))


def records() -> "Records":
    """Wishes and attempts of the cluster that this pod runs in."""
    from modelyard.kube.client import connect  # noqa: PLC0415
    from modelyard.rollout.cluster.records import KubeRecords  # noqa: PLC0415

    return cast("Records", KubeRecords(connect(), manager="modelyard-pipelines"))


def put_code(archive: CodeArchive, store: str) -> None:
    """Put a code archive where every step finds it.

    Raises:
        BadInput: no store is named, or it refuses us.
        Unavailable: it is away.
    """
    if not store:
        raise BadInput("pipeline.store is empty", do="name where code goes: s3://bucket/prefix")
    open_store(store).write(f"{CODE}/{archive.path.name}", archive.path, once=True)


def fetch_code(digest: str, store: str, into: Path) -> CodeArchive:
    """The archive of that digest, brought into a folder and verified.

    Raises:
        BadInput: it is not in the store, or is another one.
    """
    name = f"{digest.removeprefix('sha256:')}.tar"
    into.mkdir(parents=True, exist_ok=True)
    with open_store(store).opened(f"{CODE}/{name}") as found:
        shutil.copyfile(found, into / name)
    if (there := digest_file(into / name)) != digest:
        raise BadInput(f"{store}/{CODE}/{name} has digest {there}", do="put the code there again: pipeline run does")
    return CodeArchive(digest=digest, path=into / name)


def same_version(compiled: str) -> None:
    """Refuse an image of another Modelyard than the one that compiled the pipeline: their records may differ.

    Raises:
        BadInput: it is another one.
    """
    from importlib.metadata import version  # noqa: PLC0415 - reads email's parser; one step asks

    if (here := version("modelyard")) != compiled:
        raise BadInput(
            f"the pipeline was compiled by modelyard {compiled} and this image has {here}",
            do="set pipeline.image to the image of your version and compile again",
        )
