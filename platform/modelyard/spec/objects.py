"""Records as objects of a Kubernetes API, and back.

An object has more metadata than we read, times in RFC 3339, and no field without a value. The schema that the API
server holds objects to says where times stand.
"""

import calendar
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeVar

from modelyard.errors import BadInput
from modelyard.record import camel_case
from modelyard.spec.codec import from_data, once, to_data
from modelyard.spec.crd import schema_of
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.metadata import Metadata
from modelyard.spec.registry import ModelRegistry
from modelyard.spec.rollout import ModelRollout

T = TypeVar("T", ModelDeployment, ModelRollout, ModelRegistry)


def _ways(cls: Any) -> Mapping[str, Any]:
    """The schema, cut down to the ways to a time: the rest of an object needs no walk."""
    return _cut(schema_of(cls)) or {}


def _cut(schema: Any) -> Mapping[str, Any] | None:
    if not isinstance(schema, Mapping) or schema.get("format") == "date-time":
        return schema if isinstance(schema, Mapping) else None
    below = {name: way for name, each in schema.get("properties", {}).items() if (way := _cut(each))}
    kept = {name: way for name in ("additionalProperties", "items") if (way := _cut(schema.get(name)))}
    return {**kept, **({"properties": below} if below else {})} or None


_times: Callable[[Any], Mapping[str, Any]] = once(_ways)
_METADATA: Final = tuple(camel_case(each.name) for each in fields(Metadata))
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))")


def to_object(record: ModelDeployment | ModelRollout | ModelRegistry) -> dict[str, Any]:
    """A record as the API takes it; its status too, which the API takes apart."""
    data: dict[str, Any] = to_data(record)
    metadata = {name: value for name, value in data["metadata"].items() if value and name != "generation"}
    converted: dict[str, Any] = _through({**data, "metadata": metadata}, _times(type(record)), _written)
    return converted


def from_object(cls: type[T], thing: Mapping[str, Any]) -> T:
    """The record that an object of the API is.

    Raises:
        BadInput: it does not fit the type; the message names the object and the field.
    """
    found = thing["metadata"]
    where = f"{cls.__name__} {found.get('namespace', '')}/{found['name']}"
    metadata = {name: found[name] for name in _METADATA if name in found}
    try:
        data = _through({**thing, "metadata": metadata}, _times(cls), _read)
    except ValueError as error:
        raise BadInput(f"{where}: {error}", do="write it as RFC 3339, like 2026-01-31T12:00:00Z") from None
    return from_data(cls, data, where=where)


def told(at: float) -> str:
    """A moment in RFC 3339, exact: as many digits as the number has.

    >>> told(1763816506.123), told(0.5)
    ('2025-11-22T13:01:46.123Z', '1970-01-01T00:00:00.5Z')
    """
    whole, fraction = divmod(Decimal(repr(at)), 1)
    digits = format(fraction.normalize(), "f")[1:] if fraction else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(whole))) + f"{digits}Z"


@lru_cache(maxsize=4096)
def moment(text: str) -> float:
    """Seconds since the epoch of a time in RFC 3339.

    Raises:
        ValueError: it is none.

    >>> moment("2025-11-22T13:01:46.123Z"), moment("1970-01-01T01:00:00+01:00")
    (1763816506.123, 0.0)
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time")
    day, fraction, sign, hours, minutes = match.groups()
    seconds = calendar.timegm(time.strptime(day.upper(), "%Y-%m-%dT%H:%M:%S"))
    ahead = 0 if sign is None else (60 * int(hours) + int(minutes)) * (60 if sign == "+" else -60)
    return float(f"{seconds - ahead}{fraction or ''}")


def _through(value: Any, schema: Mapping[str, Any], change: Callable[[Any], Any]) -> Any:
    """A copy with every time changed; a time that becomes nothing is left out."""
    if not schema:
        return value
    if schema.get("format") == "date-time":
        return change(value)
    if isinstance(value, Mapping):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", {})
        changed = {name: _through(below, known.get(name, other), change) for name, below in value.items()}
        return {name: below for name, below in changed.items() if below is not None or value[name] is None}
    if isinstance(value, list | tuple):
        return [_through(below, schema.get("items", {}), change) for below in value]
    return value


def _written(at: Any) -> str | None:
    return told(float(at)) if at else None


def _read(text: Any) -> float:
    return moment(str(text))
