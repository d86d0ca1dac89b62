"""What a project's file names on this machine, looked for before anything starts: its data, its code, its recipe."""

import ast
from pathlib import Path

from modelyard.errors import BadInput
from modelyard.spec.data import Shards
from modelyard.spec.project import ModelProject


def check_named(project: ModelProject, folder: Path) -> None:
    """Refuse a project whose files are not there; nothing is imported, read whole or sent for.

    What lies in a bucket is not asked for: that may need credentials that only the cluster has.

    Args:
        project: the file.
        folder: where it lies; relative paths start there.

    Raises:
        BadInput: no data, no code folder, no recipe file, no such class in it, or a file that is no Python.
    """
    source = project.data.source
    where = source.shards if isinstance(source, Shards) else source
    if "://" not in where and not where.startswith("bundled:"):
        path = (folder / Path(where).expanduser()).resolve()
        if not path.exists():
            raise BadInput(f"data.source: there is no {path}", do="correct the path; it starts at the file's folder")
    code = folder / project.code.path
    if not code.is_dir():
        raise BadInput(f"code.path: there is no folder {code}", do="name the folder of your Python files")
    file, colon, name = project.train.recipe.use.partition(":")
    if colon:
        _check_class(code, file, name)


def _check_class(code: Path, file: str, name: str) -> None:
    path = code / file
    if not path.is_file():
        others = ", ".join(sorted(one.name for one in code.glob("*.py")))
        raise BadInput(
            f"train.recipe.use: there is no file {file} in {code}",
            do=f"name one of {others}" if others else "put it there, or correct code.path",
        )
    try:
        module = ast.parse(path.read_bytes(), filename=file)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{file}:{line}" if line else file
        raise BadInput(f"train.recipe.use: {where} is no Python ({error})", do=f"correct {file}") from None
    names = set(_bound(module))
    if name not in names and "*" not in names:
        classes = [one.name for one in module.body if isinstance(one, ast.ClassDef)]
        raise BadInput(
            f"train.recipe.use: {file} has no class {name!r}",
            do=f"use one of its classes: {', '.join(classes)}" if classes else f"define class {name} in {file}",
        )


def _bound(module: ast.Module) -> list[str]:
    """Names that the module's own statements may bind; `*` where only running it would tell."""
    names = []
    for one in ast.walk(module):
        if isinstance(one, ast.ClassDef):
            names.append(one.name)
        elif isinstance(one, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name for alias in one.names]
        elif isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            names.append(one.id)
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id in ("globals", "exec"):
            names.append("*")
    return names
