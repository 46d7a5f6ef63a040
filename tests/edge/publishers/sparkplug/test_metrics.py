from __future__ import annotations

from edge.protocol.messages import verdict_payload
from edge.publishers.sparkplug.codec import DataType
from edge.publishers.sparkplug.metrics import VERDICT_TYPES, verdict_metrics
from edge.records import Box, Crop, Defect, FrameIdentity, Outcome, Verdict

VERDICT = Verdict(
    identity=FrameIdentity(
        sequence=41, captured_at_s=1_700_000_000.1234, captured_monotonic_s=0.0, part_id="p", trigger_id="t"
    ),
    outcome=Outcome.PASS,
    score=0.5,
    threshold=1.5,
    recipe="bottle",
    model="0123456789ab",
    defects=(Defect(Box(1, 2, 3, 4), 12, 2.5),),
    crops=(Crop(0, Box(1, 2, 3, 4), b"\xff\xd8picture", "ab" * 32),),
    latency_ms=12.5,
)
PAYLOAD = verdict_payload("camera2", VERDICT, 7, 3)


def test_every_key_of_the_json_verdict_but_its_time_in_words_is_a_metric() -> None:
    assert list(VERDICT_TYPES) == [key for key in PAYLOAD if key != "ts"]


def test_a_metric_says_what_the_json_says() -> None:
    metrics = {metric.name: metric for metric in verdict_metrics(PAYLOAD, historical=False)}
    assert metrics["time"].value == 1_700_000_000_123
    assert {metric.timestamp_ms for metric in metrics.values()} == {1_700_000_000_123}
    assert metrics["ok"].value is True
    assert metrics["simulated"].value is False
    for name, metric in metrics.items():
        if metric.datatype not in {DataType.BOOLEAN, DataType.DATETIME}:
            assert metric.value == PAYLOAD[name], name


def test_every_value_is_of_the_python_type_that_its_data_type_takes() -> None:
    types = {DataType.BOOLEAN: bool, DataType.STRING: str, DataType.DOUBLE: float}
    for metric in verdict_metrics(PAYLOAD, historical=True):
        assert type(metric.value) is types.get(metric.datatype, int), metric.name


def test_no_picture_is_in_the_metrics() -> None:
    assert not any(isinstance(metric.value, bytes) for metric in verdict_metrics(PAYLOAD, historical=False))


def test_what_is_sent_late_says_so() -> None:
    late = {metric.name: metric for metric in verdict_metrics(PAYLOAD, historical=True)}
    assert late["backlog"].value is True
    assert all(metric.historical for metric in late.values())
