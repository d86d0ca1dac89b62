"""The first lines of a report: what came of the run, and the few numbers that people ask for."""

from dataclasses import dataclass

from modelyard.compression.report import CompressionReport
from modelyard.evaluation.report import EvaluationReport
from modelyard.figures import duration, milliseconds, number
from modelyard.reports.tables import leading
from modelyard.reports.view import STAGES, RunView
from modelyard.verdict import Outcome, Verdict

_STATES = {"Succeeded": "good", "Refused": "bad", "Failed": "bad", "Inconclusive": "warn", "Stopped": "warn"}
_OUTCOMES = {Outcome.PASSED: "good", Outcome.SUCCESSFUL: "good", Outcome.FAILED: "bad", Outcome.INCONCLUSIVE: "warn"}


@dataclass(frozen=True)
class Summary:
    """`tone` is good, bad, warn or muted."""

    tone: str
    headline: str
    reason: str


@dataclass(frozen=True)
class Fact:
    """A number with its name and a line about it."""

    name: str
    value: str
    about: str = ""


def summary(view: RunView) -> Summary:
    """The verdict over all: the rollout's where there is one, else that of the stage that said no, else the state."""
    verdict = deciding(view)
    if view.rollout and view.rollout.status.verdict:
        version = view.rollout.spec.version
        said = view.rollout.status.verdict
        good = said.lets_through
        headline = f"Version {version} is stable" if good else f"Version {version} was rolled back"
        if said.outcome == Outcome.INCONCLUSIVE and view.rollout.status.ended_at is None:
            headline = f"Version {version} is held"
        return Summary(tone(said), headline, said.message)
    if verdict and verdict[0] == "rollout" and view.version:  # a pipeline's: the attempt itself is in the cluster
        came = "is stable" if verdict[1].lets_through else "was rolled back"
        return Summary(tone(verdict[1]), f"Version {view.version.version} {came}", verdict[1].message)
    if verdict and not verdict[1].lets_through:
        word = "could not decide" if verdict[1].outcome == Outcome.INCONCLUSIVE else "said no"
        return Summary(tone(verdict[1]), f"The {verdict[0]} stage {word}", verdict[1].message)
    if view.state in ("Failed", "Stopped"):
        return Summary(_STATES[view.state], view.state, view.message)
    if view.version:
        named = f"{view.alias} names it" if view.champion == view.version.version else "registered"
        return Summary("good", f"Version {view.version.version} is {named}" if named == "registered" else
                       f"Version {view.version.version}: {named}", view.message)  # fmt: skip
    return Summary(_STATES.get(view.state, "muted"), view.state or "Not run yet", view.message)


def of_stage(view: RunView, name: str, title: str) -> Summary:
    """The same of one stage alone, whose page stands by itself."""
    stage = view.stage(name)
    verdict = stage.verdict if stage else None
    words = {"good": "passed", "bad": "said no", "warn": "could not decide"}
    headline = f"{title} {words[tone(verdict)]}" if verdict else title
    return Summary(tone(verdict), headline, stage.message if stage else "")


def deciding(view: RunView) -> tuple[str, Verdict] | None:
    """The last verdict of a stage, and the stage's name."""
    said = [(stage.stage, stage.verdict) for stage in view.stages if stage.verdict is not None]
    if said:
        return said[-1]
    for name, report in (("compress", view.served_gates), ("gate", view.gates)):
        if report is not None:
            return name, report.verdict
    return None


def tone(verdict: Verdict | None) -> str:
    """The colour of a verdict."""
    return "muted" if verdict is None else _OUTCOMES[verdict.outcome]


def stage_tone(view: RunView, name: str) -> str:
    """The colour of a stage: muted where it was not reached."""
    stage = view.stage(name)
    if stage is None:
        return "muted"
    if stage.verdict is not None:
        return tone(stage.verdict)
    stopped_here = view.state in ("Failed", "Stopped") and stage is view.stages[-1] and stage.stage != STAGES[-1]
    return _STATES[view.state] if stopped_here else "good"


def facts(view: RunView) -> tuple[Fact, ...]:
    """Up to four numbers."""
    found = []
    report = view.served or view.evaluation
    if report and report.metrics:
        found.append(_metric(view, report))
    if view.compression:
        found.append(_speed(view.compression))
    if view.version:
        champion = f"{view.alias} names version {view.champion}" if view.champion else "no champion yet"
        found.append(Fact("Version", view.version.version, champion))
    if view.stages:
        seconds = sum(stage.seconds for stage in view.stages)
        cached = sum(stage.cached for stage in view.stages)
        found.append(Fact("All stages took", duration(seconds), f"{cached} taken from before" if cached else ""))
    return tuple(found)


def _metric(view: RunView, report: EvaluationReport) -> Fact:
    name = next(iter((*leading(view, report), *report.metrics)))
    metric = report.metrics[name]
    return Fact(
        f"{name.capitalize()} on {report.split}",
        number(metric.value),
        f"{number(metric.low)} to {number(metric.high)}, {report.examples:,} examples",
    )


def _speed(report: CompressionReport) -> Fact:
    chosen, reference = report.variant(report.chosen), report.variant(report.reference)
    if chosen.p50_ms is None or reference.p50_ms is None or chosen is reference:
        return Fact("Served as", report.chosen, "uncompressed")
    about = f"{milliseconds(chosen.p50_ms)} a request, {report.reference} takes {milliseconds(reference.p50_ms)}"
    return Fact("Served as", report.chosen, about)
