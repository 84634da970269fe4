"""A secret of the environment is in no file and no word, also where things go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_run import write_inputs

SECRET = "hf_" + "secretsentinel" * 2
pytestmark = pytest.mark.faults


def shl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`shl` as a user starts it: a process with nothing of the tests in it."""
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY")
    own = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "SHL_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "steer_heal_love", *arguments],
        env={**os.environ, **dict.fromkeys(names, SECRET), **own},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_no_secret_is_anywhere(tmp_path: Path) -> None:
    flags = write_inputs(tmp_path, rounds=1)
    done = [
        shl(tmp_path, "run", *flags, "--out", "run"),
        shl(tmp_path, "resume", "run", "--rounds", "2", "--json"),
        shl(tmp_path, "run", *flags, "--out", "starved", "--filter.max-perplexity", "1.001"),
        shl(tmp_path, "run", "--model", "owner/never-heard-of", "--out", "none"),
        shl(tmp_path, "report", "run"),
        shl(tmp_path, "verify", "run"),
    ]
    assert [d.returncode for d in done] == [0, 0, 1, 2, 0, 0], done
    assert not [d.args for d in done if SECRET in d.stdout + d.stderr]
    assert not any("Traceback" in d.stdout + d.stderr for d in done)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) > 60
    assert not [p for p in files if SECRET.encode() in p.read_bytes()]
