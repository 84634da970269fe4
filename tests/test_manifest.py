"""The manifest knows each file at any moment, and any changed byte of itself shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import FUZZ
from steer_heal_love.errors import RunError
from steer_heal_love.files import append_line, sha256, write_bytes
from steer_heal_love.manifest import NAME, Manifest


def write(folder: Path, name: str, data: bytes) -> None:
    manifest = Manifest.read(folder)
    manifest.expect(name, data)
    write_bytes(folder / name, data)


def made(folder: Path) -> Path:
    append_line(folder / "events.jsonl", "{}")
    write(folder, "a", b"one")
    write(folder, "b/c", b"two")
    Manifest.read(folder).adopt([])
    return folder


def forged(folder: Path, **changes: Any) -> Manifest:
    """The manifest of `folder` with changes and a right hash of its own, as a stranger would."""
    content = json.loads((folder / NAME).read_bytes()) | changes
    content.pop("sha256")
    content["sha256"] = sha256(json.dumps(content).encode())
    (folder / NAME).write_text(json.dumps(content, indent=1) + "\n")
    return Manifest.read(folder)


def test_files_are_known(tmp_path: Path) -> None:
    manifest = Manifest.read(made(tmp_path))
    assert sorted(manifest.names) == ["a", "b/c"]
    assert manifest.problems() == []
    assert manifest.read_sound("a") == b"one"
    assert manifest.read_sound("nothing") is None
    assert manifest.problem_of("nothing") is None


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "0 bytes where 3 were written"), (b"onE", "have changed"), (None, "missing")],
)
@pytest.mark.parametrize("name", ["a", "b/c", "events.jsonl"])
def test_a_changed_file_is_found(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    made(tmp_path)
    if data is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(data)
    (problem,) = Manifest.read(tmp_path).problems()
    assert problem.startswith(f"{name}: ")
    assert words in problem or (name == "events.jsonl" and "bytes" in problem)
    assert Manifest.read(tmp_path).read_sound(name) is None


def test_a_log_that_grew_is_sound(tmp_path: Path) -> None:
    append_line(made(tmp_path) / "events.jsonl", "{}")
    assert Manifest.read(tmp_path).problems() == []


def test_a_kill_between_the_manifest_and_the_file(tmp_path: Path) -> None:
    made(tmp_path)
    Manifest.read(tmp_path).expect("a", b"new one")
    manifest = Manifest.read(tmp_path)
    assert manifest.problems() == []
    assert manifest.read_sound("a") == b"one"  # what it was
    write_bytes(tmp_path / "a", b"new one")
    assert manifest.read_sound("a") == b"new one"
    Manifest.read(tmp_path).expect("new", b"x")
    manifest = Manifest.read(tmp_path)
    assert manifest.problems() == []  # never written, so not missing
    assert manifest.read_sound("new") is None
    write_bytes(tmp_path / "a", b"one")
    assert len(manifest.problems()) == 1  # the old content is not good for ever


def test_a_write_that_failed_is_taken_back(tmp_path: Path) -> None:
    manifest = Manifest.read(made(tmp_path))
    manifest.expect("a", b"new one")
    manifest.restore("a")
    manifest.expect("x", b"1")
    manifest.restore("x")
    manifest.save()
    manifest = Manifest.read(tmp_path)
    assert manifest.problems() == []
    assert manifest.names == ["a", "b/c"]


def test_other_writers_files(tmp_path: Path) -> None:
    manifest = Manifest.read(made(tmp_path))
    manifest.drop(["a", "unknown"])
    (tmp_path / "a").write_bytes(b"something else")
    assert Manifest.read(tmp_path).problems() == []
    manifest.adopt(["a"])
    (tmp_path / "a").write_bytes(b"and again")
    assert len(Manifest.read(tmp_path).problems()) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"schema": 1}', b"\xff", b"[" * 9999]
)
def test_a_broken_manifest_trusts_nothing(tmp_path: Path, content: bytes) -> None:
    (made(tmp_path) / NAME).write_bytes(content)
    manifest = Manifest.read(tmp_path)
    assert manifest.names == []
    assert manifest.problems() == [f"{NAME}: its bytes have changed since they were written"]
    (tmp_path / NAME).unlink()
    assert Manifest.read(tmp_path).problems() == [f"{NAME}: missing"]


def test_every_changed_byte_of_the_manifest_shows(tmp_path: Path) -> None:
    data = (made(tmp_path) / NAME).read_bytes()
    for at in range(len(data)):
        for flip in (0x01, 0x20):
            (tmp_path / NAME).write_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
            try:
                problems = Manifest.read(tmp_path).problems()
            except RunError as error:
                problems = [str(error)]  # the schema became another
            assert problems, (at, flip)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(RunError, match=r"newer version .*upgrade"):
        forged(tmp_path, schema=2)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "work/../../x", "", "a\0b"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    made(tmp_path)
    entry = {"bytes": 1, "sha256": "x"}
    assert forged(tmp_path, files={name: entry}).problem is not None
    assert forged(tmp_path, files={}, writing={name: entry}).problem is not None


@pytest.mark.parametrize(
    "files",
    [
        [],
        None,
        5,
        {"a": 5},
        {"a": {}},
        {"a": {"bytes": "1", "sha256": "x"}},
        {"a": {"bytes": True, "sha256": "x"}},
        {"a": {"bytes": 1, "sha256": 1}},
    ],
)
def test_a_forged_manifest_of_another_form_is_broken(tmp_path: Path, files: Any) -> None:
    made(tmp_path)
    assert forged(tmp_path, files=files).problem is not None


@FUZZ
@given(st.binary(max_size=300))
def test_any_bytes_are_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / NAME).write_bytes(data)
    assert Manifest.read(folder).problem is not None
