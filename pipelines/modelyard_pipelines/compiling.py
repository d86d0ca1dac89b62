"""From a project's file to a compiled pipeline: the same text for the same file, sealed with its own digest."""

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kfp import compiler

from modelyard.errors import BadInput, Tampered
from modelyard.spec.pipeline import Pipeline
from modelyard.spec.project import ModelProject
from modelyard.storage.atomic import digest_bytes
from modelyard_pipelines.compare_recipes import compare_recipes
from modelyard_pipelines.evaluate_only import evaluate_only
from modelyard_pipelines.retrain_on_schedule import retrain_on_schedule
from modelyard_pipelines.train_and_release import train_and_release

PIPELINES: Mapping[str, Callable[[Pipeline], Any]] = {
    "train-and-release": train_and_release,
    "compare-recipes": compare_recipes,
    "retrain-on-schedule": retrain_on_schedule,
    "evaluate-only": evaluate_only,
}
SEAL = "# modelyard: sha256 of the lines below: "


def compiled(project: ModelProject, name: str) -> str:
    """The pipeline's YAML: the IR, the platform document, and a first line with the digest of both.

    Raises:
        BadInput: no pipeline of that name; no image or store in the file.
    """
    if name not in PIPELINES:
        raise BadInput(f"there is no pipeline {name}", do=f"name one of {', '.join(PIPELINES)}")
    for field in ("image", "store"):
        if not getattr(project.pipeline, field):
            example = "an image with its digest" if field == "image" else "s3://bucket/prefix, where code archives go"
            raise BadInput(f"pipeline.{field} is not set", do=f"add a section pipeline with {field}: {example}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(PIPELINES[name](project.pipeline), str(path))
        text = path.read_text("utf-8")
    return f"{SEAL}{digest_bytes(text.encode()).removeprefix('sha256:')}\n{text}"


def uncached(text: str) -> str:
    """The same with the cache switched off for all steps.

    The client's own `enable_caching=False` reaches the tasks of the root alone, and ours stand inside an exit handler.
    """
    return text.replace("enableCache: true", "enableCache: false")


def unsealed(text: str, *, name: str) -> str:
    """The compiled text, once it is known to be as it was compiled.

    Raises:
        BadInput: it was not compiled by us.
        Tampered: it was edited since.
    """
    first, _, rest = text.partition("\n")
    found = re.fullmatch(re.escape(SEAL) + r"([0-9a-f]{64})", first)
    if not found:
        raise BadInput(f"{name} was not made by `modelyard pipeline compile`", do="compile modelyard.yaml")
    if digest_bytes(rest.encode()) != f"sha256:{found.group(1)}":
        raise Tampered(
            f"{name} was edited after it was compiled: its digest is another",
            do="change modelyard.yaml and compile again, so that the file and the pipeline say the same",
        )
    return rest
