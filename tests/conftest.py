"""What all tests share."""

import gc
import os
import signal
import threading
from collections.abc import Generator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests run beside each other, threads of one would spin

import pytest
from hypothesis import HealthCheck, settings
from tests.cluster import fixtures
from tests.cluster.fixtures import cluster, namespace

__all__ = ["cluster", "namespace"]

# While tests are collected: going through all that they import, again and again, takes a third of the time.
gc.disable()

# How long an example takes says how busy the machine is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that at the end short ones keep every worker busy (`make test` deals out whole files)."""
    ranks: dict[object, int] = {}
    for item in items:
        rank = 0 if item.get_closest_marker("slow") else 1 if item.get_closest_marker("process") else 2
        ranks[item.path] = min(rank, ranks.get(item.path, 2))
    items.sort(key=lambda item: ranks[item.path])


def pytest_collection_finish() -> None:
    """What was imported stays: the collector need not look at it again."""
    gc.freeze()
    gc.enable()


def pytest_configure() -> None:
    """Let Ctrl-C work in the tests that press it, also where the run was started in the background (SIGINT ignored)."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    fixtures.configure()


def pytest_unconfigure() -> None:
    """Leave no control plane behind."""
    fixtures.unconfigure()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Say what was not tested, after everything else."""
    yield
    fixtures.summarize(terminalreporter)
