"""How a run ends: after a gate's no, after a gate that could not tell, and always with a summary."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import httpx

from modelyard.errors import ModelyardError
from modelyard.evaluation.gate import GateReport
from modelyard.registry.port import Version
from modelyard.reports.view import RunView, StageView
from modelyard.runs.journal import StageEntry
from modelyard.spec.codec import from_data
from modelyard.verdict import Outcome
from modelyard_pipelines import wiring
from modelyard_pipelines.sections import project_of
from modelyard_pipelines.step import Artifact, step
from modelyard_pipelines.tracking import PARENT, TOLD, Runs, TrackedRun

ENDINGS = {"SUCCEEDED": "Succeeded", "FAILED": "Failed", "CANCELLED": "Stopped"}


def ended(*, model: str, after: str, judged: Artifact, words: Artifact) -> None:
    """Say after which gate a run ended, and why."""
    from modelyard.reports.markdown import render_markdown  # noqa: PLC0415 - imports matplotlib

    with step(f"ended-after-{after}", project_of(model=model)) as at:
        report = at.take(judged, GateReport).value
        said = StageView(stage="gate", message=f"the run ends here: all stages after {after} are skipped",
                         verdict=report.verdict)  # fmt: skip
        view = RunView(model=model, run=wiring.job(), stages=(said,), gates=report)
        Path(words.path).write_text(render_markdown(view, only=("gate",), of="gate"), "utf-8")


def summarized(*, model: str, state: str, error: str, notify: str, words: Artifact, report: Artifact) -> None:
    """Write the summary of a run, close the runs that its killed steps left open in MLflow, and post it.

    Never raises because MLflow or the address is away: the summary then says so.
    """
    from modelyard.reports.html import render  # noqa: PLC0415 - imports matplotlib
    from modelyard.reports.markdown import render_markdown  # noqa: PLC0415

    logging.getLogger("httpx").setLevel(logging.WARNING)
    job, runs, away = wiring.job(), wiring.runs(model), ""
    known: tuple[TrackedRun, ...] = ()
    try:
        known = runs.of_job(job) if runs else ()
    except ModelyardError as unavailable:
        away = str(unavailable)
    view = view_of_run(model, job, state, error or away, known)
    Path(words.path).write_text(render_markdown(view, only=[one.stage for one in view.stages] or ("prepare",)), "utf-8")
    Path(report.path).write_text(render(view, only=[one.stage for one in view.stages] or ("prepare",)), "utf-8")
    if runs and known:
        _close(runs, known, view)
    if notify:
        _post(notify, view)


def view_of_run(model: str, job: str, state: str, error: str, known: Sequence[TrackedRun]) -> RunView:
    """What MLflow's runs of one job say, as a report has it."""
    entries: dict[str, StageEntry] = {}
    message = error
    tags = {name: value for one in known for name, value in one.tags.items()}
    for one in known:
        for told in json.loads(one.tags.get(TOLD, "[]")):
            entry = from_data(StageEntry, told, where=f"run {one.id}")
            before = entries.get(entry.stage)
            if before is None or not entry.cached:
                entries[entry.stage] = entry
        message = one.tags.get("modelyard.error", message)
    stages = [StageView(stage=e.stage, seconds=e.seconds, cached=e.cached, message=e.message, verdict=e.verdict)
              for e in entries.values()]  # fmt: skip
    refusal = next((e.verdict for e in entries.values() if e.verdict and not e.verdict.lets_through), None)
    came = ENDINGS.get(state, state.capitalize())
    if came == "Succeeded" and refusal is not None:
        came = "Inconclusive" if refusal.outcome == Outcome.INCONCLUSIVE else "Refused"
    number, digest = tags.get("modelyard.version"), tags.get("modelyard.digest", "")
    return RunView(
        model=model,
        run=job,
        started_at=known[0].started_at if known else 0.0,
        state=came,
        message=message or tags.get("modelyard.news", ""),
        stages=tuple(stages),
        version=Version(model=model, version=number, digest=digest) if number else None,
        champion=tags.get("modelyard.champion"),
        alias=tags.get("modelyard.alias", "champion"),
    )


def _close(runs: Runs, known: Sequence[TrackedRun], view: RunView) -> None:
    """End what a killed step left open, and the run of the whole; not those of Kubeflow's own integration."""
    if os.environ.get("MLFLOW_RUN_ID"):
        return
    try:
        for one in known:
            if PARENT in one.tags and one.status == "RUNNING":
                runs.end(one.id, "KILLED")
            elif PARENT not in one.tags:
                runs.log(one.id, tags={"modelyard.state": view.state, "modelyard.message": view.message})
                runs.end(one.id, {"Failed": "FAILED", "Stopped": "KILLED"}.get(view.state, "FINISHED"))  # type: ignore[arg-type]
    except ModelyardError as error:
        print(f"not closed in MLflow: {error}", flush=True)


def _post(address: str, view: RunView) -> None:
    from modelyard.reports.summary import summary  # noqa: PLC0415

    said = summary(view)
    text = f"{view.model}: {said.headline}. {said.reason}".strip()
    try:
        httpx.post(address, json={"text": text, "job": view.run, "state": view.state}, timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        print(f"not told {address}: {error}", flush=True)
