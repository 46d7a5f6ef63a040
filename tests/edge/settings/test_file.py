from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.errors import SettingsError
from edge.settings.file import load_settings, walk_settings
from edge.settings.sections import MqttSettings, PublisherKind, RegionSettings
from edge.settings.source import CameraSettings, FolderSettings, SimulatedSettings, SourceKind, VideoSettings
from edge.settings.tree import Settings
from tests.places import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.toml"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("PATCHLINE_"):
            monkeypatch.delenv(name)


def load(directory: Path, text: str) -> Settings:
    path = directory / "line.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


def refusal(directory: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(directory, text)
    assert str(directory / "line.toml") in str(caught.value)
    return str(caught.value)


def test_there_are_example_settings() -> None:
    assert len(CONFIGS) >= 5


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_example_is_valid_and_every_line_that_is_commented_out_names_a_setting(path: Path) -> None:
    load_settings(path)
    table, known = "", {name for name, _ in walk_settings()}
    for line in path.read_text(encoding="utf-8").splitlines():
        bare = line.lstrip("# ")
        if header := re.match(r"\[([a-z_.]+)\]", bare):
            table = header[1] + "."
        key, equals, _ = bare.partition(" = ")
        if equals and key.isidentifier():
            assert table + key in known, f"{path.name}: {line}"


def test_without_a_file_everything_has_a_default() -> None:
    assert load_settings(None) == Settings()


def test_every_setting_is_documented_where_it_is_defined() -> None:
    names = [name for name, _ in walk_settings()]
    assert {"bundle", "mqtt.host", "inspection.region", "inspection.region.width"} <= set(names)
    assert len(names) == len(set(names)) > 50
    assert [name for name, info in walk_settings() if not info.description] == []


def test_a_value_of_the_file_is_taken(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        """
        publish = ["jsonl", "mqtt"]
        [source]
        kind = "folder"
        fps = 12.5
        [inspection.region]
        x = 1
        y = 2
        width = 300
        height = 400
        """,
    )
    assert loaded.publish == (PublisherKind.JSON_LINES, PublisherKind.MQTT)
    assert loaded.source.kind is SourceKind.FOLDER
    assert loaded.source.fps == 12.5
    assert loaded.inspection.region == RegionSettings(x=1, y=2, width=300, height=400)


@pytest.mark.parametrize(
    ("text", "unknown", "suggestion"),
    [
        ('bundel = "b"', "bundel", "bundle"),
        ('[mqtt]\nhots = "b"', "mqtt.hots", "mqtt.host"),
        ("[inspection]\ntreshold = 3.0", "inspection.treshold", "inspection.threshold"),
        ("[inspection.region]\nx=0\ny=0\nwidth=64\nheigth=64\nheight=64", "inspection.region.heigth", "region.height"),
        ("[defect]\nmax_crops = 1", "defect", "defects"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_name(
    tmp_path: Path, text: str, unknown: str, suggestion: str
) -> None:
    message = refusal(tmp_path, text)
    assert f"unknown setting {unknown}" in message
    assert "did you mean " in message
    assert suggestion in message


def test_a_key_like_no_other_is_refused_without_a_guess(tmp_path: Path) -> None:
    message = refusal(tmp_path, "xqzwv = 1")
    assert "unknown setting xqzwv" in message
    assert "did you mean" not in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[source]\nfps = 0\n[service]\nframe_buffer = 'x'\n[mqtt]\nhots = 1")
    assert "source.fps" in message
    assert "service.frame_buffer" in message
    assert "mqtt.hots" in message


@pytest.mark.parametrize(
    ("text", "where", "got"),
    [
        ("[mqtt]\nport = 70000", "mqtt.port", "70000"),
        ("[mqtt]\nport = 'many'", "mqtt.port", "many"),
        (
            "[source]\nkind = 'scanner'",
            "source.kind",
            "expected one of simulated, folder, video, camera, got 'scanner'",
        ),
        ("[source]\nkind = 'camera'\nfourcc = 'MJPEG'", "source.fourcc", "MJPEG"),
        ("[inspection]\nthreshold = 0.0", "inspection.threshold", "0.0"),
        ("[inspection]\nprecision = 'f64'", "inspection.precision", "f64"),
        ("[station]\nsite = 'plant/one'", "station.site", "plant/one"),
        ("[defects]\ncrop_max_bytes = 10", "defects.crop_max_bytes", "10"),
        ("publish = ['mqtt', 'amqp']", "publish.1", "amqp"),
        ("mqtt = 5", "mqtt", "5"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_came(tmp_path: Path, text: str, where: str, got: str) -> None:
    message = refusal(tmp_path, text)
    assert f"{where}: " in message
    assert got in message


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    assert "not valid TOML" in refusal(tmp_path, "bundle =")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read"):
        load_settings(tmp_path / "none.toml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "line.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"line\.toml: cannot be read"):
        load_settings(tmp_path / "line.toml")


def test_the_environment_stands_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHLINE_MQTT__PORT", "8884")
    monkeypatch.setenv("PATCHLINE_BUNDLE", "/opt/bundle")
    loaded = load(tmp_path, 'bundle = "b"\n[mqtt]\nport = 1884\nkeepalive_s = 33')
    assert loaded.mqtt.port == 8884
    assert loaded.mqtt.keepalive_s == 33
    assert loaded.bundle == Path("/opt/bundle")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("jsonl", (PublisherKind.JSON_LINES,)),
        ("mqtt,jsonl", (PublisherKind.MQTT, PublisherKind.JSON_LINES)),
    ],
)
def test_publishers_in_the_environment_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: tuple[PublisherKind, ...]
) -> None:
    monkeypatch.setenv("PATCHLINE_PUBLISH", value)
    assert load_settings(None).publish == expected


def test_a_region_can_be_given_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"X": "1", "Y": "2", "WIDTH": "64", "HEIGHT": "65"}.items():
        monkeypatch.setenv(f"PATCHLINE_INSPECTION__REGION__{name}", value)
    assert load_settings(None).inspection.region == RegionSettings(x=1, y=2, width=64, height=65)


def test_a_recipe_can_be_given_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHLINE_BUNDLE", "/bundles/plate")
    monkeypatch.setenv("PATCHLINE_RECIPES__PLATE", "/bundles/plate")
    assert load_settings(None).recipes == {"plate": Path("/bundles/plate")}


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [("PATCHLINE_MQTT__HOTS", "mqtt.host"), ("PATCHLINE_BUNDEL", "bundle"), ("PATCHLINE_MQTT_HOST", "mqtt.host")],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, suggestion: str
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(SettingsError, match=rf"environment: {variable}: unknown setting .*did you mean {suggestion}"):
        load_settings(None)


def test_a_wrong_value_in_the_environment_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHLINE_SOURCE__FPS", "fast")
    with pytest.raises(SettingsError, match=r"environment: PATCHLINE_SOURCE__FPS: .*'fast'"):
        load_settings(None)


def test_a_table_in_the_environment_that_is_not_json_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHLINE_MQTT", "{host")
    with pytest.raises(SettingsError, match="environment: "):
        load_settings(None)


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    loaded = load(
        tmp_path,
        """
        bundle = "bundles/plate"
        [source]
        kind = "folder"
        path = "pictures/*.png"
        [inspection]
        mask = "../mask.png"
        cache_dir = "/var/cache/line"
        [mqtt]
        tls = true
        user = "u"
        password_file = "password"
        ca_file = "ca"
        certificate_file = "certificate"
        key_file = "key"
        """,
    )
    assert loaded.bundle == tmp_path / "bundles/plate"
    assert isinstance(loaded.source, FolderSettings)
    assert loaded.source.path == str(tmp_path / "pictures/*.png")
    assert loaded.inspection.mask == tmp_path / "../mask.png"
    assert loaded.inspection.cache_dir == Path("/var/cache/line")
    names = ("password_file", "ca_file", "certificate_file", "key_file")
    assert [getattr(loaded.mqtt, name).parent for name in names] == [tmp_path] * 4


EVERY_KIND = """
[source]
kind = "KIND"
path = "/pictures"
device = "1"
fps = 5.0
fourcc = "MJPG"
loop = true
frames = 7
seed = 3
defect_rate = 0.5
simulated_width = 64
"""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("simulated", SimulatedSettings(fps=5, frames=7, seed=3, defect_rate=0.5, simulated_width=64)),
        ("folder", FolderSettings(path="/pictures", fps=5, frames=7, loop=True)),
        ("video", VideoSettings(path="/pictures", fps=5, frames=7, loop=True)),
        ("camera", CameraSettings(device="1", fps=5, frames=7, fourcc="MJPG")),
    ],
)
def test_a_source_takes_what_is_its_kind_s_and_leaves_the_rest_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, expected: object
) -> None:
    text = EVERY_KIND.replace("KIND", kind)
    assert load(tmp_path, text).source == expected
    monkeypatch.setenv("PATCHLINE_SOURCE__KIND", "simulated")
    monkeypatch.setenv("PATCHLINE_SOURCE__DEFECT_RATE", "0.25")
    other = load(tmp_path, text).source
    assert isinstance(other, SimulatedSettings)
    assert (other.seed, other.defect_rate) == (3, 0.25)


@pytest.mark.parametrize("kind", list(SourceKind))
def test_a_mistake_in_a_source_is_named_as_it_is_written(tmp_path: Path, kind: SourceKind) -> None:
    message = refusal(tmp_path, f"[source]\nkind = '{kind}'\nfps = 'fast'\nframse = 1")
    assert "source.fps: " in message
    assert "unknown setting source.framse; did you mean source.frames?" in message
    assert f"source.{kind}" not in message


def test_a_path_in_the_home_directory_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load(tmp_path, 'bundle = "~/bundle"').bundle == tmp_path / "home" / "bundle"


def test_a_path_that_is_not_set_stays_unset(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[source]\nkind = "folder"\npath = ""')
    assert loaded.source == FolderSettings()
    assert loaded.inspection.mask is None


def paths() -> list[str]:
    """Every setting that is a path."""
    found = [name for name, info in walk_settings() if "Path" in repr(info.annotation)]
    assert {"bundle", "inspection.mask", "outbox.directory", "sparkplug.mqtt.key_file"} <= set(found)
    return [name for name in found if name != "recipes"]


def with_path(name: str, value: str) -> str:
    """A file in which the path `name` is `value`, a TOML string, and what it needs is set."""
    *tables, key = name.split(".")
    needs = {
        "mqtt.password_file": "user = 'u'\n",
        "mqtt.ca_file": "tls = true\n",
        "mqtt.certificate_file": "tls = true\nkey_file = 'k'\n",
        "mqtt.key_file": "tls = true\ncertificate_file = 'c'\n",
        "source.path": "kind = 'folder'\n",
        "source.credentials_file": "kind = 'camera'\n",
    }
    header = f"[{'.'.join(tables)}]\n" if tables else ""
    return f"{header}{needs.get(name.removeprefix('sparkplug.'), '')}{key} = {value}"


@pytest.mark.parametrize("name", [*paths(), "source.path"])
def test_every_path_is_anchored_at_the_file_and_may_lie_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", "/home/of/line")
    for text, expected in (("some/where", tmp_path / "some/where"), ("~/where", Path("/home/of/line/where"))):
        value: object = load(tmp_path, with_path(name, f"'{text}'"))
        for part in name.split("."):
            value = getattr(value, part)
        assert str(value) == str(expected)


@pytest.mark.parametrize("name", [*paths(), "source.path"])
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (r'"a\u0000b"', "control characters"),
        (r'"a\u001b[2J"', "control characters"),
        (f"'{'d/' * 2100}'", "at most 4095 bytes"),
        (f"'{'ä' * 130}'", "names of at most 255"),
        ("'~nobody-here/x'", "no such user's home directory"),
        ("5", "got 5"),
    ],
)
def test_a_path_that_can_be_none_is_refused_in_one_line(tmp_path: Path, name: str, value: str, complaint: str) -> None:
    message = refusal(tmp_path, with_path(name, value))
    assert f"{name}: " in message
    assert complaint in message
    assert message.isprintable()
    assert len(message) < 600


def test_a_path_of_the_environment_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATCHLINE_INSPECTION__MASK", "mask.png")
    assert load(tmp_path, "bundle = 'b'").inspection.mask == Path("mask.png")


def test_every_number_has_both_bounds() -> None:
    def numbers(schema: object) -> list[dict[str, object]]:
        if isinstance(schema, list):
            return [number for part in schema for number in numbers(part)]
        if not isinstance(schema, dict):
            return []
        own = [schema] if schema.get("type") in {"integer", "number"} else []
        return own + [number for part in schema.values() for number in numbers(part)]

    found = numbers(Settings.model_json_schema())
    assert len(found) >= 50
    for number in found:
        assert {"minimum", "exclusiveMinimum"} & number.keys(), number
        assert {"maximum", "exclusiveMaximum"} & number.keys(), number


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[inspection]\nembed_threads = 5000", "inspection.embed_threads"),
        ("[inspection]\nthreshold = inf", "inspection.threshold"),
        ("[inspection]\nthreshold = nan", "inspection.threshold"),
        ("[service]\nhealth_interval_s = 1e-9", "service.health_interval_s"),
        ("[mqtt]\nsession_expiry_s = 4294967296", "mqtt.session_expiry_s"),
        (f"[mqtt]\nclient_id = '{'a' * 65}'", "mqtt.client_id"),
        ("[mqtt]\nkeepalive_s = 65536", "mqtt.keepalive_s"),
        ("[outbox]\ncrop_expiry_s = 4294967296", "outbox.crop_expiry_s"),
        ("[mqtt]\nport = true", "mqtt.port"),
        ('[mqtt]\nhost = "a\\nb"', "mqtt.host"),
        ("[mqtt]\nhost = 'mqtt://line:secret@10.0.0.7'", "mqtt.host: String should match pattern"),
        ("[mqtt]\nhost = 'mqtt://line:secret@10.0.0.7'", "got 'mqtt://…@10.0.0.7'"),
        (f"{'.'.join('a' * 20_000)} = 1", "nested more than 16 deep"),
        (f"[mqtt]\nuser = '{'u' * 65_536}'", "mqtt.user"),
        (f"[mqtt]\nport = 0x{'f' * 5000}", "mqtt.port"),
        (f"[mqtt]\nport = {'9' * 5000}", "thousands of digits"),
        (f"a = {'[' * 3000}{']' * 3000}", "nested more than 16 deep"),
        (f"a = {'{a=' * 30}1{'}' * 30}", "nested more than 16 deep"),
        (f"{'.'.join('a' * 3000)} = 1", "nested more than 16 deep"),
        ('"a\\u001b[2J\\n" = 1', r"unknown setting a\x1b[2J\n"),
        ("\n".join(f"a{number} = 1" for number in range(5000)), "and 4990 more"),
    ],
)
def test_nonsense_is_refused_in_one_line(tmp_path: Path, text: str, where: str) -> None:
    message = refusal(tmp_path, text)
    assert where in message
    assert message.isprintable()
    assert len(message) < 2000


def test_a_path_and_a_comment_may_hold_as_many_dots_as_they_like(tmp_path: Path) -> None:
    dots = "." * 200
    loaded = load(tmp_path, f"# {dots}\nbundle = 'a{dots}b'  # {dots}")
    assert loaded.bundle.name == f"a{dots}b"


def test_json_of_the_environment_that_is_nested_too_deeply_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHLINE_STATION", "[" * 100_000)
    with pytest.raises(SettingsError, match=r"environment: .*nested too deeply"):
        load_settings(None)


@pytest.mark.parametrize(
    ("device", "accepted"),
    [
        *((name, True) for name in ("CPU", "GPU", "GPU.0", "GPU.12", "NPU", "AUTO", "AUTO:GPU,CPU", "AUTO:GPU.1,NPU")),
        *((name, False) for name in ("", "cpu", "CPU.0", "HETERO:CPU", "MULTI:CPU", "BATCH:CPU", "AUTO:", "CPU\\n")),
    ],
)
def test_a_device_is_one_of_those_that_precision_and_threads_can_be_set_for(
    tmp_path: Path, device: str, accepted: bool
) -> None:
    text = f'[inspection]\ndevice = "{device}"'
    if accepted:
        assert load(tmp_path, text).inspection.device == device
    else:
        assert "inspection.device: expected CPU, NPU, GPU" in refusal(tmp_path, text)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: Path(path).symlink_to("/dev/zero")])
def test_settings_are_read_from_regular_files_alone(tmp_path: Path, make: Callable[[str], None]) -> None:
    make(str(tmp_path / "line.toml"))
    with pytest.raises(SettingsError, match=r"line\.toml: cannot be read \(it is (no regular file|a directory)\)"):
        load_settings(tmp_path / "line.toml")


def test_a_file_larger_than_any_settings_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "line.toml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(SettingsError, match="expected at most 1048576 bytes"):
        load_settings(tmp_path / "line.toml")


def test_a_linked_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "line.toml").write_text("bundle = 'b'")
    (tmp_path / "link.toml").symlink_to("line.toml")
    assert load_settings(tmp_path / "link.toml").bundle == tmp_path / "b"
    (tmp_path / "circle.toml").symlink_to("circle.toml")
    with pytest.raises(SettingsError, match=r"circle\.toml: cannot be read \(Too many levels"):
        load_settings(tmp_path / "circle.toml")


@pytest.mark.parametrize("host", ["broker.local", "10.0.0.7", "localhost.example.com", ""])
def test_plain_text_to_another_machine_is_refused_with_the_way_out(tmp_path: Path, host: str) -> None:
    message = refusal(tmp_path, f'[mqtt]\nhost = "{host}"')
    assert "is not loopback" in message
    assert "set tls = true, or allow_plaintext = true" in message


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_plain_text_to_loopback_is_allowed(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, f'[mqtt]\nhost = "{host}"').mqtt.host == host


@pytest.mark.parametrize("permission", ["tls", "allow_plaintext"])
def test_another_machine_is_reached_with_tls_or_by_an_explicit_setting(tmp_path: Path, permission: str) -> None:
    assert load(tmp_path, f'[mqtt]\nhost = "broker"\n{permission} = true').mqtt.host == "broker"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tls = true\ncertificate_file = 'c'", "belong together"),
        ("tls = true\nkey_file = 'k'", "belong together"),
        ("ca_file = 'c'", "need tls = true"),
        ("password_file = 'p'", "password_file needs user"),
    ],
)
def test_settings_that_belong_together_are_not_given_alone(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, f"[mqtt]\n{text}")


def test_a_secret_cannot_be_written_into_the_file_and_is_not_repeated(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[mqtt]\nuser = 'u'\npassword = 'hunter2'")
    assert "mqtt.password" in message
    assert "hunter2" not in message


def test_settings_cannot_be_changed_once_loaded() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(None).mqtt.port = 1  # type: ignore[misc]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=12))
def test_a_topic_level_takes_only_what_every_broker_and_plc_takes(clean_environment: None, text: str) -> None:
    safe = all(char.isascii() and (char.isalnum() or char in "_-") for char in text)
    try:
        loaded = Settings.model_validate({"station": {"site": text}})
    except ValidationError:
        assert not safe
    else:
        assert safe
        assert loaded.station.site == text


def test_the_default_broker_is_on_this_machine() -> None:
    assert MqttSettings().host == "127.0.0.1"
