"""The documents: commands parse, links and paths resolve, code imports what exists, the front page stays short."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from preprocess.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "android_bench" / "native" / "README.md",
]
PROGRAMS = ("recordings", "model", "quantize", "export", "benchmarks", "android_bench")
SOURCES = (*PROGRAMS, "preprocess", "console", "runtime", "pocket_har", "tests", "docs")
WIDEST_TABLE = 100  # columns of a generated table
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The page without generated blocks, whose commands are those of the time of the measurement."""
    return re.sub(r"<!-- ([\w-]+) -->.*?<!-- /\1 -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def blocks(text: str, *languages: str) -> list[str]:
    """Contents of the fenced blocks in these languages."""
    return [code for language, code in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S) if language in languages]


def commands(text: str) -> list[list[str]]:
    """The words of every command of this project in lines of a shell."""
    lines = text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"\s+(?:&&|\|\||;|>)\s+", line.strip())]
    words = [shlex.split(part, comments=True) for part in parts if re.match(r"(python -m|pocket-har) ", part)]
    return [list_[1:] if list_[0] == "pocket-har" else list_[2:] for list_ in words]


def parse(words: list[str]) -> None:
    """Parses a command as its program does. Raises UsageError."""
    name = words[0] if words[0] in PROGRAMS else "pocket_har"
    parser = import_module(f"{name}.__main__").build_parser()
    parser.parse_args(words[1:] if name == words[0] else words)


@each_page
def test_commands_parse(page):
    text = prose(page)
    indented = "\n".join(re.findall(r"^ {4,}(\S.*)$", text, re.M))
    lines = [*commands("\n".join(blocks(text, "sh"))), *commands(indented)]
    for words in lines:
        if words[0] not in ("pytest", "venv"):
            parse(words)


@each_page
def test_commands_in_sentences_exist(page):
    """There, arguments that a command needs may be left out."""
    for code in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", prose(page), flags=re.M | re.S)):
        for words in commands(" ".join(code.split())):
            if words[0] in ("pytest", "venv") or "|" in " ".join(words) or words[0].isupper():
                continue
            try:
                parse(words)
            except UsageError as error:
                if "required" not in str(error):
                    raise


def make_targets() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "Makefile", *ROOT.glob("recipes/*.mk"))]
    return set(re.findall(r"^(\w[\w-]*):", "\n".join(texts), re.M))


@each_page
def test_make_targets_exist(page):
    assert set(re.findall(r"`make ([\w-]+)`", prose(page))) <= make_targets()


def test_commands_of_make_parse():
    targets = make_targets()
    dry = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [words for words in commands(dry) if words[0] != "pytest"]
    assert len(lines) > len(targets)
    for words in lines:
        parse(words)


def anchors(page: Path) -> set[str]:
    """Ids that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


@each_page
def test_paths_exist(page):
    for path in re.findall(r"`([\w/]+/[\w./]+\.\w+|\w+/)`", prose(page)):
        if path.split("/")[0] in SOURCES:
            assert (ROOT / path).exists(), path


@each_page
def test_python_imports_what_exists(page):
    for code in blocks(page.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), code
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    import_module(alias.name)


@each_page
def test_tables_of_results_fit(page):
    text = page.read_text(encoding="utf-8")
    for block in blocks(text, ""):
        wide = [line for line in block.splitlines() if len(line) > WIDEST_TABLE]
        assert not wide, wide[0]


def test_front_page_is_short_has_one_picture_and_links_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 8_000
    assert len(text.splitlines()) <= 120
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert (ROOT / picture).stat().st_size < 400_000
    assert len(blocks(text, "python")[0].splitlines()) == 5
    assert all(f"(docs/{page.name})" in text for page in (ROOT / "docs").glob("*.md"))
