"""`run`, `compare` and `report`: from data to a verdict, and what came of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.runs.stages import Stage, stage_named
from modelyard_cli import output, wiring
from modelyard_cli.options import HERE, Format, Output, ProjectPath, Set
from modelyard_cli.view import with_units

if TYPE_CHECKING:
    from modelyard.project import Run
    from modelyard.rollout.laptop.yard import Yard

Named = Annotated[str | None, typer.Argument(help="A run, by its time.", show_default="the newest")]


def run(
    project: ProjectPath = HERE,
    *,
    from_: Annotated[
        Stage | None,
        typer.Option("--from", metavar="STAGE", parser=stage_named, help="Run again from here, also what is done."),
    ] = None,
    until: Annotated[
        Stage | None,
        typer.Option("--until", metavar="STAGE", parser=stage_named, help=f"The last stage: {', '.join(Stage)}."),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            "--tracking-uri",
            metavar="URI",
            help="An MLflow server that others share; the run ends with promote.",
            show_default="this machine's own",
        ),
    ] = None,
    set_: Set = None,
    output_: Format = Output.TABLE,
) -> None:
    """Take the model from data to live traffic.

    Stages whose inputs did not change are taken from disk, so a run that was stopped goes on where it was.
    """
    from modelyard_cli.progress import progress  # noqa: PLC0415

    changes = wiring.overrides(set_)
    loaded = wiring.project(project)
    with progress(output.console(stderr=True)) as observer:
        done = loaded.run(from_=from_, until=until, set=changes, observer=observer, tracking_uri=tracking_uri)
    told = _told(done)
    if output_ is Output.TABLE:
        told["metrics"] = with_units(done.metrics)
    if done.exit_code == 0 and until is None and tracking_uri is None:
        told |= _way_on(done, wiring.running(loaded.home))
    output.show(told, output_)
    raise typer.Exit(done.exit_code)


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two or more runs, by their time.")],
    project: ProjectPath = HERE,
    output_: Format = Output.TABLE,
) -> None:
    """Put runs side by side: their metrics, and the settings in which they differ."""
    from modelyard.spec.codec import to_data  # noqa: PLC0415

    loaded = wiring.project(project)
    found = [loaded.get_run(name) for name in runs]
    settings = [{"code": one.record.code_digest[:19], **flat(to_data(one.record.project))} for one in found]
    plain = output_ is not Output.TABLE
    rows = [
        {
            "run": one.id,
            "state": str(one.state),
            "version": one.version,
            **(one.metrics if plain else with_units(one.metrics)),
            **changed,
        }
        for one, changed in zip(found, differences(settings), strict=True)
    ]
    output.show(rows if plain else sideways(rows), output_)


def report(
    run: Named = None,
    project: ProjectPath = HERE,
    to: Annotated[Path | None, typer.Option("--to", help="File to write.", show_default="beside the run")] = None,
) -> None:
    """Write the run's report as one HTML file that needs nothing else, and print where it is."""
    typer.echo(str(wiring.project(project).get_run(run).report(to)))


def flat(data: Any, path: str = "") -> dict[str, Any]:
    """Nested data by dotted path.

    >>> flat({"train": {"epochs": 3}, "gates": [{"atLeast": 0.9}]})
    {'train.epochs': 3, 'gates.0.atLeast': 0.9}
    """
    items = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else None
    if items is None:
        return {path: data}
    return {
        name: value
        for key, below in items
        for name, value in flat(below, f"{path}.{key}" if path else str(key)).items()
    }


def sideways(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A column for each run instead of a row: a person compares along a line."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "run"))
    return [{"": name, **{f"{row['run']}": row.get(name) for row in rows}} for name in names]


def differences(settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each run the settings that are not the same in all."""
    names = dict.fromkeys(name for one in settings for name in one)
    differ = [name for name in names if any(one.get(name) != settings[0].get(name) for one in settings)]
    return [{name: one.get(name) for name in differ} for one in settings]


def _way_on(done: "Run", yard: "Yard | None") -> dict[str, Any]:
    """Where a new version answers; or what brings it there, where people promote."""
    project = done.record.project
    name = project.metadata.name
    if project.promote == "manual":
        return {"next": f"modelyard promote {name} {done.version}"} if done.version else {}
    return {"predict at": f"{yard.router}/v1/models/{name}:predict"} if yard else {}


def _told(done: "Run") -> dict[str, Any]:
    told = {name: value for name, value in done.summary().items() if value not in (None, "")}
    if done.verdict:
        told["verdict"] = f"{done.verdict.outcome} ({done.verdict.reason}): {done.verdict.message}"
    return told
