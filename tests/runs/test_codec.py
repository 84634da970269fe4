"""What a run stores comes back to the bit, and nothing else is read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pickle
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuzz import FUZZ
from steer_heal_love.errors import RunError
from steer_heal_love.records import (
    Adapter,
    Ceilings,
    Completion,
    Context,
    Direction,
    Interval,
    Limits,
    Measurement,
)
from steer_heal_love.runs.codec import pack, unpack

DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8)

texts = st.text(max_size=20) | st.sampled_from(["~tensor", "~tuple", "~dict", "~record", "\ud800"])
keys = texts | st.integers() | st.booleans() | st.none()
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
shapes = st.lists(st.integers(0, 3), max_size=3)
tensors = st.tuples(shapes, st.sampled_from(DTYPES)).map(
    lambda t: (torch.randn(t[0], dtype=torch.float64) * 3).to(t[1])
)
records = st.builds(Context, texts, texts) | st.builds(
    Interval, st.floats(), st.floats(), st.floats()
)
values = st.recursive(
    scalars | tensors | records,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal to the bit and in type, NaN included."""
    if type(one) is not type(other):
        return False
    match one:
        case torch.Tensor():
            return one.dtype == other.dtype and one.shape == other.shape and _bits(one, other)
        case float():
            return (math.isnan(one) and math.isnan(other)) or (
                one == other and math.copysign(1, one) == math.copysign(1, other)
            )
        case list() | tuple():
            return len(one) == len(other) and all(map(same, one, other))
        case dict():
            return same(list(one), list(other)) and same([*one.values()], [*other.values()])
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in _fields(one))
    return bool(one == other)


def _fields(record: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(record)


def _bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(
        one.contiguous().flatten().view(torch.uint8), other.contiguous().flatten().view(torch.uint8)
    )


@FUZZ
@given(values)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert same(unpack(pack(value), "x"), value)


@FUZZ
@given(values)
def test_packing_is_a_function_of_the_value(value: Any) -> None:
    assert pack(value) == pack(unpack(pack(value), "x"))


def test_the_records_of_a_run() -> None:
    ceilings = Ceilings(1.0, math.inf, 0.1 + 0.2, -0.0, math.nan)
    limits = Limits(ceilings, ceilings, -math.inf)
    measurement = Measurement(
        {"a": Interval(0.1, -math.inf, math.inf)}, {"a": (0.5, None, 1e-320)}, ()
    )
    completion = Completion("p", "t\u2028\x00", (1, 2), None, 0.3, 2**53 + 1, 0)
    adapter = Adapter({"a.lora_A.weight": torch.randn(2, 3)}, {"r": 2, "target_modules": ["q"]})
    value = {
        "limits": limits,
        "rows": [measurement, completion],
        "pair": (adapter, Direction((3, 4), torch.randn(2, 8))),
    }
    assert same(unpack(pack(value), "x"), value)


def test_a_tensor_that_is_a_view_is_stored_alone() -> None:
    whole = torch.randn(1000, 10)
    data = pack({"row": whole[3], "turned": whole[:3].t(), "row again": whole[3]})
    assert len(data) < 1000
    found = unpack(data, "x")
    assert torch.equal(found["turned"], whole[:3].t())


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"bytes", 1j, [1, {"a": object()}], {(1, 2): 3}, {1.5: {b"x": 1}}, len],
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot store a"):
        pack(value)


def test_a_record_of_another_module_is_refused() -> None:
    @dataclasses.dataclass
    class Interval:  # the name of one of ours
        value: float

    with pytest.raises(TypeError, match="cannot store a Interval"):
        pack(Interval(1.0))


def stored(structure: Any) -> bytes:
    text = structure if isinstance(structure, str) else json.dumps(structure)
    return bytes(safetensors.torch.save({"0": torch.zeros(1)}, {"value": text}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 100,
        pickle.dumps([1]),
        bytes(safetensors.torch.save({"0": torch.zeros(1)})),  # no value
        stored("{"),
        stored("[" * 100_000),
        stored({"~tensor": "1"}),
        stored({"~tensor": ["0"]}),
        stored({"~tuple": 5}),
        stored({"~dict": [[1]]}),
        stored({"~dict": [[[1], 2]]}),
        stored({"~record": "Nothing"}),
        stored({"~record": "Interval", "value": 1}),
        stored({"~record": "Interval", "value": 1, "low": 1, "high": 1, "more": 1}),
        stored({"~record": ["Interval"]}),
        stored("1" * 5000),
        pack([1.0, torch.ones(3)])[:-1],
    ],
)
def test_a_broken_file_is_refused_by_its_name(data: bytes) -> None:
    with pytest.raises(RunError, match=r"file work/x is broken .*not used"):
        unpack(data, "work/x")


@FUZZ
@given(st.binary(max_size=200) | values.map(pack), st.data())
def test_any_bytes_are_a_value_or_a_clear_error(data: bytes, draw: st.DataObject) -> None:
    if data:
        at = draw.draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes([draw.draw(st.integers(0, 255))]) + data[at + 1 :]
    with contextlib.suppress(RunError):
        unpack(data, "x")
