"""What a recipe is told about the data, and the errors that a recipe can cause.

This package stands alone: a copy of it travels in each model archive, so it imports nothing else of ours.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


class RecipeError(ValueError):
    """The user's recipe cannot be used; the message names file, class and method, and ends with what to do."""

    def __init__(self, what: str, *, do: str) -> None:
        super().__init__(f"{what.rstrip('.')}. {do[:1].upper()}{do[1:].rstrip('.')}.")
        self.what = what
        self.do = do

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way between processes."""
        return (_rebuild, (type(self), self.what, self.do))


def _rebuild(cls: type[RecipeError], what: str, do: str) -> RecipeError:
    return cls(what, do=do)


class RequestError(RecipeError):
    """A live request does not fit the model: the client's fault, HTTP 400."""


@dataclass(frozen=True)
class Facts:
    """What is known about the data; set as `recipe.facts` before any method of the recipe is called."""

    classes: list[str] = field(default_factory=list)
    """Names of the classes; a label's index counts in this list."""
    features: list[dict[str, Any]] = field(default_factory=list)
    """`{"name", "type", "shape"}`: type is number, integer, boolean, text, image (H, W[, C]) or array."""
    normalization: dict[str, dict[str, float]] = field(default_factory=dict)
    """Column → `{"mean", "std"}` of the training split, in the column's own unit."""
    label: dict[str, str] = field(default_factory=lambda: {"column": "label", "kind": "class"})
    """`{"column", "kind"}`: kind is class, number or text."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Build facts from JSON data; unknown keys are left out, so that newer data can serve older code."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})

    def to_json(self) -> dict[str, Any]:
        """What JSON can carry; `from_json` gives equal facts."""
        return asdict(self)

    @property
    def kind(self) -> str:
        """Kind of the label: class, number or text."""
        return self.label.get("kind", "class")

    def class_named(self, prediction: Any) -> str | None:
        """The class that a prediction names, by its index or its name; None where it names none."""
        if isinstance(prediction, bool) or self.kind != "class":
            return None
        if isinstance(prediction, int):
            return self.classes[prediction] if 0 <= prediction < len(self.classes) else None
        return prediction if isinstance(prediction, str) and prediction in self.classes else None

    @property
    def label_column(self) -> str:
        """Column of a row that holds the label."""
        return self.label.get("column", "label")

    @property
    def tensors(self) -> list[dict[str, Any]]:
        """Features that become a tensor of their own: images and arrays."""
        return [feature for feature in self.features if feature["type"] in ("image", "array")]

    @property
    def scalars(self) -> list[dict[str, Any]]:
        """Features that are stacked into one tensor `features` (F,), in this order."""
        return [feature for feature in self.features if feature["type"] in ("number", "integer", "boolean")]

    @property
    def columns(self) -> list[str]:
        """Columns of a default batch, beside `label` and `id`."""
        return [feature["name"] for feature in self.tensors] + (["features"] if self.scalars else [])
