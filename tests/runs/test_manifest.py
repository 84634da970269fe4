"""The manifest knows each file at any moment, and any changed byte of itself shows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import FUZZ, refusal
from steer_heal_love.errors import RunError
from steer_heal_love.runs.files import append_line, sha256, write_bytes
from steer_heal_love.runs.manifest import NAME, Manifest


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


@pytest.mark.parametrize("moment", ["before", "torn", "after"])
@pytest.mark.parametrize("name", ["a", "x"])
def test_a_write_that_was_stopped_is_settled(tmp_path: Path, name: str, moment: str) -> None:
    """Whatever came in between, what the manifest says is what is there."""
    manifest = Manifest.read(made(tmp_path))
    manifest.expect(name, b"new one")
    if moment == "after":
        (tmp_path / name).write_bytes(b"new one")
    elif moment == "torn":
        (tmp_path / name).write_bytes(b"new")
    manifest.adopt([])
    manifest = Manifest.read(tmp_path)
    assert (manifest.problems() == []) == (moment != "torn")
    assert (name in manifest.names) == (name == "a" or moment != "before")
    manifest.settle()
    manifest.drop([name])
    assert Manifest.read(tmp_path).problems() == []


def test_other_writers_files(tmp_path: Path) -> None:
    manifest = Manifest.read(made(tmp_path))
    manifest.drop(["a", "unknown"])
    (tmp_path / "a").write_bytes(b"something else")
    assert Manifest.read(tmp_path).problems() == []
    manifest.adopt(["a"])
    (tmp_path / "a").write_bytes(b"and again")
    assert len(Manifest.read(tmp_path).problems()) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"schema": 2}', b"\xff", b"[" * 9999]
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


@pytest.mark.parametrize("schema", [0, -1, True, "1", None, 1.0, [1]])
def test_a_schema_that_never_was_is_broken(tmp_path: Path, schema: Any) -> None:
    made(tmp_path)
    assert forged(tmp_path, schema=schema).problem is not None


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A named pipe would never end; a file far larger than it was is not read either."""
    made(tmp_path)
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")
    manifest = Manifest.read(tmp_path)
    assert manifest.read_sound("a") is None
    assert manifest.problems() == ["a: 0 bytes where 3 were written"]
    (tmp_path / "a").unlink()
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 40)
    assert manifest.read_sound("a") is None
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    assert Manifest.read(tmp_path).problem == f"{NAME}: missing"


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    manifest = Manifest.read(made(tmp_path / "run"))
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    for act in (manifest.save, lambda: manifest.expect("a", b""), lambda: manifest.drop(["a"])):
        with pytest.raises(RunError, match="gone: it was moved or deleted"):
            act()
    assert not (tmp_path / "run").exists()


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


@FUZZ
@given(st.data())
def test_any_change_of_a_manifest_shows(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "whole"
    if not folder.exists():
        made(folder)
        (folder / "whole").write_bytes((folder / NAME).read_bytes())
    data = (folder / "whole").read_bytes()
    at = draw.draw(st.integers(0, len(data)))
    to = draw.draw(st.integers(at, min(len(data), at + 30)))
    changed = data[:at] + draw.draw(st.binary(max_size=6)) + data[to:]
    (folder / NAME).write_bytes(changed)
    problems: list[str] = []
    refused = refusal(lambda: problems.extend(Manifest.read(folder).problems()))
    assert bool(refused or problems) == (changed != data)


_entries = st.dictionaries(
    st.sampled_from(["a", "b/c", "../x", "/etc/passwd", "", "a\0"]) | st.text(max_size=4),
    st.none()
    | st.fixed_dictionaries(
        {"bytes": st.integers() | st.text(max_size=2), "sha256": st.text(max_size=4) | st.none()}
    ),
    max_size=3,
)


@FUZZ
@given(_entries, _entries, st.none() | st.integers() | st.just({"bytes": 3, "sha256": "x"}))
def test_any_forged_manifest_is_read_or_broken(
    tmp_path_factory: pytest.TempPathFactory, files: Any, writing: Any, log: Any
) -> None:
    """Its own hash is right: a stranger can see to that."""
    folder = tmp_path_factory.getbasetemp() / "forged"
    if not folder.exists():
        made(folder)
    names: list[str] = []

    def read() -> None:
        manifest = forged(folder, files=files, writing=writing, log=log)
        names.extend(manifest.names)
        manifest.problems()

    assert "\n" not in refusal(read)
    assert not [n for n in names if ".." in n.split("/") or n.startswith("/")]
