"""What a trial takes of a cluster: nothing is started, a cluster's nodes are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from steer_heal_love.errors import ConfigError
from steer_heal_love.sweep.cluster import claim
from steer_heal_love.sweep.settings import Resources


def cluster(*gpus: float) -> Any:
    """Nodes with four processors each, and so many GPUs."""
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": n, "memory": 2**40}} for n in gpus]
    return SimpleNamespace(nodes=lambda: nodes)


@pytest.mark.parametrize(
    ("device", "gpus", "taken"),
    [
        ("auto", 4, 1),
        ("cpu", 4, 0),
        ("auto", 0, 0),
        ("cuda:0,cuda:1", 4, 2),
    ],
)
def test_a_trial_takes_the_gpus_that_its_device_names(device: str, gpus: int, taken: int) -> None:
    assert claim(cluster(gpus), Resources(cpus=1), device)["num_gpus"] == taken


@pytest.mark.parametrize("share", [0.25, 1, 3])
def test_what_the_file_asks_for_is_taken(share: float) -> None:
    assert claim(cluster(4), Resources(cpus=2, gpus=share), "auto") == {
        "num_cpus": 2,
        "num_gpus": share,
    }


def test_what_no_node_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="no node has as much"):
        claim(cluster(1, 1), Resources(cpus=1), "cuda:0,cuda:1")
