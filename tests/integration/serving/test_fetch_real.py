"""The init container against a real MLflow, through its artifact proxy."""

from pathlib import Path

import pytest
from tests.fakes.small_model import small_package

from modelyard.processes import free_port
from modelyard.registry.port import Candidate
from modelyard.registry.server import start_mlflow
from modelyard.serving.fetch import main
from modelyard.storage.atomic import digest_file

pytestmark = pytest.mark.process


def test_a_registered_version_s_archive_is_fetched_by_its_digest(tmp_path: Path) -> None:
    packed = small_package(tmp_path / "packed", "Moody")
    port = free_port()
    mlflow = start_mlflow(tmp_path / "home", port=port)
    try:
        uri = f"http://127.0.0.1:{port}"
        from modelyard.registry.mlflow import MLflowRegistry  # imports MLflow: in the worker that needs it only

        version = MLflowRegistry(uri).register(
            Candidate(
                model=packed.name,
                archive=packed.archive,
                digest=packed.digest,
                folder=packed.folder,
                manifest=packed.manifest,
            )
        )
        out = tmp_path / "model.mar"
        asked = [f"--tracking-uri={uri}", f"--model={packed.name}", f"--out={out}", "--patience=0"]
        assert main([*asked, f"--version={version.version}", f"--digest={packed.digest}"]) == 0
        assert digest_file(out) == packed.digest
        out.unlink()
        assert main([*asked, f"--version={version.version}", "--digest=sha256:00"]) == 65
        assert main([*asked, "--version=99", f"--digest={packed.digest}"]) == 66
    finally:
        mlflow.stop()
    assert main([*asked, f"--version={version.version}", f"--digest={packed.digest}"]) == 75
