"""What stands below the fields of records, read off the source where somebody wants to read it.

pydantic could collect it with each validator (`use_attribute_docstrings`), and would parse a whole module for each
record then: a second of every command's and of the operator's start, for texts that only schemas show.
"""

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache


def docstrings(kind: type) -> Mapping[str, str]:
    """Field → the docstring below it, as one writes it: of the record's own fields, and of those that it inherits."""
    return {name: text for each in reversed(kind.__mro__) for name, text in _own(each).items()}


def _own(kind: type) -> Mapping[str, str]:
    return _module(kind.__module__).get(kind.__qualname__, {}) if kind.__module__ in sys.modules else {}


@cache
def _module(name: str) -> Mapping[str, Mapping[str, str]]:
    """Class → field → docstring; nothing where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (OSError, TypeError):
        return {}
    return {each.name: _fields(each) for each in tree.body if isinstance(each, ast.ClassDef)}


def _fields(found: ast.ClassDef) -> Mapping[str, str]:
    told = {}
    for one, below in zip(found.body, found.body[1:], strict=False):
        if not (isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(below, ast.Expr)):
            continue
        if isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            told[one.target.id] = inspect.cleandoc(below.value.value)
    return told
