"""The messages of kubelet's device plugins, as far as they are used here:
https://github.com/kubernetes/kubelet/blob/master/pkg/apis/deviceplugin/v1beta1/api.proto. Described at run time, so that nothing has
to be generated."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "v1beta1"
_STRING, _BOOL, _MESSAGE = 9, 8, 11  # FieldDescriptorProto.Type
# message -> fields: name, number, type or message, repeated.
_MESSAGES: dict[str, list[tuple[str, int, Any, bool]]] = {
    "Empty": [],
    "DevicePluginOptions": [("pre_start_required", 1, _BOOL, False), ("get_preferred_allocation_available", 2, _BOOL, False)],
    "RegisterRequest": [
        ("version", 1, _STRING, False),
        ("endpoint", 2, _STRING, False),
        ("resource_name", 3, _STRING, False),
        ("options", 4, "DevicePluginOptions", False),
    ],
    "Device": [("ID", 1, _STRING, False), ("health", 2, _STRING, False)],
    "ListAndWatchResponse": [("devices", 1, "Device", True)],
    "ContainerAllocateRequest": [("devices_ids", 1, _STRING, True)],
    "AllocateRequest": [("container_requests", 1, "ContainerAllocateRequest", True)],
    "Mount": [("container_path", 1, _STRING, False), ("host_path", 2, _STRING, False), ("read_only", 3, _BOOL, False)],
    # A map is a list of such entries on the wire.
    "EnvsEntry": [("key", 1, _STRING, False), ("value", 2, _STRING, False)],
    "ContainerAllocateResponse": [("envs", 1, "EnvsEntry", True), ("mounts", 2, "Mount", True)],
    "AllocateResponse": [("container_responses", 1, "ContainerAllocateResponse", True)],
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="holdfast/deviceplugin.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, of, repeated in fields:
            one: Any = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(of, str):
                one.type, one.type_name = _MESSAGE, f".{PACKAGE}.{of}"
            else:
                one.type = of
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


def message(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
