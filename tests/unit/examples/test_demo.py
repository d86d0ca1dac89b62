"""What `make demo` prints at its end."""

import importlib.util
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from modelyard.verdict import Reason

DEMO = Path(__file__).parents[3] / "examples" / "digits" / "demo.py"


@pytest.fixture
def demo() -> Any:
    spec = importlib.util.spec_from_file_location("digits_demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_fits_a_terminal_of_80_columns_with_its_longest_words(demo: Any) -> None:
    rows = [
        {
            "version": version,
            "outcome": "rolled-back",
            "reason": reason,
            "accuracy": 0.9873,
            "variant": "torchscript",
            "alias_to_first_response_s": 12.34,
        }
        for version, reason in (("1", Reason.FIRST_VERSION), ("2", Reason.ANALYSIS_SUCCESSFUL), ("3", Reason.LATENCY))
    ]
    summary = {
        "versions": rows,
        "requests": {"total": 12345, "failed_by_version": {"3": 321}},
        "wall_s": 101.5,
        "rollback": {
            "first_canary_response_to_zero_weight_s": 12.34,
            "canary_requests": 321,
            "canary_share": 0.0512,
        },
        "champion": "2",
    }
    console = Console(width=80, record=True, file=io.StringIO())
    demo.show(console, summary)

    told = console.export_text()
    assert "…" not in told
    words = ("version", "outcome", "reason", "accuracy", "variant", "first answer", "failed")
    assert all(word in told for word in (*words, "AnalysisSuccessful", "torchscript", "after 12.3 s", "0.9873"))
    assert max(map(len, told.splitlines())) <= 80
