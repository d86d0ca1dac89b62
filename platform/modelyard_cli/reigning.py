"""`rollout history`: who was champion when, as the registry has kept it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard_cli import output, wiring
from modelyard_cli.options import HERE, Format, Model, Output, ProjectPath

if TYPE_CHECKING:
    from modelyard.registry.champions import Champion


def history(
    model: Model = None,
    project: ProjectPath = HERE,
    *,
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="An MLflow.", show_default="the project's own")
    ] = None,
    output_: Format = Output.TABLE,
) -> None:
    """Show which version was champion from when until when, by the tags that each success left in MLflow."""
    from modelyard.registry.champions import champions  # noqa: PLC0415
    from modelyard.registry.mlflow import MLflowRegistry  # noqa: PLC0415

    if tracking_uri is not None and model is not None:
        registry, name = MLflowRegistry(tracking_uri), model
    else:
        loaded = wiring.project(project)
        name = model or loaded.spec.metadata.name
        registry = MLflowRegistry(tracking_uri) if tracking_uri else wiring.registry(loaded.home)
    rows = [_row(each) for each in champions(registry.versions(name))]
    output.show(rows, output_, empty=f"no version of {name} was ever brought in")


def _row(one: "Champion") -> dict[str, Any]:
    from modelyard.spec.objects import told  # noqa: PLC0415

    return {
        "from": told(round(one.at)),
        "until": "now" if one.until is None else told(round(one.until)),
        "version": one.version,
        "rollout": f"{one.namespace}/{one.rollout}",
        "digest": one.digest,
    }
