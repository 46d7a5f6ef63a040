"""The Protocol Buffers schema of a Sparkplug B payload: of the published one, the fields that we write or read.

Numbers and types are those of Sparkplug 3.0, section 6.4.1; the tests compare them with the published schema. What
a host sends beyond them is skipped by the decoder, as Protocol Buffers provide for. The message is built here at run
time, in a pool of its own: nothing generated, no compiler, any release of protobuf in the range of the extra, and no
clash with another library that registers the published schema.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from edge.errors import SettingsError

PACKAGE = "org.eclipse.tahu.protobuf"

_PAYLOAD = (("timestamp", 1, "UINT64"), ("seq", 3, "UINT64"))
_METRIC = (
    ("name", 1, "STRING"),
    ("timestamp", 3, "UINT64"),
    ("datatype", 4, "UINT32"),
    ("is_historical", 5, "BOOL"),
    ("is_null", 7, "BOOL"),
)
_METRIC_VALUE = (  # one of these
    ("int_value", 10, "UINT32"),
    ("long_value", 11, "UINT64"),
    ("double_value", 13, "DOUBLE"),
    ("boolean_value", 14, "BOOL"),
    ("string_value", 15, "STRING"),
)


@cache
def payload_class() -> Any:
    """The message class `Payload`.

    Raises:
        SettingsError: protobuf is not installed.
    """
    try:
        # Here, because a station without Sparkplug needs no protobuf.
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415 — see above
    except ImportError as error:
        raise SettingsError(
            "sparkplug.enabled: expected the protobuf package, got none installed: "
            "run pip install '.[sparkplug]' -c constraints.txt, or set sparkplug.enabled = false"
        ) from error
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="patchline/sparkplug_b.proto", package=PACKAGE, syntax="proto2")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    for message, fields in ((payload, _PAYLOAD), (metric, (*_METRIC, *_METRIC_VALUE))):
        for name, number, kind in fields:
            message.field.add(
                name=name, number=number, type=field.Type.Value(f"TYPE_{kind}"), label=field.LABEL_OPTIONAL
            )
    payload.field.add(
        name="metrics",
        number=2,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_REPEATED,
        type_name=f".{PACKAGE}.Payload.Metric",
    )
    metric.oneof_decl.add(name="value")
    for entry in metric.field:
        if entry.number >= _METRIC_VALUE[0][1]:
            entry.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Payload"))
