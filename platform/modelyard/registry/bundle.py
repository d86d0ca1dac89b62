"""What is uploaded as an MLflow LoggedModel: MLmodel, the model folder, the code to load it, archive and reports."""

import json
import shutil
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import modelyard.model
from modelyard.errors import BadInput, Tampered
from modelyard.registry import loader
from modelyard.registry.port import Candidate
from modelyard.storage.atomic import digest_file

ARCHIVE = "archive"
"""Folder of the `.mar`."""
REPORTS = "reports"
"""Folder of what was recorded on the way."""


def check_candidate(candidate: Candidate) -> None:
    """Refuse a candidate whose files are not what it says.

    Raises:
        BadInput: a file is missing.
        Tampered: the archive differs from its digest.
    """
    paths = {"archive": candidate.archive, "manifest": candidate.manifest, **candidate.artifacts}
    for name, path in paths.items():
        if not Path(path).is_file():
            raise BadInput(f"{name} of {candidate.model}: there is no file {path}", do="run again from package")
    if not (Path(candidate.folder) / "model.json").is_file():
        raise BadInput(f"{candidate.folder} is no model folder (no model.json)", do="run again from compress")
    if (found := digest_file(Path(candidate.archive))) != candidate.digest:
        raise Tampered(f"{candidate.archive} has digest {found}, not {candidate.digest}", do="package it again")


def write_bundle(candidate: Candidate, folder: Path, *, model_id: str, mlflow_version: str) -> None:
    """Fill the empty `folder` with what belongs to the candidate; large files are linked where the disk allows."""
    _copy(Path(candidate.archive), folder / ARCHIVE / Path(candidate.archive).name)
    _copy(Path(candidate.manifest), folder / Path(candidate.manifest).name)
    for name, path in candidate.artifacts.items():
        _copy(Path(path), folder / REPORTS / name)
    shutil.copytree(candidate.folder, folder / "model", copy_function=_copy)
    _carry_code(folder / "code")
    (folder / "requirements.txt").write_text(_requirements(Path(candidate.folder)))
    (folder / "MLmodel").write_text(_mlmodel(candidate, model_id, mlflow_version))


def _mlmodel(candidate: Candidate, model_id: str, mlflow_version: str) -> str:
    """MLflow's description of a model; JSON is YAML."""
    described = {
        "flavors": {
            "python_function": {
                "loader_module": "modelyard_loader",
                "data": "model",
                "code": "code",
                "python_version": ".".join(map(str, sys.version_info[:3])),
            }
        },
        "metadata": {"digest": candidate.digest},
        "mlflow_version": mlflow_version,
        "model_id": model_id,
        "model_uuid": model_id.removeprefix("m-"),
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    return json.dumps(described, indent=2) + "\n"


def _carry_code(code: Path) -> None:
    code.mkdir()
    shutil.copyfile(loader.__file__, code / "modelyard_loader.py")
    package = code / loader.CARRIED / "modelyard"
    source = Path(modelyard.model.__file__).parent
    shutil.copytree(source, package / "model", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    (package / "__init__.py").write_text('"""The part of Modelyard that loads a model."""\n')


def _requirements(model: Path) -> str:
    kind = json.loads((model / "model.json").read_text())["kind"]
    needed = ["mlflow", "numpy", "pandas", "pillow", "torch", "safetensors"]
    needed += ["onnxruntime"] * (kind == "onnx")
    lines = []
    for name in needed:
        try:
            lines.append(f"{name}=={version(name).split('+')[0]}")
        except PackageNotFoundError:
            continue
    return "\n".join(lines) + "\n"


def _copy(source: str | Path, target: str | Path) -> str:
    """Copy a file by a hard link where source and target share a disk."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
    return str(target)
