"""Durations, percentages and quantities as people write them: a string with its unit.

Kubernetes' conventions keep floats out of an API; a number without its unit is refused, because
`20` for `20ms` is a mistake that nobody sees until it hurts.

Each class has pydantic's two hooks. Both return plain dicts, so no vendor is imported here.
"""

import re
from typing import Annotated, Any, Self

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY_UNITS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


class _Unit(str):
    """A string that was checked; `pattern` is what it looks like, `example` what to write instead."""

    __slots__ = ()
    pattern = ""
    example = ""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Check `text`.

        Raises:
            ValueError: `text` is no string of this unit; the message says what to write.
        """
        if not isinstance(text, str) or not re.fullmatch(cls.pattern, text):
            raise ValueError(f"{text!r} is not a {cls.__name__.lower()}: write it with its unit, like {cls.example}")
        return cls(text)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> dict[str, Any]:
        return {
            "type": "function-plain",
            "function": {"type": "no-info", "function": cls.parse},
            "serialization": {"type": "to-string"},
        }

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: object, _handler: object) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{cls.pattern}$", "examples": cls.example.split(" or ")}


class Duration(_Unit):
    """A length of time, like `20ms`, `5s`, `1h30m`."""

    __slots__ = ()
    pattern = r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+"
    example = "20ms or 1h30m"

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", self)
        return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)


class Percentage(_Unit):
    """A share, like `5%` or `0.5%`; never negative."""

    __slots__ = ()
    pattern = r"[0-9]+(?:\.[0-9]+)?%"
    example = "5%"

    @property
    def fraction(self) -> float:
        """The share as a number: 0.05 for `5%`."""
        return float(self[:-1]) / 100


class Quantity(_Unit):
    """An amount as Kubernetes writes it, like `500m`, `2`, `1.5Gi`."""

    __slots__ = ()
    pattern = r"[0-9]+(?:\.[0-9]+)?(?:m|k|M|G|T|Ki|Mi|Gi|Ti)?"
    example = "500m or 2Gi"

    @property
    def value(self) -> float:
        """The amount in its base unit: cores, bytes."""
        number, unit = re.fullmatch(r"([0-9.]+)(\D*)", self).groups()  # type: ignore[union-attr]
        return float(number) * _QUANTITY_UNITS[unit]


class _Time:
    """What the schema says of a moment."""

    def __get_pydantic_json_schema__(self, _schema: object, _handler: object) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


Moment = Annotated[float, _Time()]
"""A time in seconds since the epoch; RFC 3339 in a cluster's API, where numbers with fractions are not welcome."""
