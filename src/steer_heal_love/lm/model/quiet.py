"""transformers without its own words: no bars, no notices, its errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import transformers
from huggingface_hub.utils import logging as hub_logging


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars or notices of transformers and of the hub's client, whose retries too are
    told line by line, while one of our own lines is on the screen.
    """
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_verbosity = hub_logging.get_verbosity()
    logging.set_verbosity_error()
    hub_logging.set_verbosity(logging.ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            logging.enable_progress_bar()
