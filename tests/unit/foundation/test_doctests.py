"""The examples in docstrings are true."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    [
        "modelyard.record",
        "modelyard.spec.problem",
        "modelyard.spec.metrics",
        "modelyard.kube.metadata",
        "modelyard.spec.fit",
        "modelyard.spec.objects",
        "modelyard_cli.view",
        "modelyard_cli.running",
    ],
)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
