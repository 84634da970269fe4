"""A Ray cluster: one of this machine alone, or one that is there already."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from steer_heal_love.errors import ConfigError
from steer_heal_love.sweep.settings import Resources

REMEDY = "pip install 'steer-heal-love[scale]'"
LOCAL = "local"

_KNOCK_S = 10.0
_STORE_BYTES = 100 << 20  # of Ray's shared memory: only a few words pass through it


def require(*libraries: str, asked: str) -> None:
    """Raises ConfigError where a library that what is `asked` for needs is not installed."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise ConfigError(f"{asked} needs {library}: {REMEDY}")


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """The library, connected; what this process started ends with it.

    Args:
        address: `local` starts Ray on this machine, on the loopback address and behind a token of
            its own; `auto` finds a running cluster; else HOST:PORT or ray://HOST:PORT of one.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    require("ray", asked=f"--ray {address}")
    private = _settle(address)
    import ray

    try:
        _begin(ray, address, private)
        yield ray
    finally:
        ray.shutdown()
        if private is not None:
            shutil.rmtree(private, ignore_errors=True)


def _settle(address: str) -> str | None:
    """What Ray reads from the environment when it is imported; the folder of a cluster of our own.

    No usage statistics, no words of its own.
    """
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # no GPU asked for: none is seen
    }
    if address != LOCAL:
        return None
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's switch for the loopback address
        "RAY_worker_niceness": "0",  # as nice as this process, not nicer
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    return tempfile.mkdtemp(prefix="shl-ray-")  # short: sockets have long names in it


def _begin(ray: Any, address: str, private: str | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if private is not None:
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        options |= {"_temp_dir": private}
    try:
        if address not in (LOCAL, "auto"):
            _knock(address)
        ray.init(address=address, namespace="steer-heal-love", **options)
    except (OSError, ValueError, RuntimeError, AssertionError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"--ray {address}: no Ray cluster answers there ({reason}): start one with `ray start "
            "--head`, or give --ray local"
        ) from None


def _knock(address: str) -> None:
    """Raises OSError or ValueError where nobody answers: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("an address is HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def claim(ray: Any, resources: Resources, device: str) -> dict[str, Any]:
    """What a trial takes, in Ray's terms.

    Raises:
        ConfigError: no node has as much, so that the trial would wait for ever.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = resources.gpus
    if gpus is None:
        there = device != "cpu" and any(node.get("GPU", 0) > 0 for node in nodes)
        gpus = float(there * len(device.split(",")))
    wanted = {"CPU": resources.cpus, "GPU": gpus, "memory": (resources.memory_gib or 0) * 2**30}
    if not any(all(node.get(k, 0) >= v for k, v in wanted.items()) for node in nodes):
        raise ConfigError(
            f"[resources] asks for {resources.cpus:g} cpus, {gpus:g} gpus and "
            f"{resources.memory_gib or 0:g} GiB a trial, and no node has as much: ask for less"
        )
    options = {"num_cpus": resources.cpus, "num_gpus": gpus}
    return options | ({"memory": int(wanted["memory"])} if wanted["memory"] else {})


def prepare(sweep: str, cwd: str) -> None:
    """Make a worker stand where the sweep was started.

    Raises:
        ConfigError: its node does not see the sweep's folder.
    """
    if not os.path.isfile(sweep):  # noqa: PTH113
        raise ConfigError(
            f"node {os.uname().nodename} does not see {sweep}: --out must lie on a disk that all "
            "nodes share"
        )
    with suppress(OSError):  # paths of models and axes count from there, where it is
        os.chdir(cwd)
