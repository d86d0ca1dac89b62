"""MLflow's server in one process: `python -m modelyard.registry.serve HOME PORT`.

`mlflow server` imports all of MLflow, then starts a second process that imports it again: three seconds of
a core and a quarter of a gigabyte that a laptop has better uses for. This is the same application, started
in place, without a line in the log for each poll of an alias.
"""

import gc
import os
import sys
from pathlib import Path

SHUTDOWN_S = 2
"""For requests in flight; connections that only wait are closed at once."""


def main(home: Path, port: int) -> None:
    """Serve until SIGTERM."""
    gc.disable()  # what is imported stays: looking at it again and again takes a fifth of the start
    import uvicorn  # noqa: PLC0415 - the imports are what takes time; the environment comes first
    from mlflow.server import constants  # noqa: PLC0415

    database, artifacts = f"sqlite:///{home.resolve() / 'mlflow.db'}", "mlflow-artifacts:/"
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.REGISTRY_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: artifacts,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: (home.resolve() / "artifacts").as_uri(),
        "MLFLOW_ENABLE_WORKSPACES": "false",
    }
    from mlflow.server.handlers import initialize_backend_stores  # noqa: PLC0415

    initialize_backend_stores(database, database, artifacts)
    from mlflow.server.fastapi_app import app  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_S,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
