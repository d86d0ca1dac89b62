"""Records to JSON and back: the one home of pydantic, with `parse` and `schema`."""

import json
from collections.abc import Callable
from functools import cache
from threading import RLock
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from modelyard.errors import BadInput

T = TypeVar("T")


def once(make: Callable[[Any], T]) -> Callable[[Any], T]:
    """What is made of a type, made once: by one thread, for which the others wait."""
    kept: Callable[[Any], T] = cache(make)
    alone = RLock()

    def made(kind: Any) -> T:
        with alone:
            return kept(kind)

    return made


adapter: Callable[[Any], TypeAdapter[Any]] = once(TypeAdapter)
"""The validator of a record."""


def to_data(value: Any) -> Any:
    """A record as what JSON can carry, in camelCase; what is None is left out."""
    return adapter(type(value)).dump_python(value, mode="json", by_alias=True, exclude_none=True)


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """A record as JSON text: sorted keys and a last newline, so that equal records are equal bytes."""
    return json.dumps(to_data(value), indent=indent, sort_keys=True, ensure_ascii=False) + "\n"


def from_data(cls: type[T], data: Any, *, where: str = "input") -> T:
    """Build a record of `cls` from JSON data.

    Raises:
        BadInput: the data does not fit; the message names `where` and the field.
    """
    try:
        built: T = adapter(cls).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise BadInput(f"{where}: {field}: {first['msg']}", do=f"make it a {cls.__name__}") from None
    return built


def from_json(cls: type[T], text: str | bytes, *, where: str = "input") -> T:
    """Build a record of `cls` from JSON text.

    Raises:
        BadInput: no JSON, or it does not fit.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{where} is not JSON ({error})", do="restore it or remove it and run again") from None
    return from_data(cls, data, where=where)
