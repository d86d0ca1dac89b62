"""A file that cannot be used is refused with its place, its field, and what was probably meant."""

from pathlib import Path

import pytest

from modelyard.errors import BadInput, BadSpec
from modelyard.spec.deployment import PauseStep, SetWeight
from modelyard.spec.parse import parse_deployment, parse_project, parse_project_text

GOOD = """\
metadata: {name: digits}
data:
  source: bundled:digits
  labels: {column: label}
train:
  recipe: {use: "recipe.py:Digits", with: {width: 32}}
  optimizer: {name: adamw, lr: 2e-3}
  schedule: {warmup: 5%}
  epochs: 12
gates:
- {metric: accuracy, atLeast: 0.85}
- {metric: accuracy, notWorseThanChampion: {margin: 0.02}}
"""
STEPS = "deployment: {strategy: {canary: {steps: [%s]}}}\n"


def refusal(text: str, **overrides: str) -> str:
    with pytest.raises(BadSpec) as refused:
        parse_project_text(text, overrides={path.replace("__", "."): new for path, new in overrides.items()})
    return str(refused.value)


def test_a_good_file_becomes_a_record() -> None:
    project = parse_project_text(GOOD)
    assert project.metadata.name == "digits"
    assert project.train.optimizer.lr == 0.002
    assert project.train.recipe.with_ == {"width": 32}
    assert project.gates[1].not_worse_than_champion is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            ("lr: 2e-3", "learnRate: 2e-3"),
            "modelyard.yaml:7:28: train.optimizer.learnRate: unknown field; did you mean lr?",
            id="an unknown field is named with line, column and the nearest name",
        ),
        pytest.param(
            ("epochs: 12", "lr: 1"),
            "modelyard.yaml:9:3: train.lr: unknown field; did you mean optimizer.lr?",
            id="a field in the wrong section is told where it belongs",
        ),
        pytest.param(
            ("epochs: 12", "batch_size: 1"),
            "train.batch_size: unknown field; did you mean batchSize?",
            id="snake case is told its camel case",
        ),
        pytest.param(
            ("warmup: 5%", "warmup: 5"),
            "modelyard.yaml:8:22: train.schedule.warmup: 5 is not a percentage: write it with its unit, like 5%",
            id="a number without its unit is refused",
        ),
        pytest.param(
            ("epochs: 12", "epochs: twelve"),
            "modelyard.yaml:9:11: train.epochs: 'twelve' is not a whole number",
            id="text is no number",
        ),
        pytest.param(
            ("epochs: 12", "epochs: 1.5"), "train.epochs: 1.5 is not a whole number", id="a fraction is no whole number"
        ),
        pytest.param(
            ("epochs: 12", "epochs: true"), "train.epochs: True is not a whole number", id="true is not the number 1"
        ),
        pytest.param(
            ("epochs: 12", "epochs:"),
            "train.epochs: is empty; give it a value or leave the line out",
            id="an empty value is refused where there must be one",
        ),
        pytest.param(
            ("name: digits", "name: 7"),
            'metadata.name: 7 is not text; put it in quotes: "7"',
            id="a number where text belongs is told to be quoted",
        ),
        pytest.param(
            ("  epochs: 12", "  epochs: 12\n  precision: BF-16"),
            "train.precision: 'BF-16' is not known; did you mean bf16?",
            id="a wrong choice is told the nearest one",
        ),
        pytest.param(
            ("epochs: 12", "epochs: 12\n  epochs: 13"),
            "modelyard.yaml:10:3: train.epochs: given twice, first in line 9",
            id="a field given twice is refused",
        ),
        pytest.param(
            ("source: bundled:digits", "source: [a]"),
            "data.source: a list is not text or a mapping (shards)",
            id="a union of text and mapping is described",
        ),
        pytest.param(
            ("metadata: {name: digits}\n", ""), "metadata: is missing; it must be a mapping (name)", id="missing"
        ),
        pytest.param(("apiVersion: x\n", ""), "apiVersion", id="another format's version is refused"),
        pytest.param(
            ("lr: 2e-3", "lr: !!python/object/apply:os.system [ls]"),
            "the tag tag:yaml.org,2002:python/object/apply:os.system is not read here",
            id="a tag that would run code is refused",
        ),
        pytest.param(("epochs: 12", "epochs: {? [a] : 1}"), "a key must be plain text", id="a list as a key"),
        pytest.param(
            ("lr: 2e-3", "lr: .nan"), "train.optimizer.lr: .nan is not a finite number", id="NaN is no number"
        ),
        pytest.param(("width: 32", "width: 1e999"), "train.recipe.with.width: 1e999 is not a finite", id="infinity"),
        pytest.param(("epochs: 12", f"epochs: {'9' * 5000}"), "a number of more than 40 digits", id="5000 digits"),
    ],
)
def test_a_field_that_cannot_be_used(change: tuple[str, str], message: str) -> None:
    text = GOOD.replace(*change) if change[0] in GOOD else "apiVersion: kubeflow.org/v1\n" + GOOD
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "modelyard.yaml is empty", id="nothing"),
        pytest.param("# only a comment\n", "modelyard.yaml is empty", id="a comment"),
        pytest.param("a: [1,\n", "modelyard.yaml:2:1: this is not YAML", id="a list that does not end"),
        pytest.param("a:\n\t- x\n", "modelyard.yaml:2:1: this is not YAML", id="a tab"),
        pytest.param("a: b: c\n", "modelyard.yaml:1:5: this is not YAML", id="two colons"),
        pytest.param("a: 1\n---\nb: 1\n", "modelyard.yaml:2:1: this is not YAML", id="two documents"),
        pytest.param("a: \x00\n", "modelyard.yaml: this is not YAML", id="a zero byte"),
        pytest.param("- 1\n", "modelyard.yaml:1:1: a list is not a mapping", id="a list"),
        pytest.param("a: &a [*a]\n", "too many or too deeply nested", id="an alias inside itself"),
        pytest.param("[" * 5000, "", id="nested without end"),
    ],
)
def test_a_file_that_is_no_project(text: str, message: str) -> None:
    assert message in refusal(text)


def test_aliases_that_would_expand_without_bound_are_refused() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join(['*' + below] * 10)}]" for name, below in zip("bcdefgh", "abcdefg", strict=True)
    ]
    assert "too many" in refusal("\n".join(lines))


def test_several_errors_are_reported_at_once_and_bounded() -> None:
    told = refusal(GOOD.replace("epochs: 12", "epoch: 12\n  batchsize: 3"))
    assert "train.epoch: unknown field; did you mean epochs?" in told
    assert "train.batchsize: unknown field; did you mean batchSize?" in told
    many = "".join(f"unknown{number}: 1\n" for number in range(100))
    told = refusal(GOOD + many)
    assert "... and 90 more" in told
    assert "correct these 100 fields" in told.lower()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        pytest.param("{setWeigh: 5}", "steps.0.setWeigh: unknown field; did you mean setWeight?", id="a typing error"),
        pytest.param("{pause: {duration: 20}}", "steps.0.pause.duration: 20 is not a duration", id="a missing unit"),
        pytest.param("{wait: 5}", "steps.0: must have one of setWeight, pause, analysis", id="no known key"),
        pytest.param("{setWeight: 5, pause: {}}", "setWeight and pause exclude each other", id="two steps in one"),
        pytest.param("5", "steps.0: 5 is not a mapping with one of setWeight, pause, analysis", id="a bare number"),
        pytest.param("{setWeight: 2.5}", "steps.0.setWeight: 2.5 is not a whole number", id="a fraction of a percent"),
    ],
)
def test_a_step_gets_one_readable_message_instead_of_three_branches(steps: str, message: str) -> None:
    told = refusal(GOOD + STEPS % steps)
    assert message in told
    assert told.count("modelyard.yaml:") == 1


def test_steps_are_told_apart_by_their_key() -> None:
    project = parse_project_text(GOOD + STEPS % "{setWeight: 5}, {pause: {duration: 1h30m}}, {analysis: {}}")
    first, second, _ = project.deployment.strategy.canary.steps
    assert isinstance(first, SetWeight)
    assert isinstance(second, PauseStep)
    assert second.pause.duration is not None
    assert second.pause.duration.seconds == 5400


def test_values_follow_yaml_1_2() -> None:
    """PyYAML's 1.1 makes `2e-3` text, and the class `no` the value false (Norway)."""
    text = GOOD.replace("labels: {column: label}", "labels: {column: label, classes: [no, yes, on, 1:30]}")
    project = parse_project_text(text.replace("width: 32", "width: 1e3, when: 2026-01-02, big: 1_000"))
    assert project.data.labels.classes == ("no", "yes", "on", "1:30")
    assert project.train.recipe.with_ == {"width": 1000.0, "when": "2026-01-02", "big": "1_000"}


def test_overrides_change_a_field_an_item_of_a_list_and_what_was_not_there() -> None:
    changes = {
        "train.epochs": "3",
        "train.recipe.with.width": "64",
        "train.clipNorm": "1",
        "gates.0.atLeast": "0.5",
        "gates.2": "{metric: f1, atLeast: 0.5}",
        "compress.maxDrop.accuracy": "0.1",
    }
    project = parse_project_text(GOOD, overrides=changes)
    assert project.train.epochs == 3
    assert project.train.recipe.with_ == {"width": 64}
    assert project.train.clip_norm == 1
    assert [rule.at_least for rule in project.gates] == [0.5, None, 0.5]
    assert project.compress.max_drop == {"accuracy": 0.1}


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("train.epoch", "3", "--set train.epoch=3: train.epoch: unknown field; did you mean epochs?"),
        ("train.epochs", "-3", "--set train.epochs=-3: train.epochs: -3 is less than 1"),
        ("train.epochs", "", "--set train.epochs=: train.epochs: '' is not a whole number"),
        ("train.epochs", "[1", "--set train.epochs=[1: this is not YAML"),
        ("train.epochs.x", "1", "--set train.epochs.x=1: train.epochs is one value, without parts"),
        ("gates.5", "1", "--set gates.5=1: gates is a list of 2, and 5 is none of its indices"),
        ("gates.first", "1", "gates is a list of 2, and first is none of its indices"),
        ("train..epochs", "1", "a path is names with dots between"),
        ("train.recipe.with", "&a [*a]", "too many or too deeply nested"),
        ("train.optimizer.lr", "0", "--set train.optimizer.lr=0: train.optimizer.lr: 0 is out of range"),
    ],
)
def test_an_override_is_held_to_the_same_checks_and_its_flag_is_the_place(path: str, new: str, message: str) -> None:
    with pytest.raises(BadSpec) as refused:
        parse_project_text(GOOD, overrides={path: new})
    assert message in str(refused.value)


def test_a_missing_file_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no .*modelyard.yaml. Run `modelyard init`"):
        parse_project(tmp_path)
    with pytest.raises(BadInput, match=r"there is no .*other\.yaml"):
        parse_project(tmp_path / "other.yaml")


def test_a_directory_where_the_file_belongs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "modelyard.yaml").mkdir()
    with pytest.raises(BadInput, match="is a directory"):
        parse_project(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "modelyard.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="is not UTF-8 text"):
        parse_project(tmp_path)


def test_a_file_of_many_megabytes_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "modelyard.yaml").write_text("a" * 2_000_000)
    with pytest.raises(BadInput, match="has 2000000 bytes"):
        parse_project(tmp_path)


def test_a_folder_and_its_file_are_the_same_project(tmp_path: Path) -> None:
    (tmp_path / "modelyard.yaml").write_text(GOOD)
    assert parse_project(tmp_path) == parse_project(tmp_path / "modelyard.yaml")


def test_a_deployment_needs_exactly_one_of_alias_and_version() -> None:
    text = "metadata: {name: digits}\nspec: {model: {name: digits, alias: champion, version: '7'}}\n"
    with pytest.raises(BadSpec, match=r"deployment:2:15: spec.model: must have exactly one of alias and version; both"):
        parse_deployment(text)
    with pytest.raises(BadSpec, match="neither is given"):
        parse_deployment("metadata: {name: digits}\nspec: {model: {name: digits}}\n")


def test_restoring_the_alias_of_a_pinned_version_is_refused() -> None:
    text = "metadata: {name: a}\nspec: {model: {name: a, version: '7'}, rollback: {alias: Restore}}\n"
    with pytest.raises(BadSpec, match=r"deployment:2:58: spec.rollback.alias: Restore cannot act on a pinned version"):
        parse_deployment(text)
    assert parse_deployment(text.replace("Restore", "Keep")).spec.model.version == "7"


def test_setting_retain_alone_does_not_turn_restore_into_keep() -> None:
    """A partly given section keeps the project's own defaults."""
    project = parse_project_text(GOOD + "deployment: {rollback: {retain: 5}}\n")
    assert project.deployment.rollback.alias == "Restore"
