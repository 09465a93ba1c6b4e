"""The faults by the names that users know them by, and from text and tables: `lost,device=0,after_calls=100`."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from holdfast.faults.errors import BadFault
from holdfast.faults.fault import Fault, known


@dataclass(frozen=True)
class Kind:
    """`main`: the field that may stand behind the kind's own name, as in `slow=0.5`; it must then be given."""

    fault: Fault
    meaning: str
    main: str = ""


KINDS = {
    "lost": Kind(Fault("error", name="GPU lost (XID 79)", xid=79, device=0), "the device falls off the bus (XID 79)"),
    "xid": Kind(Fault("error", device=0), "what the driver reports under that number (`holdfast faults xids`)", "xid"),
    "error": Kind(Fault("error"), "calls return that code, a number or a name", "code"),
    "out_of_memory": Kind(Fault("error", name="out of memory", code=2, functions="alloc"), "allocations find no memory"),
    "slow": Kind(Fault("delay"), "calls take so many seconds longer", "seconds"),
    "hang": Kind(Fault("hang"), "calls do not return before the fault is healed"),
    "corrupt": Kind(Fault("corrupt", name="corrupted copy"), "one bit of what a copy brings is another one"),
}


def make(kind: str, **fields: Any) -> Fault:
    """Raises BadFault."""
    entry = KINDS.get(kind)
    if entry is None:
        raise BadFault(f"{kind!r} is no kind of fault; these are: {', '.join(KINDS)}")
    if entry.main and fields.get(entry.main) is None:
        raise BadFault(f"{kind}: give its {entry.main}, as in {kind}={_EXAMPLES[entry.main]}")
    fault = entry.fault.with_(**known(fields))
    if not fault.name and entry.main:
        fault = fault.with_(name=f"{'XID' if kind == 'xid' else kind} {fields[entry.main]}")
    return fault


_EXAMPLES = {"xid": "48", "code": "700", "seconds": "0.5"}


def parse(text: str) -> Fault:
    """`lost,device=0,after_calls=100`; `slow=0.5,functions=cuMemAlloc+copy`. Raises BadFault."""
    first, *rest = (part.strip() for part in text.split(","))
    kind, equals, value = first.partition("=")
    fields: dict[str, Any] = {}
    entry = KINDS.get(kind)
    if equals and entry is not None:
        if not entry.main:
            raise BadFault(f"{text!r}: {kind} has no value of its own")
        fields[entry.main] = _value(value)
    for part in rest:
        name, equals, value = part.partition("=")
        if not equals:
            raise BadFault(f"{text!r}: {part!r} is not NAME=VALUE")
        if name in fields:
            raise BadFault(f"{text!r}: {name} is given twice")
        # Commas part the fields, so functions are joined by a plus.
        fields[name] = value.replace("+", ",") if name == "functions" else _value(value)
    return make(kind, **fields)


def _value(text: str) -> Any:
    """A number or True or False as Python writes them; anything else is text."""
    if text in ("true", "false"):
        return text == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, (int, float, bool)) else text


def of(given: Union[str, Fault, Mapping[str, Any]]) -> Fault:
    """Of text, of a table with a `kind`, or as it is. Raises BadFault."""
    if isinstance(given, Fault):
        return given
    if isinstance(given, str):
        return parse(given)
    if isinstance(given, Mapping):
        fields = dict(given)
        kind = fields.pop("kind", None)
        if not isinstance(kind, str):
            raise BadFault(f"{dict(given)!r} has no `kind`; one out of {', '.join(KINDS)}")
        return make(kind, **fields)
    raise BadFault(f"{given!r} is no fault; give text like 'lost,device=0', a table with a `kind`, or a Fault")


def read(path: Path) -> tuple[list[Fault], dict[str, Any]]:
    """A TOML file of [[fault]] tables, each with a `kind`; returns the faults and what else is in it. Raises BadFault."""
    # tomli before Python 3.11, where pytest depends on it.
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        data = toml.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise BadFault(f"{path}: {problem}") from None
    tables = data.pop("fault", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise BadFault(f"{path}: there is no [[fault]] in it")
    faults = []
    for number, table in enumerate(tables, 1):
        try:
            faults.append(of(table))
        except BadFault as problem:
            raise BadFault(f"{path}: fault {number}: {problem}") from None
    return faults, data
