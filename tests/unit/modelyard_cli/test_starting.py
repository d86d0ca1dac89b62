"""From nothing to a project, and a file that is checked before anything runs."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from modelyard.spec.parse import parse_project
from modelyard_cli.starting import TEMPLATES

from .conftest import Command


def test_init_writes_a_project_that_is_valid(tmp_path: Path, command: Command) -> None:
    made = command("init", tmp_path / "my_Digits 2")
    assert made.exit_code == 0
    assert "next:" in made.stdout
    assert parse_project(tmp_path / "my_Digits 2").metadata.name == "my-digits-2"
    for name in TEMPLATES.values():
        assert (tmp_path / "my_Digits 2" / name).exists()


def test_the_recipe_that_init_writes_is_short_and_has_a_net_of_its_own(folder: Path) -> None:
    text = (folder / "recipe.py").read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 30
    assert "class Net(nn.Module)" in text
    compile(text, "recipe.py", "exec")


def test_the_schema_lies_where_the_first_line_of_the_file_says(folder: Path) -> None:
    first = (folder / "modelyard.yaml").read_text().splitlines()[0]
    schema = folder / first.rpartition("$schema=")[2]
    assert json.loads(schema.read_text())["title"] == "modelyard.yaml"


@pytest.mark.parametrize("there", sorted(TEMPLATES.values()))
def test_init_overwrites_nothing_and_writes_nothing(there: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / there).write_text("mine")
    refused = command("init", tmp_path)
    assert refused.exit_code == 2
    assert f"{tmp_path / there} exists already. Choose an empty folder" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_init_in_a_folder_that_is_read_only(tmp_path: Path, command: Command) -> None:
    tmp_path.chmod(0o500)
    refused = command("init", tmp_path / "new")
    tmp_path.chmod(0o700)
    assert refused.exit_code == 2
    assert "cannot be written to" in refused.stderr


def test_init_where_a_file_stands_in_the_way(tmp_path: Path, command: Command) -> None:
    (tmp_path / "file").write_text("")
    refused = command("init", tmp_path / "file" / "new")
    assert refused.exit_code == 2
    assert "cannot be written to" in refused.stderr


def test_validate_names_line_column_and_the_nearest_name(folder: Path, command: Command) -> None:
    file = folder / "modelyard.yaml"
    file.write_text(file.read_text().replace("epochs:", "epoch:"))
    refused = command("validate", "--project", folder)
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"error: {file}:14:3: train.epoch: unknown field; did you mean epochs?")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_validate_prints_the_whole_project_with_its_defaults(output: str, folder: Path, command: Command) -> None:
    told = command("validate", "--project", folder, "--output", output, "--set", "train.epochs=3")
    data = json.loads(told.stdout) if output == "json" else yaml.safe_load(told.stdout)
    assert data["train"]["epochs"] == 3
    assert data["train"]["accumulate"] == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("train.recipe.use=other.py:Digits", "there is no file other.py in .* Name one of recipe.py"),
        ("train.recipe.use=recipe.py:Recipes", "recipe.py has no class 'Recipes'. Use one of its classes: Net, Recipe"),
        ("data.source=nowhere.csv", "there is no .*nowhere.csv"),
        ("code.path=nowhere", "there is no folder .*nowhere"),
    ],
    ids=["a recipe file", "a class", "data", "the code's folder"],
)
def test_what_the_file_names_and_is_not_there_is_said_before_anything_starts(
    change: str, told: str, folder: Path, command: Command
) -> None:
    for verb in ("validate", "run"):
        refused = command(verb, "-p", folder, "--set", change)
        assert refused.exit_code == 2
        assert re.search(told, refused.stderr), refused.stderr
    assert not (folder / ".modelyard" / "runs").exists()


def test_a_recipe_that_is_no_python_is_named_with_its_line(folder: Path, command: Command) -> None:
    (folder / "recipe.py").write_text("import torch\nclass Digits(\n")
    assert "recipe.py:2 is no Python" in command("validate", "-p", folder).stderr


def test_what_validate_prints_is_a_project_again(folder: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(command("validate", "--project", folder, "-o", "yaml").stdout)
    assert parse_project(tmp_path / "again.yaml") == parse_project(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("train.epochs", "--set train.epochs: this is not path=value"),
        ("=3", "this is not path=value"),
        ("train.epoch=3", "--set train.epoch=3: train.epoch: unknown field; did you mean epochs?"),
        ("deployment.runtime.torchServe.responseTimeout=20", "20 is not a duration"),
        ("data.shardSize=-1", "data.shardSize: -1 is less than 1"),
        ("data.splits.test=0.5", "train + validation + test"),
        ("gates.0.metric=acuracy", "no evaluator knows 'acuracy'; did you mean accuracy?"),
        ("metadata.name=a/b", "'a/b' is no name"),
        ("alias=latest", "latest is reserved"),
        ("deployment.analysis.metrics.1.margin.value=1%", "the margin of latency-p90 is 1%, finer than the buckets"),
    ],
)
def test_bad_values_on_the_command_line_exit_with_2(change: str, told: str, folder: Path, command: Command) -> None:
    refused = command("validate", "--project", folder, "--set", change)
    assert refused.exit_code == 2
    assert told in refused.stderr


def test_the_same_path_set_twice_is_refused(folder: Path, command: Command) -> None:
    refused = command("validate", "-p", folder, "--set", "train.epochs=3", "--set", "train.epochs=4")
    assert refused.exit_code == 2
    assert "--set train.epochs is given twice" in refused.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "modelyard.yaml. Run `modelyard init`"),
        (b"", "is empty"),
        (b"a: [1,", "this is not YAML"),
        (b"\xff\xfe", "is not UTF-8 text"),
        ("folder", "is a directory"),
    ],
)
@pytest.mark.parametrize("verb", ["validate", "run", "status", "up", "gc", "export"])
def test_a_project_that_cannot_be_read_is_bad_input_for_every_command(
    verb: str, content: bytes | str | None, told: str, tmp_path: Path, command: Command
) -> None:
    if content == "folder":
        (tmp_path / "modelyard.yaml").mkdir()
    elif isinstance(content, bytes):
        (tmp_path / "modelyard.yaml").write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    words = [verb, "--project", tmp_path, *(["--tracking-uri", "https://x"] if verb == "export" else [])]
    refused = command(*words)
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_an_error_shows_its_traceback_only_when_asked(tmp_path: Path, command: Command) -> None:
    plain, debug = command("validate", "-p", tmp_path), command("--debug", "validate", "-p", tmp_path)
    assert type(plain.exception) is SystemExit
    assert type(debug.exception).__name__ == "BadInput"


def test_a_margin_finer_than_the_router_measures_is_refused_before_a_run_also_by_set(
    folder: Path, command: Command
) -> None:
    finer = "deployment.analysis.metrics.1.margin.value=1%"
    for words in (("validate",), ("run", "--until", "prepare")):
        refused = command(*words, "-p", folder, "--set", finer)
        assert refused.exit_code == 2
        assert "finer than" in refused.stderr
    assert not (folder / ".modelyard" / "runs").exists()
