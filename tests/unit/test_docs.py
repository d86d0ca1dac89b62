"""What the pages name is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SCOPE.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
REGRESSIONS = (ROOT / "docs" / "regressions.md").read_text(encoding="utf-8")
BAD_INPUT = (ROOT / "docs" / "bad-input.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", REGRESSIONS + BAD_INPUT)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)), ids=lambda value: value)
def test_each_test_that_the_pages_name_exists(file: str, test: str) -> None:
    path = ROOT / "tests" / file
    assert path.is_file(), f"there is no tests/{file}"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert test in there, f"tests/{file} has no {test}"


def test_each_line_of_the_regressions_has_its_mark_and_a_test_where_it_is_ticked() -> None:
    lines = re.findall(r"^\| (\S) \| (\d+)\. (.+)$", REGRESSIONS, re.MULTILINE)
    assert [int(number) for _, number, _ in lines] == list(range(1, 48))
    for mark, number, rest in lines:
        assert mark in "✓½–", f"line {number} has the mark {mark!r}"
        assert ("::test_" in rest) == (mark != "–"), f"line {number}: {mark} does not fit its tests"
        assert mark == "✓" or "(" in rest.split("|")[-2], f"line {number} does not say what is not here yet"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_between_pages_points_to_something(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [
        target for target in LINK.findall(text) if not target.startswith(("http://", "https://", "mailto:", "#"))
    ]
    missing = [target for target in targets if not (page.parent / target.partition("#")[0]).exists()]
    assert not missing, f"{page.relative_to(ROOT)} links to {', '.join(missing)}"


def test_decisions_have_each_a_number_of_its_own_and_say_what_is_not_a_goal() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [page.name[:4] for page in pages]
    assert len(set(numbers)) == len(numbers)
    for page in pages:
        assert "not a goal" in page.read_text(encoding="utf-8").lower(), f"{page.name} does not say what is not a goal"


def test_the_pages_name_no_method_that_a_recipe_does_not_have() -> None:
    """docs/recipe.md speaks of each method that `Loaded` looks for, and of no other."""
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "platform/modelyard").rglob("*.py"))
    looked_for = set(re.findall(r'defines\("(\w+)"\)', code)) | {"model", "loss", "request"}
    assert set(re.findall(r"^### `(\w+)\(", page, re.MULTILINE)) == looked_for
