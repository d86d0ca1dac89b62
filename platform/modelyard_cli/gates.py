"""`gates explain` and `gates replay`: why a gate decided as it did, and what other rules would have said."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard_cli import output, wiring
from modelyard_cli.options import HERE, Format, Output, ProjectPath

if TYPE_CHECKING:
    from modelyard.evaluation.gate import GateReport, RuleResult
    from modelyard.evaluation.report import Metric
    from modelyard.project import Project
    from modelyard.runs.decisions import Decision


def explain(
    version: Annotated[
        str | None, typer.Argument(help="A registered version, or a run's id.", show_default="the newest run")
    ] = None,
    project: ProjectPath = HERE,
    *,
    output_: Format = Output.TABLE,
) -> None:
    """Show every rule of a version's last gate: both sides, the interval, how many examples, and the reason."""
    loaded = wiring.project(project)
    with _scratch() as into:
        decision = _decision(loaded, version, into)
    if output_ is not Output.TABLE:
        output.show({"of": decision.name, **_data(decision.report)}, output_)
        return
    verdict = decision.report.verdict
    typer.echo(f"{decision.name}: {verdict.outcome} ({verdict.reason})")
    output.show([_row(one) for one in decision.report.rules], output_, empty="there are no rules")
    for one in decision.report.rules:
        if not one.verdict.lets_through or one.verdict.reason == "NoChampion":
            typer.echo(f"{one.verdict.outcome}: {one.verdict.message}")


def replay(
    project: ProjectPath = HERE,
    *,
    rules: Annotated[Path, typer.Option("--rules", help="A file with a section `gates`, like another modelyard.yaml.")],
    output_: Format = Output.TABLE,
) -> None:
    """Decide again on all recorded versions, and on runs that a gate ended, by other rules; nothing is changed."""
    from modelyard.runs.decisions import all_of, decided_again  # noqa: PLC0415
    from modelyard.spec.parse import parse_rules  # noqa: PLC0415

    loaded = wiring.project(project)
    asked = parse_rules(rules, loaded.spec)
    rows, left_out = [], []
    with _scratch() as into:
        records = [run.record for run in loaded.runs()]
        model, registry = loaded.spec.metadata.name, wiring.registry(loaded.home)
        for one in all_of(registry, model, records, state=loaded.state, into=into):
            if isinstance(one, str):
                left_out.append(one)
                continue
            again = decided_again(one, asked)
            rows.append(
                {
                    "of": again.name,
                    "then": again.before.outcome,
                    "by these rules": again.after.outcome,
                    "changed": "yes" if again.changed else "",
                    "why": again.after.message if again.changed else "",
                }
            )
    output.show(rows, output_, empty="no gate has decided yet: modelyard run")
    for told in left_out:
        typer.echo(f"left out: {told}", err=True)
    if output_ is Output.TABLE and rows:
        changed = sum(bool(row["changed"]) for row in rows)
        typer.echo(f"{changed} of {len(rows)} would have been decided otherwise")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for what the registry gives."""
    folder = Path(tempfile.mkdtemp(prefix="modelyard-gates-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _decision(loaded: "Project", named: str | None, into: Path) -> "Decision":
    from modelyard.registry.names import no_version  # noqa: PLC0415
    from modelyard.runs.decisions import of_run, of_version  # noqa: PLC0415

    if named is None or not named.isdigit():
        return of_run(loaded.state, loaded.get_run(named).record)
    registry, model = wiring.registry(loaded.home), loaded.spec.metadata.name
    versions = registry.versions(model)
    found = next((one for one in versions if one.version == named), None)
    if found is None:
        raise no_version(model, named, [one.version for one in versions])
    return of_version(registry, found, into=into)


def _row(one: "RuleResult") -> dict[str, Any]:
    from modelyard.reports.tables import gap_or_difference, rule_name, with_interval  # noqa: PLC0415

    other = f"{with_interval(one.other)} {one.against}" if one.other else "–"
    return {
        "rule": rule_name(one),
        "candidate": with_interval(one.candidate),
        "against": other,
        "difference": gap_or_difference(one),
        "by": (one.difference or one.candidate).method or "–",
        "examples": one.examples,
        "verdict": f"{one.verdict.outcome}: {one.verdict.reason}",
    }


def _data(report: "GateReport") -> dict[str, Any]:
    """For programs: numbers as numbers."""
    from modelyard.reports.tables import rule_name  # noqa: PLC0415

    return {
        "verdict": _verdict(report),
        "rules": [
            {
                "rule": rule_name(one),
                "candidate": _side(one.candidate),
                "against": one.against if one.other else None,
                "other": _side(one.other),
                "difference": _side(one.difference),
                "confidence": one.rule.confidence,
                "examples": one.examples,
                "needed": one.needed,
                "verdict": _verdict(one),
            }
            for one in report.rules
        ],
    }


def _verdict(of: "GateReport | RuleResult") -> dict[str, str]:
    return {"outcome": str(of.verdict.outcome), "reason": str(of.verdict.reason), "message": of.verdict.message}


def _side(one: "Metric | None") -> dict[str, Any] | None:
    if one is None or one.value != one.value:
        return None
    return {"value": one.value, "low": one.low, "high": one.high, "by": one.method}
