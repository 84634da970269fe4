"""Every decoder class of transformers: it works as transformers does, or is refused by one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from decoders import decoder_types, outcome, read_table

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("model_type", decoder_types())
def test_it_works_or_is_refused_as_the_page_says(model_type: str, tmp_path: Path) -> None:
    assert outcome(model_type, tmp_path) == read_table()[model_type]


def test_the_page_has_every_class() -> None:
    assert sorted(read_table()) == decoder_types()
    states = [state for state, _ in read_table().values()]
    assert states.count("works") >= 50
    assert set(states) == {"works", "refused", "not tried"}
