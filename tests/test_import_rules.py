"""Imports go one way, and a program answers `--help` before anything heavy is loaded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What a package may import of the project, besides itself.
MAY_IMPORT = {
    "preprocess": (),
    "console": ("preprocess.errors",),
    "recordings": ("preprocess", "console"),
    "runtime": ("preprocess", "console"),
    "model": ("runtime", "preprocess", "recordings", "console"),
    "quantize": ("runtime", "model", "recordings", "preprocess", "console"),
    "export": ("runtime", "quantize", "model", "recordings", "preprocess", "console"),
    "benchmarks": ("runtime", "preprocess", "recordings", "console"),
    "android_bench": ("benchmarks", "runtime", "preprocess", "console"),
}
# What it may import of others: when it is loaded, and inside a function.
MAY_IMPORT_OUTSIDE = {
    "preprocess": ({"numpy"}, set()),
    "console": ({"numpy"}, {"matplotlib"}),
    "recordings": ({"numpy"}, {"librosa", "soundfile", "soxr", "matplotlib", "threadpoolctl"}),
}
MODULES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
PACKAGES = [package for package in MAY_IMPORT if (ROOT / package / "__init__.py").exists()]
PROGRAMS = [package for package in PACKAGES if (ROOT / package / "__main__.py").exists()]
HEAVY = ("tensorflow", "tf_keras", "keras", "librosa", "matplotlib", "onnx", "onnxruntime", "scipy", "soundfile")


def imported(path: Path, root: Path = ROOT) -> list[tuple[str, int, bool]]:
    """(module, line, loaded with the file) of every import, absolute; `from a import b` gives a.b for a module b."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(root).with_suffix("").parts[: -node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            names = [qualified(base, alias.name, root) for alias in node.names]
        else:
            continue
        found += [(name, node.lineno, node not in lazy) for name in names]
    return found


def qualified(base: str, name: str, root: Path) -> str:
    inside = root.joinpath(*base.split("."), name)
    return f"{base}.{name}" if inside.is_dir() or inside.with_suffix(".py").exists() else base


def violations(path: Path, root: Path = ROOT) -> list[str]:
    package = path.relative_to(root).parts[0]
    allowed = (package, *MAY_IMPORT[package])
    loaded, inside = MAY_IMPORT_OUTSIDE.get(package, (None, None))
    wrong = []
    for name, line, at_load in imported(path, root):
        top = name.split(".")[0]
        if top in MAY_IMPORT:
            good = any(name == rule or name.startswith(f"{rule}.") for rule in allowed)
        else:
            good = top in sys.stdlib_module_names or loaded is None or top in (loaded if at_load else loaded | inside)
        if not good:
            wrong.append(f"{path.relative_to(root)}:{line} imports {name}")
    return wrong


def test_every_package_that_is_installed_has_a_rule():
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in include} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_what_its_package_may(path):
    assert violations(path) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("console/a.py", "from preprocess import spec"),
        ("console/a.py", "import numpy"),
        ("preprocess/a.py", "def f():\n    from runtime.metrics import score"),
        ("preprocess/a.py", "def f():\n    import librosa"),
        ("recordings/synthetic/a.py", "from ...model import config"),
        ("recordings/a.py", "import librosa"),
        ("recordings/a.py", "def f():\n    import tensorflow"),
        ("model/a.py", "from quantize.recipes import Recipe"),
        ("benchmarks/a.py", "import model.config"),
        ("benchmarks/a.py", "from export import artifact"),
        ("android_bench/a.py", "from recordings import metrics"),
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
loaded = [name for name in {HEAVY} if name in sys.modules]
print(json.dumps([loaded, time.process_time()]))
"""
    run = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True)
    *printed, last = run.stdout.splitlines()
    loaded, cpu_s = json.loads(last)
    return set(loaded), cpu_s, "\n".join(printed)


@pytest.mark.parametrize("package", [*PACKAGES, "runtime.manifest", "model.config", "model.cost", "model.checkpoint"])
def test_importing_a_package_loads_nothing_heavy(package):
    loaded, _, _ = loaded_by(f"import {package}")
    assert loaded == set()


@pytest.mark.parametrize("package", PROGRAMS)
def test_help_loads_nothing_heavy_and_is_quick(package):
    code = f"""
from {package}.__main__ import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
"""
    loaded, cpu_s, printed = loaded_by(code)
    assert printed.startswith(f"usage: python -m {package} ")
    assert loaded == set()
    assert cpu_s < 1.0


@pytest.mark.parametrize("package", PROGRAMS)
def test_a_program_without_a_command_shows_its_help(package):
    run = subprocess.run([sys.executable, "-m", package], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"usage: python -m {package} ")
    assert run.stderr == ""
