"""What the tests of the exports share: runs of tiny models, and the forms that they export to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from export_run import write_tiny_run
from said import say

__all__ = ["say"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds of a tiny Llama."""
    return write_tiny_run(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def qwen_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds of a tiny Qwen 3."""
    return write_tiny_run(tmp_path_factory.mktemp("qwen3"), "qwen3")


@pytest.fixture(autouse=True)
def _no_word_of_gguf() -> Iterator[None]:
    """Whatever a test does, the log level of the gguf package is as it was."""
    before = logging.getLogger("gguf").level
    yield
    assert logging.getLogger("gguf").level == before
