"""Scenario files: mappings become objects, and what cannot be understood is said with its place and what would have been right."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from holdfast.deploy.errors import BadSpec
from holdfast.nearest import nearest

T = TypeVar("T")
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a mapping", type(None): "nothing"}


def build(kind: type[T], given: Any, where: str) -> T:
    """An object of a dataclass. `given`: a mapping of its fields, or the value of its first one; nothing or `true`: none.
    Raises BadSpec."""
    fields = [field for field in dataclasses.fields(kind) if field.init]  # type: ignore[arg-type]
    if given is None or (given is True and not (fields and fields[0].type == "bool")):
        given = {}
    if not isinstance(given, Mapping):
        if not fields:
            raise BadSpec(f"{where}: takes no value, not {given!r}")
        given = {fields[0].name: given}
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    known = {field.name.rstrip("_"): field.name for field in fields}
    for key, value in given.items():
        name = known[choose(key, known, where)]
        values[name] = _fitting(hints[name], value, f"{where}: {key}")
    for field in fields:
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise BadSpec(f"{where}: needs {field.name.rstrip('_')}")
    try:
        return kind(**values)
    except BadSpec as problem:
        raise BadSpec(f"{where}: {problem}") from None


def choose(given: Any, known: Iterable[str], where: str) -> str:
    """`given`, where it is one of the known words. Raises BadSpec."""
    words = sorted(known)
    if given in words:
        return str(given)
    raise BadSpec(f"{where}: {given!r} is not known{nearest(str(given), words)}")


def only_key(given: Any, where: str, what: str) -> tuple[str, Any]:
    """Of a mapping with one key, or of a word alone. Raises BadSpec."""
    if isinstance(given, str):
        return given, None
    if not isinstance(given, Mapping) or len(given) != 1:
        raise BadSpec(f"{where}: must be {what}, not {given!r}")
    key, value = next(iter(given.items()))
    return str(key), value


def said(thing: Any) -> str:
    """An object of a dataclass in a few words: what it is, and what is not as usual."""
    word = type(thing).__name__.lower()
    parts = [
        f"{field.name.rstrip('_')}={getattr(thing, field.name)!r}"
        for field in (dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ())
        if field.default_factory is not dataclasses.MISSING or getattr(thing, field.name) != field.default
    ]
    return f"{word} {', '.join(parts)}" if parts else word


def _fitting(hint: Any, value: Any, where: str) -> Any:
    """The value, in the field's type. Raises BadSpec."""
    kinds = _kinds(hint)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if int not in kinds else value
    if any(isinstance(value, kind) and not (isinstance(value, bool) and kind is int) for kind in kinds):
        return value
    if tuple in kinds:
        values = value if isinstance(value, list) else [value]
        if all(isinstance(one, str) for one in values):
            return tuple(values)
        raise BadSpec(f"{where}: must be a list of names, not {value!r}")
    words = [_WORDS[kind] for kind in kinds if kind in _WORDS and kind is not type(None)]
    raise BadSpec(f"{where}: must be {' or '.join(words)}, not {value!r}")


def _kinds(hint: Any) -> list[type]:
    if typing.get_origin(hint) is typing.Union:
        return [kind for part in typing.get_args(hint) for kind in _kinds(part)]
    return [typing.get_origin(hint) or hint]
