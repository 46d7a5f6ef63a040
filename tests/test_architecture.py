from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from tests.places import ROOT

IMPORT_EDGE = """
import importlib, pkgutil, sys, threading
import edge
names = [module.name for module in pkgutil.walk_packages(edge.__path__, "edge.")]
for name in names:
    importlib.import_module(name)
print(len(names), threading.active_count())
print(*sorted({name.split(".")[0] for name in sys.modules} & {"torch", "export", "nncf", "safetensors", "torchvision"}))
"""

EXPORT_WITHOUT_TORCH = """
import sys
import export.cli.main, export.datasets.fetch, export.metrics.detection, export.teaching.picture_checks
import export.evaluation.ensemble, export.evaluation.evaluate, export.evaluation.gallery, export.evaluation.summary
import export.teaching.calibrate, export.teaching.coreset, export.teaching.teach
print(*sorted({name.split(".")[0] for name in sys.modules} & {"torch", "nncf", "matplotlib", "jinja2"}))
"""


def run(script: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.splitlines()


def test_an_interpreter_with_all_of_edge_has_no_torch_and_no_export() -> None:
    counts, found = run(IMPORT_EDGE)
    modules, threads = counts.split()
    assert int(modules) >= 30
    assert found == ""
    assert threads == "1"  # OpenVINO's telemetry would be the second


def test_what_teaches_and_evaluates_imports_neither_torch_nor_what_draws_pages() -> None:
    assert run(EXPORT_WITHOUT_TORCH) == [""]


def test_importing_edge_says_nothing_and_writes_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EDGE], check=True, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_nothing_imports_the_tests_but_tests() -> None:
    modules = [path for part in ("edge", "export", "benchmarks", "demo") for path in (ROOT / part).rglob("*.py")]
    imported = {path: _imports(path) for path in modules}
    assert len(modules) > 100
    assert [path for path, names in imported.items() if "tests" in names] == []


def _imports(path: Path) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    named = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in named | plain}
