"""What must be true across fields: each rule is one function, a policy is a tuple of them.

A field that cannot act is refused, not ignored (KServe's `canaryTrafficPercent` was silently ignored in one mode,
kserve/kserve #4074). It cannot act if it differs from its default and yet would change nothing.
"""

import dataclasses
from collections.abc import Callable, Iterator

from modelyard.record import camel_case
from modelyard.spec.check_classes import check_predicted
from modelyard.spec.check_deployment import check_alias, check_name, check_serving
from modelyard.spec.check_gates import check_gates, check_metric
from modelyard.spec.check_numbers import at_least, between, positive
from modelyard.spec.check_pipeline import check_pipeline
from modelyard.spec.check_query import check_asked
from modelyard.spec.check_resources import check_resources
from modelyard.spec.check_strategy import check_strategy
from modelyard.spec.data import Data, Shards
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.gates import Compress
from modelyard.spec.metrics import metric_kind
from modelyard.spec.problem import Problem
from modelyard.spec.project import ModelProject

Rule = Callable[[ModelProject], Iterator[Problem]]


def check_project(project: ModelProject) -> Iterator[Problem]:
    """What is wrong with a project whose every single field fits its type."""
    for rule in RULES:
        yield from rule(project)


def check_deployment(wish: ModelDeployment) -> Iterator[Problem]:
    """What is wrong with a ModelDeployment whose every single field fits its type."""
    yield from check_name(wish.metadata.name, ("metadata", "name"))
    yield from check_name(wish.spec.model.name, ("spec", "model", "name"))
    model, at = wish.spec.model, ("spec", "model")
    if (model.alias is None) == (model.version is None):
        both = "both are given" if model.alias is not None else "neither is given"
        yield Problem(field=at, message=f"must have exactly one of alias and version; {both}")
    elif model.alias is not None:
        yield from check_alias(model.alias, (*at, "alias"))
    elif not (model.version or "").isdigit():
        yield Problem(field=(*at, "version"), message=f"{model.version!r} is not a version, which is a whole number")
    if model.version is not None and wish.spec.rollback.alias == "Restore":
        message = "Restore cannot act on a pinned version: there is no alias to put back; use Keep"
        yield Problem(field=("spec", "rollback", "alias"), message=message)
    yield from check_serving(wish.spec, ("spec",))


def _names(project: ModelProject) -> Iterator[Problem]:
    yield from check_name(project.metadata.name, ("metadata", "name"))
    yield from check_alias(project.alias, ("alias",))
    if project.alias == "candidate":
        yield Problem(field=("alias",), message="candidate is what registering sets; choose another, like champion")


def _source(project: ModelProject) -> Iterator[Problem]:
    data = project.data
    if not isinstance(data.source, Shards):
        if not data.source.strip():
            yield Problem(
                field=("data", "source"), message="is empty; give a path, s3://bucket/prefix or bundled:digits"
            )
        return
    for one in dataclasses.fields(data):
        if one.name not in ("source", "labels") and getattr(data, one.name) != getattr(_DATA, one.name):
            message = "cannot act on shards that exist already; leave it out, or prepare from the source"
            yield Problem(field=("data", camel_case(one.name)), message=message)


_DATA = Data(source="")
"""All defaults."""


def _columns(project: ModelProject) -> Iterator[Problem]:
    data = project.data
    for index, feature in enumerate(data.features or ()):
        at = ("data", "features", str(index))
        if feature in (data.labels.column, data.id):
            yield Problem(
                field=at, message=f"{feature} is the {'id' if feature == data.id else 'label'}, not a feature"
            )
        if feature in (data.features or ())[:index]:
            yield Problem(field=at, message=f"{feature} is given twice")
    if data.features == ():
        yield Problem(field=("data", "features"), message="is empty: nothing to learn from; leave it out to keep all")
    for name, column in data.columns.items():
        at = ("data", "columns", name)
        if column.min is not None and column.max is not None and column.min > column.max:
            yield Problem(field=(*at, "min"), message=f"min {column.min:g} > max {column.max:g}")
        if column.type in ("text", "boolean", "image") and not (column.min is None and column.max is None):
            yield Problem(field=at, message=f"min and max cannot act on a column of type {column.type}")
        if column.type in ("image", "array") and column.one_of is not None:
            yield Problem(field=(*at, "oneOf"), message=f"cannot act on a column of type {column.type}")


def _labels(project: ModelProject) -> Iterator[Problem]:
    labels, at = project.data.labels, ("data", "labels", "classes")
    if labels.classes is None:
        return
    if labels.kind != "class":
        yield Problem(field=at, message=f"cannot act on labels of kind {labels.kind}")
    elif len(labels.classes) < 2:
        yield Problem(field=at, message=f"{len(labels.classes)} class; a classifier needs at least 2")
    elif len(set(labels.classes)) < len(labels.classes):
        yield Problem(field=at, message="names a class twice")


def _splits(project: ModelProject) -> Iterator[Problem]:
    splits, at = project.data.splits, ("data", "splits")
    shares = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    for name, share in shares.items():
        if not 0 < share < 1:
            message = f"{share:g} is not between 0 and 1: this split would be empty or everything"
            yield Problem(field=(*at, name), message=message)
    if abs(sum(shares.values()) - 1) > 1e-6:
        terms = " + ".join(f"{share:g}" for share in shares.values())
        yield Problem(field=at, message=f"train + validation + test = {terms} = {sum(shares.values()):g}, not 1")
    if splits.time is not None:
        for name in ("stratify", "group", "seed"):
            if getattr(splits, name) != getattr(_DATA.splits, name):
                yield Problem(field=(*at, name), message="cannot act when examples are dealt out by time")
    yield from at_least(0, splits.seed, (*at, "seed"))


def _checks(project: ModelProject) -> Iterator[Problem]:
    data: Data = project.data
    yield from at_least(1, data.shard_size, ("data", "shardSize"))
    fill, at = data.checks.fill, ("data", "checks", "fill")
    if data.checks.missing != "fill" and fill:
        yield Problem(field=at, message=f"cannot act with missing: {data.checks.missing}; write missing: fill")
    if data.checks.missing == "fill" and not fill:
        message = "missing: fill needs a value for each column, like fill: {age: 0}"
        yield Problem(field=("data", "checks", "missing"), message=message)
    if data.labels.column in fill:
        yield Problem(
            field=(*at, data.labels.column), message="a label is never invented; drop or refuse such examples"
        )


def _recipe(project: ModelProject) -> Iterator[Problem]:
    use, at = project.train.recipe.use, ("train", "recipe", "use")
    file, colon, name = use.partition(":")
    if colon and not (file.endswith(".py") and name.isidentifier()):
        yield Problem(field=at, message=f"{use!r} is not file.py:Class")
    elif not colon and file.endswith(".py"):
        yield Problem(field=at, message=f"{use!r} names no class; write it like {file}:Recipe")
    elif file.startswith("/") or ".." in file.split("/"):
        yield Problem(field=at, message=f"{file!r} leads out of the code folder; name a file inside code.path")
    elif not use.strip():
        yield Problem(field=at, message="is empty; write it like recipe.py:Recipe")


def _training(project: ModelProject) -> Iterator[Problem]:
    train, resources, at = project.train, project.train.resources, ("train",)
    for name, number, least in (
        ("epochs", train.epochs, 1), ("batchSize", train.batch_size, 1), ("accumulate", train.accumulate, 1),
        ("checkpointEvery", train.checkpoint_every, 0), ("keepCheckpoints", train.keep_checkpoints, 1),
        ("seed", train.seed, 0),
    ):  # fmt: skip
        yield from at_least(least, number, (*at, name))
    for name, number, least in (
        ("nodes", resources.nodes, 1), ("processesPerNode", resources.processes_per_node, 1),
        ("threadsPerProcess", resources.threads_per_process, 1), ("loaderWorkers", resources.loader_workers, 0),
    ):  # fmt: skip
        yield from at_least(least, number, (*at, "resources", name))
    yield from between(0, train.optimizer.lr, 1e6, (*at, "optimizer", "lr"), low_open=True)
    yield from between(0, train.optimizer.weight_decay, 1e6, (*at, "optimizer", "weightDecay"))
    if train.clip_norm is not None:
        yield from between(0, train.clip_norm, 1e12, (*at, "clipNorm"), low_open=True)
    yield from between(0, train.label_smoothing, 1, (*at, "labelSmoothing"), high_open=True)
    if train.label_smoothing and project.data.labels.kind != "class":
        message = f"cannot act on labels of kind {project.data.labels.kind}"
        yield Problem(field=(*at, "labelSmoothing"), message=message)
    if train.schedule.warmup.fraction >= 1:
        yield Problem(field=(*at, "schedule", "warmup"), message=f"{train.schedule.warmup} of all steps leaves none")
    for index, prefix in enumerate(train.freeze):
        if not prefix.strip():
            yield Problem(field=(*at, "freeze", str(index)), message="is empty, which would freeze everything")


def _cluster_training(project: ModelProject) -> Iterator[Problem]:
    yield from check_resources(project.train.resources, ("train", "resources"))


def _sharing(project: ModelProject) -> Iterator[Problem]:
    yield from check_strategy(project.train, ("train",))


def _stopping(project: ModelProject) -> Iterator[Problem]:
    stopping, at = project.train.early_stopping, ("train", "earlyStopping")
    if stopping is not None:
        yield from at_least(1, stopping.patience, (*at, "patience"))
        yield from between(0, stopping.min_delta, 1e12, (*at, "minDelta"))
        yield from check_metric(project, stopping.metric, (*at, "metric"))


def _gates(project: ModelProject) -> Iterator[Problem]:
    yield from check_gates(project.gates, project)


def _compress(project: ModelProject) -> Iterator[Problem]:
    compress, at = project.compress, ("compress",)
    for name, drop in compress.max_drop.items():
        yield from check_metric(project, name, (*at, "maxDrop", name))
        kind = metric_kind(name, project.metrics)
        yield from between(0, drop, 1 if kind and kind.bounded else 1e12, (*at, "maxDrop", name))
    yield from positive(compress.time_budget, (*at, "timeBudget"))
    yield from between(0.5, compress.confidence, 1, (*at, "confidence"), low_open=True, high_open=True)
    if compress.confidence != Compress().confidence and not compress.max_drop:
        yield Problem(field=(*at, "confidence"), message="cannot act without maxDrop")
    if compress.variants == ():
        yield Problem(field=(*at, "variants"), message="is empty; leave it out to try all that can be built here")
    if compress.student is not None and not compress.student:
        yield Problem(field=(*at, "student"), message="is empty; give arguments of the recipe, such as {width: 16}")
    tried = compress.variants if compress.variants is not None else ("distilled",) if compress.max_drop else ()
    distilled = [name for name in tried if name.startswith("distilled")]
    if compress.student and not distilled:
        yield Problem(field=(*at, "student"), message="cannot act: no variant is distilled; name distilled among them")
    if compress.variants and distilled and compress.student is None:
        message = f"{distilled[0]} needs compress.student: arguments of the recipe that make a smaller model"
        yield Problem(field=(*at, "variants"), message=message)


def _deployment(project: ModelProject) -> Iterator[Problem]:
    yield from check_serving(project.deployment, ("deployment",))
    yield from check_asked(project.deployment.analysis, ("deployment", "analysis"))
    yield from check_predicted(project.deployment.analysis, project.data.labels, ("deployment", "analysis"))


def _pipeline(project: ModelProject) -> Iterator[Problem]:
    yield from check_pipeline(project.pipeline, project.promote, ("pipeline",))


RULES: tuple[Rule, ...] = (
    _names, _source, _columns, _labels, _splits, _checks,
    _recipe, _training, _cluster_training, _sharing, _stopping,
    _gates, _compress, _deployment, _pipeline,
)  # fmt: skip
