"""A loaded run to talk to."""

from __future__ import annotations

import pytest

from play_run import load_play_run
from steer_heal_love.play.loaded import Loaded


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load_play_run(tmp_path_factory.mktemp("play"))[0]
