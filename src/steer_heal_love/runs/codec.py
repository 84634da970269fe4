"""Records and tensors to one safetensors file and back, without pickle; plain data to text."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import safetensors.torch
import tomli_w
from safetensors import SafetensorError
from torch import Tensor

from steer_heal_love import records
from steer_heal_love.errors import RunError

_RECORDS: dict[str, type] = {
    name: record
    for name, record in vars(records).items()
    if isinstance(record, type) and dataclasses.is_dataclass(record)
}


def pack(value: Any) -> bytes:
    """Plain data, records and tensors, nested in dicts, lists and tuples, as safetensors bytes.

    Floats survive to the bit. Raises TypeError for anything else.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_encode(value, tensors), sort_keys=False)
    return bytes(safetensors.torch.save(tensors, {"value": structure}))


def unpack(data: bytes, name: str) -> Any:
    """The value that `pack` packed.

    Raises:
        RunError: the bytes are no such file; `name` says which.
    """
    try:
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        return _decode(json.loads(header["__metadata__"]["value"]), tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise RunError(f"file {name} is broken ({type(error).__name__}): it is not used") from error


def to_json(value: Any) -> str:
    """The text of a JSON file; NaN and infinities become null."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False) + "\n"


def to_json_lines(rows: Iterable[Any]) -> str:
    """One JSON value a line, as `to_json`."""
    return "".join(json.dumps(_finite(row), ensure_ascii=False) + "\n" for row in rows)


def to_toml(values: Mapping[str, Any]) -> str:
    """The text of a TOML file, which has no null: a key that is not set is left out."""
    return tomli_w.dumps(_without_none(values))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(k): _finite(v) for k, v in value.items()}
        case list() | tuple():
            return [_finite(v) for v in value]
        case _:
            return value


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Tensor():
            key = str(len(tensors))
            tensors[key] = value.detach().cpu().contiguous().clone()
            return {"~tensor": key}
        case list():
            return [_encode(v, tensors) for v in value]
        case tuple():
            return {"~tuple": [_encode(v, tensors) for v in value]}
        case Mapping():
            return {"~dict": [[_key(k), _encode(v, tensors)] for k, v in value.items()]}
    name = type(value).__name__
    if _RECORDS.get(name) is type(value) and dataclasses.is_dataclass(value):
        fields = {
            f.name: _encode(getattr(value, f.name), tensors) for f in dataclasses.fields(value)
        }
        return {"~record": name, **fields}
    raise TypeError(f"cannot store a {name}")


def _key(key: Any) -> Any:
    if key is None or isinstance(key, str | int | float):
        return key
    raise TypeError(f"cannot store a {type(key).__name__} as a key")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    match value:
        case list():
            return [_decode(v, tensors) for v in value]
        case {"~tensor": key}:
            return tensors[key]
        case {"~tuple": items}:
            return tuple(_decode(v, tensors) for v in items)
        case {"~dict": items}:
            return {k: _decode(v, tensors) for k, v in items}
        case {"~record": name, **fields}:
            return _RECORDS[name](**{str(k): _decode(v, tensors) for k, v in fields.items()})
        case _:
            return value
