"""A run with every part, made of the product's own records, gates and analysis."""

import base64
import io
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from modelyard.compression.choose import choose
from modelyard.compression.report import CompressionReport, Estimate, VariantResult
from modelyard.data.prepared import PreparedData, Shard
from modelyard.evaluation.gate import gate
from modelyard.evaluation.report import Bin, EvaluationReport, Metric
from modelyard.packaging.package import Package
from modelyard.registry.port import Version
from modelyard.reports.view import RunView, StageView
from modelyard.rollout import analysis
from modelyard.rollout.observation import Counts
from modelyard.spec.codec import to_data
from modelyard.spec.deployment import Analysis, AnalysisMetric, DeploymentSpec, MetricMargin, ModelRef
from modelyard.spec.gates import Compress, GateRule, Margin
from modelyard.spec.metadata import Metadata
from modelyard.spec.rollout import ModelRollout, Phase, RolloutSpec, RolloutStatus
from modelyard.storage.atomic import digest_bytes
from modelyard.training.job import EpochCurve, TrainedModel
from modelyard.units import Percentage
from modelyard.verdict import Outcome, Reason, Verdict

CLASSES = tuple("0123456789")
START = 1_790_000_000.0


def digest(of: str) -> str:
    return digest_bytes(of.encode())


def data() -> PreparedData:
    sizes = {"train": 987, "validation": 270, "test": 540}
    return PreparedData(
        fingerprint=digest("data"),
        splits={
            name: (Shard(name=f"{name}-0.arrow", examples=size, digest=digest(name), bytes=size * 80),)
            for name, size in sizes.items()
        },
        digests={name: digest(name) for name in sizes},
        facts={
            "classes": list(CLASSES),
            "features": [],
            "normalization": {},
            "label": {"column": "label", "kind": "class"},
        },
        counts={"read": 1797, "dropped as duplicates": 0, "filled": 0, **sizes},
    )


def data_report() -> dict:
    digits = load_digits()
    rng = random.Random(3)
    spread = {
        split: {name: round(size / 10 + rng.uniform(-3, 3)) for name in CLASSES}
        for split, size in (("train", 987), ("validation", 270), ("test", 540))
    }
    pictures = []
    for at in range(12):
        stream = io.BytesIO()
        Image.fromarray((digits.images[at] * 15.9).astype(np.uint8)).save(stream, format="PNG")
        png = base64.b64encode(stream.getvalue()).decode()
        pictures.append({"id": f"{at}", "label": str(digits.target[at]), "column": "image", "png": png})
    return {
        "counts": dict(data().counts),
        "fingerprint": digest("data"),
        "balance": spread,
        "columns": {},
        "examples": pictures,
    }


def evaluation(accuracy: float, *, seed: int, model: str, examples: int = 540, classes=CLASSES) -> EvaluationReport:
    rng = random.Random(seed)
    labels = [at % len(classes) for at in range(examples)]
    wrong = {at: rng.random() > accuracy for at in range(examples)}
    predictions = [
        (label + rng.choice([1, 3, 5])) % len(classes) if wrong[at] else label for at, label in enumerate(labels)
    ]
    confusion = [[0] * len(classes) for _ in classes]
    for label, predicted in zip(labels, predictions, strict=True):
        confusion[label][predicted] += 1
    found = sum(a == b for a, b in zip(labels, predictions, strict=True)) / examples
    bins = tuple(
        Bin(
            low=at / 10,
            high=(at + 1) / 10,
            count=count,
            score=at / 10 + 0.06,
            accuracy=min(1.0, at / 10 + 0.02 + at * 0.004),
        )
        for at, count in enumerate([0, 0, 3, 6, 9, 14, 17, 28, 61, 402])
    )
    return EvaluationReport(
        model=digest(model), variant="fp32", split="test", split_digest=digest("test"), kind="class", classes=classes,
        examples=examples, ids=tuple(map(str, range(examples))), labels=tuple(labels), predictions=tuple(predictions),
        metrics={
            "accuracy": Metric(value=found, low=found - 0.016, high=found + 0.009, method="Wilson"),
            "f1-macro": Metric(value=found - 0.002, low=found - 0.024, high=found + 0.016, method="BCa bootstrap"),
            "log-loss": Metric(value=0.083, low=0.055, high=0.121, better="lower", method="BCa bootstrap"),
            "ece": Metric(value=0.0121, low=0.008, high=0.0213, better="lower", method="BCa bootstrap"),
        },
        confusion=tuple(map(tuple, confusion)), calibration=bins,
    )  # fmt: skip


RULES = (
    GateRule(metric="accuracy", at_least=0.85),
    GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=0.02)),
)


def compression() -> CompressionReport:
    spec = Compress(max_drop={"accuracy": 0.02})

    def variant(name: str, kind: str, p50: float, drop: tuple[float, float, float], size: int) -> VariantResult:
        return VariantResult(
            name=name, kind=kind, folder=name, digest=digest(name), bytes=size, p50_ms=p50, p99_ms=p50 * 2.3,
            throughput=8 / (p50 * 2.6) * 1e3, peak_memory_mb=262 + size / 1e5, load_s=0.02 if kind == "eager" else 0.08,
            metrics={}, drop={} if name == "fp32" else {"accuracy": Estimate(value=drop[0], low=drop[1], high=drop[2])},
            ratio=None if name == "fp32" else Estimate(value=p50 / 0.131, low=p50 / 0.138, high=p50 / 0.124),
        )  # fmt: skip

    made = [
        variant("fp32", "eager", 0.131, (0, 0, 0), 93_400),
        variant("onnx-int8", "onnx", 0.031, (0.0037, -0.0049, 0.0151), 31_800),
        variant("onnx", "onnx", 0.044, (0.0, -0.0099, 0.0099), 93_100),
        variant("torchscript", "torchscript", 0.139, (0.0, -0.0099, 0.0099), 101_000),
        variant("bf16", "torchscript", 0.342, (0.0111, 0.0012, 0.0262), 56_000),
        VariantResult(name="aot", kind="exported", failure="there is no g++ on this machine"),
    ]
    choice = choose(made, spec, examples=270)
    return CompressionReport(
        reference="fp32", variants=choice.variants, chosen=choice.name, reason=choice.reason, node_type="cpu-vnni",
        objective=spec.objective, max_drop=dict(spec.max_drop), confidence=0.95, batch_size=8, threads=1, examples=270,
        seconds=8.4,
    )  # fmt: skip


def trained() -> TrainedModel:
    epochs = tuple(
        EpochCurve(
            epoch=at,
            train_loss=2.1 * 0.62**at + 0.03,
            validation_loss=2.0 * 0.63**at + 0.075 + 0.004 * max(0, at - 9),
            validation_metrics={"accuracy": 0.981 - 0.75 * 0.55**at, "f1-macro": 0.979 - 0.8 * 0.55**at},
            lr=2e-3,
            seconds=0.41,
        )
        for at in range(1, 13)
    )
    return TrainedModel(
        digest=digest("weights"),
        epochs=epochs,
        best_epoch=12,
        steps=192,
        world_size=2,
        threads=1,
        examples_per_second=6480,
    )


@dataclass
class Arm:
    """Counters of an arm that serves requests at a rate, for the analysis to read."""

    errors: float
    slow_ms: float
    rng: random.Random
    requests: int = 0
    failed: int = 0
    latencies: list[float] | None = None

    def serve(self, count: int) -> None:
        self.latencies = self.latencies or []
        self.requests += count
        for _ in range(count):
            if self.rng.random() < self.errors:
                self.failed += 1
            else:
                self.latencies.append(self.slow_ms * self.rng.lognormvariate(0, 0.35))

    def counts(self, at: float) -> Counts:
        bounds = analysis.LATENCY_BOUNDS_MS
        answered = sorted(self.latencies or [])
        found = np.searchsorted(answered, bounds, side="right").tolist()
        return Counts(
            at=at, requests=self.requests, errors=self.failed, latency=(*found, len(answered)), bounds=tuple(bounds)
        )


def rollout(*, errors: float = 0.12, slow_ms: float = 64.0, seed: int = 0) -> ModelRollout:
    """An attempt under analysis, stopped or passed by its own evidence."""
    spec = Analysis(metrics=(
        AnalysisMetric(name="error-rate", margin=MetricMargin(type="Absolute", value=Percentage("2%"))),
        AnalysisMetric(name="latency-p90", margin=MetricMargin(type="Relative", value=Percentage("50%"))),
    ))  # fmt: skip
    serving = DeploymentSpec(model=ModelRef(name="digits", alias="champion"), analysis=spec)
    rng = random.Random(seed)
    stable, canary = Arm(0.002, 6.0, rng), Arm(errors, slow_ms, rng)
    wide = {"error-rate": Percentage("5%")}
    evidence = analysis.begin(spec, now=START, steps=serving.strategy.canary.steps)
    stable.serve(4000)
    weight, margins, events, verdict, now = 5, wide, [(2.1, "Weight5", "5 % are confirmed")], None, 0.0
    for look in range(1, 400):
        now = look * 0.5
        stable.serve(round(60 * (100 - weight) / 100))
        canary.serve(max(1, round(60 * weight / 100)))
        evidence = analysis.look(
            evidence,
            spec,
            now=START + now,
            stable=stable.counts(START + now),
            canary=canary.counts(START + now),
            margins=margins,
        )
        verdict = analysis.verdict(evidence, spec, now=START + now, margins=margins)
        if verdict is None:
            continue
        if verdict.lets_through and weight == 5:
            weight, margins = 50, {}
            events += [(now, "Analysis1", verdict.message), (now + 0.6, "Weight50", "50 % are confirmed")]
            continue
        break
    assert verdict is not None
    good = verdict.lets_through
    events += [(now, "Promoting", verdict.message), (now + 1.1, "Weight100", "all traffic is confirmed"),
               (now + 2.0, "Successful", "weight 100 is confirmed")] if good else [
        (now, "RollingBack", verdict.message), (now + 0.7, "WeightZeroConfirmed", "arm digits-8f3a1c gets no traffic"),
        (now + 1.9, "Failed", "the alias names version 2 again")]  # fmt: skip
    events = [(0.0, "AliasObserved", "champion names version 3"), (0.1, "Starting", "its arm is asked for"),
              (1.7, "CanaryReady", "arm digits-8f3a1c answered"), *events]  # fmt: skip
    return ModelRollout(
        metadata=Metadata(name="digits-00003"),
        spec=RolloutSpec(
            deployment="digits", version="3", digest=digest("archive"), arm="digits-8f3a1c", serving=serving,
            previous={"version": "2", "digest": digest("previous"), "arm": "digits-77c021"},
        ),
        status=RolloutStatus(
            phase=Phase.SUCCESSFUL if good else Phase.FAILED, started_at=START, ended_at=START + now + 2.5,
            analysis=to_data(evidence),
            verdict=Verdict(outcome=verdict.outcome, reason=verdict.reason, message=verdict.message),
            timeline=tuple({"at": START + at, "event": event, "message": message} for at, event, message in events),
        ),
    )  # fmt: skip


MESSAGES = {
    "prepare": ("987 train, 270 validation, 540 test; sha256:3a6eb0790f39", 0.6),
    "train": ("12 epochs, 2 processes, validation loss 0.0930", 7.9),
    "evaluate": ("accuracy 0.9815, f1-macro 0.9795, log-loss 0.0830", 0.9),
    "gate": ("all 2 rules passed", 0.05),
    "compress": ("chose onnx-int8 of 6 variants", 8.4),
    "package": ("8 golden requests answered as recorded", 3.2),
    "register": ("version 3, sha256:c1d2e9", 1.1),
    "promote": ("champion names version 3", 0.2),
    "rollout": ("", 19.4),
    "settle": ("", 2.5),
}


def view(*, good: bool = False) -> RunView:
    """The whole run: good, or with a canary that is slow and fails."""
    attempt = rollout(errors=0.002, slow_ms=6.0) if good else rollout()
    candidate, champion = evaluation(0.982, seed=1, model="candidate"), evaluation(0.972, seed=2, model="champion")
    gates = gate(candidate, champion, RULES)
    served = replace(evaluation(0.980, seed=3, model="served"), variant="onnx-int8")
    tried = "8 of 8 golden requests answered as recorded, the largest difference 2e-7"
    verdicts = {
        "gate": gates.verdict,
        "package": Verdict(outcome=Outcome.PASSED, reason=Reason.GOLDEN_REQUESTS_ANSWERED, message=tried),
        "rollout": attempt.status.verdict,
        "settle": attempt.status.verdict,
    }
    return RunView(
        model="digits",
        run="20260922-093412",
        started_at=START,
        ended_at=START + 60,
        state="Succeeded" if good else "Refused",
        stages=tuple(
            StageView(stage=name, seconds=seconds, message=told, verdict=verdicts.get(name), cached=name == "prepare")
            for name, (told, seconds) in MESSAGES.items()
        ),
        data=data(),
        data_report=data_report(),
        trained=trained(),
        evaluation=candidate,
        gates=gates,
        compression=compression(),
        served=served,
        served_gates=gate(served, champion, RULES),
        package=Package(
            name="digits",
            archive="digits.mar",
            digest=digest("archive"),
            manifest="manifest.json",
            golden="golden.json",
            folder="model",
            model_digest=digest("served"),
            variant="onnx-int8",
            bytes=154_000,
        ),
        version=Version(model="digits", version="3", digest=digest("archive"), tags={"modelyard.variant": "onnx-int8"}),
        alias="champion",
        champion="3" if good else "2",
        rollout=attempt,
        lineage={"code": digest("code")},
    )
