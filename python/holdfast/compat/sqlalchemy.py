"""SQLAlchemy's own test plugin (also used by dialects and by Alembic): it expects of xdist's controller a database for each worker.

There is one collection, so there is one configuration: all slots use the main database. One in memory is copied with every fork; for a
server, `--hf-slots=1`.
"""

from __future__ import annotations

import sys
from typing import Any

# The suite's own conftest loads it under the second name.
_NAMES = ("sqlalchemy.testing.plugin.pytestplugin", "sqla_pytestplugin")


def give_database(workerinput: dict[str, Any]) -> None:
    if any(name in sys.modules for name in _NAMES):
        workerinput.setdefault("follower_ident", None)
