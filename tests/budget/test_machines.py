"""What --gpus names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.budget.machines import GIB, known_gpus, read_gpus, this_machine
from steer_heal_love.errors import ConfigError


@given(count=st.integers(1, 999), gib=st.integers(1, 500), cross=st.sampled_from("xX×"))
def test_memory_is_read_with_its_count(count: int, gib: int, cross: str) -> None:
    found = read_gpus(f"{count}{cross}{gib}GiB")
    assert (found.count, found.memory, found.rates) == (count, gib * GIB, None)


def test_a_count_may_be_left_out_and_gb_are_smaller() -> None:
    assert read_gpus("24GiB").count == 1
    assert read_gpus("1x24GB").memory == 24 * 10**9
    assert read_gpus("2 x 24 GiB").words == "2 × GPU of 24 GiB"


@pytest.mark.parametrize("name", list(known_gpus()))
def test_known_gpus_have_figures_and_a_source(name: str) -> None:
    found = read_gpus(f"2x{name.lower()}")
    assert (found.name, found.count) == (name, 2)
    assert found.rates is not None
    assert 1e12 < found.rates.flops < 1e16
    assert 1e11 < found.rates.bytes < 1e13
    assert found.memory > 8 * GIB
    assert "NVIDIA" in found.source


@pytest.mark.parametrize("text", ["", "2x", "0x24GiB", "H1000", "1xnothing", "-1xH100", "x"])
def test_what_is_no_gpu_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="--gpus") as refused:
        read_gpus(text)
    assert "\n" not in str(refused.value)


def test_the_nearest_name_is_told() -> None:
    with pytest.raises(ConfigError, match="did you mean 'H100'"):
        read_gpus("2xH10")


def test_this_machine_has_memory_and_a_speed() -> None:
    found = this_machine("cpu")
    assert found.device == "cpu"
    assert found.memory > GIB // 2
    assert found.rates is not None
    assert found.rates.flops > 1e8
    assert found.rates.bytes > 1e8
