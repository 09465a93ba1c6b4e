"""What a pod's specification says of environments, volumes and commands, put into this machine's terms.

Pods share this machine's files: where a volume is mounted, an absolute path that begins with the mount's path means the volume's
folder, in variables, commands and arguments.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Optional

from holdfast.deploy.kinds import CONFIG_MAP, SECRET, Kind, Object, decoded, name_of, namespace_of
from holdfast.deploy.local.store import Objects

_REFERENCE = re.compile(r"\$\((\w+)\)")


class CannotRun(Exception):
    """`reason` is the word that a kubelet has for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Volumes:
    """The folders of a pod's volumes. `node_root` is where the node's own file system begins, `own` the pod's folder."""

    def __init__(self, store: Objects, pod: Object, node_root: Path, own: Path) -> None:
        self._folders: dict[str, Path] = {}
        for volume in pod["spec"].get("volumes") or []:
            self._folders[volume["name"]] = self._folder(store, pod, volume, node_root, own / "volumes" / volume["name"])

    def _folder(self, store: Objects, pod: Object, volume: Object, node_root: Path, own: Path) -> Path:
        if "hostPath" in volume:
            folder = node_root / str(volume["hostPath"]["path"]).lstrip("/")
            if not folder.exists():
                if volume["hostPath"].get("type") not in (None, "", "DirectoryOrCreate"):
                    raise CannotRun("ContainerCreating", f"hostPath {volume['hostPath']['path']} is not on the node")
                folder.mkdir(parents=True)
            return folder
        own.mkdir(parents=True, exist_ok=True)
        if "configMap" in volume:
            _write(own, _found(store, CONFIG_MAP, pod, volume["configMap"]["name"]).get("data", {}))
        elif "secret" in volume:
            _write(own, decoded(_found(store, SECRET, pod, volume["secret"]["secretName"])))
        elif "projected" in volume:
            # The token of the service account, which a real API gives to every pod: nothing here asks the API anything.
            pass
        elif "emptyDir" not in volume and "persistentVolumeClaim" not in volume:
            raise CannotRun(
                "ContainerCreating", f"volume {volume['name']}: the local cluster has hostPath, emptyDir, configMap, secret"
            )
        return own

    def translate(self, container: Object, text: str) -> str:
        for mount in container.get("volumeMounts") or []:
            folder = self._folders.get(mount["name"])
            if folder is None:
                raise CannotRun("CreateContainerConfigError", f"volumeMounts: there is no volume {mount['name']}")
            path = re.escape(mount["mountPath"].rstrip("/"))
            text = re.sub(rf"(?<![\w./-]){path}(?=/|:|$)", str(folder).replace("\\", r"\\"), text)
        return text


def _write(folder: Path, data: dict[str, str]) -> None:
    for name, text in data.items():
        (folder / name).write_text(text)


def _found(store: Objects, kind: Kind, pod: Object, name: str) -> Object:
    found = store.find(kind, namespace_of(pod), name)
    if found is None:
        raise CannotRun("CreateContainerConfigError", f'{kind.plural[:-1]} "{name}" not found')
    return found


def variables(store: Objects, pod: Object, container: Object, given: dict[str, str]) -> dict[str, str]:
    """`given` and what the container says on top of it."""
    result = dict(given)
    for source in container.get("envFrom") or []:
        kind, key = (SECRET, "secretRef") if "secretRef" in source else (CONFIG_MAP, "configMapRef")
        found = _found(store, kind, pod, source[key]["name"])
        result.update(decoded(found) if kind is SECRET else found.get("data", {}))
    for entry in container.get("env") or []:
        value = _value(store, pod, entry)
        result[entry["name"]] = expanded(value, result)
    return result


def _value(store: Objects, pod: Object, entry: Object) -> str:
    source: dict[str, Any] = entry.get("valueFrom") or {}
    if "fieldRef" in source:
        value: Any = pod
        for part in source["fieldRef"]["fieldPath"].split("."):
            value = value.get(part, "") if isinstance(value, dict) else ""
        return str(value)
    for key, kind in (("secretKeyRef", SECRET), ("configMapKeyRef", CONFIG_MAP)):
        if key in source:
            found = _found(store, kind, pod, source[key]["name"])
            data = decoded(found) if kind is SECRET else found.get("data", {})
            if source[key]["key"] not in data:
                raise CannotRun("CreateContainerConfigError", f"{key}: {name_of(found)} has no {source[key]['key']}")
            return str(data[source[key]["key"]])
    return str(entry.get("value", ""))


def expanded(text: str, values: dict[str, str]) -> str:
    """`$(NAME)`, as Kubernetes does it: unknown ones stay as they are."""
    return _REFERENCE.sub(lambda found: values.get(found[1], found[0]), text)


def command_of(container: Object, usual: list[str], values: dict[str, str]) -> list[str]:
    words = [*(container.get("command") or usual), *(container.get("args") or [])]
    if not words:
        raise CannotRun("CreateContainerError", f"container {container['name']}: no command specified")
    return [expanded(str(word), values) for word in words]


def program(command: list[str], values: dict[str, str]) -> list[str]:
    """With the path of the program that its own PATH finds."""
    if "/" in command[0]:
        return command
    found: Optional[str] = None
    for folder in values.get("PATH", "").split(":"):
        candidate = os.path.join(folder, command[0])
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            found = candidate
            break
    return [found or command[0], *command[1:]]
