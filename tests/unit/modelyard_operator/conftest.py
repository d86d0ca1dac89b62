"""Mass simulations write no log: rendering it would cost more than the rest."""

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Nothing is logged."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    structlog.reset_defaults()
