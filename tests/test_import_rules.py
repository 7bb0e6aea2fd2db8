"""Imports go one way and in no circle, and a program answers `--help` before anything heavy is loaded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What a package may import of the project, besides itself.
MAY_IMPORT = {
    "preprocess": (),
    "console": ("preprocess.errors",),
    "recordings": ("preprocess", "console"),
    "runtime": ("preprocess", "console"),
    "model": ("runtime", "recordings", "preprocess", "console"),
    "quantize": ("model", "runtime", "recordings", "preprocess", "console"),
    "export": ("quantize", "model", "runtime", "recordings", "preprocess", "console"),
    "benchmarks": ("runtime", "recordings", "preprocess", "console"),
    "android_bench": ("benchmarks", "runtime", "preprocess", "console"),
    "pocket_har": ("runtime", "recordings", "preprocess", "console"),
}
# What it may import of others: when it is loaded, and inside a function.
MAY_IMPORT_OUTSIDE = {
    "preprocess": ({"numpy"}, set()),
    "console": ({"numpy"}, {"matplotlib"}),
    "recordings": ({"numpy"}, {"librosa", "soundfile", "soxr", "matplotlib", "threadpoolctl"}),
    "pocket_har": ({"numpy"}, set()),
}
MODULES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
PROGRAMS = [package for package in MAY_IMPORT if (ROOT / package / "__main__.py").exists()]
LIGHT = [*MAY_IMPORT, "runtime.artifact", "runtime.answers", "model.config", "model.cost", "model.checkpoint"]
LIGHT.append("benchmarks.measure.records")
HEAVY = ("tensorflow", "tf_keras", "keras", "librosa", "matplotlib", "onnx", "onnxruntime", "scipy", "soundfile")
HEAVY += ("ai_edge_litert", "tflite_runtime")


def imported(path: Path, root: Path = ROOT) -> list[tuple[str, int, bool]]:
    """(module, line, loaded with the file) of every import, absolute; `from a import b` gives a.b for a module b."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(root).with_suffix("").parts[: -node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            names = [qualified(base, alias.name, root) for alias in node.names]
        else:
            continue
        imports += [(name, node.lineno, node not in lazy) for name in names]
    return imports


def qualified(base: str, name: str, root: Path) -> str:
    inside = root.joinpath(*base.split("."), name)
    return f"{base}.{name}" if inside.is_dir() or inside.with_suffix(".py").exists() else base


def violations(path: Path, root: Path = ROOT) -> list[str]:
    package = path.relative_to(root).parts[0]
    allowed = (package, *MAY_IMPORT[package])
    at_load, inside = MAY_IMPORT_OUTSIDE.get(package, (None, None))
    wrong = []
    for name, line, loaded in imported(path, root):
        top = name.split(".")[0]
        if top in MAY_IMPORT:
            good = any(name == rule or name.startswith(f"{rule}.") for rule in allowed)
        else:
            good = top in sys.stdlib_module_names or at_load is None or top in (at_load if loaded else at_load | inside)
        if not good:
            wrong.append(f"{path.relative_to(root)}:{line} imports {name}")
    return wrong


def test_every_package_that_is_installed_has_a_rule():
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in include} == set(MAY_IMPORT)


def test_modules_import_only_what_their_package_may():
    assert [line for path in MODULES for line in violations(path)] == []


def test_no_modules_import_each_other_in_a_circle():
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}
    graph = defaultdict(set)
    for path, name in names.items():
        graph[name] |= {target for target, _, _ in imported(path) if target in names.values()} - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("console/a.py", "from preprocess import spec"),
        ("console/a.py", "import matplotlib"),
        ("preprocess/a.py", "def f():\n    from runtime.metrics import score"),
        ("preprocess/a.py", "def f():\n    import librosa"),
        ("recordings/synthetic/a.py", "from ...model import config"),
        ("recordings/a.py", "import librosa"),
        ("recordings/a.py", "def f():\n    import tensorflow"),
        ("model/a.py", "from quantize.recipes import Recipe"),
        ("benchmarks/a.py", "import model.config"),
        ("benchmarks/a.py", "from export import artifact"),
        ("android_bench/a.py", "from recordings import recording"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, module, source):
    for package in ("preprocess", "export"):
        (tmp_path / package).mkdir()
    (tmp_path / "preprocess/spec.py").touch()
    (tmp_path / "export/artifact.py").touch()
    path = tmp_path / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert len(violations(path, tmp_path)) == 1


def loaded_by(code: str) -> tuple[set[str], float, str]:
    """Heavy modules that `code` loads in a fresh process, its CPU time in seconds, and what it prints."""
    report = f"""
import json, sys, time
{code}
print(json.dumps([[name for name in {HEAVY} if name in sys.modules], time.process_time()]))
"""
    run = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True)
    *printed, last = run.stdout.splitlines()
    loaded, cpu_s = json.loads(last)
    return set(loaded), cpu_s, "\n".join(printed)


def test_importing_a_package_loads_nothing_heavy():
    assert loaded_by(f"import {', '.join(LIGHT)}")[0] == set()


@pytest.mark.parametrize("package", PROGRAMS)
def test_help_is_the_answer_to_no_command_and_quick(package):
    loaded, cpu_s, printed = loaded_by(f"from {package}.__main__ import build_parser; build_parser().print_help()")
    assert printed.startswith(f"usage: python -m {package} ")
    assert loaded == set()
    assert cpu_s < 0.5
    run = subprocess.run([sys.executable, "-m", package], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (run.stdout.rstrip(), run.stderr) == (printed, "")
