"""The way of one model through the ten stages, each a call of its package's one function; stages 7 to 10: `release`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelyard.compression.compress import CompressionReport, compress
from modelyard.data.prepare import PreparedData, prepare, source_digest
from modelyard.errors import BadInput
from modelyard.evaluation.report import EvaluationReport
from modelyard.evaluation.rules import PAIRED
from modelyard.model.predictor import digest_of
from modelyard.packaging.package import package
from modelyard.packaging.packed import Package
from modelyard.packaging.signing import SIGNING_KEY
from modelyard.packaging.try_out import try_out
from modelyard.runs.champion import Champion, champion_of, check_learnt, registered_weights
from modelyard.runs.judging import Judging
from modelyard.runs.release import Release, Services, let_through
from modelyard.runs.stages import Stage, stage_key
from modelyard.runs.variants import elsewhere_of
from modelyard.runs.walk import Result, Walk
from modelyard.spec.codec import to_data
from modelyard.spec.gates import comparisons, metric_of, served_only
from modelyard.spec.project import ModelProject
from modelyard.storage.atomic import digest_file
from modelyard.storage.code import CodeArchive
from modelyard.training.job import TrainedModel, TrainJob, Weights
from modelyard.training.train import train


@dataclass(frozen=True, kw_only=True)
class Way:
    """One project on its way: what every stage needs."""

    walk: Walk
    project: ModelProject
    base: Path
    """Folder that the file's relative paths start from."""
    code: CodeArchive
    services: Services
    trainer: Callable[..., TrainedModel] = train
    """What trains, with the arguments of `train`: on this machine, or on a cluster."""

    def to_live_traffic(self) -> None:
        """Walk all stages.

        Raises:
            UntilReached: the last stage asked for is done.
            Refused: a verdict does not let the candidate through.
            ModelyardError: a stage could not do its work.
        """
        data = self.prepare()
        trained = self.train(data)
        model = trained.folder / "model"
        self.evaluate(data, model)
        champion = self.gate(data, model)
        chosen, report = self.compress(data, model, champion)
        packed = self.package(data, chosen)
        release = Release(walk=self.walk, project=self.project, services=self.services)
        version = release.register(packed, chosen, report, champion, trained.value.run_id)
        if release.promote(version, champion):
            release.roll_out(version)

    @property
    def work(self) -> Path:
        """Where code is unpacked."""
        return self.walk.state / "work"

    def prepare(self) -> Result[PreparedData]:
        """Stage 1."""
        walk, spec = self.walk, self.project.data
        began = walk.begin(Stage.PREPARE)
        # The source's bytes are in the key: a changed file is prepared anew, a touched one is not.
        source = source_digest(spec, base=self.base, memory=walk.state / "sources.json")
        settings = {"data": to_data(spec), "source": source}
        result = walk.result(
            Stage.PREPARE,
            PreparedData,
            settings,
            lambda out: prepare(spec, base=self.base, out=out, progress=walk.progress(Stage.PREPARE)),
        )
        sizes = ", ".join(f"{sum(s.examples for s in shards)} {name}" for name, shards in result.value.splits.items())
        walk.note(Stage.PREPARE, began=began, result=result, message=f"{sizes}; {result.value.fingerprint[:19]}")
        return result

    def train(self, data: Result[PreparedData]) -> Result[TrainedModel]:
        """Stage 2: goes on from the last checkpoint of a run that was killed."""
        walk, spec = self.walk, self.project.train
        began = walk.begin(Stage.TRAIN)
        self.check_classes(data)
        job = self.training(data)

        def act(out: Path) -> TrainedModel:
            return self.trainer(job, out=out, progress=walk.progress(Stage.TRAIN), tracking=self.services.tracking)

        settings = {
            "train": to_data(spec),
            "data": data.value.fingerprint,
            "code": self.code.digest,
            "weights": job.weights.digest if job.weights else None,
            "declared": self.declared() if spec.early_stopping else {},
        }
        result = walk.result(Stage.TRAIN, TrainedModel, settings, act, resumable=True)
        epochs = _count(len(result.value.epochs), "epoch", "epochs")
        told = f"{epochs}, {_count(result.value.world_size, 'process', 'processes')}"
        if result.value.epochs:
            told += f", validation loss {result.value.epochs[-1].validation_loss:.4f}"
        walk.note(Stage.TRAIN, began=began, result=result, message=told)
        return result

    def check_classes(self, data: Result[PreparedData]) -> None:
        """Refuse classes that the champion never learnt, where the gate would.

        On a laptop's first run there is no champion, and nobody waits for MLflow to say so.
        """
        walk, services = self.walk, self.services
        judged = walk.until is None or walk.until.place >= Stage.GATE.place
        compared = any(name in PAIRED for rule in self.project.gates for name in comparisons(rule))
        if judged and compared and (walk.registered_before or not services.own):
            classes = data.value.facts.get("classes") or ()
            check_learnt(services.registry(), self.project, classes, into=walk.state / "champions")

    def training(self, data: Result[PreparedData]) -> TrainJob:
        """What is to be trained."""
        return TrainJob(
            train=self.project.train,
            data=str(data.folder),
            data_fingerprint=data.value.fingerprint,
            code=str(self.code.path),
            code_digest=self.code.digest,
            weights=self.initial_weights(),
            metrics=self.project.metrics,
        )

    def initial_weights(self) -> Weights | None:
        """The weights that `initialize` names, as a file with its digest."""
        named = self.project.train.initialize
        if named is None:
            return None
        if named.from_.startswith("models:/"):
            return registered_weights(self.services.registry(), named.from_, into=self.walk.state / "champions")
        path = self.base / named.from_
        if not path.is_file():
            raise BadInput(f"train.initialize.from: there is no file {path}", do="give a safetensors file")
        return Weights(path=str(path), digest=digest_file(path))

    def declared(self) -> dict[str, Any]:
        """The recipe's own metrics as the project declares them; part of the key of what depends on their direction."""
        return {name: to_data(metric) for name, metric in self.project.metrics.items()}

    def values(self, report: EvaluationReport) -> dict[str, float]:
        """The metrics of a report; those that a gate names come first, since they decide."""
        gated = [name for name in map(metric_of, self.project.gates) if name in report.metrics]
        return {name: report.metrics[name].value for name in dict.fromkeys([*gated, *report.metrics])}

    def evaluate(self, data: Result[PreparedData], model: Path) -> None:
        """Stage 3."""
        began = self.walk.begin(Stage.EVALUATE)
        result = self.judging(data).report(model)
        values = self.values(result.value)
        self.walk.keep(metrics=values)
        self.walk.note(Stage.EVALUATE, began=began, result=result, message=_shown(values))

    def judging(self, data: Result[PreparedData]) -> Judging:
        """What gathers reports and applies the rules."""
        return Judging(
            walk=self.walk,
            project=self.project,
            base=self.base,
            registry=self.services.registry,
            data=data,
            job=lambda: self.training(data),
        )

    def gate(self, data: Result[PreparedData], model: Path) -> Champion:
        """Stage 4."""
        began = self.walk.begin(Stage.GATE)
        mine = {f"modelyard.{Stage.COMPRESS}.key": stage_key(Stage.COMPRESS, self.compression(data, model))}
        champion = champion_of(self.services.registry(), self.project, mine=mine, into=self.walk.state / "champions")
        # what speaks of serving is asked of what will serve
        rules = [rule for rule in self.project.gates if not served_only(rule)]
        result = self.judging(data).judge(model, champion, rules)
        verdict = result.value.verdict
        self.walk.note(Stage.GATE, began=began, result=result, message=verdict.message, verdict=verdict)
        return let_through(verdict, champion)

    def compression(self, data: Result[PreparedData], model: Path) -> dict[str, Any]:
        """What the compressed model depends on."""
        return {
            "model": digest_of(model),
            "compress": to_data(self.project.compress),
            "split": data.value.digests["validation"],
            "batchSize": self.project.deployment.runtime.torch_serve.batch_size,
            "declared": self.declared(),
        }

    def compress(
        self, data: Result[PreparedData], model: Path, champion: Champion
    ) -> tuple[Path, Result[EvaluationReport]]:
        """Stage 5: the chosen variant's folder, evaluated and gated once more: what is gated is what will serve."""
        walk, spec = self.walk, self.project.compress
        began = walk.begin(Stage.COMPRESS)
        settings = self.compression(data, model)

        def act(out: Path) -> CompressionReport:
            progress = walk.progress(Stage.COMPRESS)
            return compress(
                model,
                data.folder,
                spec,
                batch_size=settings["batchSize"],
                threads=1,
                work=self.work,
                out=out,
                declared=self.project.metrics,
                progress=progress,
            )

        result = walk.result(Stage.COMPRESS, CompressionReport, settings, act)
        chosen = result.folder / result.value.chosen
        judging = self.judging(data)
        report, judged = judging.report(chosen), judging.judge(chosen, champion, self.project.gates)
        verdict = judged.value.verdict
        values = self.values(report.value)
        walk.keep(metrics=values)
        told = f"chose {result.value.chosen} of {len(result.value.variants)} variants; {_shown(values)}"
        more: dict[str, Result[Any]] = {"served": report, "gates": judged}
        walk.note(Stage.COMPRESS, began=began, result=result, message=told, verdict=verdict, more=more)
        return let_through(verdict, (chosen, report))

    def package(self, data: Result[PreparedData], chosen: Path) -> Result[Package]:
        """Stage 6: an archive that a real server has answered the golden requests from."""
        walk, project = self.walk, self.project
        began = walk.begin(Stage.PACKAGE)
        told = ["answered before"]
        key = self.walk.state / SIGNING_KEY
        elsewhere = elsewhere_of(chosen)

        def act(out: Path) -> Package:
            walk.say(Stage.PACKAGE, "writing the archive")
            packed = package(
                chosen,
                name=project.metadata.name,
                data=data.folder,
                work=self.work,
                out=out,
                key=key,
                elsewhere=elsewhere,
            )
            walk.say(Stage.PACKAGE, "asking a real server the golden requests")
            verdict = try_out(packed, serving=project.deployment.runtime, work=self.work)
            told[0] = verdict.message
            return let_through(verdict, packed)

        settings = {
            "model": digest_of(chosen),
            "name": project.metadata.name,
            "split": data.value.digests["test"],
            "runtime": to_data(project.deployment.runtime),
            "variants": [to_data(one) for one in elsewhere.variants] if elsewhere else [],
        }
        made = walk.result(Stage.PACKAGE, Package, settings, act)
        result = replace(made, value=made.value.within(made.folder))
        walk.note(Stage.PACKAGE, began=began, result=result, message=f"{told[0]}; {result.value.digest[:19]}")
        return result


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _shown(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in list(values.items())[:3])
