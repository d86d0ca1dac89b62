"""Options that many commands share, so that each is spelled and explained once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


ProjectPath = Annotated[
    Path,
    typer.Option(
        "--project", "-p", help="Folder of modelyard.yaml, or the file itself.", show_default="the current folder"
    ),
]
Format = Annotated[Output, typer.Option("--output", "-o", help="How to print data.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change a field for this time, like train.epochs=3. May be repeated."
    ),
]
Model = Annotated[str | None, typer.Argument(help="The model.", show_default="the project's")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show it again with each change, until Ctrl-C.")]
Context = Annotated[
    str | None,
    typer.Option(
        "--context", help="A cluster of the kubeconfig, instead of this machine.", show_default="this machine"
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="In a cluster: the deployment's namespace.", show_default="the context's"),
]

HERE = Path()
