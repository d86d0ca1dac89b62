"""The chart's rules and their table in the docs, from what the operator's code says it calls.

``python -m tests.unit.chart.rights docs/security.md`` writes both.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from tests.unit.chart.chart import CHART

from modelyard.kube.permissions import AT_HOME, EVERYWHERE, policy_rules

BEGIN, END = "<!-- rights: made from charts/modelyard/files -->", "<!-- /rights -->"
MADE = "# Made from modelyard.kube.permissions: python -m tests.unit.chart.rights docs/security.md\n"


def files() -> dict[str, str]:
    """File of the chart → rules of a role, as YAML."""
    return {"operator-rules.yaml": text(policy_rules(EVERYWHERE)), "lease-rules.yaml": text(policy_rules(AT_HOME))}


def text(rules: Iterable[Mapping[str, Any]]) -> str:
    lines = (yaml.safe_dump([dict(each)], default_flow_style=None, sort_keys=False, width=1000) for each in rules)
    return MADE + "".join(lines)


def table() -> str:
    rows = []
    for name, who in (
        ("operator", "the operator"),
        ("lease", "the operator, its own namespace"),
        ("on-call", "on call"),
    ):
        for rule in yaml.safe_load((CHART / "files" / f"{name}-rules.yaml").read_text()):
            for resource in rule["resources"]:
                group = rule["apiGroups"][0]
                what = f"{resource}.{group}" if group else resource
                rows.append(f"| {who} | `{what}` | {', '.join(rule['verbs'])} |")
    return "\n".join([BEGIN, "", "| who | what | verbs |", "|---|---|---|", *rows, "", END])


if __name__ == "__main__":
    for name, content in files().items():
        (CHART / "files" / name).write_text(content)
    page = Path(sys.argv[1])
    page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table(), page.read_text(), flags=re.DOTALL))
