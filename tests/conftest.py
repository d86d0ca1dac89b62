"""What all tests share."""

import signal
import threading


def pytest_configure() -> None:
    """Let Ctrl-C work in the tests that press it, also where the run was started in the background (SIGINT ignored)."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
