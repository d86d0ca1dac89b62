"""`promote`, `rollout …` and `export`: a version's way into traffic, and its objects for a cluster."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.errors import BadInput
from modelyard.rollout.observation import trouble_of
from modelyard.rollout.states import has_ended
from modelyard_cli import output, wiring
from modelyard_cli.options import HERE, Context, Format, Model, Namespace, Output, ProjectPath, Watch
from modelyard_cli.view import rollout_row
from modelyard_cli.watching import watch

if TYPE_CHECKING:
    from modelyard.spec.deployment import ModelDeployment
    from modelyard.spec.rollout import ModelRollout

_NONE_YET = "no attempt yet: modelyard promote MODEL VERSION"


def promote(
    model: Annotated[str, typer.Argument(help="The registered model.")],
    version: Annotated[str, typer.Argument(help="The version that is to become champion.")],
    project: ProjectPath = HERE,
    alias: Annotated[
        str | None, typer.Option("--alias", help="The alias to move.", show_default="the project's")
    ] = None,
) -> None:
    """Move the alias to a version; the rollout loop brings it in.

    Moving the alias by hand in the MLflow UI does exactly the same.
    """
    if not version.isdigit():
        raise BadInput(f"{version!r} is not a version", do="give a whole number, like 7; see the MLflow UI for all")
    loaded = wiring.project(project)
    registry = wiring.registry(loaded.home)
    from modelyard.registry.promote import promote as move  # noqa: PLC0415
    from modelyard.runs.rollout import not_tried_again, wish  # noqa: PLC0415

    name = alias or loaded.spec.alias
    move(registry, model, version, name)
    follow = "follow it with: modelyard rollout status --watch"
    if model == loaded.spec.metadata.name and name == loaded.spec.alias:
        records = wiring.records(loaded.home)
        wish(records, loaded.spec)
        if since := not_tried_again(records, loaded.spec, registry.resolve(model, name)):
            follow = f"it failed or was undone ({since}), so ask for it with: modelyard rollout retry"
    typer.echo(f"{name} names version {version} of {model}; {follow}")


def status(
    model: Model = None,
    project: ProjectPath = HERE,
    context: Context = None,
    namespace: Namespace = None,
    *,
    output_: Format = Output.TABLE,
    watch_: Watch = False,
) -> None:
    """Show the attempts to bring versions in, the newest last."""
    place = wiring.place(model, project, context, namespace)
    kept, key = place.records, place.key

    def rows() -> list[dict[str, Any]]:
        wish, now = kept.deployment(key), time.time()
        trouble = trouble_of(wish) if wish else None
        stuck = trouble.message if trouble else None
        return [rollout_row(one, now, None if has_ended(one) else stuck) for one in kept.rollouts(key)]

    if watch_:
        watch(rows, empty=_NONE_YET)
    output.show(rows(), output_, empty=_NONE_YET)


def promote_now(
    model: Model = None, project: ProjectPath = HERE, context: Context = None, namespace: Namespace = None
) -> None:
    """Let the current attempt skip its remaining steps: all traffic to the new version."""
    _steer("promote", wiring.place(model, project, context, namespace))


def pause(
    model: Model = None, project: ProjectPath = HERE, context: Context = None, namespace: Namespace = None
) -> None:
    """Hold the current attempt where it is. The analysis still guards it."""
    _steer("pause", wiring.place(model, project, context, namespace))


def resume(
    model: Model = None, project: ProjectPath = HERE, context: Context = None, namespace: Namespace = None
) -> None:
    """Let a held attempt go on."""
    _steer("resume", wiring.place(model, project, context, namespace))


def abort(
    model: Model = None, project: ProjectPath = HERE, context: Context = None, namespace: Namespace = None
) -> None:
    """Send all traffic back to stable and end the current attempt."""
    _steer("abort", wiring.place(model, project, context, namespace))


def retry(
    model: Model = None, project: ProjectPath = HERE, context: Context = None, namespace: Namespace = None
) -> None:
    """Try the version of the last, failed attempt once more, with new evidence."""
    _begin("retry", wiring.place(model, project, context, namespace))


def undo(
    model: Model = None, project: ProjectPath = HERE, context: Context = None, namespace: Namespace = None
) -> None:
    """Bring back the version that was stable before."""
    _begin("undo", wiring.place(model, project, context, namespace))


def export(
    project: ProjectPath = HERE,
    *,
    tracking_uri: Annotated[str, typer.Option("--tracking-uri", help="MLflow as the cluster reaches it.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the objects.")] = "default",
    registry: Annotated[str, typer.Option("--registry", help="Name of the ModelRegistry.")] = "main",
    secret: Annotated[str | None, typer.Option("--secret", help="Secret with MLflow's credentials.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="File to write.", show_default="standard output")] = None,
) -> None:
    """Write the ModelRegistry and the ModelDeployment that `kubectl apply` takes."""
    from modelyard_cli.objects import objects  # noqa: PLC0415

    spec = wiring.parsed(project)
    text = output.as_yaml(
        *objects(spec, tracking_uri=tracking_uri, namespace=namespace, registry=registry, secret=secret)
    )
    if to is None:
        typer.echo(text, nl=False)
        return
    from modelyard.storage.atomic import write_text  # noqa: PLC0415

    write_text(to, text)
    typer.echo(str(to))


def _steer(verb: str, place: "wiring.Place") -> None:
    """Set a switch of the current attempt."""
    from modelyard.rollout import commands  # noqa: PLC0415

    act: Callable[[ModelRollout], ModelRollout] = getattr(commands, verb)

    def on_newest(_wish: "ModelDeployment", rollouts: "tuple[ModelRollout, ...]") -> "ModelRollout":
        if not rollouts:
            raise BadInput("there is no attempt to steer", do="begin one: modelyard promote MODEL VERSION")
        return act(rollouts[-1])

    _write(on_newest, place, verb)


def _begin(verb: str, place: "wiring.Place") -> None:
    """Make a new attempt from the earlier ones."""
    from modelyard.rollout import commands  # noqa: PLC0415

    _write(getattr(commands, verb), place, verb)


def _write(act: Any, place: "wiring.Place", verb: str) -> None:
    written = wiring.change(place.records, place.key, act)
    later = "" if place.alive() else "; it is done when the rollout loop runs: modelyard up"
    typer.echo(f"{verb}: {written.metadata.name} (version {written.spec.version}){later}")


def simulate(
    project: ProjectPath = HERE,
    *,
    errors: Annotated[
        float, typer.Option("--errors", min=0, max=0.5, help="Stable's share of failed requests.")
    ] = 0.01,
    regression: Annotated[
        float, typer.Option("--regression", min=0, max=0.5, help="How much larger the bad canary's share is.")
    ] = 0.02,
    slower: Annotated[
        float, typer.Option("--slower", min=0, max=10, help="How much longer the bad canary takes: 0.5 is half again.")
    ] = 0.0,
    rps: Annotated[float, typer.Option("--rps", min=0.01, max=10_000, help="Requests a second, to both arms.")] = 50.0,
    weight: Annotated[
        int | None,
        typer.Option("--weight", min=1, max=100, help="One step of this weight.", show_default="the project's steps"),
    ] = None,
    rollouts: Annotated[int, typer.Option("--rollouts", min=1, max=10_000, help="How many to simulate.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other chances.")] = 0,
    output_: Format = Output.TABLE,
) -> None:
    """Say before a rollout how long its analysis will take and how often it errs: for a good canary and a bad one."""
    from modelyard.rollout.simulate import Truth  # noqa: PLC0415
    from modelyard.runs.rollout import deployment_spec  # noqa: PLC0415
    from modelyard.spec.deployment import AnalysisGate, AnalysisStep, Canary, SetWeight, Strategy  # noqa: PLC0415
    from modelyard_cli.simulating import table  # noqa: PLC0415

    wish = deployment_spec(wiring.parsed(project))
    if asked := [metric.name for metric in wish.analysis.metrics if metric.query is not None]:
        typer.echo(f"Left out, for nobody can simulate what a query counts: {', '.join(asked)}.", err=True)
    if weight is not None:
        steps = (SetWeight(set_weight=weight), AnalysisStep(analysis=AnalysisGate()))
        wish = replace(wish, strategy=Strategy(canary=Canary(steps=steps)))
    truths = {
        "as good": Truth(rps=rps, errors=errors),
        _worse(regression, slower): Truth(rps=rps, errors=errors, regression=regression, slower=slower),
    }
    output.show(table(truths, wish, rollouts=rollouts, seed=seed), output_)


def _worse(regression: float, slower: float) -> str:
    parts = [f"+{regression:.3g} errors"] if regression else []
    return ", ".join([*parts, *([f"{slower:.0%} slower"] if slower else [])]) or "as good, again"
