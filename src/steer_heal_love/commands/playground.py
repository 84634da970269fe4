"""`shl playground`: a page to ask base, prompted, steered and healed side by side."""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from steer_heal_love.errors import ConfigError
from steer_heal_love.lm.model.load import DType
from steer_heal_love.play.open_model import open_run
from steer_heal_love.terminal.flags import parse

HOST = "127.0.0.1"


@dataclass(frozen=True)
class PlaygroundArguments:
    """Open a run in the browser: one message, answered as base, prompted, steered and healed.

    Served to this machine alone; nothing is sent anywhere. Needs the extra `ui`.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""
    port: int = 7860
    """Port on 127.0.0.1; 0 takes a free one."""
    open: bool = False
    """Open the browser."""
    device: str | None = None
    """Where to compute: auto, cpu, cuda, …; by default as the run did."""
    dtype: DType | None = None
    """Precision of the model; by default the run's."""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""


def main(arguments: list[str]) -> int:
    """Parse, load, serve until interrupted."""
    given = parse(PlaygroundArguments, arguments, "shl playground")
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError(
            "the playground needs gradio, which is not installed: pip install 'steer-heal-love[ui]'"
        )
    listener = _listen(given.port)
    with listener:
        loaded = open_run(
            given.run, device=given.device, dtype=given.dtype, trust=given.trust_remote_code
        )
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
        import uvicorn

        from steer_heal_love.play.page import make_page
        from steer_heal_love.play.serial_worker import SerialWorker
        from steer_heal_love.play.serving import make_app

        worker = SerialWorker()
        app = make_app(make_page(loaded, given.run, worker))
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        config.timeout_graceful_shutdown = 1
        address = f"http://{HOST}:{listener.getsockname()[1]}"
        print(f"playground of {given.run}: {address} (Ctrl-C ends it)", flush=True)  # noqa: T201
        if given.open:
            threading.Timer(1.0, webbrowser.open, [address]).start()
        _serve(uvicorn.Server(config), listener, worker)
    return 0


def _serve(server: Any, listener: socket.socket, worker: Any) -> None:
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:  # the way to end it
        pass
    finally:
        worker.close()


def _listen(port: int) -> socket.socket:
    """A socket on this machine alone. Raises ConfigError where the port cannot be had."""
    if not 0 <= port < 65536:
        raise ConfigError(f"--port {port} is no port: choose one from 0 to 65535")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port {port} cannot be used ({error.strerror}): choose another --port, or 0 for a "
            "free one"
        ) from None
    return listener
