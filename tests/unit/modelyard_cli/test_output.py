"""The same data for a person and for a program, and a run as it works."""

import io
import json
from typing import Any

import pytest
import yaml
from rich.console import Console

from modelyard_cli.options import Output
from modelyard_cli.output import as_yaml, show
from modelyard_cli.progress import PlainLines, progress

ROWS = [{"model": "digits", "accuracy": 0.98765, "tags": ["a", "b"]}, {"model": "reviews", "note": None}]


def test_json_and_yaml_carry_the_same_data(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, Output.JSON)
    assert json.loads(capsys.readouterr().out) == ROWS
    show(ROWS, Output.YAML)
    assert yaml.safe_load(capsys.readouterr().out) == ROWS


def test_a_table_shows_every_column_and_cuts_nothing_off(capsys: pytest.CaptureFixture[str]) -> None:
    show([*ROWS, {"model": "x" * 150}], Output.TABLE)
    told = capsys.readouterr().out
    assert "0.9877" in told
    assert "a, b" in told
    assert "x" * 150 in told
    assert "…" not in told
    assert all(line == line.rstrip() for line in told.splitlines())


def test_markup_in_data_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"message": "[red]f1[cat][/red]"}], Output.TABLE)
    assert "[red]f1[cat][/red]" in capsys.readouterr().out


def test_nothing_is_said_in_words_to_people_and_in_data_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    show([], Output.TABLE, empty="nothing yet")
    assert capsys.readouterr().out == "nothing yet\n"
    show([], Output.JSON, empty="nothing yet")
    assert capsys.readouterr().out == "[]\n"


def test_yaml_keeps_the_order_and_separates_documents() -> None:
    assert as_yaml({"b": 1, "a": "no"}, {"c": 2}) == "b: 1\na: 'no'\n---\nc: 2\n"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_say_each_change_and_are_not_flooded_by_progress() -> None:
    lines: list[str] = []
    clock = Clock()
    watcher = PlainLines(lines.append, clock=clock)
    watcher.on_event("train", "started", "", None)
    for step in range(100):
        clock.now += 0.1
        watcher.on_event("train", "progress", f"step {step}", step / 100)
    watcher.on_event("train", "done", "12 epochs", 1.0)
    watcher.on_event("gate", "refused", "0.80 < 0.85", 1.0)
    assert lines[0] == "… train     started"
    assert lines[1].startswith("… train     progress  1")
    assert lines[-2] == "✓ train     done 10.0 s: 12 epochs"
    assert lines[-1] == "✗ gate      refused: 0.80 < 0.85"
    assert len(lines) <= 9


def drawn(*, terminal: bool) -> str:
    page = io.StringIO()
    console = Console(file=page, force_terminal=terminal, width=100, legacy_windows=False)
    with progress(console) as observer:
        events: list[tuple[Any, ...]] = [
            ("prepare", "cached", "1797 examples [train]", 1.0),
            ("train", "started", "", None),
            ("train", "progress", "epoch 3", 0.25),
            ("train", "done", "12 epochs", 1.0),
            ("gate", "refused", "0.80 < 0.85", 1.0),
        ]
        for event in events:
            observer.on_event(*event)
    return page.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_is_drawn_in_a_terminal_and_told_in_lines_elsewhere(terminal: bool) -> None:
    told = drawn(terminal=terminal)
    for words in ("prepare", "12 epochs", "0.80 < 0.85", "1797 examples [train]"):
        assert words in told
    assert ("\x1b[" in told) is terminal


def test_a_stage_that_fails_leaves_the_terminal_as_it_was() -> None:
    page = io.StringIO()
    console = Console(file=page, force_terminal=True, width=100, legacy_windows=False)
    with pytest.raises(KeyboardInterrupt), progress(console) as observer:  # noqa: PT012
        observer.on_event("train", "started", "", None)
        raise KeyboardInterrupt
    assert page.getvalue().rstrip().endswith("\x1b[?25h")
