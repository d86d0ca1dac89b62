"""The program: `modelyard-operator`, the process of the operator's pod."""

import argparse
import os
import signal
import socket
import sys
import threading
import uuid
from pathlib import Path

import structlog

from modelyard.errors import ModelyardError
from modelyard_operator.logs import log_as_json

log = structlog.get_logger()


def parser() -> argparse.ArgumentParser:
    """The command line. Everything has a default but the serving image."""
    made = argparse.ArgumentParser(
        prog="modelyard-operator",
        description="Roll models out: follow ModelDeployments and the aliases of their registries.",
        epilog="Example: modelyard-operator --serving-image registry.example.com/modelyard/serving:0.1.0",
    )
    made.add_argument("--serving-image", required=True, help="image of the model servers")
    made.add_argument("--prometheus", default="", help="URL of a Prometheus (default: the gateway's proxies are asked)")
    made.add_argument("--namespace", default="", help="namespace to watch (default: all)")
    made.add_argument("--lease-namespace", default="modelyard", help="namespace of the Lease (default: modelyard)")
    made.add_argument("--host", default="0.0.0.0", help="address for probes, metrics and webhooks")  # noqa: S104
    made.add_argument("--port", type=int, default=8080, help="port for the same (default: 8080; 0: any)")
    made.add_argument("--workers", type=int, default=8, help="deployments that are looked at at once (default: 8)")
    made.add_argument("--kubeconfig", type=Path, help="a kubeconfig file (default: the pod's account, or KUBECONFIG)")
    return made


def main() -> int:
    """Serve until SIGTERM; the Lease is released at the end."""
    given = parser().parse_args()
    if given.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(given.kubeconfig)  # kopf reads it too
    log_as_json()
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    # After the logging is set: these take a second.
    from modelyard_operator.operator import Settings  # noqa: PLC0415
    from modelyard_operator.wiring import operator  # noqa: PLC0415

    settings = Settings(
        me=f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}",
        namespace=given.namespace,
        lease_namespace=given.lease_namespace,
        host=given.host,
        port=given.port,
        workers=given.workers,
    )
    try:
        made = operator(
            settings,
            serving_image=given.serving_image,
            prometheus=given.prometheus,
            kubeconfig=given.kubeconfig,
        )
        made.start()
    except (ModelyardError, OSError) as error:
        log.error("cannot start", error=str(error))
        return error.exit_code if isinstance(error, ModelyardError) else 1
    end.wait()
    made.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
