"""The one way to declare a record: frozen, keyword-only, camelCase outside.

A record is a plain dataclass. `modelyard.spec.codec` reads and writes it as JSON or YAML; the
settings that it needs travel as a plain dict, so that pure modules import no vendor.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


def camel_case(name: str) -> str:
    """Spell a Python field's name as Kubernetes does.

    >>> camel_case("min_replicas"), camel_case("tracking_uri"), camel_case("with_")
    ('minReplicas', 'trackingURI', 'with')
    """
    head, *tail = name.rstrip("_").split("_")
    return head + "".join("URI" if word == "uri" else word.capitalize() for word in tail)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, keyword-only dataclass with camelCase names in JSON, refusing unknown ones."""
    settings: Mapping[str, Any] = {
        "alias_generator": camel_case,
        "extra": "forbid",
        "allow_inf_nan": True,
        "ser_json_inf_nan": "strings",
    }
    cls.__pydantic_config__ = settings  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)
