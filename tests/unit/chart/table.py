"""The chart's values as a table, from their comments.

``python -m tests.unit.chart.table docs/install.md`` writes it.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from tests.unit.chart.chart import CHART

BEGIN, END = "<!-- values: made from charts/modelyard/values.yaml -->", "<!-- /values -->"


def described() -> Iterator[tuple[str, str, str]]:
    """Value, default as JSON, and what its comment says.

    Raises:
        ValueError: a value has no comment.
    """
    lines = (CHART / "values.yaml").read_text().splitlines()
    path: list[str] = []
    said: list[str] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        place += 1
        found = re.fullmatch(r"( *)([A-Za-z0-9]+):(.*)", line)
        if line.strip().startswith("#"):
            said.append(line.strip("# "))
        elif not line.strip():
            said = []
        elif found:
            depth = len(found[1]) // 2
            path = [*path[:depth], found[2]]
            if not said and found[3]:
                raise ValueError(f"{'.'.join(path)} has no comment")
            if said:
                below = []
                while place < len(lines) and lines[place].startswith(found[1] + "  "):
                    below.append(lines[place])
                    place += 1
                value = yaml.safe_load("\n".join([line.strip(), *(each[len(found[1]) :] for each in below)]))[found[2]]
                yield ".".join(path), json.dumps(value), " ".join(said)
                said = []


def table() -> str:
    rows = [f"| `{name}` | `{default}` | {what} |" for name, default, what in described()]
    return "\n".join([BEGIN, "", "| value | default | what |", "|---|---|---|", *rows, "", END])


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table(), file.read_text(), flags=re.DOTALL))
