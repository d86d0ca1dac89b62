"""What the rules of a gate ask for, gathered: reports on the test split and others, on golden sets, of versions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.data.golden import golden_data, prepare_golden
from modelyard.data.prepare import PreparedData, source_digest
from modelyard.errors import BadInput, Tampered
from modelyard.evaluation.evaluate import SHOWN, evaluate
from modelyard.evaluation.evidence import Beside, Evidence, Folds, Golden, folds_key
from modelyard.evaluation.gate import GateReport, gate
from modelyard.evaluation.report import EvaluationReport
from modelyard.evaluation.rules import PAIRED, cannot, not_recorded
from modelyard.model.predictor import digest_of
from modelyard.registry.port import Registry, Version
from modelyard.runs.champion import Champion, version_of
from modelyard.runs.folds import cross_validated
from modelyard.runs.stages import Stage
from modelyard.runs.walk import Result, Walk
from modelyard.spec.codec import from_json, to_data, to_json
from modelyard.spec.gates import CrossValidation, GateRule, comparisons
from modelyard.spec.project import ModelProject
from modelyard.storage.atomic import digest_file, write_text
from modelyard.training.job import TrainJob
from modelyard.verdict import Verdict

EVIDENCE = "evidence.json"
"""File in a gate's folder: all that was decided on. Kept with the registered version."""
GATES = "served.json"
"""What the gate said of the model that serves, as it is called in the registry."""
DIGEST_OF = {GATES: "modelyard.gates.digest", EVIDENCE: "modelyard.evidence.digest"}
"""Tags of a version: the digests of both."""
OVERFIT_EXAMPLES = 10_000
"""Of the training split: enough for the gap, and bounded."""


def verify_recorded(version: Version, name: str, path: Path) -> None:
    """Refuse a report that is not the one that was registered with a version.

    Raises:
        Tampered: its digest is another one.
    """
    wanted = version.tags.get(DIGEST_OF[name])
    if wanted is not None and digest_file(path) != wanted:
        raise Tampered(
            f"{name} of version {version.version} of {version.model} is not what was registered",
            do="do not rely on it; find out who changed the registry's artifacts",
        )


@dataclass(frozen=True, kw_only=True)
class Judging:
    """One run's gate."""

    walk: Walk
    project: ModelProject
    base: Path
    registry: Callable[[], Registry]
    data: Result[PreparedData]
    job: Callable[[], TrainJob]
    """The run's training, for rules by which it is repeated."""

    def report(self, model: Path, split: str = "test", *, most: int | None = None) -> Result[EvaluationReport]:
        """The evaluation of one model on one split: made once for each pair of digests."""
        return self._report(model, self.data, split, slices=self._slices() if split == "test" else (), most=most)

    def judge(self, model: Path, champion: Champion, rules: Sequence[GateRule]) -> Result[GateReport]:
        """The rules on a candidate and, where there is one, the champion: both evaluated now, on the same examples."""
        mine = self.report(model)
        theirs = self.report(champion.folder) if champion.folder else None
        beside, keys = self._beside(model, champion, rules)
        settings = {
            "candidate": mine.key,
            "champion": theirs.key if theirs else None,
            "missing": to_data(champion.missing) if champion.missing else None,
            "beside": keys,
            "rules": [to_data(rule) for rule in rules],
        }
        other = theirs.value if theirs else champion.missing

        def act(out: Path) -> GateReport:
            evidence = Evidence(candidate=mine.value, champion=other, beside=beside)
            write_text(out / EVIDENCE, to_json(evidence, indent=None))
            return gate(mine.value, other, rules, beside=beside)

        return self.walk.result(Stage.GATE, GateReport, settings, act)

    def _beside(self, model: Path, champion: Champion, rules: Sequence[GateRule]) -> tuple[Beside, Mapping[str, Any]]:
        """What rules ask for beside the test split, and what that depends on."""
        keys: dict[str, Any] = {}
        anchors: dict[str, EvaluationReport | Verdict] = {}
        splits: dict[str, EvaluationReport] = {}
        golden: dict[str, Golden] = {}
        folds: dict[str, Folds] = {}
        recorded: dict[str, Folds | Verdict] = {}
        for rule in rules:
            if rule.not_worse_than_anchor is not None:
                number = rule.not_worse_than_anchor.version
                anchors[number], keys[f"version {number}"] = self._anchor(number)
            if rule.max_overfit is not None:
                for split, most in (("train", OVERFIT_EXAMPLES), ("validation", None)):
                    made = self.report(model, split, most=most)
                    splits[split], keys[split] = made.value, made.key
            if rule.no_regression_on is not None:
                name = rule.no_regression_on
                golden[name], keys[name] = self._golden(name, model, champion)
            if rule.cross_validated is not None:
                name = folds_key(rule.cross_validated)
                folds[name] = self._folds(rule.cross_validated)
                keys[name] = [one.model for one in folds[name].reports]
                if comparisons(rule)[0] in PAIRED and champion.version is not None:
                    theirs = recorded[name] = self._champion_folds(champion.version, name)
                    models = [one.model for one in theirs.reports] if isinstance(theirs, Folds) else to_data(theirs)
                    keys[f"champion's {name}"] = models
        return Beside(anchors=anchors, splits=splits, golden=golden, folds=folds, champion_folds=recorded), keys

    def _champion_folds(self, number: str, name: str) -> Folds | Verdict:
        """What the champion's own gate recorded of the same cross-validation."""
        registry, model = self.registry(), self.project.metadata.name
        try:
            (version,) = (one for one in registry.versions(model) if one.version == number)
            path = registry.report(version, EVIDENCE, self.walk.state / "champions" / "evidence" / number)
            verify_recorded(version, EVIDENCE, path)
            evidence = from_json(Evidence, path.read_text(), where=EVIDENCE)
        except (BadInput, Tampered, ValueError) as error:
            return cannot(f"version {number} has no evidence to compare with: {error}")
        return evidence.beside.folds.get(name) or not_recorded(f"a cross-validation {name} of version {number}")

    def _folds(self, asked: CrossValidation) -> Folds:
        return cross_validated(asked, walk=self.walk, project=self.project, data=self.data, job=self.job())

    def _anchor(self, number: str) -> tuple[EvaluationReport | Verdict, Any]:
        found = version_of(self.registry(), self.project, number, into=self.walk.state / "champions")
        if found.folder is None:
            assert found.missing is not None
            return found.missing, to_data(found.missing)
        made = self.report(found.folder)
        return made.value, made.key

    def _golden(self, name: str, model: Path, champion: Champion) -> tuple[Golden, Any]:
        spec = golden_data(self.project.data, name, self.data.value)
        settings = {
            "golden": to_data(spec),
            "data": self.data.value.fingerprint,
            "source": source_digest(spec, base=self.base),
        }

        def act(out: Path) -> PreparedData:
            return prepare_golden(spec, self.data.folder, base=self.base, out=out)

        examples = self.walk.result(Stage.PREPARE, PreparedData, settings, act)
        mine = self._report(model, examples, "golden")
        theirs = self._report(champion.folder, examples, "golden") if champion.folder else None
        other = theirs.value if theirs else champion.missing
        return Golden(candidate=mine.value, champion=other), [mine.key, theirs.key if theirs else None]

    def _report(
        self,
        model: Path,
        data: Result[PreparedData],
        split: str,
        *,
        slices: tuple[str, ...] = (),
        most: int | None = None,
    ) -> Result[EvaluationReport]:
        settings = {
            "model": digest_of(model),
            "split": data.value.digests[split],
            "slices": slices,
            "declared": self._declared(),
            **({"most": most} if most else {}),
        }

        def act(out: Path) -> EvaluationReport:
            return evaluate(
                model,
                data.folder,
                split,
                slices=slices,
                declared=self.project.metrics,
                most=most,
                shown=SHOWN if split == "test" else (),
                work=self.walk.state / "work",
                out=out,
                progress=self.walk.progress(Stage.EVALUATE),
            )

        return self.walk.result(Stage.EVALUATE, EvaluationReport, settings, act)

    def _slices(self) -> tuple[str, ...]:
        return tuple(sorted({rule.slice for rule in self.project.gates if rule.slice}))

    def _declared(self) -> dict[str, Any]:
        return {name: to_data(metric) for name, metric in self.project.metrics.items()}
