"""What must hold for every project: it survives being written and read, and no field that nobody knows gets through."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from modelyard.errors import BadSpec
from modelyard.spec.codec import from_data, to_data, to_json
from modelyard.spec.data import Checks, Column, Data, Labels, Splits
from modelyard.spec.deployment import AnalysisGate, AnalysisStep, Canary, Pause, PauseStep, SetWeight, Step, Strategy
from modelyard.spec.gates import GateRule, Margin
from modelyard.spec.metrics import METRICS
from modelyard.spec.parse import parse_project_text
from modelyard.spec.project import Deployment, ModelProject, ProjectMetadata
from modelyard.spec.schema import project_schema
from modelyard.spec.train import EarlyStopping, Optimizer, RecipeRef, Schedule, Train
from modelyard.spec.tree import dump
from modelyard.units import Duration, Percentage

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
words = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
tricky = st.sampled_from(["no", "1e3", "null", "~", "0x10", "1:30", "2026-01-01", " a ", "#x", "'", '"', "- a", ".inf"])
positive = st.floats(1e-9, 1e5)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | tricky,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=8,
)


@st.composite
def splits(draw: st.DrawFn) -> Splits:
    parts = draw(st.lists(st.integers(1, 1000), min_size=3, max_size=3))
    train, validation = parts[0] / sum(parts), parts[1] / sum(parts)
    return Splits(train=train, validation=validation, test=1 - train - validation, seed=draw(st.integers(0, 2**31)))


@st.composite
def steps(draw: st.DrawFn) -> tuple[Step, ...]:
    weights = sorted(draw(st.sets(st.integers(1, 100), min_size=1, max_size=4)))
    walked: list[Step] = []
    for weight in weights:
        walked.append(SetWeight(set_weight=weight))
        if draw(st.booleans()):
            margins = {"error-rate": Percentage("5%")} if draw(st.booleans()) else {}
            walked.append(AnalysisStep(analysis=AnalysisGate(margins=margins)))
        if draw(st.booleans()):
            walked.append(PauseStep(pause=Pause(duration=Duration("90s") if draw(st.booleans()) else None)))
    return tuple(walked)


classes = st.lists(texts | tricky, min_size=2, max_size=4, unique=True).map(tuple)
columns = st.dictionaries(
    texts | tricky,
    st.builds(Column, type=st.none() | st.just("number"), min=st.none() | st.floats(-9, 0), max=st.floats(1, 9)),
    max_size=2,
)
data = st.builds(
    Data,
    source=words,
    labels=st.builds(Labels, column=words, classes=st.none() | classes),
    columns=columns,
    splits=splits(),
    checks=st.builds(Checks, missing=st.just("fill"), fill=st.just({"an age": 1.5, "a name": "no"})),
    shard_size=st.integers(1, 10**6),
)
train = st.builds(
    Train,
    recipe=st.builds(RecipeRef, use=words.map("recipe.py:{}".format), with_=st.dictionaries(texts, json_values)),
    optimizer=st.builds(Optimizer, lr=positive, weight_decay=st.just(0.0) | positive),
    schedule=st.builds(Schedule, warmup=st.integers(0, 99).map(lambda share: Percentage(f"{share}%"))),
    epochs=st.integers(1, 1000),
    clip_norm=st.none() | positive,
    early_stopping=st.none() | st.builds(EarlyStopping, metric=st.just("accuracy"), patience=st.integers(1, 9)),
)
rules = st.sampled_from([name for name, kind in METRICS.items() if "class" in kind.labels]).map(
    lambda name: (
        GateRule(metric=name, at_least=0.5)
        if METRICS[name].better == "higher"
        else GateRule(metric=name, not_worse_than_champion=Margin(margin=0.1))
    )
)
projects = st.builds(
    ModelProject,
    metadata=st.builds(ProjectMetadata, name=names),
    data=data,
    train=train,
    gates=st.lists(rules, max_size=3).map(tuple),
    deployment=st.builds(Deployment, strategy=st.builds(Strategy, canary=st.builds(Canary, steps=steps()))),
    promote=st.sampled_from(["automatic", "manual"]),
)
slowly = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40, phases=[Phase.generate, Phase.shrink]
)


@slowly
@given(projects)
def test_every_valid_project_survives_json_and_yaml(project: ModelProject) -> None:
    assert from_data(ModelProject, json.loads(to_json(project))) == project
    assert parse_project_text(to_json(project)) == project
    assert parse_project_text(dump(to_data(project))) == project


def refusal(text: str, overrides: Mapping[str, str] | None = None) -> str | None:
    try:
        parse_project_text(text, overrides=overrides or {})
    except BadSpec as refused:
        return str(refused)
    return None


def records(  # noqa: C901
    schema: dict[str, Any], entry: dict[str, Any], found: Any
) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """Every mapping in `found` that is a record, with the names that it knows."""
    if "$ref" in entry:
        entry = schema["$defs"][entry["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in entry:
        for branch in entry["anyOf"]:
            below = schema["$defs"].get(branch.get("$ref", "").rsplit("/", 1)[-1], branch)
            if isinstance(found, dict) and set(found) <= set(below.get("properties", {})):
                yield from records(schema, branch, found)
    elif "properties" in entry and isinstance(found, dict):
        yield found, set(entry["properties"])
        for name, below in found.items():
            yield from records(schema, entry["properties"][name], below)
    elif entry.get("type") == "array" and isinstance(found, list):
        for below in found:
            yield from records(schema, entry["items"], below)
    elif isinstance(entry.get("additionalProperties"), dict) and isinstance(found, dict):
        for below in found.values():
            yield from records(schema, entry["additionalProperties"], below)


@slowly
@given(projects, words, st.data())
def test_any_unknown_field_is_refused_by_name(project: ModelProject, name: str, pick: st.DataObject) -> None:
    schema: Any = project_schema()
    content = to_data(project)
    places = list(records(schema, schema, content))
    place, known = pick.draw(st.sampled_from(places))
    if name in known:
        name += "X"
    place[name] = 1
    with pytest.raises(BadSpec) as refused:
        parse_project_text(dump(content))
    assert name in str(refused.value)


@slowly
@given(st.text(max_size=200))
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    with pytest.raises(BadSpec):
        parse_project_text(text)


@slowly
@given(projects, st.sampled_from(["data", "train", "gates", "deployment", "metadata", "compress"]), json_values)
def test_whatever_stands_in_a_section_is_read_or_refused(project: ModelProject, section: str, instead: Any) -> None:
    content = to_data(project) | {section: instead}
    told = refusal(json.dumps(content))
    assert told is None or section in told


@slowly
@given(projects, st.from_regex(r"[a-z0-9.]{1,30}", fullmatch=True), st.text(max_size=20))
def test_no_override_does_worse_than_being_refused(project: ModelProject, path: str, value: str) -> None:
    told = refusal(to_json(project), {path: value})
    assert told is None or "--set" in told


@given(json_values)
def test_what_is_dumped_as_yaml_is_read_as_the_same_by_kubectl_and_by_us(value: Any) -> None:
    """kubectl reads YAML 1.1: a class called `no` must not become false there."""
    import yaml

    from modelyard.spec.tree import read
    from modelyard.spec.tree import value as ours

    text = dump({"value": value})
    assert ours(read(text, name="x")) == {"value": value}
    if not _has_float(value):  # PyYAML's 1.1 reads 1e+20 as text; Go's reader does not
        assert yaml.safe_load(text) == {"value": value}


def _has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    return any(map(_has_float, value)) if isinstance(value, list) else isinstance(value, float)
