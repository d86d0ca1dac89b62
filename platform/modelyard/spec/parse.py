"""From a file that people write to a record, or to an error that says where and what was meant.

Every problem has its place (`modelyard.yaml:12:7: train.optimizer.learnRate: unknown field; did you mean lr?`);
several are reported at once, because one run for each typing error is tedious.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import yaml

from modelyard.errors import BadInput, BadSpec
from modelyard.spec import tree
from modelyard.spec.check import check_deployment, check_project
from modelyard.spec.check_gates import check_gates
from modelyard.spec.codec import from_data
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.fit import fields_of, misfits
from modelyard.spec.gates import GateRule
from modelyard.spec.problem import Problem, dotted
from modelyard.spec.project import ModelProject, Rules

T = TypeVar("T")
FILE = "modelyard.yaml"
MAX_PROBLEMS = 10
"""More are counted, not shown."""
_NONE: Mapping[str, str] = {}


def parse_project(path: Path, *, overrides: Mapping[str, str] = _NONE) -> ModelProject:
    """Read a project's file, or the `modelyard.yaml` of a folder.

    Args:
        path: the file, or its folder.
        overrides: dotted path → YAML text, as `--set train.epochs=3` gives them; held to the same checks.

    Raises:
        BadSpec: a field cannot be used; every message begins with its place.
        BadInput: there is no such file, or it cannot be read.
    """
    file = path / FILE if path.is_dir() and path.name != FILE else path
    return parse_project_text(_text_of(file), name=str(file), overrides=overrides)


def parse_project_text(text: str, *, name: str = FILE, overrides: Mapping[str, str] = _NONE) -> ModelProject:
    """Read a project from text; `name` stands in messages. Raises as `parse_project` does."""
    root = tree.read(text, name=name)
    _raise(tree.problems(root))
    for field, new in overrides.items():
        tree.graft(root, field, new)
    project = _fit(root, ModelProject)
    _raise((tree.place(tree.at(root, one.at or one.field)), one) for one in check_project(project))
    return project


def parse_rules(path: Path, project: ModelProject) -> tuple[GateRule, ...]:
    """Read the rules of a file with a section `gates` (a whole project's file, or that section alone).

    Args:
        path: the file.
        project: whose labels and metrics the rules speak of; the file's own `metrics` are added.

    Raises:
        BadSpec: a rule cannot be used.
        BadInput: there is no such file, or it cannot be read.
    """
    root = tree.read(_text_of(path, missing="name a file with a section `gates`"), name=str(path))
    kept = ("gates", "metrics")
    if isinstance(root, yaml.MappingNode):
        root.value = [(key, below) for key, below in root.value if key.value in kept or not _is_project(key.value)]
    rules = _fit(root, Rules)
    whole = replace(project, gates=rules.gates, metrics={**project.metrics, **rules.metrics})
    found = (one for one in check_gates(rules.gates, whole) if one.field[0] == "gates")
    _raise((tree.place(tree.at(root, one.at or one.field)), one) for one in found)
    return rules.gates


def _is_project(field: str) -> bool:
    return field in fields_of(ModelProject)


def parse_deployment(text: str, *, name: str = "deployment") -> ModelDeployment:
    """Read a ModelDeployment as `kubectl apply` would take it. Raises `BadSpec` as `parse_project` does."""
    root = tree.read(text, name=name)
    deployment = _fit(root, ModelDeployment)
    _raise((tree.place(tree.at(root, one.at or one.field)), one) for one in check_deployment(deployment))
    return deployment


def _fit(root: yaml.Node, kind: type[T]) -> T:
    _raise(tree.problems(root))
    _raise((tree.place(node), problem) for node, problem in misfits(root, kind))
    return from_data(kind, tree.value(root), where=root.start_mark.name)


def _raise(found: Iterable[tuple[str, Problem]]) -> None:
    lines = list(dict.fromkeys(f"{place}: {_line(problem)}" for place, problem in found))
    if not lines:
        return
    more = f"\n... and {len(lines) - MAX_PROBLEMS} more" if len(lines) > MAX_PROBLEMS else ""
    do = "correct this field" if len(lines) == 1 else f"correct these {len(lines)} fields"
    raise BadSpec("\n".join(lines[:MAX_PROBLEMS]) + more, do=do)


def _line(problem: Problem) -> str:
    return f"{dotted(problem.field)}: {problem.message}" if problem.field else problem.message


_START = "run `modelyard init`, or name the project's folder with --project"


def _text_of(file: Path, *, missing: str = _START) -> str:
    if file.is_dir():
        raise BadInput(f"{file} is a directory", do=f"give the project's folder or its {FILE}")
    try:
        if file.stat().st_size > tree.MAX_BYTES:
            raise BadInput(f"{file} has {file.stat().st_size} bytes, which is no {FILE}", do="give the project's file")
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"there is no {file}", do=missing) from None
    except UnicodeDecodeError:
        raise BadInput(f"{file} is not UTF-8 text", do="save it as UTF-8") from None
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror})", do="check the path and its permissions") from None
