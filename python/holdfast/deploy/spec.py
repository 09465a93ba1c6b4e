"""A deployment as it is written down: a DynamoGraphDeployment in YAML, and the changes that tests make to it.

The names are those of Dynamo's tests. What could not be done there was skipped in silence; here it raises BadSpec.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import yaml

from holdfast.deploy.errors import BadSpec
from holdfast.deploy.kinds import GRAPH, Object, memory_of, service_gpus
from holdfast.deploy.words import Words

_MODEL = ("--model", "--model-path")
_TENSOR_PARALLEL = ("--tensor-parallel-size", "--tp-size", "--tp")
_LOGGING = ("DYN_LOGGING_JSONL", "DYN_LOG")


class ServiceSpec:
    """One service of a deployment; changes go to that."""

    def __init__(self, name: str, raw: Object) -> None:
        self._name, self._raw = name, raw

    @property
    def name(self) -> str:
        return self._name

    @property
    def container(self) -> Object:
        """extraPodSpec.mainContainer."""
        found: Object = self._raw.setdefault("extraPodSpec", {}).setdefault("mainContainer", {})
        return found

    @property
    def pod_spec(self) -> Object:
        found: Object = self._raw.setdefault("extraPodSpec", {})
        return found

    @property
    def words(self) -> Words:
        return Words(self.container)

    @property
    def component_type(self) -> str:
        return str(self._raw.get("componentType") or ("frontend" if self._name == "Frontend" else "worker"))

    @property
    def image(self) -> str:
        return str(self.container.get("image", ""))

    @image.setter
    def image(self, image: str) -> None:
        self.container["image"] = _word("image", image)

    @property
    def envs(self) -> list[Object]:
        found: list[Object] = self._raw.get("envs") or []
        return found

    def set_env_var(self, name: str, value: str) -> None:
        self._raw["envs"] = [*(one for one in self.envs if one["name"] != name), {"name": name, "value": str(value)}]

    @property
    def replicas(self) -> int:
        return int(self._raw.get("replicas", 0))

    @replicas.setter
    def replicas(self, number: int) -> None:
        if number < 0:
            raise BadSpec(f"{self._name}: {number} replicas cannot be")
        self._raw["replicas"] = int(number)

    @property
    def model(self) -> Optional[str]:
        return next((value for name in _MODEL if (value := self.words.value(name)) is not None), None)

    @model.setter
    def model(self, model: str) -> None:
        name = next((name for name in _MODEL if self.words.value(name) is not None), None)
        if name is None:
            raise BadSpec(f"{self._name}: its arguments have neither {' nor '.join(_MODEL)}, so there is no model to change")
        self.words.set(name, _word("model", model))

    @property
    def gpus(self) -> int:
        return service_gpus(self._raw)

    @gpus.setter
    def gpus(self, number: int) -> None:
        # A text, as the resource's definition wants it.
        self._raw.setdefault("resources", {}).setdefault("limits", {})["gpu"] = str(number)

    @property
    def tensor_parallel_size(self) -> int:
        return int(next((value for name in _TENSOR_PARALLEL if (value := self.words.value(name)) is not None), 1))

    @tensor_parallel_size.setter
    def tensor_parallel_size(self, size: int) -> None:
        if size < 1:
            raise BadSpec(f"{self._name}: a tensor-parallel size of {size} cannot be")
        name = next((name for name in _TENSOR_PARALLEL if self.words.value(name) is not None), _TENSOR_PARALLEL[0])
        self.words.set(name, str(size))
        self.gpus = size

    @property
    def raw(self) -> Object:
        return self._raw


def _word(what: str, value: str) -> str:
    if not value or not str(value).strip() or any(c.isspace() for c in str(value)):
        raise BadSpec(f"{what}: {value!r} is none")
    return str(value)


class DeploymentSpec:
    """`base`: a YAML file with one DynamoGraphDeployment, or that as a dict (which is copied). Raises BadSpec."""

    def __init__(
        self,
        base: Union[str, os.PathLike[str], Mapping[str, Any]],
        endpoint: str = "/v1/chat/completions",
        port: int = 8000,
        system_port: int = 9090,
    ) -> None:
        self._where = "the deployment" if isinstance(base, Mapping) else str(base)
        self._spec: Object = copy.deepcopy(dict(base)) if isinstance(base, Mapping) else _read(Path(base))
        self.endpoint, self.port, self.system_port = endpoint, port, system_port
        self._check()

    def _check(self) -> None:
        if self._spec.get("kind") != GRAPH.name:
            raise BadSpec(f"{self._where}: kind is {self._spec.get('kind')!r}; a deployment is a {GRAPH.name}")
        if self._spec.get("apiVersion") != GRAPH.group:
            raise BadSpec(f"{self._where}: apiVersion is {self._spec.get('apiVersion')!r}, not {GRAPH.group}")
        if not (self._spec.get("metadata") or {}).get("name"):
            raise BadSpec(f"{self._where}: metadata.name is missing")
        services = (self._spec.get("spec") or {}).get("services")
        if not isinstance(services, dict) or not services:
            raise BadSpec(f"{self._where}: spec.services is empty; a deployment needs at least one")
        for name, service in services.items():
            if not isinstance(service, dict):
                raise BadSpec(f"{self._where}: spec.services.{name} is no mapping")
            try:
                counts = (ServiceSpec(name, service).replicas, ServiceSpec(name, service).gpus)
            except (ValueError, TypeError, AttributeError):
                counts = (-1, -1)
            if min(counts) < 0:
                raise BadSpec(f"{self._where}: spec.services.{name}: replicas and GPUs are numbers, 0 or more")
            try:
                memory_of(service)
            except ValueError as problem:
                raise BadSpec(f"{self._where}: spec.services.{name}: resources.limits.memory: {problem}") from None

    # ---- what it is

    def spec(self) -> Object:
        return self._spec

    @property
    def name(self) -> str:
        return str(self._spec["metadata"]["name"])

    @name.setter
    def name(self, name: str) -> None:
        self._spec["metadata"]["name"] = _word("name", name)

    @property
    def namespace(self) -> str:
        return str(self._spec["metadata"].get("namespace", ""))

    @namespace.setter
    def namespace(self, namespace: str) -> None:
        self._spec["metadata"]["namespace"] = _word("namespace", namespace)

    @property
    def services(self) -> list[ServiceSpec]:
        return [ServiceSpec(name, raw) for name, raw in self._spec["spec"]["services"].items()]

    def __getitem__(self, service: str) -> ServiceSpec:
        return self.get_service(service)

    def get_service(self, name: str) -> ServiceSpec:
        """Raises BadSpec, which is a ValueError."""
        services = self._spec["spec"]["services"]
        if name not in services:
            raise BadSpec(f"{self._where}: there is no service {name!r}; there are {', '.join(services)}")
        return ServiceSpec(name, services[name])

    def worker_services(self) -> list[ServiceSpec]:
        return [one for one in self.services if one.component_type != "frontend"]

    @property
    def frontend_service(self) -> Optional[ServiceSpec]:
        return next((one for one in self.services if one.component_type == "frontend"), None)

    def save(self, out_file: Union[str, os.PathLike[str]]) -> None:
        Path(out_file).write_text(yaml.safe_dump(self._spec, sort_keys=False))

    # ---- changes

    def _chosen(self, service: Optional[str]) -> list[ServiceSpec]:
        return self.services if service is None else [self.get_service(service)]

    def set_model(self, model: str, service_name: Optional[str] = None) -> None:
        """Of the services that have one."""
        chosen = self._chosen(service_name)
        with_model = [one for one in chosen if one.model is not None]
        if not with_model:
            raise BadSpec(f"{self._where}: none of {', '.join(one.name for one in chosen)} has {' or '.join(_MODEL)} in its arguments")
        for one in with_model:
            one.model = model

    def set_image(self, image: str, service_name: Optional[str] = None) -> None:
        for one in self._chosen(service_name):
            one.image = image

    def set_tensor_parallel(self, tp_size: int, service_names: Optional[Sequence[str]] = None) -> None:
        """And the GPUs of each. Otherwise those of all services that have GPUs."""
        chosen = (
            [self.get_service(name) for name in service_names]
            if service_names is not None
            else [one for one in self.services if one.gpus]
        )
        if not chosen:
            raise BadSpec(f"{self._where}: no service has GPUs (resources.limits.gpu)")
        for one in chosen:
            one.tensor_parallel_size = tp_size

    def set_logging(self, enable_jsonl: bool = True, log_level: str = "debug") -> None:
        kept = [one for one in self._spec["spec"].get("envs") or [] if one["name"] not in _LOGGING]
        values = (("DYN_LOGGING_JSONL", "true" if enable_jsonl else "false"), ("DYN_LOG", log_level))
        self._spec["spec"]["envs"] = [*kept, *({"name": name, "value": value} for name, value in values)]

    def get_logging_config(self) -> dict[str, Any]:
        values = {one["name"]: one.get("value") for one in self._spec["spec"].get("envs") or []}
        return {"jsonl_enabled": values.get("DYN_LOGGING_JSONL") == "true", "log_level": values.get("DYN_LOG")}

    def set_service_env_var(self, service: str, name: str, value: str) -> None:
        self.get_service(service).set_env_var(name, value)

    def get_service_env_vars(self, service: str) -> list[Object]:
        return self.get_service(service).envs

    def add_arg_to_service(self, service: str, arg: str, value: Optional[str] = None) -> None:
        if not arg.startswith("-"):
            raise BadSpec(f"{service}: {arg!r} is no option; one begins with a dash")
        self.get_service(service).words.set(arg, None if value is None else str(value))

    def set_service_replicas(self, service: str, replicas: int) -> None:
        self.get_service(service).replicas = replicas

    def get_service_replicas(self, service: str) -> int:
        return self.get_service(service).replicas

    def set_dynamo_namespace(self, namespace: str) -> None:
        for one in self.services:
            one.raw["dynamoNamespace"] = namespace

    def remove_env_from_secret(self) -> None:
        """For namespaces that do not have the secret."""
        for one in self.services:
            one.raw.pop("envFromSecret", None)

    def disable_grove(self) -> None:
        self._spec["metadata"].setdefault("annotations", {})["nvidia.com/enable-grove"] = "false"


def _read(path: Path) -> Object:
    try:
        documents = [one for one in yaml.safe_load_all(path.read_text()) if one is not None]
    except OSError as problem:
        raise BadSpec(f"{path}: {problem.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise BadSpec(f"{path}: not YAML: {problem}") from None
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise BadSpec(f"{path}: it has {len(documents)} documents; a deployment is one mapping")
    return documents[0]
