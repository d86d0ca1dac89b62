"""`init` and `validate`: before anything runs."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from modelyard.errors import BadInput
from modelyard_cli import output, wiring
from modelyard_cli.options import HERE, Format, Output, ProjectPath, Set

TEMPLATES = {
    "modelyard.yaml": "modelyard.yaml",
    "recipe.py": "recipe.py",
    "request.json": "request.json",
    "gitignore": ".gitignore",
    "modelyardignore": ".modelyardignore",
}
"""Package data → the file that it becomes."""


def init(folder: Annotated[Path, typer.Argument(help="Folder to make or to fill.")] = HERE) -> None:
    """Write a small project that runs to live traffic as it is: a recipe with your own net, and modelyard.yaml.

    Nothing that exists is overwritten.
    """
    name = _model_name(folder)
    source = files("modelyard_cli") / "templates" / "digits"
    texts = {folder / to: (source / of).read_text(encoding="utf-8") for of, to in TEMPLATES.items()}
    there = [path for path in texts if path.exists()]
    if there:
        raise BadInput(
            f"{', '.join(map(str, there))} exists already", do="choose an empty folder: modelyard init FOLDER"
        )
    texts[folder / "modelyard.yaml"] = texts[folder / "modelyard.yaml"].replace("{{name}}", name)
    schema = (files("modelyard.spec") / "modelyard.schema.json").read_text(encoding="utf-8")
    texts[folder / ".modelyard" / "modelyard.schema.json"] = schema
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{folder} cannot be written to ({error.strerror})", do="choose another folder") from None
    go_there = f"cd {folder} && " if folder != HERE else ""
    typer.echo(f"wrote {', '.join(TEMPLATES.values())}\nnext:  {go_there}modelyard run")


def validate(
    project: ProjectPath = HERE,
    set_: Set = None,
    output_: Format = Output.TABLE,
) -> None:
    """Check modelyard.yaml, with line, column and the nearest known name, and that the files it names are there."""
    from modelyard.runs.named import check_named  # noqa: PLC0415
    from modelyard.spec.codec import to_data  # noqa: PLC0415

    spec = wiring.parsed(project, set_)
    check_named(spec, project if project.is_dir() else project.parent)
    if output_ is Output.TABLE:
        typer.echo(f"{spec.metadata.name}: valid")
    else:
        output.show(to_data(spec), output_)


def _model_name(folder: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:63].strip("-")
    return name or "digits"
