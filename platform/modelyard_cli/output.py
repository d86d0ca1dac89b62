"""Data on its way to a person (a table) or a program (JSON, YAML): the same data."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from modelyard.figures import number
from modelyard_cli.options import Output

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Row = Mapping[str, Any]
_WIDE = 240
"""Columns of a table that no terminal shows: nothing is cut off."""


def show(data: Any, output: Output, *, empty: str = "nothing yet") -> None:
    """Print rows (a list of mappings) or one mapping."""
    if output is Output.JSON:
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
    elif output is Output.YAML:
        typer.echo(as_yaml(data), nl=False)
    elif data:
        _print(table(data))
    else:
        typer.echo(empty)


def as_yaml(*documents: Any) -> str:
    """YAML documents in the order in which things were put."""
    from modelyard.spec.tree import dump  # noqa: PLC0415

    return dump(*(json.loads(json.dumps(document, default=str)) for document in documents))


def table(data: Row | Sequence[Row]) -> "RenderableType":
    """Rows as a table; one mapping as a table of two columns."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    if isinstance(data, Mapping):
        one = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, value in data.items():
            one.add_row(name, _cell(value))
        return one
    many = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    columns = list(dict.fromkeys(name for row in data for name in row))
    for column in columns:
        many.add_column(column, overflow="fold")
    for row in data:
        many.add_row(*(_cell(row.get(column)) for column in columns))
    return many


def _print(drawn: "RenderableType") -> None:
    page = console()
    if page.is_terminal:
        page.print(drawn)
        return
    with page.capture() as captured:
        page.print(drawn)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def console(*, stderr: bool = False) -> "Console":
    """A terminal of its own width, or a wide page."""
    from rich.console import Console  # noqa: PLC0415

    made = Console(stderr=stderr, highlight=False, markup=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, markup=False, width=_WIDE)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(below)}" for name, below in value.items()) or "-"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(_cell(one) for one in value) or "-"
    return str(value)
