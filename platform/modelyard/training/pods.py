"""Everything that happens to the pods of a training, as it happens.

An operator deletes a failed pod within milliseconds, and the reason with it (kubeflow/pipelines #13192): who looks now
and then sees only its successor. So a thread watches, and each state that a pod was ever in is handed on.
"""

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from modelyard.errors import Expired, Forbidden, ModelyardError
from modelyard.kube.port import POD, Kube, Object

WATCH_S = 10.0
"""How long one watch lasts; its thread ends that long after it is closed."""
AGAIN_S = 0.5
"""Until an API that is away is asked again."""


class PodWatch:
    """Watches pods by a label, in a thread of its own."""

    def __init__(self, kube: Kube, namespace: str, labels: Mapping[str, str | None]) -> None:
        self._kube, self._namespace, self._labels = kube, namespace, labels
        self._lock = threading.Lock()
        self._there: dict[str, Object] = {}
        self._new: list[Object] = []
        self._refused: ModelyardError | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._work, name="pods", daemon=True).start()

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()

    def changes(self) -> tuple[list[Object], dict[str, Object]]:
        """Every state of a pod since the last call, in order, also of those that are gone; and who is there, by uid.

        Raises:
            Forbidden: we may not see pods.
        """
        with self._lock:
            if self._refused is not None:
                raise self._refused
            new, self._new = self._new, []
            return new, dict(self._there)

    def _work(self) -> None:
        version = ""
        while not self._closed.is_set():
            try:
                version = self._watch(version or self._list())
            except Expired:
                version = ""
            except Forbidden as error:
                with self._lock:
                    self._refused = error
                return
            except ModelyardError:
                version = ""
                self._closed.wait(AGAIN_S)

    def _list(self) -> str:
        found = self._kube.list(POD, namespace=self._namespace, labels=self._labels)
        now = {_uid(pod): pod for pod in found.items}
        with self._lock:
            self._new += [pod for uid, pod in now.items() if self._there.get(uid) != pod]
            self._there = now
        return found.resource_version

    def _watch(self, version: str) -> str:
        for change in self._kube.watch(
            POD, namespace=self._namespace, labels=self._labels, resource_version=version, deadline_s=WATCH_S
        ):
            version = str(change.object["metadata"]["resourceVersion"])
            if change.type != "BOOKMARK":
                with self._lock:
                    self._new.append(change.object)
                    self._there[_uid(change.object)] = change.object
                    if change.type == "DELETED":
                        with suppress(KeyError):
                            del self._there[_uid(change.object)]
            if self._closed.is_set():
                break
        return version


def _uid(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"]["uid"])
