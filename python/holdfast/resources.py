"""`@holdfast.resource`: something that tests share as a plain value, made once by the engine in a process of its own.

    @holdfast.resource(scope="run", check=answers)
    def redis(tmp_path_factory):
        server = subprocess.Popen([...])
        yield {"port": port}          # what the tests get
        server.terminate()

To pytest it is a fixture (of the session, or the module), so tests and fixtures name it as an argument, and without `--holdfast` it is
an ordinary one. With it, the function runs in a process that does nothing else (holdfast/keeper.py); everywhere else the fixture hands
out what the engine has said (engine/run/broker.h).
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Generator
from typing import Any, Callable, NamedTuple, Optional, Union

import pytest

SCOPES = ("run", "session", "module")
# How many have been declared in this process: without any, nothing is looked for.
declared = 0

Check = Callable[[Any], object]


class Declaration(NamedTuple):
    function: Callable[..., Any]
    name: str
    scope: str
    # 0: any number of tests at a time, 1: one at a time, and so on.
    lease: int
    check: Optional[Check]

    @property
    def arguments(self) -> list[str]:
        """The fixtures that the function wants."""
        return [
            name
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.default is inspect.Parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]


def resource(
    function: Optional[Callable[..., Any]] = None,
    *,
    scope: str = "run",
    lease: Union[str, int] = "shared",
    check: Optional[Check] = None,
    name: Optional[str] = None,
    autouse: bool = False,
) -> Any:
    """Declares a resource; the decorated function is a fixture that makes it and yields (or returns) its value.

    scope: how long it lives. "run": from the start of the run to its end; "session": from its first user to its last; "module": one
        for each module, from its first user to its last.
    lease: how many tests use it at a time: "shared" (any number), "exclusive" (one), or a number.
    check: called with the value between uses, in the resource's process; False or an exception means that it no longer works. Without
        one, the resource has died when a process that it had started has ended.
    name, autouse: as those of pytest.fixture.

    The value must be what JSON can hold: None, bool, numbers, text, lists, and dicts with keys of text. Raises ValueError for arguments
    that make no sense.
    """
    __tracebackhide__ = True
    leases = _leases(lease)
    if scope not in SCOPES:
        raise ValueError(f"holdfast.resource: scope={scope!r}; give one out of {', '.join(SCOPES)}")
    if check is not None and not callable(check):
        raise ValueError(f"holdfast.resource: check={check!r}; give a function that takes the value")

    def decorate(made: Callable[..., Any]) -> Any:
        __tracebackhide__ = True
        if not inspect.isfunction(made):
            raise ValueError(f"holdfast.resource: {made!r} is no function; write @holdfast.resource above `def`")
        if inspect.iscoroutinefunction(made) or inspect.isasyncgenfunction(made):
            raise ValueError(
                f"holdfast.resource: {made.__name__} is asynchronous; its process has no event loop, make it a plain function"
            )
        declaration = Declaration(made, name or made.__name__, scope, leases, check)
        if "self" in declaration.arguments:
            raise ValueError(f"holdfast.resource: {made.__name__} is a method; declare it in a module or in conftest.py")
        return _fixture_of(declaration, autouse)

    return decorate(function) if function is not None else decorate


def _leases(lease: Union[str, int]) -> int:
    __tracebackhide__ = True
    named = {"shared": 0, "exclusive": 1}
    if isinstance(lease, str) and lease in named:
        return named[lease]
    if isinstance(lease, int) and not isinstance(lease, bool) and lease > 0:
        return lease
    raise ValueError(f"holdfast.resource: lease={lease!r}; give 'shared', 'exclusive' or the number of tests that may use it at a time")


def _fixture_of(declaration: Declaration, autouse: bool) -> Any:
    global declared
    declared += 1

    def provide(request: Any) -> Generator[Any, None, None]:
        yield from _provide(declaration, request)

    fixture: Any = provide
    # For --fixtures: its own name, place and words. But pytest must not ask for the function's arguments where it does not run.
    functools.update_wrapper(fixture, declaration.function)
    fixture.__signature__ = inspect.Signature([inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD)])
    fixture.__annotations__ = {}
    fixture.__holdfast_resource__ = declaration
    scope: Any = "module" if declaration.scope == "module" else "session"
    return pytest.fixture(scope=scope, name=declaration.name, autouse=autouse)(fixture)


def declaration_of(definition: Any) -> Optional[Declaration]:
    """Of a pytest FixtureDef, if it is a resource."""
    found = getattr(definition.func, "__holdfast_resource__", None)
    return found if isinstance(found, Declaration) else None


def id_of(definition: Any, node: Any) -> str:
    """The same in every process: where it was declared, its name, and for a module's the module. `node`: any at or below it."""
    base = str(definition.baseid)
    text = f"{base}::{definition.argname}" if base and base != "." else str(definition.argname)
    if str(definition.scope) != "module":
        return text
    module = node.getparent(pytest.Module)
    return f"{text} [{module.nodeid if module is not None else node.nodeid}]"


def _provide(declaration: Declaration, request: Any) -> Generator[Any, None, None]:
    runner: Any = request.config.pluginmanager.get_plugin("holdfast-runner")
    mine = id_of(request._fixturedef, request.node)
    if runner is None or runner.makes == mine:
        yield from _make(declaration, request)
        return
    runner.note_resource(mine, request)
    yield _given(runner.resources.get(mine), declaration.name)


def _given(entry: Any, name: str) -> Any:
    __tracebackhide__ = True
    if entry is None:
        pytest.fail(
            f"resource {name} is asked for at run time (getfixturevalue), so nobody knew that it would be needed; name it as an "
            f"argument of the test or of a fixture, or with @pytest.mark.usefixtures({name!r})",
            pytrace=False,
        )
    if "skip" in entry:
        pytest.skip(str(entry["skip"]))
    if "problem" in entry:
        pytest.fail(str(entry["problem"]), pytrace=False)
    return entry["value"]


def _make(declaration: Declaration, request: Any) -> Generator[Any, None, None]:
    arguments = {name: request.getfixturevalue(name) for name in declaration.arguments}
    made = declaration.function(**arguments)
    if not inspect.isgenerator(made):
        yield plain_value(made, declaration.name)
        return
    try:
        value = next(made)
    except StopIteration:
        pytest.fail(f"resource {declaration.name} has not yielded a value", pytrace=False)
    try:
        yield plain_value(value, declaration.name)
    finally:
        for _ in made:
            pytest.fail(f"resource {declaration.name} has yielded more than once", pytrace=False)


def plain_value(value: Any, name: str) -> Any:
    """A copy, as another process gets it. Fails for what is not the same there."""
    try:
        copy = json.loads(json.dumps(value, allow_nan=False))
        same = bool(copy == value)
    except (TypeError, ValueError):
        same = False
    if not same:
        pytest.fail(
            f"the value of resource {name} is {value!r}; it is handed to other processes, so it must be what JSON can hold: None, "
            "bool, numbers, text, lists, and dicts with keys of text (for a path: str(path))",
            pytrace=False,
        )
    return copy
