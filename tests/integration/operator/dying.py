"""The operator's process, which kills itself with SIGKILL right after the answer to one of its own writes.

    python -m tests.integration.operator.dying VERB KIND PHASE …the operator's own words

PHASE: of the object that was written; empty: any.
"""

import os
import signal
import sys
from typing import Any

from modelyard.kube.client import KubeClient
from modelyard.kube.port import Object
from modelyard_operator.main import main


def die_after(verb: str, kind: str, phase: str) -> None:
    """Let the process end with this write."""
    real = getattr(KubeClient, verb)

    def write(self: KubeClient, thing: Object, **rest: Any) -> Object:
        answer: Object = real(self, thing, **rest)
        if thing["kind"] == kind and phase in ("", (answer.get("status") or {}).get("phase")):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(KubeClient, verb, write)


if __name__ == "__main__":
    die_after(*sys.argv[1:4])
    del sys.argv[1:4]
    sys.exit(main())
