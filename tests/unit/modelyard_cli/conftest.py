"""A project of its own for each test, and the command as a person calls it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from modelyard_cli.main import app

Command = Callable[..., Result]


@pytest.fixture
def command() -> Command:
    """`command("run", "--until", "gate")`; output in `stdout`, `stderr`, and the `exit_code`."""
    return lambda *words: CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])


@pytest.fixture
def folder(tmp_path: Path, command: Command) -> Path:
    """A project made by `modelyard init`, called `digits`."""
    made = tmp_path / "digits"
    assert command("init", made).exit_code == 0
    return made
