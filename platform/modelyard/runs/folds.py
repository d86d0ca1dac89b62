"""A recipe judged by models trained anew, each on what the others hold out."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelyard.data.folds import write_fold
from modelyard.data.prepared import PreparedData
from modelyard.evaluation.evaluate import evaluate
from modelyard.evaluation.evidence import Folds
from modelyard.evaluation.report import EvaluationReport
from modelyard.runs.stages import Stage
from modelyard.runs.walk import Result, Walk
from modelyard.spec.codec import to_data
from modelyard.spec.gates import CrossValidation
from modelyard.spec.project import ModelProject
from modelyard.training.job import TrainedModel, TrainJob
from modelyard.training.train import train


def cross_validated(
    asked: CrossValidation, *, walk: Walk, project: ModelProject, data: Result[PreparedData], job: TrainJob
) -> Folds:
    """Train and judge once for each fold of each repeat; what is done is not done again.

    Args:
        asked: how many folds and repeats.
        walk: the run.
        project: its file.
        data: the prepared data, all of which is dealt anew.
        job: the run's own training, of which only the data are others.

    Raises:
        BadInput: too few or too many examples.
        StageFailed: a training failed.
    """
    total = asked.folds * asked.repeats
    reports, ratios = [], []
    for at in range(total):
        walk.say(Stage.GATE, f"cross-validation: training {at + 1} of {total}", at / total)
        repeat, fold = divmod(at, asked.folds)
        fold_of: Mapping[str, Any] = {"folds": asked.folds, "repeat": repeat, "fold": fold}
        settings = {"data": data.value.fingerprint, "group": project.data.splits.group, **fold_of}

        def deal(out: Path, repeat: int = repeat, fold: int = fold) -> PreparedData:
            group = project.data.splits.group
            return write_fold(data.folder, out, group=group, folds=asked.folds, repeat=repeat, fold=fold)

        dealt = walk.result(Stage.PREPARE, PreparedData, settings, deal)
        ratios.append(dealt.value.counts["test"] / dealt.value.counts["train"])
        reports.append(_judged(dealt, walk=walk, project=project, job=job))
    return Folds(reports=tuple(reports), test_to_train=sum(ratios) / total)


def _judged(dealt: Result[PreparedData], *, walk: Walk, project: ModelProject, job: TrainJob) -> EvaluationReport:
    mine = replace(job, data=str(dealt.folder), data_fingerprint=dealt.value.fingerprint, tracking=None)
    settings = {
        "train": to_data(mine.train),
        "data": mine.data_fingerprint,
        "code": mine.code_digest,
        "weights": mine.weights.digest if mine.weights else None,
        "declared": {name: to_data(metric) for name, metric in project.metrics.items()},
    }
    trained = walk.result(Stage.TRAIN, TrainedModel, settings, lambda out: train(mine, out=out), resumable=True)
    judged = {"fold": trained.value.digest, "split": dealt.value.digests["test"], "declared": settings["declared"]}

    def act(out: Path) -> EvaluationReport:
        return evaluate(
            trained.folder / "model",
            dealt.folder,
            "test",
            declared=project.metrics,
            shown=(),
            work=walk.state / "work",
            out=out,
        )

    return walk.result(Stage.EVALUATE, EvaluationReport, judged, act).value
