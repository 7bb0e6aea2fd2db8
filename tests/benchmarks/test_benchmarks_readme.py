"""The generated blocks of the documents are those of the committed results."""

from __future__ import annotations

import pytest

from benchmarks.report.readme import README, RESULTS, TABLES, render
from preprocess.errors import DataError

BLOCKS = [(README, "headline"), *((page, name) for page, tables in TABLES.items() for name in tables)]


@pytest.mark.parametrize("page", [README, *TABLES], ids=lambda page: page.name)
def test_pages_show_the_committed_results(page):
    text = page.read_text(encoding="utf-8")
    assert render(page, text) == text


def test_every_result_is_shown_somewhere():
    names = {name for _, name in BLOCKS} - {"headline"}
    assert {path.stem for path in RESULTS.glob("*.json")} - {"gate-baseline"} == names


@pytest.mark.parametrize(("page", "name"), BLOCKS, ids=lambda value: str(value).rsplit("/")[-1])
def test_a_missing_block_is_an_error(page, name):
    text = page.read_text(encoding="utf-8").replace(f"<!-- {name} -->", "")
    with pytest.raises(DataError, match=f"{page.name} has 0 blocks named '{name}'"):
        render(page, text)
