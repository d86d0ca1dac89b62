"""The command line is a promise: its golden file changes only on purpose."""

import os
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from modelyard_cli.main import COMMANDS, EXIT_CODES, ROLLOUT, app

from .conftest import Command

GOLDEN = Path(__file__).parents[2] / "golden" / "command_line.txt"


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, f"{path} {name}")
        else:
            yield f"{path} {name}", one


def described() -> str:
    """Each command with its arguments and options, one a line."""
    root: Any = typer.main.get_command(app)
    lines = [f"modelyard: {' '.join(sorted(option for one in root.params for option in one.opts))}"]
    for path, one in commands(root, "modelyard"):
        lines.append(path)
        for parameter in one.params:
            spelled = ", ".join([*parameter.opts, *parameter.secondary_opts])
            of = parameter.type_descriptor.annotation
            kind = "|".join(of) if isinstance(of, type) and issubclass(of, StrEnum) else getattr(of, "__name__", of)
            many = "..." if parameter.multiple or parameter.nargs == -1 else ""
            need = " required" if parameter.required else ""
            is_argument = parameter.param_type_name == "argument"
            lines.append(f"  {spelled.upper() if is_argument else spelled} <{kind}>{many}{need}")
    return "\n".join(lines) + "\n"


def test_the_command_line_is_as_promised() -> None:
    """Run with MODELYARD_GOLDEN=write to change the promise."""
    if os.environ.get("MODELYARD_GOLDEN") == "write":
        GOLDEN.write_text(described())
    assert described() == GOLDEN.read_text()


ALL = [path.split()[1:] for path, _ in commands(typer.main.get_command(app), "modelyard")]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_helps_with_an_example(words: list[str], command: Command) -> None:
    told = command(*words, "--help")
    assert told.exit_code == 0
    assert f"Example: modelyard {words[0]}" in told.stdout


@pytest.mark.parametrize("example", [example for _, example in (*COMMANDS, *ROLLOUT)])
def test_every_example_is_a_command_that_exists(example: str) -> None:
    assert any(example.startswith("modelyard " + " ".join(words)) for words in ALL)


def test_every_command_stands_on_its_page() -> None:
    page = (GOLDEN.parents[2] / "docs" / "command.md").read_text()
    for words in ALL:
        assert f"`modelyard {words[0]}" in page
        assert words[-1] in page


def test_the_exit_codes_stand_in_the_help(command: Command) -> None:
    assert " ".join(EXIT_CODES.split()) in " ".join(command("--help").stdout.split())


def test_without_a_command_it_helps(command: Command) -> None:
    told = command()
    assert "Usage:" in told.output
    assert told.exit_code == 2


def test_it_knows_its_version(command: Command) -> None:
    assert command("--version").stdout == f"modelyard {version('modelyard')}\n"


def test_an_unknown_command_is_bad_input(command: Command) -> None:
    told = command("promot")
    assert told.exit_code == 2
    assert "Did you mean 'promote'" in told.stderr


def test_help_answers_at_once_because_nothing_slow_is_imported() -> None:
    slow = ("torch", "mlflow", "pydantic", "numpy", "pandas", "yaml", "httpx", "matplotlib", "onnxruntime")
    code = (
        "import sys; from modelyard_cli.main import app\n"
        "try: app(['--help'])\n"
        f"finally: sys.stderr.write(' '.join(name for name in {slow!r} if name in sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert told.stderr == ""
    assert "promote" in told.stdout


def test_validating_a_file_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys; from modelyard_cli.main import app\n"
        f"try: app(['validate', '--project', {str(folder)!r}])\n"
        "finally: sys.stderr.write(' '.join(name for name in ('torch', 'mlflow', 'pandas') if name in sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert told.stderr == ""
    assert told.stdout == "digits: valid\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete(shell: str) -> None:
    environment = os.environ | {"_MODELYARD_COMPLETE": f"source_{shell}"}
    program = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'modelyard'; from modelyard_cli.main import main; main()",
    ]
    told = subprocess.run(program, capture_output=True, text=True, timeout=60, env=environment, check=True)
    assert "_MODELYARD_COMPLETE" in told.stdout
