"""Publishing: what reaches the hub's address, and that nothing does unless it is asked for.

A stand-in answers in place of the hub, below huggingface_hub: no account is at hand in a test.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from exports import LICENCE, make
from huggingface_hub import errors

from said import Said
from steer_heal_love.errors import ConfigError
from steer_heal_love.export.hub import PushError, push_folder, refuse_push
from steer_heal_love.export.licence import Licence
from steer_heal_love.export.student import Base

http: Any = sys.modules[errors.HTTPError.__module__.split(".")[0]]  # type: ignore[attr-defined]
REPO = "owner/kind-model"


class Hub:
    """Takes what the client sends, and answers as the hub does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.created: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.refuse: int | None = None

    def answer(self, request: Any) -> Any:
        path = request.url.path
        self.asked.append((request.method, path))
        if self.refuse is not None:
            return http.Response(self.refuse, json={"error": "not for you"}, request=request)
        content = request.read()
        if path.endswith("/repos/create"):
            self.created = json.loads(content)
            return self._say(request, {"url": f"https://huggingface.co/{REPO}"})
        if "/preupload/" in path:
            names = [f["path"] for f in json.loads(content)["files"]]
            rows = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            return self._say(request, {"files": rows})
        if "/commit/" in path:
            for line in content.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    value = item["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            url = f"https://huggingface.co/{REPO}/commit/{'0' * 40}"
            return self._say(request, {"commitUrl": url, "commitOid": "0" * 40})
        return self._say(request, {"errors": [], "warnings": []})  # validate-yaml

    @staticmethod
    def _say(request: Any, value: Any) -> Any:
        return http.Response(200, json=value, request=request)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub's stand-in, and somebody who is logged in."""
    found = Hub()
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    transport = http.MockTransport(found.answer)
    huggingface_hub.set_client_factory(lambda: http.Client(transport=transport))
    yield found
    from huggingface_hub.utils import _http

    huggingface_hub.set_client_factory(_http.default_client_factory)


def test_every_file_is_sent_to_a_private_model(hub: Hub, run: Path, tmp_path: Path) -> None:
    _, folder = make("vector", run, tmp_path / "out")
    address = push_folder(folder, REPO)
    assert address.startswith(f"https://huggingface.co/{REPO}/commit/")
    assert hub.created["name"] == "kind-model"
    assert hub.created["organization"] == "owner"
    assert hub.created["visibility"] == "private"
    there = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert hub.files == there


def test_public_only_when_asked_for(hub: Hub, run: Path, tmp_path: Path) -> None:
    _, folder = make("vector", run, tmp_path / "out")
    push_folder(folder, REPO, public=True)
    assert hub.created["visibility"] == "public"


def test_a_refusal_is_one_line_and_the_export_stays(hub: Hub, run: Path, tmp_path: Path) -> None:
    _, folder = make("vector", run, tmp_path / "out")
    hub.refuse = 403
    with pytest.raises(PushError, match=r"owner/kind-model was not published: .*hf upload"):
        push_folder(folder, REPO)
    assert (folder / "README.md").is_file()


def test_the_command_publishes_when_it_is_asked_to(
    hub: Hub, run: Path, tmp_path: Path, say: Callable[..., Said]
) -> None:
    out = str(tmp_path / "out")
    given = ("export", str(run), "--to", out, "--as", "vector", "--license", "mit")
    done = say(*given, "--push-to-hub", REPO, "--base-model", "owner/base")
    assert (done.code, done.err) == (0, "")
    assert f"published: https://huggingface.co/{REPO}" in done.out
    assert b"license: mit" in hub.files["README.md"]
    assert str(run.parent).encode() not in b"".join(hub.files.values())


def test_nothing_is_sent_without_the_flag(
    hub: Hub, run: Path, tmp_path: Path, say: Callable[..., Said]
) -> None:
    done = say("export", str(run), "--to", str(tmp_path / "out"), "--as", "peft", "vector")
    assert done.code == 0
    assert hub.asked == []


@pytest.mark.parametrize(
    ("repo", "base", "licence", "words"),
    [
        ("kind", Base("a/b", "a/b", "a/b", None, None), LICENCE, "give owner/name"),
        ("a b/c", Base("a/b", "a/b", "a/b", None, None), LICENCE, "is no hub id"),
        (REPO, Base("/x/y", "/x/y", "/x/y", "sha256:0", None), LICENCE, "--base-model owner/name"),
        (REPO, Base("a/b", "a/b", "a/b", None, None), Licence(None, "not found"), "--license"),
    ],
)
def test_what_must_not_be_published_is_refused_before_a_byte_is_sent(
    hub: Hub, repo: str, base: Base, licence: Licence, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        refuse_push(repo, base, licence)
    assert hub.asked == []


def test_nobody_is_logged_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(ConfigError, match="hf auth login"):
        refuse_push(REPO, Base("a/b", "a/b", "a/b", None, None), LICENCE)
    assert hub.asked == []
