"""Being told to stop by SIGTERM, as before a spot node is taken away: a checkpoint, then the end.

Only the processes of that node are told; a checkpoint needs all. So now and then, at the same update, all ask each
other: how often follows from how long their updates take, which they exchange too, and so all come to the same answer.
"""

import os
import signal
import socket
import threading
import time

from modelyard.training.failures import TOLD_TO_STOP
from modelyard.training.parallel import total

ASK_EVERY_S = 1.0
PATIENCE_S = 20.0
"""A process that was told and ends no update for so long waits for one that is gone: torchrun tells those too."""


class ToldToStop(Exception):
    """A checkpoint is written; the training goes on from it when it is started again."""


class Stop:
    """Whether a process of this training was told to stop."""

    def __init__(self, *, world: int) -> None:
        self._world = world
        self._told = False
        self._updates, self._last, self._ask_at = 0, 0, 1
        self._asked_at = time.monotonic()
        self.heard = False
        """The same in all processes."""

    def listen(self) -> None:
        """Take SIGTERM from now on, in a thread: the main one may be held up in a collective."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        threading.Thread(target=self._heed, args=(reader, writer, os.getppid()), daemon=True).start()

    def _heed(self, reader: socket.socket, _writer: socket.socket, parent: int) -> None:
        while signal.SIGTERM not in reader.recv(64):
            pass
        if os.getppid() != parent:
            os._exit(TOLD_TO_STOP)  # the parent is gone: someone else may go on in this folder already
        self._told = True
        seen = -1
        while not self.heard and seen != self._updates:
            seen = self._updates
            time.sleep(PATIENCE_S)
        if not self.heard:
            os._exit(TOLD_TO_STOP)

    def after_update(self) -> bool:
        """Whether to stop; every process asks after every update."""
        self._updates += 1
        if self._updates >= self._ask_at and not self.heard:
            now = time.monotonic()
            told, spent = total([float(self._told), now - self._asked_at], world=self._world)
            each = spent / self._world / (self._updates - self._last)
            self._last, self._asked_at = self._updates, now
            self._ask_at = self._updates + max(1, min(1000, int(ASK_EVERY_S / max(each, 1e-6))))
            self.heard = told > 0
        return self.heard
