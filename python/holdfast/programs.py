"""Programs of our own that are started as processes."""

from __future__ import annotations

import sys
from pathlib import Path


def isolated(module: str) -> list[str]:
    """The command of `module`'s main(): isolated from the suite's environment, without site-packages but for our own."""
    own = str(Path(__file__).resolve().parents[1])
    code = f"import sys; sys.path.insert(0, sys.argv.pop(1)); from {module} import main; sys.exit(main())"
    return [sys.executable, "-I", "-S", "-c", code, own]
