"""`doctor` and `gc`: what is missing on this machine, and what may go."""

from typing import Annotated

import typer

from modelyard_cli import output, wiring
from modelyard_cli.options import HERE, Format, Output, ProjectPath


def doctor(project: ProjectPath = HERE, output_: Format = Output.TABLE) -> None:
    """Say what is missing on this machine for a run to live traffic, and how to get it. Exits 1 if anything is."""
    from modelyard_cli.checks import examine  # noqa: PLC0415

    found = examine(project if project.is_dir() else project.parent)
    output.show([one.row() for one in found], output_)
    raise typer.Exit(1 if any(one.missing for one in found) else 0)


def gc(
    project: ProjectPath = HERE,
    *,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Runs whose results are kept.")] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    output_: Format = Output.TABLE,
) -> None:
    """Remove results of older runs and archives that nothing names any more.

    Registered versions, records of runs and what serves stay. What was removed is made again when it is needed.
    """
    from modelyard_cli.garbage import collect  # noqa: PLC0415

    removed = collect(wiring.project(project), keep=keep, dry_run=dry_run)
    output.show([one.row() for one in removed], output_, empty="nothing to remove")
    if removed and output_ is Output.TABLE:
        total = sum(one.bytes for one in removed) / 1e6
        typer.echo(f"{'would free' if dry_run else 'freed'} {total:.1f} MB")
