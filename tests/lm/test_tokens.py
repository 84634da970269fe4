"""Properties of padding, prefixes and batches."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.lm.tokens import batches_by_length, common_prefix, pad_left, pad_right

PAD = 0  # also a legal token: only the mask tells the two apart
CPU = torch.device("cpu")
rows_of_ids = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=6)


@given(rows_of_ids)
def test_padding_comes_off_again(rows: list[list[int]]) -> None:
    for pad in (pad_left, pad_right):
        padded = pad(rows, PAD, CPU)
        back = [i[m.bool()].tolist() for i, m in zip(padded.ids, padded.mask, strict=True)]
        assert back == rows
        assert padded.ids.shape == (len(rows), max(map(len, rows)))


@given(rows_of_ids)
def test_positions_count_real_tokens(rows: list[list[int]]) -> None:
    for pad in (pad_left, pad_right):
        padded = pad(rows, PAD, CPU)
        for row, where, mask in zip(rows, padded.positions, padded.mask, strict=True):
            assert where[mask.bool()].tolist() == list(range(len(row)))
            assert where.min() == 0


@given(rows_of_ids)
def test_padding_is_on_the_named_side(rows: list[list[int]]) -> None:
    assert pad_left(rows, PAD, CPU).mask[:, -1].all()
    assert pad_right(rows, PAD, CPU).mask[:, 0].all()


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=5))
def test_common_prefix_is_the_brute_force_one(rows: list[list[int]]) -> None:
    shortest = min(map(len, rows))
    lengths = [n for n in range(shortest + 1) if all(r[:n] == rows[0][:n] for r in rows)]
    assert common_prefix(rows) == max(lengths)


@given(
    st.lists(st.integers(1, 40), max_size=30),
    st.integers(1, 120),
    st.integers(1, 8),
)
def test_batches_cover_each_index_once_within_bounds(
    lengths: list[int], max_tokens: int, max_rows: int
) -> None:
    batches = list(batches_by_length(lengths, max_tokens, max_rows))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert 1 <= len(batch) <= max_rows
        assert padded <= max_tokens or len(batch) == 1
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(lengths, reverse=True)
