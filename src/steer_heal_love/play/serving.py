"""The playground's web application: for this machine alone, and with nothing from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steer_heal_love.play.page import page_theme
from steer_heal_love.play.panes import page_style

HOSTS = ["127.0.0.1", "localhost"]  # a page of elsewhere cannot ask under a name of its own

# gradio builds functions from strings, so it needs 'unsafe-eval'; no script comes from elsewhere.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    ]
)


@dataclass(frozen=True)
class _Guarded:
    """Every answer carries the policy. Streams go through as they come."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guard(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, guard)


def make_app(page: Any) -> FastAPI:
    """The application with the page at its root."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app.add_middleware(_Guarded)
    page.queue(max_size=64)
    gr.mount_gradio_app(
        app,
        page,
        path="",
        server_name=HOSTS[0],
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=page_theme(),
        css=page_style(),
    )
    return app
