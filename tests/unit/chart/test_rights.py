"""What the chart's roles allow is what the operator's code says it calls, no less and no more.

That the code says it truly is held by `tests/unit/modelyard_operator/test_permissions.py`, which plays whole rollouts.
"""

import yaml
from tests.unit.chart.chart import CHART, ROOT, VALUES, objects
from tests.unit.chart.rights import files, table


def test_the_rules_are_made_from_what_the_operator_calls() -> None:
    for name, content in files().items():
        assert (CHART / "files" / name).read_text() == content, (
            "run: python -m tests.unit.chart.rights docs/security.md"
        )


def test_the_table_of_rights_is_the_one_in_the_docs() -> None:
    assert table() in (ROOT / "docs" / "security.md").read_text()


def test_no_rule_has_a_wildcard_and_nobody_may_give_rights_away() -> None:
    for values in VALUES.values():
        for each in objects(values):
            for rule in each.get("rules") or ():
                assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
                assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
                assert not {"pods/exec", "serviceaccounts/token"} & set(rule["resources"])


def test_secrets_can_be_read_by_name_and_not_listed() -> None:
    rules = yaml.safe_load((CHART / "files" / "operator-rules.yaml").read_text())
    assert [rule["verbs"] for rule in rules if "secrets" in rule["resources"]] == [["get"]]


def test_who_is_on_call_may_change_attempts_and_nothing_else() -> None:
    rules = yaml.safe_load((CHART / "files" / "on-call-rules.yaml").read_text())
    writing = {"create", "update", "patch", "delete"}
    assert [rule["resources"] for rule in rules if writing & set(rule["verbs"])] == [["modelrollouts"]]
    (verbs,) = (rule["verbs"] for rule in rules if rule["resources"] == ["modelrollouts"])
    assert set(verbs) == {"get", "list", "watch", "patch", "create"}, "switches are patched, retry and undo create"


def test_a_release_of_one_namespace_reads_another_only_for_the_gateways_counters() -> None:
    inside = objects({"operator": {"namespaced": True}}, namespace="team")
    outside = [each for each in inside if each["metadata"].get("namespace", "team") != "team"]
    assert {each["kind"] for each in outside} == {"Role", "RoleBinding"}
    assert [each["rules"] for each in outside if "rules" in each] == [
        [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    ]
    assert all(
        each["metadata"].get("namespace", "team") == "team" for each in objects(VALUES["namespaced"], namespace="team")
    )
