"""Lines of the driver, as monitors read them in a file."""

from __future__ import annotations

from pathlib import Path

# PCI address, XID. What follows is text.
XID = r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+),"


class NewLines:
    """Of a file that grows, from its present end on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_to = path.stat().st_size if path.exists() else 0

    def read(self) -> list[str]:
        """Whole lines that have come since the last time. Raises OSError where the file is not there."""
        if self._path.stat().st_size == self._read_to:
            return []
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        return whole.decode(errors="replace").splitlines()
