from __future__ import annotations

import pytest
from pydantic import ValidationError

from edge.publishers.sparkplug.publisher import sparkplug_topics
from edge.publishers.sparkplug.topics import SparkplugTopics
from edge.settings.sections import MqttSettings, SparkplugSettings, StationSettings

STATION = StationSettings(site="plant", line="line3", name="camera2")


def test_sparkplug_is_off_unless_asked_for() -> None:
    assert not SparkplugSettings().enabled


def test_ids_come_from_the_station() -> None:
    assert sparkplug_topics(SparkplugSettings(), STATION) == SparkplugTopics("plant", "line3-camera2", "camera2", "")


def test_tck_id_topics_ddata_topic() -> None:
    settings = SparkplugSettings(group="Werk Süd", edge_node="cell:7", device="top view", primary_host="scada")
    topics = sparkplug_topics(settings, STATION)
    assert topics.ddata == "spBv1.0/Werk Süd/DDATA/cell:7/top view"
    assert topics.subscriptions == ("spBv1.0/Werk Süd/NCMD/cell:7", "spBv1.0/STATE/scada")


def test_tck_id_topic_structure_namespace_device_id_non_associated_message_types() -> None:
    topics = sparkplug_topics(SparkplugSettings(), STATION)
    for topic in (topics.nbirth, topics.ndata, topics.ndeath, topics.ncmd):
        assert topic.count("/") == 3
    for topic in (topics.dbirth, topics.ddata, topics.ddeath):
        assert topic.count("/") == 4


@pytest.mark.parametrize("name", ["group", "edge_node", "device", "primary_host"])
@pytest.mark.parametrize("value", ["a/b", "a+", "#", "a\n", "x" * 61])
def test_tck_id_topic_structure_namespace_valid_group_id(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=name):
        SparkplugSettings.model_validate({name: value})


def test_the_hosts_own_namespace_is_no_group() -> None:
    with pytest.raises(ValidationError, match="STATE is reserved"):
        SparkplugSettings(group="STATE")


def test_plain_text_to_another_machine_needs_the_same_permission_as_elsewhere() -> None:
    with pytest.raises(ValidationError, match="is not loopback and tls is off"):
        SparkplugSettings.model_validate({"mqtt": {"host": "scada.example"}})
    assert SparkplugSettings(mqtt=MqttSettings(host="scada.example", tls=True)).mqtt is not None
