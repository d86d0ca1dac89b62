"""torchrun's agent in a process of ours: imports torch once and forks the ranks from there.

`python -m torch.distributed.run` imports torch in the agent and again in each rank; here it is imported once, which
halves the start on two cores. The agent watches the ranks and ends all when one fails. Its store listens on
127.0.0.1 only, which torchrun's own rendezvous does not offer (it binds every interface).
"""

import contextlib
import json
import logging
import os
import shutil
import socket
import sys
from datetime import timedelta
from pathlib import Path

import torch._dynamo  # noqa: F401  (an optimizer's first step would import it, in each rank)
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.agent.server.api import WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from modelyard.storage.atomic import write_text
from modelyard.training import rank
from modelyard.training.files import EXITS


class Loopback(RendezvousHandler):
    """A rendezvous of one machine: nobody to wait for, nobody from outside can join."""

    def __init__(self) -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self._port: int = listener.getsockname()[1]
        self._store = TCPStore(
            "127.0.0.1", self._port, is_master=True, wait_for_workers=False, multi_tenant=True,
            master_listen_fd=listener.detach(), timeout=timedelta(minutes=5),
        )  # fmt: skip

    def get_backend(self) -> str:
        """Name for logs."""
        return "loopback"

    @property
    def use_agent_store(self) -> bool:
        """Ranks meet in the agent's store."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """The one round there is."""
        return RendezvousInfo(self._store, 0, 1, RendezvousStoreInfo("127.0.0.1", self._port))

    def is_closed(self) -> bool:
        """Never: it ends with the process."""
        return False

    def set_closed(self) -> None:
        """Nothing to close."""

    def num_nodes_waiting(self) -> int:
        """Nobody can wait."""
        return 0

    def get_run_id(self) -> str:
        """One run."""
        return "local"

    def shutdown(self) -> bool:
        """Nothing to shut down."""
        return True


def main(job: str, out: str, code: str, processes: str) -> int:
    """Run all ranks of one machine; leaves exit codes of those that failed in `exits.json`.

    Returns:
        0 when all ended well, else 1.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.ERROR)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    spec = WorkerSpec(
        role="trainer", local_world_size=int(processes), entrypoint=rank.main, args=(job, out, code),
        rdzv_handler=Loopback(), max_restarts=0, monitor_interval=0.05,
    )  # fmt: skip
    logs = Path(out) / "agent"  # else torch leaves a folder in the temporary directory for each training
    shutil.rmtree(logs, ignore_errors=True)
    agent = LocalElasticAgent(spec, DefaultLogsSpecs(log_dir=str(logs)), start_method="fork", shutdown_timeout=5)
    with contextlib.suppress(SignalException):
        result = agent.run()
        shutil.rmtree(logs, ignore_errors=True)
        failed = {str(rank): failure.exitcode for rank, failure in (result.failures or {}).items()}
        write_text(Path(out) / EXITS, json.dumps(failed))
        return 1 if result.is_failed() else 0
    return 143


if __name__ == "__main__":
    code = main(*sys.argv[1:5])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking torch's modules down takes longer than some trainings
