"""Truncation against torch's dense SVD, and padding that changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.maths.low_rank import pad_rank, truncate


def factors(d_out: int, d_in: int, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, d_in, generator=generator)
    return a, torch.randn(d_out, rank, generator=generator)


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99)
)
def test_it_is_the_best_approximation_and_says_what_it_loses(
    d_out: int, d_in: int, rank: int, kept: int, seed: int
) -> None:
    a, b = factors(d_out, d_in, rank, seed)
    dense = b.double() @ a.double()
    values = torch.linalg.svdvals(dense)
    found = truncate(a, b, kept)
    lost = (dense - found.B.double() @ found.A.double()).square().sum()
    assert found.A.shape[0] == found.B.shape[1] <= kept
    assert float(lost) == pytest.approx(float(values[kept:].square().sum()), abs=1e-3)
    assert found.lost_square == pytest.approx(float(values[kept:].square().sum()), abs=1e-6)
    assert found.whole_square == pytest.approx(float(values.square().sum()))


def test_a_product_of_lower_rank_loses_nothing() -> None:
    a, b = factors(7, 5, 2, 0)
    twice = truncate(torch.cat([a, a]), torch.cat([b, -b / 2], 1), 2)
    torch.testing.assert_close(twice.B @ twice.A, b @ a / 2)
    assert twice.lost_square < 1e-10 * twice.whole_square


def test_zero_stays_zero() -> None:
    a, _ = factors(4, 3, 2, 0)
    found = truncate(a, torch.zeros(4, 2), 1)
    assert not (found.B @ found.A).any()
    assert found.whole_square == found.lost_square == 0


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 99))
def test_padding_changes_nothing(rank: int, more: int, seed: int) -> None:
    a, b = factors(5, 4, rank, seed)
    wide_a, wide_b = pad_rank(a, b, rank + more)
    assert wide_a.shape == (rank + more, 4)
    assert wide_b.shape == (5, rank + more)
    torch.testing.assert_close(wide_b @ wide_a, b @ a)


def test_impossible_ranks_are_refused() -> None:
    a, b = factors(5, 4, 3, 0)
    with pytest.raises(ValueError, match="at least 1"):
        truncate(a, b, 0)
    with pytest.raises(ValueError, match="cannot be padded"):
        pad_rank(a, b, 2)
