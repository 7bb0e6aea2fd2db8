"""The README's tables are those of the committed results."""

from __future__ import annotations

import pytest

from benchmarks.readme import README, TABLES, render
from preprocess.errors import DataError


def test_readme_shows_the_committed_results():
    text = README.read_text(encoding="utf-8")
    assert render(text) == text


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_block_is_an_error(name):
    text = README.read_text(encoding="utf-8").replace(f"<!-- {name} -->", "")
    with pytest.raises(DataError, match=f"0 blocks named '{name}'"):
        render(text)
