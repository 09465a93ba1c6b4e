"""The native stack, from what the C library has written to what people read."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import native

RAW = """\
/usr/lib/libthing.so(+0x1234)[0x7f0000001234]
/usr/lib/libthing.so(thing_do+0x10)[0x7f0000001300]
/usr/lib/libpython3.11.so.1.0(_PyEval_EvalFrameDefault+0x99)[0x7f0000002000]
/usr/lib/libpython3.11.so.1.0(PyObject_Call+0x99)[0x7f0000002100]
a line that is none
python3(main+0x1)[0x55]"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of addr2line."""
    path = tmp_path / "addr2line"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(native, "_known", {})
    monkeypatch.setattr(native, "_slow", set())
    return path


def write(tool: Path, script: str) -> None:
    tool.write_text("#!/bin/sh\n" + script)
    tool.chmod(0o755)


def test_names_lines_and_where_the_interpreter_begins(tool: Path) -> None:
    write(tool, 'shift 4; for place in "$@"; do echo "f_$place"; echo "/src/f.c:7 (discriminator 2)"; done\n')
    assert native.show(native.HEADING + "\n" + RAW).split("\n") == [
        native.HEADING,
        "  f_0x1234 (/src/f.c:7) in libthing.so",
        "  thing_do in libthing.so",
        "  _PyEval_EvalFrameDefault in libpython3.11.so.1.0",
        "  ... 2 more, of the interpreter",
    ]


@pytest.mark.parametrize("script", ["exit 1\n", "echo '??'; echo '??:0'\n", "exec sleep 60\n"])
def test_where_nobody_knows_or_it_takes_too_long(tool: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_LIMIT", 0.2)
    write(tool, script)
    for _ in range(2):
        assert "  ?? in libthing.so at 0x1234\n" in native.show(native.HEADING + "\n" + RAW)


def test_a_function_without_its_line(tool: Path) -> None:
    write(tool, "echo frob; echo '??:?'\n")
    assert "  frob in libthing.so\n" in native.show(native.HEADING + "\n" + RAW)


def test_what_cannot_be_read_is_shown_as_it_is() -> None:
    assert native.show(native.HEADING + "\nsomething else") == native.HEADING + "\nsomething else"
