"""Processes that know one another, by `torch.distributed`; what they tell is never a pickle."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from steer_heal_love.errors import LostProcess
from steer_heal_love.lm.model.team import Team
from steer_heal_love.runs.codec import pack, unpack

T = TypeVar("T")

RENDEZVOUS = "SHL_RENDEZVOUS"  # a file that the processes of one machine meet by
PATIENCE = datetime.timedelta(hours=12)  # a dead process is noticed at once, by its connection
# By these a launcher tells a process its place; libraries that read them too would share a step
# out once more.
_PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK")


class Joined(Team):
    """One of several processes."""

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank.

        Raises:
            LostProcess: another one has ended.
        """
        data = _as_tensor(pack(value))
        with _noticing():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.processes)]
            dist.all_gather(sizes, torch.tensor([len(data)]))
            longest = int(max(sizes))
            padded = torch.nn.functional.pad(data, (0, longest - len(data)))
            gathered = [torch.empty_like(padded) for _ in sizes]
            dist.all_gather(gathered, padded)
        told = zip(gathered, sizes, strict=True)
        return [cast("T", _read(data[: int(size)])) for data, size in told]

    def add(self, tensor: Tensor) -> None:
        """Replace the tensor by its sum over the processes.

        Raises:
            LostProcess: another one has ended.
        """
        with _noticing():
            dist.all_reduce(tensor)

    def tell(self, value: Any) -> None:
        """Give a value to all others, who `hear` it: plain data, records and tensors, nested.

        Raises:
            LostProcess: another one has ended.
        """
        data = _as_tensor(pack(value))
        with _noticing():
            dist.broadcast(torch.tensor([len(data)]), src=0)
            dist.broadcast(data, src=0)

    def hear(self) -> Any:
        """What the first process tells.

        Raises:
            LostProcess: another one has ended.
        """
        size = torch.zeros(1, dtype=torch.int64)
        with _noticing():
            dist.broadcast(size, src=0)
            data = torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(data, src=0)
        return _read(data)


def count_launched() -> int:
    """How many processes a launcher has started this one among; 0 where none has."""
    return int(os.environ.get("WORLD_SIZE", 0)) if "RANK" in os.environ else 0


@contextmanager
def join_processes() -> Iterator[Team]:
    """The team that this process was launched into; alone where it was not."""
    processes = count_launched()
    if processes <= 1:
        yield Team()
        return
    rank = int(os.environ["RANK"])
    _take_own_gpu(int(os.environ.get("LOCAL_RANK", rank)))
    meeting = os.environ.get(RENDEZVOUS)
    with _noticing():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            init_method=f"file://{meeting}" if meeting else "env://",
            rank=rank,
            world_size=processes,
            timeout=PATIENCE,
        )
    for name in _PLACE:
        os.environ.pop(name, None)
    try:
        yield Joined(processes, rank, processes)
    finally:
        dist.destroy_process_group()


def _take_own_gpu(local_rank: int) -> None:
    """Show this process one of the GPUs alone, before anything has looked at them."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = shown.split(",") if shown else [str(i) for i in range(torch.cuda.device_count())]
    if gpus and gpus != [""]:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[local_rank % len(gpus)]


@contextmanager
def _noticing() -> Iterator[None]:
    """A broken connection is told as what it is."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcess("another process of this run has ended before its time") from error


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _read(data: Tensor) -> Any:
    return unpack(data.numpy().tobytes(), "from another process")
