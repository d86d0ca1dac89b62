"""From a project on this machine to a run on a server: its code put away, its sections as parameters."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import yaml

from modelyard.errors import BadInput
from modelyard.spec.project import ModelProject
from modelyard_pipelines.sections import parameters


def arguments(
    text: str,
    project: ModelProject,
    *,
    code: str,
    tries: Sequence[ModelProject] = (),
    by: str = "loss",
    version: str = "",
) -> Mapping[str, Any]:
    """What a compiled pipeline is run with: of all that is known, what it asks for.

    Args:
        text: the compiled pipeline.
        project: the file.
        code: digest of the code archive.
        tries: for `compare-recipes`, the project with each recipe's changes.
        by: for `compare-recipes`, the metric of the validation split that chooses.
        version: for `evaluate-only`, the registered version.

    Raises:
        BadInput: it asks for something that was not given.
    """
    pipeline, asked = _asked(text)
    known = parameters(project, code=code)
    recipes = [parameters(one, code=code)["train"] for one in tries]
    known |= {"recipes": recipes, "by": by} if recipes else {}
    known |= {"version": version} if version else {}
    for name, how in {"recipes": "two --try or more", "version": "--version, a registered version"}.items():
        if name in asked and name not in known:
            raise BadInput(f"{pipeline} asks for {name}", do=f"give {how}")
        if name in known and name not in asked:
            raise BadInput(f"{name} cannot act in {pipeline}", do="leave it out")
    return {name: known[name] for name in asked if name in known}


@lru_cache(maxsize=4)  # asked before anything is put anywhere, and again with the code's digest
def _asked(text: str) -> tuple[str, tuple[str, ...]]:
    """The name of a compiled pipeline, and those of its parameters."""
    ir = next(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return ir["pipelineInfo"]["name"], tuple(ir["root"].get("inputDefinitions", {}).get("parameters", {}))


def check_cron(cron: str) -> None:
    """Refuse a time that Kubeflow would not understand: it has six fields, seconds first.

    Raises:
        BadInput: it has another number of fields, or a strange one.
    """
    fields = cron.split()
    if len(fields) != 6 or not all(re.fullmatch(r"[\dA-Za-z*?,/\-]+", one) for one in fields):
        raise BadInput(
            f"--cron {cron!r} has {len(fields)} fields; Kubeflow has six: second minute hour day month weekday",
            do="write '0 0 3 * * *' for every night at three",
        )
