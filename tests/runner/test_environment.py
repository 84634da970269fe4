"""What is recorded of the machine, and what must never be."""

from __future__ import annotations

import getpass
import json
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from steer_heal_love import __version__
from steer_heal_love.runner.environment import describe_environment, device_name, git_commit
from tiny import tiny_lm


def test_versions_model_and_hardware_are_recorded() -> None:
    lm = tiny_lm()
    found = describe_environment(lm)
    assert found["steer_heal_love"] == __version__
    assert found["packages"]["torch"] == torch.__version__
    assert found["model"]["name"] == lm.identity.name
    assert found["model"]["revision"] == lm.identity.revision
    assert found["model"]["parameters"] > 0
    assert found["memory_gib"] > 0
    assert found["cores"] >= 1
    assert json.loads(json.dumps(found)) == found


def test_no_secret_no_user_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    text = json.dumps(describe_environment(tiny_lm()))
    assert "hf_secret" not in text
    assert str(Path.home()) not in text
    user = getpass.getuser()
    assert not re.search(rf"\b{re.escape(user)}\b", text)
    assert not re.search(rf"\b{re.escape(platform.node())}\b", text)


def test_the_processor_is_named() -> None:
    assert device_name(torch.device("cpu")).startswith(f"cpu {platform.machine()}")


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H100")
    assert device_name(torch.device("cuda", 0)) == "NVIDIA H100"


def test_no_commit_outside_a_checkout(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 5)])
def test_no_commit_without_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run(*_args: Any, **_kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    assert git_commit(tmp_path) is None


def test_the_commit_is_what_git_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = subprocess.CompletedProcess([], 0, stdout="abc123\n")
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: said)
    assert git_commit(tmp_path) == "abc123"
