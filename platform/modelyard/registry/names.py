"""Names that a registry takes: of models and of aliases."""

import re
from collections.abc import Iterable

from modelyard.errors import BadInput


def check_model(name: str) -> None:
    """Refuse a name that cannot be a model's, in a registry as in a URL and in Kubernetes.

    Raises:
        BadInput: `/` or `:` in it (mlflow/mlflow #21458: they broke its addresses), or anything but letters,
            digits, `.`, `_` and `-`.
    """
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", name):
        raise BadInput(f"{name!r} is no name of a model", do="use up to 100 letters, digits, dots, dashes, like digits")


def no_version(model: str, version: str, known: Iterable[str]) -> BadInput:
    """The error of who names a version that is not there: says which ones are."""
    there = ", ".join(known) or "none yet"
    return BadInput(f"{model} has no version {version} (there are: {there})", do="name one of them")


def check_alias(alias: str) -> None:
    """Refuse an alias that the registry reserves or cannot hold.

    Raises:
        BadInput: `latest`, `v7`, or anything but letters, digits, `_` and `-`.
    """
    if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
        raise BadInput(f"The alias {alias!r} is reserved by the registry", do="use another, like champion")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", alias):
        raise BadInput(f"{alias!r} is no alias", do="use letters, digits, _ and -, like champion")
