"""One model over several devices: its layers in turn, and all the rest on the first.

Embedding, final norm and head stay with the first device, where token ids go in and logits come
out; what a layer needs is moved to it by accelerate's hooks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import psutil
import torch
from torch import nn

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.quiet import first_line

GIB = 2**30


def devices_of(names: str) -> list[torch.device]:
    """The devices in `cuda:0,cuda:1`; of a single name that one.

    Raises:
        ModelError: torch knows no such device, one is named twice, or one of several is the CPU.
    """
    try:
        devices = [torch.device(name.strip()) for name in names.split(",")]
    except RuntimeError as error:
        raise ModelError(
            f"device {names} cannot be used: {first_line(error)}: try cpu or auto"
        ) from None
    if len(set(devices)) < len(devices) or (
        len(devices) > 1 and "cpu" in {d.type for d in devices}
    ):
        raise ModelError(
            f"device {names} cannot be used: layers are shared by different devices, none of them "
            "the CPU, as in cuda:0,cuda:1"
        )
    return devices


def device_map(
    model: nn.Module,
    layers: nn.ModuleList,
    devices: Sequence[torch.device],
    number_bytes: int,
    linear_bits: float | None = None,
) -> dict[str, torch.device]:
    """Which module goes where, by name, as `from_pretrained` takes it.

    Args:
        model: may be without weights.
        layers: the decoder layers inside of it, taken to be all of one size.
        number_bytes: of a weight.
        linear_bits: of a weight of the layers' linear modules, where that differs.

    Raises:
        ModelError: the free memory of all devices together does not hold the weights.
    """
    free = [free_bytes(device) for device in devices]
    inside = _count(layers) * number_bytes
    rest = _count(model) * number_bytes - inside
    if linear_bits is not None:
        linear = sum(_count(m) for m in layers.modules() if isinstance(m, nn.Linear))
        inside -= math.floor(linear * (number_bytes - linear_bits / 8))
    if rest + inside > sum(free) or rest > free[0]:
        raise ModelError(
            f"its weights take {(rest + inside) / GIB:.1f} GiB, {rest / GIB:.1f} of them on the "
            f"first device, and {', '.join(map(str, devices))} have "
            f"{', '.join(f'{f / GIB:.1f}' for f in free)} GiB free: name more devices, or choose "
            "--quantize 4bit"
        )
    where = share_out(len(layers), [free[0] - rest, *free[1:]])
    placed: dict[str, torch.device] = {}
    _place(model, "", layers, [devices[i] for i in where], devices[0], placed)
    return placed


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def share_out(count: int, room: Sequence[int]) -> list[int]:
    """For each of `count` equal layers the device that it goes to: in turn, each its share.

    Args:
        room: of each device, in any unit; not all zero.
    """
    total = sum(room)
    ends = [sum(room[: i + 1]) for i in range(len(room))]
    middles = ((layer + 0.5) / count * total for layer in range(count))
    return [next(i for i, end in enumerate(ends) if middle < end) for middle in middles]


def _place(
    module: nn.Module,
    name: str,
    layers: nn.ModuleList,
    where: Sequence[torch.device],
    first: torch.device,
    placed: dict[str, torch.device],
) -> None:
    if module is layers:
        placed |= {f"{name}.{i}": device for i, device in enumerate(where)}
    elif any(m is layers for m in module.modules()):
        for child, inner in module.named_children():
            _place(inner, f"{name}.{child}".lstrip("."), layers, where, first, placed)
    else:
        placed[name] = first


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights are."""
    return next(module.parameters()).device


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take there, with what torch holds and does not use."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
