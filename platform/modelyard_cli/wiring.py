"""The one place of this shell that makes things; what is slow to import is imported when it is asked for."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from modelyard.errors import BadInput, Conflict

if TYPE_CHECKING:
    from modelyard.project import Project
    from modelyard.registry.mlflow import MLflowRegistry
    from modelyard.rollout.laptop.yard import Yard
    from modelyard.rollout.ports import Records
    from modelyard.spec.deployment import ModelDeployment
    from modelyard.spec.project import ModelProject
    from modelyard.spec.rollout import ModelRollout

_TRIES = 20
in_cluster = ContextVar("in_cluster", default=False)
"""Set by the plug-in of kubectl: without a word, the cluster of the current context is meant and not this machine."""


class Place(NamedTuple):
    """Where a deployment and its attempts are kept."""

    records: "Records"
    key: str
    alive: Callable[[], bool]
    """Whether a loop is there to do what is written."""


def overrides(given: Sequence[str] | None) -> Mapping[str, str]:
    """What `--set` gave: dotted path → YAML text.

    Raises:
        BadInput: one of them has no `=`, or a path is given twice.
    """
    found: dict[str, str] = {}
    for one in given or ():
        path, equals, value = one.partition("=")
        if not equals or not path.strip():
            raise BadInput(f"--set {one}: this is not path=value", do="write it like --set train.epochs=3")
        if path in found:
            raise BadInput(f"--set {path} is given twice", do="give it once")
        found[path.strip()] = value
    return found


def parsed(path: Path, given: Sequence[str] | None = None) -> "ModelProject":
    """The project's file alone, without touching its state."""
    from modelyard.rollout.analysis import check  # noqa: PLC0415
    from modelyard.spec.parse import parse_project  # noqa: PLC0415

    spec = parse_project(path, overrides=overrides(given))
    # Only the analysis itself can tell: a margin finer than the router's buckets.
    check(spec.deployment.analysis, steps=spec.deployment.strategy.canary.steps)
    return spec


def project(path: Path) -> "Project":
    """The project with its state."""
    from modelyard.project import Project  # noqa: PLC0415

    return Project.load(path)


def up(home: Path) -> "Yard":
    """Start what is not running; give the addresses."""
    from modelyard.rollout.laptop import yard  # noqa: PLC0415

    return yard.up(home)


def down(home: Path) -> bool:
    """Stop what runs; whether anything did."""
    from modelyard.rollout.laptop import yard  # noqa: PLC0415

    return yard.down(home)


def running(home: Path) -> "Yard | None":
    """The addresses of what runs."""
    from modelyard.rollout.laptop import yard  # noqa: PLC0415

    return yard.running(home)


def records(home: Path) -> "Records":
    """Wishes and attempts of this machine."""
    from modelyard.rollout.laptop.records import FileRecords  # noqa: PLC0415

    return cast("Records", FileRecords(home / "records"))


def registry(home: Path) -> "MLflowRegistry":
    """The local MLflow; started if it is not up."""
    from modelyard.registry.mlflow import MLflowRegistry  # noqa: PLC0415

    return MLflowRegistry(up(home).mlflow)


def place(model: str | None, path: Path, context: str | None, namespace: str | None) -> Place:
    """This machine's records; a cluster's, where one is named or kubectl asks.

    Raises:
        BadInput: no model is named and there is no project; no cluster is configured.
    """
    if context is None and namespace is None and not in_cluster.get():
        loaded = project(path)
        key = f"default/{model or loaded.spec.metadata.name}"
        return Place(records(loaded.home), key, lambda: running(loaded.home) is not None)
    from modelyard.kube.client import connect, namespace_of_context  # noqa: PLC0415
    from modelyard.rollout.cluster.records import KubeRecords  # noqa: PLC0415

    if model is None:
        raise BadInput("no ModelDeployment is named", do="name one: modelyard rollout status digits -n NAMESPACE")
    within = namespace or namespace_of_context(context)
    return Place(KubeRecords(connect(context=context), manager="modelyard-cli"), f"{within}/{model}", lambda: True)


def change(
    kept: "Records",
    key: str,
    act: "Callable[[ModelDeployment, tuple[ModelRollout, ...]], ModelRollout]",
) -> "ModelRollout":
    """Read, decide, write; once more if somebody else wrote in between.

    Raises:
        BadInput: there is no such deployment.
        Conflict: it changes faster than it can be read.
    """
    for attempt in range(_TRIES):
        wish = kept.deployment(key)
        if wish is None:
            known = ", ".join(one.partition("/")[2] for one in kept.keys()) or "none yet"  # noqa: SIM118 - a port's verb
            raise BadInput(
                f"no deployment of {key.partition('/')[2]} here (there are: {known})",
                do="bring a version in first: modelyard run",
            )
        try:
            written = kept.write(act(wish, kept.rollouts(key)))
        except Conflict:
            if attempt == _TRIES - 1:
                raise
            continue
        return written  # type: ignore[return-value]
    raise AssertionError("unreachable")
