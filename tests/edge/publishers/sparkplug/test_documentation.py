from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.publishers.sparkplug.metrics import VERDICT_TYPES
from edge.settings.sections import SparkplugSettings
from tests.places import ROOT

HERE = Path(__file__).parent
PAGE = (ROOT / "docs" / "sparkplug.md").read_text(encoding="utf-8")
TESTS = set(re.findall(r"^def (test_\w+)", "".join(path.read_text() for path in HERE.glob("test_*.py")), re.MULTILINE))


def test_every_assertion_is_documented_with_a_test_that_exists() -> None:
    documented = re.findall(r"\| `(test_tck_id_\w+)` \|$", PAGE, re.MULTILINE)
    assert sorted(documented) == sorted(name for name in TESTS if name.startswith("test_tck_id_"))


def test_no_assertion_is_both_covered_and_not() -> None:
    covered, _, missing = PAGE.partition("\nNot covered:\n")
    listed = re.findall(r"`([a-z]+(?:-[a-zA-Z0-9]+){2,})`", covered.partition("## Assertions")[2])
    assert len(listed) == len(set(listed))
    assert not set(listed) & set(re.findall(r"`([a-z]+(?:-[a-zA-Z0-9]+){2,})`", missing))


@pytest.mark.parametrize("name", VERDICT_TYPES)
def test_every_metric_of_a_verdict_is_documented_with_its_type(name: str) -> None:
    [kind] = re.findall(rf"\|[^|\n]*`{name}`[^|\n]*\| (\w+) \|", PAGE.partition("## Metrics of the device")[2])
    assert kind.upper() == VERDICT_TYPES[name].name


def test_every_setting_is_documented() -> None:
    settings = PAGE.partition("| setting |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", settings, re.MULTILINE) == list(SparkplugSettings.model_fields)
