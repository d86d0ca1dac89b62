"""Each rule across fields refuses what it is for, at its field, and lets the rest through."""

import re

import pytest

from modelyard.errors import BadSpec
from modelyard.spec.parse import parse_deployment, parse_project_text

GOOD = """\
metadata: {name: digits}
data: {source: bundled:digits}
train: {recipe: {use: "recipe.py:Digits"}}
gates: [{metric: accuracy, atLeast: 0.85}]
"""

TRAIN = '{recipe: {use: "recipe.py:Digits"}, %s}'


def change(path: str, value: str) -> str:
    """`path: value` is refused with these words."""
    with pytest.raises(BadSpec) as refused:
        parse_project_text(GOOD, overrides={path: value})
    return str(refused.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # names
        ("metadata.name", "a/b", "metadata.name: 'a/b' is no name; use lower-case letters, digits and -, like a-b"),
        ("metadata.name", '"a:b"', "metadata.name: 'a:b' is no name"),
        ("metadata.name", "Digits", "'Digits' is no name; use lower-case letters, digits and -, like digits"),
        ("metadata.name", "-digits", "'-digits' is no name"),
        ("metadata.name", '""', "'' is no name"),
        ("metadata.name", "a" * 64, "metadata.name: 64 characters; a name has at most 63"),
        ("alias", "latest", "alias: latest is reserved by MLflow; choose another, like champion"),
        ("alias", "v7", "alias: v7 is reserved by MLflow"),
        ("alias", "candidate", "alias: candidate is what registering sets"),
        ("alias", "a/b", "alias: 'a/b' is no alias"),
        # data
        ("data.source", '" "', "data.source: is empty"),
        ("data", "{source: {shards: s3://b/p}, format: csv}", "data.format: cannot act on shards that exist already"),
        ("data", "{source: {shards: s3://b/p}, splits: {seed: 1}}", "data.splits: cannot act on shards"),
        ("data.features", "[a, label]", "data.features.1: label is the label, not a feature"),
        ("data.features", "[a, a]", "data.features.1: a is given twice"),
        ("data.features", "[]", "data.features: is empty: nothing to learn from"),
        ("data.columns", "{age: {min: 3, max: 2}}", "data.columns.age.min: min 3 > max 2"),
        ("data.columns", "{name: {type: text, min: 3}}", "data.columns.name: min and max cannot act"),
        ("data.columns", "{image: {type: image, oneOf: [a]}}", "data.columns.image.oneOf: cannot act"),
        ("data.labels.classes", "[cat]", "data.labels.classes: 1 class; a classifier needs at least 2"),
        ("data.labels.classes", "[cat, dog, cat]", "data.labels.classes: names a class twice"),
        ("data.labels", "{kind: text, classes: [a, b]}", "data.labels.classes: cannot act on labels of kind text"),
        ("data.splits.train", "0.8", "data.splits: train + validation + test = 0.8 + 0.15 + 0.15 = 1.1, not 1"),
        ("data.splits", "{train: 0.7, validation: 0.3, test: 0}", "data.splits.test: 0 is not between 0 and 1"),
        ("data.splits", "{train: 1.3, validation: -0.3, test: 0}", "data.splits.validation: -0.3 is not between 0"),
        ("data.splits", "{time: day, seed: 3}", "data.splits.seed: cannot act when examples are dealt out by time"),
        ("data.splits", "{time: day, stratify: label}", "data.splits.stratify: cannot act"),
        ("data.splits", "{time: day, group: user}", "data.splits.group: cannot act"),
        ("data.splits.seed", "-1", "data.splits.seed: -1 is less than 0"),
        ("data.shardSize", "0", "data.shardSize: 0 is less than 1"),
        ("data.shardSize", "-5", "data.shardSize: -5 is less than 1"),
        ("data.checks.fill", "{age: 0}", "data.checks.fill: cannot act with missing: refuse; write missing: fill"),
        ("data.checks.missing", "fill", "data.checks.missing: missing: fill needs a value for each column"),
        ("data.checks", "{missing: fill, fill: {label: 1}}", "data.checks.fill.label: a label is never invented"),
        # train
        ("train.recipe.use", "recipe.py", "train.recipe.use: 'recipe.py' names no class"),
        ("train.recipe.use", "recipe:Digits", "train.recipe.use: 'recipe:Digits' is not file.py:Class"),
        ("train.recipe.use", "recipe.py:2x", "is not file.py:Class"),
        ("train.recipe.use", "../recipe.py:Digits", "'../recipe.py' leads out of the code folder"),
        ("train.recipe.use", "/etc/recipe.py:Digits", "leads out of the code folder"),
        ("train.recipe.use", '""', "train.recipe.use: is empty"),
        ("train.epochs", "0", "train.epochs: 0 is less than 1"),
        ("train.batchSize", "-8", "train.batchSize: -8 is less than 1"),
        ("train.accumulate", "0", "train.accumulate: 0 is less than 1"),
        ("train.strategy", "{tensorParallel: 1, type: DP}", "train.strategy.type"),
        ("train.strategy", "{type: FSDP2, tensorParallel: 0}", "train.strategy.tensorParallel: 0 is less than 1"),
        ("train.strategy", "{type: FSDP2, tensorParallel: 2}", "1 processes cannot be dealt out in groups of 2"),
        ("train", TRAIN % "strategy: {tensorParallel: 2}, resources: {processesPerNode: 2}",
         "train.strategy.tensorParallel: cannot act under DDP; write type: FSDP2"),
        ("train", TRAIN % "strategy: {type: FSDP2, tensorParallel: 2, compile: true}, resources: {processesPerNode: 2}",
         "train.strategy.compile: cannot act with tensorParallel"),
        ("train", TRAIN % "globalBatchSize: 64, accumulate: 2", "train.accumulate: cannot act with globalBatchSize"),
        ("train", TRAIN % "globalBatchSize: 3, resources: {processesPerNode: 4}", "globalBatchSize: 3 is less than 4"),
        ("train", TRAIN % "resources: {elastic: {minNodes: 1, maxNodes: 4}, checkpoints: {claim: c}}",
         "train.globalBatchSize: is missing: under resources.elastic"),
        ("train.keepCheckpoints", "0", "train.keepCheckpoints: 0 is less than 1"),
        ("train.resources.processesPerNode", "0", "train.resources.processesPerNode: 0 is less than 1"),
        ("train.resources.loaderWorkers", "-1", "train.resources.loaderWorkers: -1 is less than 0"),
        ("train.optimizer.lr", "0", "train.optimizer.lr: 0 is out of range; it must be above 0"),
        ("train.optimizer.lr", "1e9", "train.optimizer.lr: 1e+09 is out of range"),
        ("train.optimizer.weightDecay", "-1", "train.optimizer.weightDecay: -1 is out of range"),
        ("train.clipNorm", "0", "train.clipNorm: 0 is out of range"),
        ("train.labelSmoothing", "1", "train.labelSmoothing: 1 is out of range; it must be from 0 and below 1"),
        ("train.labelSmoothing", "-0.1", "train.labelSmoothing: -0.1 is out of range"),
        ("train.schedule.warmup", "100%", "train.schedule.warmup: 100% of all steps leaves none"),
        ("train.freeze", '[""]', "train.freeze.0: is empty, which would freeze everything"),
        ("train.earlyStopping", "{patience: 0}", "train.earlyStopping.patience: 0 is less than 1"),
        ("train.earlyStopping", "{metric: acc}", "train.earlyStopping.metric: no evaluator knows 'acc'"),
        # gates
        ("gates.0.metric", "acuracy", "gates.0.metric: no evaluator knows 'acuracy'; did you mean accuracy?"),
        ("gates.0.metric", "rmse", "gates.0.metric: rmse is for labels of kind number, and these are class"),
        ("gates.0.atMost", "0.9", "gates.0: needs exactly one of"),
        ("gates.0", "{metric: accuracy}", "it has none"),
        ("gates.0.atLeast", "85", "gates.0.atLeast: 85 is out of range; it must be from 0 to 1"),
        ("gates.0", "{metric: accuracy, atMost: 0.5}", "accuracy is better when higher; write atLeast"),
        ("gates.0", "{metric: log-loss, atLeast: 0.5}", "log-loss is better when lower; write atMost"),
        ("gates.0", "{metric: accuracy, betterThanChampion: false}", "betterThanChampion: false cannot act"),
        ("gates.0", "{metric: accuracy, notWorseThanChampion: {margin: -0.1}}", "margin: -0.1 is out of range"),
        ("gates.0", "{metric: accuracy, notWorseThanChampion: {margin: 2}}", "margin: 2 is out of range"),
        ("gates.0", "{atLeast: 0.5}", "gates.0.metric: is missing; atLeast needs one"),
        ("gates.0", "{metric: accuracy, notWorseThanAnchor: {version: v3, margin: 0.1}}", "'v3' is not a version"),
        ("gates.0", "{metric: accuracy, notWorseThanAnchor: {version: 3, margin: 0.1}}", 'put it in quotes: "3"'),
        ("gates.0", "{metric: accuracy, notWorseThanAnchor: {version: '3', margin: 2}}", "margin: 2 is out of range"),
        ("gates.0", "{metric: accuracy, maxOverfit: -0.1}", "gates.0.maxOverfit: -0.1 is out of range"),
        ("gates.0", "{metric: latency-p90, maxOverfit: 1}", "latency-p90 cannot be overfit"),
        ("gates.0", "{metric: accuracy, maxOverfit: 0.1, slice: a}", "gates.0.slice: cannot act beside maxOverfit"),
        ("gates.0", "{metric: accuracy, maxGap: 0.1}", "gates.0.slice: is missing; maxGap compares the values"),
        ("gates.0", "{metric: accuracy, maxGap: 1.5, slice: a}", "gates.0.maxGap: 1.5 is out of range"),
        ("gates.0", "{metric: latency-p50, atMost: 5, slice: a}", "gates.0.slice: cannot act: latency-p50 is asked of"),
        ("gates.0", "{maxCalibrationError: 1.2}", "gates.0.maxCalibrationError: 1.2 is out of range"),
        ("gates.0", "{metric: ece, maxCalibrationError: 0.1}", "gates.0.metric: cannot act beside maxCalibrationError"),
        ("gates.0", "{maxLatency: 20}", "20 is not a duration"),
        ("gates.0", "{maxLatency: 0ms}", "gates.0.maxLatency: 0ms is no time at all"),
        ("gates.0", "{metric: accuracy, maxLatency: 20ms}", "accuracy is no latency; name one of latency-p50"),
        ("gates.0", "{maxSize: 5MB}", "'5MB' is not a quantity"),
        ("gates.0", "{maxSize: 10m}", "gates.0.maxSize: 10m is less than a byte"),
        ("gates.0", "{maxSize: 5M, confidence: 0.9}", "gates.0.confidence: cannot act beside maxSize"),
        ("gates.0", "{noRegressionOn: ' '}", "gates.0.noRegressionOn: is empty; name a file"),
        ("gates.0", "{noRegressionOn: g.csv, slice: a}", "gates.0.slice: cannot act beside noRegressionOn"),
        ("gates.0", "{metric: f1, atLeast: 0.5, crossValidated: {folds: 1}}", "crossValidated.folds: 1 is less than 2"),
        ("gates.0", "{metric: f1, atLeast: 0.5, crossValidated: {repeats: 0}}", "repeats: 0 is less than 1"),
        ("gates.0", "{metric: f1, atLeast: 0.5, crossValidated: {folds: 20, repeats: 10}}", "more than 100"),
        ("gates.0", "{metric: f1, maxOverfit: 0.1, crossValidated: {}}", "acts on atLeast, atMost, the champion"),
        ("gates.0", "{metric: f1, atLeast: 0.5, slice: a, crossValidated: {}}", "without slice"),
        ("gates.0", "{metric: accuracy, atLeast: 0.5, maxOverfit: 0.1}", "it has atLeast and maxOverfit"),
        ("gates.0.confidence", "95", "gates.0.confidence: 95 is out of range"),
        ("gates.0.confidence", "0.5", "gates.0.confidence: 0.5 is out of range"),
        ("metrics", "{accuracy: {better: higher}}", "metrics.accuracy: accuracy is one of ours"),
        # compress
        ("compress.maxDrop", "{acuracy: 0.1}", "compress.maxDrop.acuracy: no evaluator knows 'acuracy'"),
        ("compress.maxDrop", "{accuracy: 2}", "compress.maxDrop.accuracy: 2 is out of range"),
        ("compress.maxDrop", "{accuracy: -0.1}", "compress.maxDrop.accuracy: -0.1 is out of range"),
        ("compress.timeBudget", "0s", "compress.timeBudget: 0s is no time at all"),
        ("compress.confidence", "0.9", "compress.confidence: cannot act without maxDrop"),
        ("compress.variants", "[]", "compress.variants: is empty"),
        ("compress.variants", "[onnx-int7]", "'onnx-int7' is not known; did you mean onnx-int8?"),
        ("compress.variants", "[distilled]", "distilled needs compress.student"),
        ("compress", "{variants: [onnx], student: {width: 8}}", "compress.student: cannot act"),
        ("compress", "{maxDrop: {accuracy: 0.1}, student: {}}", "compress.student: is empty"),
        # deployment
        ("deployment.replicas", "0", "deployment.replicas: 0 is less than 1"),
        ("deployment.rollback.retain", "0", "deployment.rollback.retain: 0 is less than 1"),
        ("deployment.runtime.torchServe.workers", "0", "workers: 0 is less than 1"),
        ("deployment.runtime.torchServe.batchSize", "-1", "batchSize: -1 is less than 1"),
        ("deployment.runtime.torchServe.maxBatchDelay", "5ms", "maxBatchDelay: cannot act with batchSize: 1"),
        ("deployment.runtime.torchServe.responseTimeout", "0s", "responseTimeout: 0s is no time at all"),
        ("deployment.traffic.port", "80", "deployment.traffic.port: 80 is not a port from 1024 to 65535"),
        ("deployment.traffic.timeout", "0ms", "deployment.traffic.timeout: 0ms is no time at all"),
        ("deployment.traffic.retries", "-1", "deployment.traffic.retries: -1 is out of range"),
        ("deployment.analysis.falseAlarmRate", "0%", "falseAlarmRate: 0% is out of range"),
        ("deployment.analysis.missRate", "60%", "missRate: 60% is out of range"),
        ("deployment.analysis.bursts", "5m", "bursts: 5m is too long"),
        ("deployment.analysis.guardrails", "[{atMost: 0%}]", "guardrails.0.atMost: 0% is out of range"),
        ("deployment.analysis.guardrails", "[{atMost: 5%, slowerThan: 0s}]", "slowerThan: 0s is no time at all"),
        ("deployment.analysis.guardrails", "[{atMost: 5%}, {atMost: 9%}]", "guardrails.1: limits the same"),
        ("deployment.analysis.minRequests", "0", "minRequests: 0 is less than 1"),
        ("deployment.analysis.warmupRequests", "-1", "warmupRequests: -1 is less than 0"),
        ("deployment.analysis.maxDuration", "0m", "maxDuration: 0m is no time at all"),
        ("deployment.analysis.metrics", "[]", "deployment.analysis.metrics: is empty: missing evidence never promotes"),
    ],
)  # fmt: skip
def test_it_is_refused_at_its_field(path: str, value: str, message: str) -> None:
    """Among them: names with `/` and `:` (mlflow PR #21458), replicas 0 that would count as success (Flagger #1934)."""
    assert message in change(path, value)


METRIC = "{name: %s, margin: {type: %s, value: %s}}"


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([("error-rates", "Absolute", "1%")], "metrics.0.name: 'error-rates' is not compared"),
        ([("latency-p0", "Relative", "50%")], "metrics.0.name: 'latency-p0' is not compared"),
        ([("latency-p100", "Relative", "50%")], "metrics.0.name: 'latency-p100' is not compared"),
        ([("latency-p90", "Absolute", "50%")], "metrics.0.margin.type: Absolute cannot act on a latency in percent"),
        ([("error-rate", "Absolute", "0%")], "metrics.0.margin.value: 0 is out of range"),
        ([("error-rate", "Absolute", "150%")], "metrics.0.margin.value: 1.5 is out of range"),
        (
            [("error-rate", "Absolute", "1%"), ("error-rate", "Absolute", "2%")],
            "metrics.1.name: error-rate is given twice",
        ),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(metrics: list[tuple[str, str, str]], message: str) -> None:
    assert message in change("deployment.analysis.metrics", f"[{', '.join(METRIC % one for one in metrics)}]")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("{setWeight: 50}, {setWeight: 5}", "steps.1.setWeight: 5 <= 50; weights must ascend"),
        ("{setWeight: 50}, {setWeight: 50}", "steps.1.setWeight: 50 <= 50; weights must ascend"),
        ("{setWeight: 101}", "steps.0.setWeight: 101 is out of range; it must be from 0 to 100"),
        ("{setWeight: -1}", "steps.0.setWeight: -1 is out of range"),
        ("{analysis: {}}", "steps.0.analysis: no setWeight above 0 stands before it"),
        ("{setWeight: 0}, {analysis: {}}", "steps.1.analysis: no setWeight above 0 stands before it"),
        ("{setWeight: 5}, {pause: {duration: 0s}}", "steps.1.pause.duration: 0s is no time at all"),
        (
            "{setWeight: 5}, {analysis: {margins: {error-rates: 5%}}}",
            "steps.1.analysis.margins.error-rates: no metric of the analysis; did you mean error-rate?",
        ),
        (
            "{setWeight: 5}, {analysis: {margins: {latency-p99: 5%}}}",
            "margins.latency-p99: no metric of the analysis; did you mean latency-p90?",
        ),
        ("{setWeight: 5}, {analysis: {margins: {error-rate: 0%}}}", "margins.error-rate: 0 is out of range"),
    ],
)
def test_steps_that_make_no_sense_are_refused(steps: str, message: str) -> None:
    assert message in change("deployment.strategy.canary.steps", f"[{steps}]")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data", "{source: {shards: s3://bucket/prefix}, labels: {column: y}}"),
        ("data", "{source: x.csv, splits: {time: day}}"),
        ("data.checks", "{missing: fill, fill: {age: 0}}"),
        ("train.recipe.use", "mlp"),
        ("train.recipe.use", "nets/recipe.py:Digits"),
        ("gates.0", "{metric: log-loss, atMost: 0.5}"),
        ("gates.0", "{metric: 'recall:cat', atLeast: 0.5}"),
        ("gates.0", "{metric: accuracy, betterThanChampion: true, slice: hour}"),
        ("gates.0", "{metric: accuracy, notWorseThanAnchor: {version: '3', margin: 0.02}, slice: hour}"),
        ("gates.0", "{metric: log-loss, maxOverfit: 0.3}"),
        ("gates.0", "{metric: 'recall:cat', maxGap: 0.1, slice: hour}"),
        ("gates.0", "{maxCalibrationError: 0.05, slice: hour}"),
        ("gates.0", "{metric: latency-p50, maxLatency: 20ms}"),
        ("gates.0", "{maxSize: 20Mi}"),
        ("gates.0", "{noRegressionOn: golden/hard.csv}"),
        ("gates.0", "{metric: accuracy, atLeast: 0.8, crossValidated: {folds: 10, repeats: 3}}"),
        ("gates.0", "{metric: f1, notWorseThanChampion: {margin: 0.02}, crossValidated: {}}"),
        ("gates", "[]"),
        ("deployment.runtime.torchServe", "{batchSize: 8, maxBatchDelay: 5ms}"),
        ("deployment.strategy.canary.steps", "[]"),
        ("deployment.strategy.canary.steps", "[{setWeight: 0}, {pause: {}}, {setWeight: 100}, {analysis: {}}]"),
        ("deployment.analysis.metrics", "[{name: latency-p99.9, margin: {type: Relative, value: 20%}}]"),
    ],
)
def test_it_is_let_through(path: str, value: str) -> None:
    changes = {path: value}
    if path == "deployment.analysis.metrics":
        changes["deployment.strategy.canary.steps"] = "[{setWeight: 5}, {analysis: {}}]"
    assert parse_project_text(GOOD, overrides=changes)


def test_a_metric_of_the_recipe_can_be_gated_once_its_direction_is_declared() -> None:
    rule = {"gates.0": "{metric: within-one, atLeast: 0.9}"}
    with pytest.raises(BadSpec, match="declared under metrics"):
        parse_project_text(GOOD, overrides=rule)
    assert parse_project_text(GOOD, overrides={**rule, "metrics": "{within-one: {better: higher}}"})
    with pytest.raises(BadSpec, match="within-one is better when lower; write atMost"):
        parse_project_text(GOOD, overrides={**rule, "metrics": "{within-one: {better: lower}}"})


def test_label_smoothing_of_a_regression_is_refused() -> None:
    """A field that cannot act is refused: KServe ignored canaryTrafficPercent in one mode (kserve/kserve #4074)."""
    changes = {"data.labels.kind": "number", "train.labelSmoothing": "0.1", "gates": "[]"}
    with pytest.raises(BadSpec, match=re.escape("train.labelSmoothing: cannot act on labels of kind number")):
        parse_project_text(GOOD, overrides=changes)


def test_a_deployments_steps_are_checked_as_a_projects_are() -> None:
    text = """\
metadata: {name: digits}
spec:
  model: {name: digits, alias: latest}
  strategy: {canary: {steps: [{setWeight: 50}, {setWeight: 5}]}}
"""
    with pytest.raises(BadSpec) as refused:
        parse_deployment(text, name="digits.yaml")
    assert "digits.yaml:3:32: spec.model.alias: latest is reserved" in str(refused.value)
    assert "digits.yaml:4:60: spec.strategy.canary.steps.1.setWeight: 5 <= 50" in str(refused.value)


@pytest.mark.parametrize("version", ["v7", "7.0", "champion", "-1"])
def test_a_pinned_version_is_a_whole_number(version: str) -> None:
    with pytest.raises(BadSpec, match="is not a version, which is a whole number"):
        parse_deployment(f"metadata: {{name: a}}\nspec: {{model: {{name: a, version: '{version}'}}}}\n")


@pytest.mark.parametrize(("kind", "rule", "message"), [
    ("number", "{noRegressionOn: g.csv}", "of numbers, gate a metric like mae instead"),
    ("text", "{maxCalibrationError: 0.1}", "ece is for labels of kind class, and these are text"),
])  # fmt: skip
def test_a_rule_for_classes_is_refused_for_other_labels(kind: str, rule: str, message: str) -> None:
    with pytest.raises(BadSpec, match=message):
        parse_project_text(GOOD, overrides={"data.labels.kind": kind, "gates": f"[{rule}]"})


def test_a_recipe_is_not_cross_validated_on_data_split_by_time() -> None:
    rule = "{metric: accuracy, atLeast: 0.5, crossValidated: {}}"
    with pytest.raises(BadSpec, match="must not learn from the future"):
        parse_project_text(GOOD, overrides={"data.splits.time": "day", "gates.0": rule})


def test_a_recipe_is_not_cross_validated_from_weights_that_have_seen_everything() -> None:
    rule = "{metric: accuracy, atLeast: 0.5, crossValidated: {}}"
    with pytest.raises(BadSpec, match="begins from models:/digits@champion, which has seen what is held out"):
        parse_project_text(GOOD, overrides={"train.initialize": "{from: models:/digits@champion}", "gates.0": rule})


def test_a_metric_of_the_recipe_is_not_judged_by_slice() -> None:
    rule = "{metric: within-one, atLeast: 0.5, slice: hour}"
    with pytest.raises(BadSpec, match="within-one is the recipe's own and not measured by slice"):
        parse_project_text(GOOD, overrides={"metrics": "{within-one: {better: higher}}", "gates.0": rule})
