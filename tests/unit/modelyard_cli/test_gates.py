"""Why a gate decided as it did, and what other rules would have said, from what the registry kept."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.fakes.registry import FakeRegistry

from modelyard.evaluation.evidence import Beside, Evidence, Golden
from modelyard.evaluation.gate import gate
from modelyard.registry.port import Candidate, Version
from modelyard.runs.journal import Journal, RunState, StageEntry
from modelyard.runs.judging import DIGEST_OF, EVIDENCE, GATES
from modelyard.runs.stages import Stage
from modelyard.spec.codec import to_json
from modelyard.spec.gates import GateRule, Margin
from modelyard.spec.parse import parse_project
from modelyard.storage.atomic import digest_file
from modelyard.units import Quantity
from modelyard_cli import wiring

from .conftest import Command

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from made import paired, right

LEAST = GateRule(metric="accuracy", at_least=0.85)
NOT_WORSE = GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=0.02))
SMALL = GateRule(max_size=Quantity("5M"))


def write(folder: Path, evidence: Evidence, rules: Sequence[GateRule]) -> dict[str, Path]:
    folder.mkdir(parents=True)
    said = gate(evidence.candidate, evidence.champion, rules, beside=evidence.beside)
    (folder / "result.json").write_text(to_json(said))
    (folder / EVIDENCE).write_text(to_json(evidence))
    return {GATES: folder / "result.json", EVIDENCE: folder / EVIDENCE}


class Yard:
    """A project whose registry has versions and whose journal has runs."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.registry = FakeRegistry()
        self._folder, self._home = folder, home

    def version(self, evidence: Evidence, rules: Sequence[GateRule], *, tagged: bool = True) -> Version:
        number = str(len(self.registry.versions("digits")) + 1)
        paths = write(self._home / number, evidence, rules)
        for name in ("archive.mar", "manifest.json", "model/model.json"):
            path = self._home / number / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{name} {number}")
        return self.registry.register(
            Candidate(
                model="digits",
                archive=str(self._home / number / "archive.mar"),
                digest=digest_file(self._home / number / "archive.mar"),
                folder=str(self._home / number / "model"),
                manifest=str(self._home / number / "manifest.json"),
                artifacts={name: str(path) for name, path in paths.items()},
                tags={DIGEST_OF[name]: digest_file(path) for name, path in paths.items()} if tagged else {},
            )
        )

    def refused_run(self, evidence: Evidence, rules: Sequence[GateRule]) -> str:
        state = self._folder / ".modelyard"
        write(state / "stages" / "gate" / "k", evidence, rules)
        journal = Journal(state)
        run = journal.begin(parse_project(self._folder), "sha256:c")
        entry = StageEntry(stage=Stage.GATE, key="k", folder="stages/gate/k", cached=False, seconds=1.0, message="")
        return journal.keep(replace(run.with_stage(entry), state=RunState.REFUSED)).id


@pytest.fixture
def yard(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    made = Yard(folder, tmp_path / "registered")
    monkeypatch.setattr(wiring, "registry", lambda _home: made.registry)
    return made


def evidence(gained: int, lost: int, of: int = 540) -> Evidence:
    candidate, champion = paired(gained, lost, of)
    return Evidence(candidate=replace(candidate, bytes=33_390), champion=champion)


def test_explain_shows_both_sides_interval_examples_and_reason(folder: Path, command: Command, yard: Yard) -> None:
    yard.version(evidence(30, 2), (LEAST, NOT_WORSE, SMALL))
    said = command("gates", "explain", "1", "-p", folder)
    assert said.exit_code == 0
    assert "version 1: Passed (AllRulesPassed)" in said.stdout
    for shown in ("0.9963 [0.9", "0.9444 [0.9", "+0.0519 [+0.03", "Tango", "540", "Passed: NotWorse", "33,390"):
        assert shown in said.stdout


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_explain_gives_programs_numbers(folder: Path, command: Command, yard: Yard, form: str) -> None:
    yard.version(evidence(30, 2), (NOT_WORSE,))
    said = yaml.safe_load(command("gates", "explain", "1", "-p", folder, "-o", form).stdout)
    (rule,) = said["rules"]
    assert said["of"] == "version 1"
    assert rule["difference"]["value"] == pytest.approx(28 / 540)
    assert (rule["against"], rule["examples"], rule["verdict"]["reason"]) == ("champion", 540, "NotWorse")


def test_explain_says_why_a_run_was_refused(folder: Path, command: Command, yard: Yard) -> None:
    run = yard.refused_run(evidence(2, 60), (NOT_WORSE,))
    for words in ([run], []):
        said = command("gates", "explain", *words, "-p", folder).stdout
        assert f"run {run}: Failed (Worse)" in said
        assert "Failed: accuracy 0.8889 against the champion's 0.9963" in said


def test_explain_of_what_is_not_there_names_what_is(folder: Path, command: Command, yard: Yard) -> None:
    yard.version(evidence(30, 2), (NOT_WORSE,))
    said = command("gates", "explain", "9", "-p", folder)
    assert (said.exit_code, "there are: 1" in said.stderr) == (2, True)
    assert command("gates", "explain", "20200101-000000", "-p", folder).exit_code == 2


def test_evidence_that_was_changed_in_the_registry_is_not_believed(folder: Path, command: Command, yard: Yard) -> None:
    made = yard.version(evidence(30, 2), (NOT_WORSE,))
    yard.registry._reports["digits", made.version][EVIDENCE] = to_json(evidence(300, 2)).encode()
    said = command("gates", "explain", "1", "-p", folder)
    assert (said.exit_code, "is not what was registered" in said.stderr) == (1, True)


# replay


def rules(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_replay_shows_which_decisions_other_rules_would_have_changed(
    folder: Path, tmp_path: Path, command: Command, yard: Yard
) -> None:
    yard.version(evidence(30, 2), (LEAST,))
    yard.version(evidence(4, 40), (LEAST,))
    run = yard.refused_run(evidence(2, 60), (NOT_WORSE,))
    lax = rules(tmp_path / "lax.yaml", "gates: [{metric: accuracy, notWorseThanChampion: {margin: 0.2}}]")
    said = json.loads(command("gates", "replay", "--rules", lax, "-p", folder, "-o", "json").stdout)
    assert [(row["of"], row["then"], row["by these rules"], row["changed"]) for row in said] == [
        ("version 1", "Passed", "Passed", ""), ("version 2", "Passed", "Passed", ""),
        (f"run {run}", "Failed", "Passed", "yes"),
    ]  # fmt: skip
    strict = rules(tmp_path / "strict.yaml", "gates: [{metric: accuracy, notWorseThanChampion: {margin: 0.01}}]")
    told = command("gates", "replay", "--rules", strict, "-p", folder).stdout
    assert "1 of 3 would have been decided otherwise" in told
    assert "against the champion's" in told


def test_replay_with_the_same_rules_changes_nothing(folder: Path, tmp_path: Path, command: Command, yard: Yard) -> None:
    yard.version(evidence(30, 2), (LEAST, NOT_WORSE))
    said = command("gates", "replay", "--rules", folder / "modelyard.yaml", "-p", folder).stdout
    assert "0 of 1 would have been decided otherwise" in said


@pytest.mark.parametrize("rule", [
    "{metric: accuracy, atLeast: 0.5, slice: region}", "{metric: auroc, atLeast: 0.5}", "{noRegressionOn: g.csv}",
    "{metric: accuracy, maxOverfit: 0.5}", "{metric: accuracy, notWorseThanAnchor: {version: '1', margin: 0.5}}",
])  # fmt: skip
def test_a_rule_on_what_was_not_kept_is_inconclusive(
    folder: Path, tmp_path: Path, command: Command, yard: Yard, rule: str
) -> None:
    yard.version(evidence(30, 2), (LEAST,))
    other = rules(tmp_path / "other.yaml", f"gates: [{rule}]")
    (row,) = json.loads(command("gates", "replay", "--rules", other, "-p", folder, "-o", "json").stdout)
    assert row["by these rules"] == "Inconclusive"
    assert "not recorded" in row["why"]


def test_a_version_without_evidence_is_left_out_by_name(
    folder: Path, tmp_path: Path, command: Command, yard: Yard
) -> None:
    made = yard.version(evidence(30, 2), (LEAST,))
    yard.version(evidence(20, 2), (LEAST,), tagged=False)
    del yard.registry._reports["digits", made.version][EVIDENCE]
    said = command("gates", "replay", "--rules", folder / "modelyard.yaml", "-p", folder)
    assert "left out: version 1: Version 1 of digits has no evidence.json" in said.stderr
    assert "0 of 1 would have been decided otherwise" in said.stdout


@pytest.mark.usefixtures("yard")
@pytest.mark.parametrize(("text", "words"), [
    ("gates: [{metric: acuracy, atLeast: 0.5}]", "rules.yaml:1:18: gates.0.metric: no evaluator knows 'acuracy'"),
    ("metrics: {}", "rules.yaml:1:1: gates: is missing"),
    ("- {metric: accuracy}", "rules.yaml:1:1: a list is not a mapping (gates, metrics)"),
    ("rules: []\ngates: []", "rules.yaml:1:1: rules: unknown field"),
])  # fmt: skip
def test_rules_that_cannot_be_used_are_refused_with_their_place(
    folder: Path, tmp_path: Path, command: Command, text: str, words: str
) -> None:
    said = command("gates", "replay", "--rules", rules(tmp_path / "rules.yaml", text), "-p", folder)
    assert (said.exit_code, words in said.stderr) == (2, True)


def test_no_decisions_yet_is_said(folder: Path, command: Command, yard: Yard) -> None:
    said = command("gates", "replay", "--rules", folder / "modelyard.yaml", "-p", folder)
    assert "no gate has decided yet" in said.stdout


def test_a_golden_set_that_was_kept_can_be_asked_again(
    folder: Path, tmp_path: Path, command: Command, yard: Yard
) -> None:
    candidate, champion = paired(9, 1, 30)
    beside = Beside(golden={"g.csv": Golden(candidate=candidate, champion=champion)})
    yard.version(Evidence(candidate=right(530, 540), beside=beside), (LEAST,))
    asked = rules(tmp_path / "g.yaml", "gates: [{noRegressionOn: g.csv}]")
    (row,) = json.loads(command("gates", "replay", "--rules", asked, "-p", folder, "-o", "json").stdout)
    assert row["by these rules"] == "Failed"
    assert "e9 (ant taken for bee)" in row["why"]
