"""Run-time shape and type checks on the whole package, one thread, no network, no user's cache."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import hypothesis
import jaxtyping

os.environ["HF_HUB_OFFLINE"] = "1"
jaxtyping.install_import_hook("steer_heal_love", "tiny.typechecked")  # before any import of it

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what is imported out of the collector's sight: accelerate collects once an epoch."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_cache(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A cache folder of the test's own, but for golden tests: they need the converted model."""
    if request.node.get_closest_marker("golden") is None:
        monkeypatch.setenv("SHL_CACHE", str(tmp_path_factory.mktemp("shl-cache")))


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process are as light as those in processes of their own."""
    import processes

    processes.make_light(monkeypatch.setattr)


@pytest.fixture(autouse=True)
def _global_random_state() -> Iterator[None]:
    """Each test starts from the same global generator, whatever ran before it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
