"""What the pages for a cluster tell people to type is there: commands, values, targets, files."""

import re
import shlex
from collections.abc import Iterator

import pytest
import yaml
from tests.unit.chart.chart import ROOT, chart, objects, rendered
from typer.main import get_command

from modelyard_cli.main import app, plugin

PAGES = ("install", "operate", "security")
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TICKED = re.compile(r"`((?:kubectl modelyard|modelyard|kubectl|helm|make) [^`]+)`")


def typed() -> Iterator[str]:
    """Every command of the pages and of the chart's notes, without its comment."""
    for page in PAGES:
        text = (ROOT / "docs" / f"{page}.md").read_text()
        for block in FENCE.findall(text):
            yield from (line.partition("  #")[0].strip() for line in block.splitlines() if line.strip())
        yield from TICKED.findall(text)
    for values in ({}, {"mlflow": {"enabled": True}}, {"operator": {"namespaced": True}}):
        notes = rendered(values)["modelyard/templates/NOTES.txt"]
        yield from re.findall(r"^ {5}((?:kubectl|helm|modelyard) .+)$", notes, re.MULTILINE)


COMMANDS = sorted(set(typed()))


def test_the_pages_do_name_commands() -> None:
    assert {command.split()[0] for command in COMMANDS} >= {"kubectl", "helm", "make", "modelyard"}


@pytest.mark.parametrize("command", [each for each in COMMANDS if "modelyard rollout" in each])
def test_each_command_of_ours_is_one(command: str) -> None:
    words = shlex.split(command.partition(" | ")[0])
    group = get_command(plugin if words[0] == "kubectl" else app)
    rest = words[words.index("modelyard") + 1 :]
    while rest and rest[0] in getattr(group, "commands", {}):
        group = group.commands[rest.pop(0)]  # type: ignore[attr-defined]
    assert not getattr(group, "commands", {}), f"{command}: there is no such command"
    options = {name for parameter in group.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in rest if word.startswith("-")} <= options


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("helm ")])
def test_each_value_that_is_set_is_one(command: str) -> None:
    words = shlex.split(command)
    for place, word in enumerate(words):
        if word == "--set":
            name, _, value = words[place + 1].partition("=")
            values = yaml.safe_load(value)
            for key in reversed(name.split(".")):
                values = {key: values}
            chart().validate_schema(values)
    if words[1] in ("install", "upgrade") and len(words) > 2:
        assert (ROOT / words[3] / "Chart.yaml").is_file()


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("make ")])
def test_each_target_is_one(command: str) -> None:
    target = shlex.split(command)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("kubectl")])
def test_each_object_that_kubectl_is_asked_for_is_made(command: str) -> None:
    every = [*objects({"mlflow": {"enabled": True}}), *objects({"operator": {"namespaced": True}})]
    made = {(each["kind"].lower(), each["metadata"]["name"]) for each in every}
    made |= {("crd", name) for kind, name in made if kind == "customresourcedefinition"}
    made |= {("pvc", name) for kind, name in made if kind == "persistentvolumeclaim"}
    made |= {("lease", "modelyard-operator")}  # the operator's own
    for kind, name in re.findall(r"\b(deployment|service|lease|pvc)/([a-z-]+)", command):
        assert (kind, name) in made
    for name in re.findall(r"--(?:cluster)?role=(\S+)", command):
        assert {("role", name), ("clusterrole", name)} & made
    for name in re.findall(r" -[fk] (\S+)", command):
        assert (ROOT / name).exists() or name == "modelyard.yaml"
