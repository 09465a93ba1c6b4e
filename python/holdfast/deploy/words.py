"""The arguments of a container's program, whether they are a list of words or one text for a shell."""

from __future__ import annotations

import shlex
from typing import Optional

from holdfast.deploy.kinds import Object


class Words:
    """Of a container (`mainContainer`), changed in place."""

    def __init__(self, container: Object) -> None:
        self._container = container
        given = container.get("args")
        self._text = isinstance(given, str) or (isinstance(given, list) and len(given) == 1 and " " in str(given[0]))
        self._list = isinstance(given, list) or given is None
        if self._text:
            self._words = shlex.split(str(given if isinstance(given, str) else given[0]))  # type: ignore[index]
        else:
            self._words = [str(word) for word in given or []]

    def value(self, name: str) -> Optional[str]:
        """Of `--name value` or `--name=value`; empty for a flag, None where it is not there."""
        for position, word in enumerate(self._words):
            if word == name:
                following = self._words[position + 1 : position + 2]
                return following[0] if following and not following[0].startswith("--") else ""
            if word.startswith(name + "="):
                return word[len(name) + 1 :]
        return None

    def set(self, name: str, value: Optional[str]) -> None:
        """Replaced where it is, or put at the end. None: a flag without a value."""
        if self.value(name) is None:
            self._words += [name] if value is None else [name, value]
        else:
            self._replace(name, value)
        self._write()

    def _replace(self, name: str, value: Optional[str]) -> None:
        for position, word in enumerate(self._words):
            if word.startswith(name + "="):
                self._words[position] = name if value is None else f"{name}={value}"
                return
            if word == name:
                end = position + (1 if self.value(name) == "" else 2)
                self._words[position:end] = [name] if value is None else [name, value]
                return

    def _write(self) -> None:
        if not self._text:
            self._container["args"] = self._words
        else:
            text = shlex.join(self._words)
            self._container["args"] = [text] if self._list else text
