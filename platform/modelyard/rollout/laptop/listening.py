"""Ports of 127.0.0.1 that stay the same over restarts, where they can: people keep addresses in their browsers."""

import contextlib
import socket
from pathlib import Path

from modelyard.processes import free_port
from modelyard.storage.atomic import write_text

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether one may listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
    return True


def kept_port(file: Path) -> int:
    """The port that `file` names, if it is free; else another one, which `file` names from now on."""
    with contextlib.suppress(OSError, ValueError):
        if is_free(port := int(file.read_text())):
            return port
    port = free_port()
    write_text(file, f"{port}\n")
    return port
