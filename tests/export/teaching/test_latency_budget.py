from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from edge.bundle.bundle import read_bundle
from edge.bundle.ir import MODEL_JSON, read_ir_description
from edge.errors import ExportError
from edge.files.schema import write_json
from edge.inspection.golden import run_golden
from edge.inspection.inspector import Inspector
from export.teaching.alternatives import Alternative, choose, describe
from export.teaching.latency_budget import SEARCHES, arithmetics, teach_within
from export.teaching.teach import TeachOptions, teach

pytestmark = pytest.mark.long


@pytest.fixture
def options(ir_dir: Path, good_pictures: Path, tmp_path: Path) -> TeachOptions:
    return TeachOptions(ir=ir_dir, images=good_pictures, out=tmp_path / "fitted" / "part")


PLAIN = Alternative(
    ir_precision="f32",
    arithmetic="f32",
    coreset_ratio=0.1,
    vectors=8000,
    search="fast",
    pass_ms=10.0,
    fail_ms=12.0,
    auroc=0.99,
    found=0.9,
)


def test_what_is_too_slow_is_never_chosen() -> None:
    better_but_slow = replace(PLAIN, fail_ms=31.0, auroc=1.0)
    assert choose([better_but_slow, PLAIN], 30.0) is PLAIN


def test_better_separation_wins_within_the_budget() -> None:
    better = replace(PLAIN, vectors=800, fail_ms=29.0, auroc=1.0)
    assert choose([PLAIN, better], 30.0) is better


def test_among_equals_the_larger_bank_wins_and_then_the_faster_setting() -> None:
    smaller = replace(PLAIN, vectors=800, fail_ms=2.0)
    exact = replace(PLAIN, search="exact", fail_ms=25.0)
    assert choose([smaller, exact, PLAIN], 30.0) is PLAIN


def test_a_budget_that_nothing_meets_is_refused_with_the_fastest_setting() -> None:
    with pytest.raises(
        ExportError, match=r"--latency-budget-ms 3: no setting meets it.*int8 IR, f32, 1 % bank.*4\.5 ms"
    ):
        choose([PLAIN, replace(PLAIN, ir_precision="int8", coreset_ratio=0.01, fail_ms=4.5)], 3.0)


def test_settings_are_described_in_a_few_words() -> None:
    assert describe(PLAIN) == "f32 IR, f32, 10 % bank, fast search"


def test_every_machine_computes_in_f32() -> None:
    assert arithmetics("CPU")[0] == "f32"
    assert arithmetics("NO_SUCH_DEVICE") == ("f32",)


def test_the_chosen_bundle_is_a_whole_one_and_nothing_else_is_left(options: TeachOptions) -> None:
    out = options.out
    fitted = teach_within(options, 60_000.0, [options.ir], frames=10)
    assert [path.name for path in out.parent.iterdir()] == ["part"]
    bundle = read_bundle(out)
    assert bundle.manifest.identity == fitted.manifest.identity
    assert bundle.manifest.name == "part"
    assert bundle.manifest.scoring.search == fitted.chosen.search
    assert bundle.manifest.inference_precision == fitted.chosen.arithmetic
    assert bundle.manifest.bank.vectors == fitted.chosen.vectors == max(entry.vectors for entry in fitted.alternatives)
    run_golden(Inspector(bundle), bundle)


def test_every_arithmetic_and_search_is_measured(options: TeachOptions) -> None:
    alternatives = teach_within(options, 60_000.0, [options.ir], frames=10).alternatives
    tried = {(entry.arithmetic, entry.search) for entry in alternatives}
    assert tried == {(arithmetic, search) for arithmetic in arithmetics("CPU") for search in SEARCHES}
    assert all(entry.pass_ms > 0 and entry.fail_ms > 0 and 0 <= entry.auroc <= 1 for entry in alternatives)


def test_smaller_banks_are_tried_until_one_is_fast_enough(options: TeachOptions) -> None:
    with pytest.raises(ExportError, match="no setting meets it"):
        teach_within(options, 1e-6, [options.ir], frames=10)
    assert list(options.out.parent.iterdir()) == []


def miscalculated(ir_dir: Path, out: Path) -> Path:
    """The same IR, whose features differ on every machine from those it is said to give."""
    copytree(ir_dir, out)
    ir = read_ir_description(out)
    assert ir.reference is not None
    other = ir.model_copy(update={"reference": tuple(-number for number in ir.reference)})
    write_json(other, out / MODEL_JSON, ExportError)
    return out


def test_an_ir_that_this_machine_miscalculates_is_left_out_with_a_note(
    options: TeachOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = miscalculated(options.ir, tmp_path / "wrong")
    fitted = teach_within(options, 60_000.0, [wrong, options.ir], frames=10)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("note: wrong in ") == said.count("is not tried:") == len(arithmetics("CPU"))
    assert "note: wrong in f32 is not tried: " in said
    assert len(fitted.alternatives) == len(arithmetics("CPU")) * len(SEARCHES)
    assert read_bundle(options.out).manifest.ir == read_ir_description(options.ir)


def test_where_every_ir_is_miscalculated_nothing_is_taught(options: TeachOptions, tmp_path: Path) -> None:
    wrong = miscalculated(options.ir, tmp_path / "wrong")
    with pytest.raises(ExportError, match="nothing could be tried, as this machine miscalculates every IR given"):
        teach_within(replace(options, ir=wrong), 60_000.0, [wrong], frames=10)
    assert list(options.out.parent.iterdir()) == []


def test_an_existing_bundle_is_refused_before_anything_is_taught(options: TeachOptions) -> None:
    teach(options)
    before = read_bundle(options.out).manifest.identity
    with pytest.raises(ExportError, match="exists already"):
        teach_within(options, 60_000.0, [options.ir], frames=10)
    assert read_bundle(options.out).manifest.identity == before
