"""Three versions of one model, from data to live traffic: the main job, in one command.

An MLP becomes stable; a CNN replaces it under live analysis; a third version that passes every offline gate
is rolled back by the live analysis. A client asks without a pause. Ends with a table, `summary.json`, and an
exit code that is not 0 if anything of this did not hold.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from modelyard.project import Project, Run
from modelyard.registry.port import Version
from modelyard.rollout.laptop import yard
from modelyard.rollout.laptop.records import FileRecords
from modelyard.spec.codec import to_data
from modelyard_cli.progress import progress

HERE = Path(__file__).parent
FOLDER = Path(".modelyard/demo")
RECIPES = {"1": "recipe.py:Mlp", "2": "recipe.py:Cnn", "3": "recipe.py:AugmentedCnn"}
EXPECTED = {"1": "stable", "2": "stable", "3": "rolled-back"}


@dataclass(frozen=True)
class Answer:
    """One line of the client's log."""

    at: float
    version: str
    status: int

    @property
    def failed(self) -> bool:
        return self.status != 200


def main() -> int:
    """Run the demo; gives the exit code."""
    console = Console()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    began = time.monotonic()
    project = fresh_project()
    log = FOLDER / "answers.log"
    client: subprocess.Popen[bytes] | None = None
    try:
        runs = {}
        for version, recipe in RECIPES.items():
            console.rule(f"version {version}: {recipe.partition(':')[2]}")
            with progress(console) as observer:
                client = client or start_client(project, log)
                runs[version] = project.run(set={"train.recipe.use": recipe}, observer=observer)
        time.sleep(1)  # a second of traffic after the rollback
        stop(client)
        summary = summarize(project, runs, answers(log), wall_s=time.monotonic() - began)
        report = {version: run.report() for version, run in runs.items()}["3"]
        mlflow = yard.up(project.home).mlflow
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    finally:
        if client:
            stop(client)
        yard.down(project.home)
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    problems = broken_promises(summary)
    show(console, summary)
    console.print(f"\nreport       {report.relative_to(Path.cwd())}", soft_wrap=True)
    console.print(f"summary      {FOLDER / 'summary.json'}")
    console.print(f"MLflow UI    {mlflow}  after  .venv/bin/modelyard up --project {FOLDER}", soft_wrap=True)
    for problem in problems:
        console.print(f"[red]did not hold:[/] {problem}")
    return 1 if problems else 0


def fresh_project() -> Project:
    """A copy of the example in an empty folder; what an earlier demo left is stopped and removed."""
    if FOLDER.exists():
        yard.down(FOLDER / ".modelyard" / "yard")
        shutil.rmtree(FOLDER)
    FOLDER.mkdir(parents=True)
    for name in ("modelyard.yaml", "recipe.py"):
        shutil.copy(HERE / name, FOLDER / name)
    return Project.load(FOLDER)


def start_client(project: Project, log: Path) -> "subprocess.Popen[bytes]":
    """The client of load.py; it waits by itself until version 1 answers."""
    home, name = project.home / "yard.json", project.spec.metadata.name
    argv = [sys.executable, str(HERE / "load.py"), "--yard", str(home), "--model", name, "--out", str(log)]
    return subprocess.Popen(argv)


def stop(client: "subprocess.Popen[bytes]") -> None:
    """End the client; twice does no harm."""
    client.terminate()
    client.wait(timeout=30)


def answers(log: Path) -> list[Answer]:
    """What the client wrote down, by time."""
    rows = [line.split() for line in log.read_text().splitlines()]
    return sorted((Answer(float(at), version, int(status)) for at, version, status, _ in rows), key=lambda a: a.at)


def summarize(project: Project, runs: dict[str, Run], seen: list[Answer], *, wall_s: float) -> dict[str, Any]:
    """All that the demo promises, from the client's log, the registry and the rollout's records."""
    name, alias = project.spec.metadata.name, project.spec.alias
    champion = project.registry.resolve(name, alias)
    failed = [answer for answer in seen if answer.failed]
    return {
        "wall_s": round(wall_s, 1),
        "versions": [of_version(project, run, seen) for run in runs.values()],
        "requests": {
            "total": len(seen),
            "failed": len(failed),
            "failed_by_version": {v: sum(a.version == v for a in failed) for v in sorted({a.version for a in failed})},
        },
        "rollback": of_rollback(project, runs["3"], seen),
        "champion": champion.version if isinstance(champion, Version) else None,
        "gates": [to_data(rule) for rule in project.spec.gates],
        "analysis": to_data(project.spec.deployment)["analysis"],
        "steps": to_data(project.spec.deployment)["strategy"]["canary"]["steps"],
        "compress": to_data(project.spec.compress),
    }


def rollout_of(project: Project, run: Run) -> dict[str, Any]:
    """The record of the attempt that a run started, with its timeline as event -> time."""
    key = f"default/{project.spec.metadata.name}"
    found = next(
        r for r in FileRecords(project.home / "records").rollouts(key) if r.metadata.name == run.record.rollout
    )
    times = {str(event["event"]): float(event["at"]) for event in reversed(found.status.timeline)}
    return {"record": found, "times": times}


def of_version(project: Project, run: Run, seen: list[Answer]) -> dict[str, Any]:
    """One version's row."""
    rollout = rollout_of(project, run)
    first = next((a.at for a in seen if a.version == run.version), None)
    verdict = rollout["record"].status.verdict
    tags = {v.version: v.tags for v in project.registry.versions(project.spec.metadata.name)}[str(run.version)]
    return {
        "version": run.version,
        "outcome": "stable" if rollout["record"].status.phase == "Successful" else "rolled-back",
        "reason": verdict.reason if verdict else None,
        "alias_to_first_response_s": round(first - rollout["times"]["AliasObserved"], 3) if first else None,
        "variant": tags.get("modelyard.variant"),
        "accuracy": run.metrics.get("accuracy"),
        "tags": {key: value for key, value in tags.items() if key.startswith("modelyard.rollout")},
    }


def of_rollback(project: Project, run: Run, seen: list[Answer]) -> dict[str, Any]:
    """How soon the bad version was taken out, and how many requests it got."""
    rollout = rollout_of(project, run)
    canary = [a for a in seen if a.version == run.version]
    if not canary:
        return {}
    during = [a for a in seen if canary[0].at <= a.at <= canary[-1].at]
    return {
        "first_canary_response_to_zero_weight_s": round(rollout["times"]["WeightZeroConfirmed"] - canary[0].at, 2),
        "canary_requests": len(canary),
        "canary_share": round(len(canary) / len(during), 4),
    }


def broken_promises(summary: dict[str, Any]) -> list[str]:
    """What the demo promises and did not keep, in words."""
    outcomes = {row["version"]: row["outcome"] for row in summary["versions"]}
    failed = set(summary["requests"]["failed_by_version"])
    promises = {
        f"outcomes should be {EXPECTED}; they are {outcomes}": outcomes == EXPECTED,
        f"the champion should be version 2; it is {summary['champion']}": summary["champion"] == "2",
        f"no request fails but those that version 3 itself answered; failed: {failed}": failed <= {"3"},
        "version 3 carries a tag with the reason": bool(summary["versions"][2]["tags"]),
        "the client saw each version": all(row["alias_to_first_response_s"] for row in summary["versions"]),
        "version 3 was served by few requests": 0 < summary["rollback"].get("canary_requests", 0) < 1000,
    }
    return [promise for promise, held in promises.items() if not held]


def show(console: Console, summary: dict[str, Any]) -> None:
    """The table at the end."""
    # One blank between columns: the longest words fit the 80 columns of a plain terminal, and none is cut.
    table = Table(
        title=f"{summary['requests']['total']} requests in {summary['wall_s']} s",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    for column in ("version", "outcome", "reason", "accuracy", "variant", "first answer", "failed"):
        table.add_column(column, no_wrap=True)
    for row in summary["versions"]:
        failed = summary["requests"]["failed_by_version"].get(row["version"], 0)
        first = f"after {row['alias_to_first_response_s']:.1f} s" if row["alias_to_first_response_s"] else "none"
        accuracy = f"{row['accuracy']:.4f}"
        table.add_row(row["version"], row["outcome"], row["reason"], accuracy, row["variant"], first, str(failed))
    console.print(table)
    rollback = summary["rollback"]
    console.print(
        "first answer: since the alias was seen to move\n"
        f"version 3 was out {rollback.get('first_canary_response_to_zero_weight_s')} s after its first answer: "
        f"{rollback.get('canary_requests')} requests, {rollback.get('canary_share', 0):.1%} of the traffic. "
        f"champion: version {summary['champion']}"
    )


if __name__ == "__main__":
    sys.exit(main())
