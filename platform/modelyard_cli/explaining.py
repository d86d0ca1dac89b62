"""`modelyard rollout explain`: where the live analysis of an attempt stands, and how it came there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.errors import BadInput
from modelyard.figures import number
from modelyard_cli import output, wiring
from modelyard_cli.options import HERE, Context, Format, Model, Namespace, Output, ProjectPath
from modelyard_cli.view import age

if TYPE_CHECKING:
    from modelyard.rollout.evidence import Mark
    from modelyard.rollout.explain import Standing
    from modelyard.spec.rollout import ModelRollout

_BAR = 12
"""Characters from no evidence to enough of it."""


def explain(
    model: Model = None,
    project: ProjectPath = HERE,
    context: Context = None,
    namespace: Namespace = None,
    *,
    attempt: Annotated[
        str | None, typer.Option("--attempt", help="Its name, as `rollout status` shows it.", show_default="the newest")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="SVG file to draw the bounds over time into.", show_default="none")
    ] = None,
    output_: Format = Output.TABLE,
) -> None:
    """Say where each metric of the live analysis stands, and draw its evidence over time beside what decides."""
    from modelyard.rollout.explain import guarded, over_time, standings  # noqa: PLC0415

    place = wiring.place(model, project, context, namespace)
    one = _chosen(place.records.rollouts(place.key), attempt)
    stands, marks, rails = standings(one), over_time(one), guarded(one)
    if output_ is not Output.TABLE:
        output.show(told(one, stands, marks, rails), output_)
    else:
        _print(one, stands, marks, rails)
    if to is not None:
        _draw(one, to)


def told(
    one: "ModelRollout", stands: "tuple[Standing, ...]", marks: "tuple[Mark, ...]", rails: tuple[str, ...]
) -> dict[str, Any]:
    """All of it as plain data."""
    import math  # noqa: PLC0415
    from dataclasses import asdict  # noqa: PLC0415

    verdict = one.status.verdict
    return {
        "rollout": one.metadata.name,
        "version": one.spec.version,
        "phase": str(one.status.phase),
        "verdict": {"outcome": str(verdict.outcome), "reason": str(verdict.reason), "message": verdict.message}
        if verdict
        else None,
        "metrics": [asdict(stand) for stand in stands],
        "guardrails": list(rails),
        "history": [
            {
                "seconds": round(mark.at - one.status.started_at, 1), "metric": mark.metric, "stable": mark.stable,
                "canary": mark.canary, "canaryRequests": mark.canary_requests,
                "worse": float(f"{math.exp(min(mark.alarm, 700.0)):.3g}"),
                "good": float(f"{math.exp(min(mark.success, 700.0)):.3g}"),
            }
            for mark in marks
        ],
    }  # fmt: skip


def _chosen(kept: "tuple[ModelRollout, ...]", name: str | None) -> "ModelRollout":
    if not kept:
        raise BadInput("there is no attempt to explain", do="begin one: modelyard promote MODEL VERSION")
    if name is None:
        return kept[-1]
    for one in kept:
        if one.metadata.name == name:
            return one
    names = ", ".join(one.metadata.name for one in kept)
    raise BadInput(f"there is no attempt {name}", do=f"choose one of {names}")


def _print(
    one: "ModelRollout", stands: "tuple[Standing, ...]", marks: "tuple[Mark, ...]", rails: tuple[str, ...]
) -> None:
    verdict = one.status.verdict
    said = f"{verdict.outcome}: {verdict.reason}, {verdict.message}" if verdict else "no verdict yet"
    typer.echo(f"{one.metadata.name}, version {one.spec.version}, {one.status.phase}. {said}")
    if not stands:
        typer.echo("The analysis has no evidence: no canary request was compared.")
        return
    output.show([_row(stand) for stand in stands], Output.TABLE)
    for stand in stands:
        typer.echo(f"{stand.metric}: {stand.words}.")
    for rail in rails:
        typer.echo(f"{rail}.")
    typer.echo("")
    named = {stand.metric: stand for stand in stands}
    rows = [_moment(mark, one.status.started_at, named[mark.metric]) for mark in marks if mark.metric in named]
    output.show(rows, Output.TABLE, empty="No history yet.")


def _row(stand: "Standing") -> dict[str, Any]:
    from modelyard.spec.check_classes import DRIFT  # noqa: PLC0415

    drift = stand.metric == DRIFT
    canary, stable = (_value(stand, share) for share in (stand.canary, stand.stable))
    what = "" if drift else stand.what
    return {
        "metric": stand.metric,
        "canary": f"{canary} {'away in' if drift else 'of'} {stand.canary_requests:,}{what}",
        "stable": f"{stand.stable_requests:,}" if drift else f"{stable} of {stand.stable_requests:,}",
        "margin": stand.margin,
        "worse": f"{number(stand.worse, 3)} of {stand.worse_needed:,.0f}",
        "not worse by the margin": f"{number(stand.good, 3)} of {stand.good_needed:,.0f}",
    }


def _value(stand: "Standing", share: float) -> str:
    """A share, or of a mean its value."""
    low, high = stand.bounds
    return f"{share:.2%}" if (low, high) == (0.0, 1.0) else f"mean {number(low + share * (high - low))}"


def _moment(mark: "Mark", start: float, stand: "Standing") -> dict[str, Any]:
    return {
        "after": age(mark.at - start),
        "metric": mark.metric,
        "canary": _value(stand, mark.canary),
        "stable": _value(stand, mark.stable),
        "worse": bar(mark.alarm, stand.worse_needed),
        "not worse by the margin": bar(mark.success, stand.good_needed),
    }


def bar(log: float, needed: float) -> str:
    """Evidence on its way to what is needed, in logarithms: it grows by factors.

    >>> bar(0.0, 20.0), bar(1.5, 20.0), bar(9.0, 20.0)
    ('············', '██████······', '████████████')
    """
    import math  # noqa: PLC0415

    full = round(_BAR * min(1.0, max(0.0, log) / math.log(needed)))
    return "█" * full + "·" * (_BAR - full)


def _draw(one: "ModelRollout", to: Path) -> None:
    from modelyard.reports.canary import weights_and_evidence  # noqa: PLC0415
    from modelyard.storage.atomic import write_text  # noqa: PLC0415

    if to.suffix != ".svg":
        raise BadInput(f"{to} is not an SVG file", do="give a name that ends in .svg")
    drawn = weights_and_evidence(one)
    if drawn is None:
        raise BadInput("there is nothing to draw: no weight and no evidence was recorded", do="wait for traffic")
    write_text(to, str(drawn))
    typer.echo(str(to))
