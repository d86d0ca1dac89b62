"""A real MLflow server on this machine: SQLite for what is known, a folder for artifacts."""

import base64
import os
import secrets
import sys
from pathlib import Path

import httpx

from modelyard.errors import ModelyardError, StageFailed
from modelyard.processes import Child, spawn, wait_until
from modelyard.storage.atomic import explained

START_S = 120.0
"""The first start makes the tables, which takes seconds on a busy machine."""


def start_mlflow(home: Path, *, port: int) -> Child:
    """Start MLflow on 127.0.0.1 and wait until it answers.

    State lies in `home/mlflow.db` and `home/artifacts`, the log in `home/logs/mlflow.log`. It dies with its parent.

    Raises:
        StageFailed: it ended or did not answer in time; the message holds the end of its log.
        BadInput: `home` cannot be written to.
    """
    logs = home / "logs"
    with explained(home):
        (home / "artifacts").mkdir(parents=True, exist_ok=True)
        logs.mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "modelyard.registry.serve", str(home.resolve()), str(port)]
    child = spawn(argv, env=_environment(home), cwd=home, log=logs / "mlflow.log")
    try:
        wait_until(lambda: _answers(child, port), deadline_s=START_S, what="MLflow")
    except ModelyardError as error:
        child.stop(grace=2.0)
        told = child.tail()
        raise StageFailed(f"MLflow did not start ({error.what}): {told}", do=f"look at {child.log}") from error
    return child


def _answers(child: Child, port: int) -> bool:
    if not child.alive():
        raise StageFailed(f"MLflow ended with exit code {child.exit_code}", do=f"look at {child.log}")
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _environment(home: Path) -> dict[str, str]:
    """Ours, without what would point the server at another one, with half a gigabyte saved."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return environment | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": _webhook_key(home),
        "PYTHONUNBUFFERED": "1",
    }


def _webhook_key(home: Path) -> str:
    """The key of webhooks' secrets must outlive the server, or they cannot be read any more."""
    path = home / "webhooks.key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    return path.read_text()
