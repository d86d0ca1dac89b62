"""Earlier decisions of gates: of registered versions, and of runs that a gate ended."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from modelyard.errors import BadInput, Tampered
from modelyard.evaluation.evidence import Evidence
from modelyard.evaluation.gate import GateReport
from modelyard.evaluation.replay import replay
from modelyard.registry.port import Recorded, Version
from modelyard.runs.journal import RunRecord
from modelyard.runs.judging import EVIDENCE, GATES, verify_recorded
from modelyard.runs.stages import Stage
from modelyard.spec.codec import from_json
from modelyard.spec.gates import GateRule, served_only
from modelyard.verdict import Verdict

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a gate said, and on what."""

    name: str
    """`version 3`, or `run 20260102-101500`."""
    report: GateReport
    evidence: Evidence
    serves: bool
    """Whether the model that would serve was judged, or the uncompressed one on its way."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One decision, by the rules of then and by others."""

    name: str
    before: Verdict
    after: Verdict
    report: GateReport

    @property
    def changed(self) -> bool:
        """Whether it would have been another outcome."""
        return self.before.outcome != self.after.outcome


def of_version(registry: Recorded, version: Version, *, into: Path) -> Decision:
    """The last gate of a registered version, as it was recorded then.

    Raises:
        BadInput: the version was registered without its evidence.
        Tampered: the evidence is not what was registered.
    """
    folder = into / version.digest.removeprefix("sha256:")
    paths = {name: registry.report(version, name, folder) for name in (GATES, EVIDENCE)}
    for name, path in paths.items():
        verify_recorded(version, name, path)
    return _read(f"version {version.version}", paths[GATES], paths[EVIDENCE], serves=True)


def of_run(state: Path, run: RunRecord) -> Decision:
    """The last gate that a run came to.

    Raises:
        BadInput: it came to none, or its results were cleaned away.
    """
    compressed, gated = run.entry(Stage.COMPRESS), run.entry(Stage.GATE)
    if compressed is not None and "gates" in compressed.more:
        folder = state / compressed.more["gates"]
    elif gated is not None:
        folder = state / gated.folder
    else:
        raise BadInput(f"run {run.id} came to no gate", do="name another run, or a version")
    if not (folder / EVIDENCE).is_file():
        raise BadInput(f"the evidence of run {run.id} was cleaned away", do="name another run, or a version")
    return _read(f"run {run.id}", folder / "result.json", folder / EVIDENCE, serves=compressed is not None)


def all_of(
    registry: Recorded, model: str, runs: Sequence[RunRecord], *, state: Path, into: Path
) -> Iterator[Decision | str]:
    """All recorded decisions: of versions, then of runs that a gate ended; a text says why one is left out."""
    for version in registry.versions(model):
        try:
            yield of_version(registry, version, into=into)
        except (BadInput, Tampered) as error:
            yield f"version {version.version}: {error.what}"
    for run in runs:
        if run.version is None and run.entry(Stage.GATE) is not None:
            try:
                yield of_run(state, run)
            except BadInput as error:
                yield f"run {run.id}: {error.what}"


def decided_again(decision: Decision, rules: Sequence[GateRule]) -> Replayed:
    """A decision by other rules."""
    asked = [rule for rule in rules if decision.serves or not served_only(rule)]
    report = replay(decision.evidence, asked)
    return Replayed(name=decision.name, before=decision.report.verdict, after=report.verdict, report=report)


def _read(name: str, gates: Path, evidence: Path, *, serves: bool) -> Decision:
    return Decision(
        name=name,
        report=_parsed(GateReport, gates),
        evidence=_parsed(Evidence, evidence),
        serves=serves,
    )


def _parsed(cls: type[T], path: Path) -> T:
    return from_json(cls, path.read_text(), where=path.name)
