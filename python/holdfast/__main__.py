"""The `holdfast` command: hands over to the engine binary inside the package."""

from __future__ import annotations

import os
import sys

from holdfast.engine_path import EngineMissing, find_engine


def main() -> int:
    try:
        engine = find_engine()
    except EngineMissing as missing:
        print(f"holdfast: {missing}", file=sys.stderr)
        return 4
    os.execv(engine, ["holdfast", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
