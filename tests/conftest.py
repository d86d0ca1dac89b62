"""What all tests share."""

import signal
import threading

import pytest
from tests.cluster import fixtures
from tests.cluster.fixtures import cluster, namespace

__all__ = ["cluster", "namespace"]


def pytest_configure() -> None:
    """Let Ctrl-C work in the tests that press it, also where the run was started in the background (SIGINT ignored)."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    fixtures.configure()


def pytest_unconfigure() -> None:
    """Leave no control plane behind."""
    fixtures.unconfigure()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tested."""
    fixtures.summarize(terminalreporter)
