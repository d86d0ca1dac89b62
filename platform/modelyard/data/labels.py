"""Labels: as names of classes, as numbers, or as text. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from modelyard.data.columns import Array, Values, is_scalar, is_text
from modelyard.errors import BadInput
from modelyard.spec.data import Labels


def label_names(values: Values, labels: Labels) -> list[str]:
    """Each label (N,) as the name of its class: whole numbers without a point, text as it is.

    Raises:
        BadInput: the column holds arrays.
    """
    if isinstance(values, list):
        if not is_text(values):
            raise BadInput(f"data.labels: {labels.column} holds arrays", do="name the column with the classes")
        return [value if value is not None else "" for value in values]
    if values.ndim != 1:
        raise BadInput(f"data.labels: {labels.column} holds arrays", do="name the column with the classes")
    if values.dtype == bool:
        return ["true" if value else "false" for value in values]
    return [str(int(value)) if float(value).is_integer() else str(value) for value in values.tolist()]


def find_classes(names: Iterable[str], labels: Labels) -> list[str]:
    """The classes in their order: as declared, else sorted, whole numbers by value.

    Raises:
        BadInput: there is one class only, or numbers that are not whole.
    """
    found = set(names)
    classes = list(labels.classes) if labels.classes else sorted(found, key=_order)
    if len(set(classes)) < len(classes):
        raise BadInput(f"data.labels.classes names one twice: {', '.join(classes)}", do="name each once")
    if not labels.classes and (odd := [name for name in found if _is_fraction(name)]):
        raise BadInput(
            f"data.labels: {labels.column} holds {min(odd)}, which names no class", do="set data.labels.kind: number"
        )
    if len(found) < 2:
        only = next(iter(found), "none")
        raise BadInput(
            f"data.labels: {labels.column} has one class only ({only})", do="give examples of at least two classes"
        )
    return classes


def encode(values: Values, labels: Labels, classes: Sequence[str]) -> Values:
    """Labels as stored: class indices (N,) int64, numbers (N,) float64, or text."""
    if labels.kind == "text":
        return values if isinstance(values, list) else [str(value) for value in values]
    if labels.kind == "number":
        assert isinstance(values, np.ndarray)
        return values.astype(np.float64)
    index = {name: at for at, name in enumerate(classes)}
    return np.array([index[name] for name in label_names(values, labels)], np.int64)


def check_kind(values: Values, labels: Labels) -> None:
    """Refuse labels that cannot be of their kind.

    Raises:
        BadInput: `kind: number` and no numbers, or `kind: text` and no text.
    """
    if labels.kind == "number" and not is_scalar(values):
        raise BadInput(f"data.labels: {labels.column} holds no numbers", do="set data.labels.kind: class or text")
    if labels.kind == "text" and not is_text(values):
        raise BadInput(f"data.labels: {labels.column} holds no text", do="set data.labels.kind: class or number")


def balance(indices: Array, classes: Sequence[str]) -> dict[str, int]:
    """Examples of each class among class indices (N,)."""
    counts = np.bincount(indices, minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))


def _is_fraction(name: str) -> bool:
    try:
        return not float(name).is_integer()
    except (ValueError, OverflowError):
        return False


def _order(name: str) -> tuple[Any, ...]:
    try:
        return (0, int(name), name)
    except ValueError:
        return (1, 0, name)
