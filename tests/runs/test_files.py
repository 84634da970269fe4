"""Files are written whole or not at all, and whatever goes wrong is one clear line."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from steer_heal_love.errors import RunError, RunInUse
from steer_heal_love.runs import files
from steer_heal_love.runs.files import (
    SPARE_BYTES,
    append_line,
    check_space,
    explain,
    free_bytes,
    hold_lock,
    read_regular,
    refuse_gone,
    refuse_links,
    remove_partials,
    remove_tree,
    sha256,
    write_bytes,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


def fail(code: int) -> Any:
    def raise_it(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(code, os.strerror(code))

    return raise_it


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a/b/c.bin", b"\0\1")
    assert (tmp_path / "a/b/c.bin").read_bytes() == b"\0\1"
    assert names(tmp_path) == ["a", "b", "c.bin"]


def test_text_is_utf8_and_lone_surrogates_do_no_harm(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "Liebe ❤ \ud800")
    assert (tmp_path / "x").read_bytes() == "Liebe ❤ ?".encode()


def test_what_was_there_is_replaced(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x", b"old and longer")
    write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    write_bytes(tmp_path / "x", b"old")
    owner = os if call == "fsync" else Path
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, fail(code))
        with pytest.raises(RunError, match=r"cannot write .*x: "):
            write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fail(errno.ENOSPC))
    with pytest.raises(RunError, match="the disk is full: free some space"):
        write_bytes(tmp_path / "x", b"new")
    with pytest.raises(RunError, match="the disk is full: free some space"):
        append_line(tmp_path / "y", "line")


def test_a_kill_in_the_middle_leaves_only_a_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_args: Any) -> None:
        raise KeyboardInterrupt

    write_bytes(tmp_path / "x", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", die)
        with pytest.raises(KeyboardInterrupt):
            write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == [".x.partial", "x"]
    remove_partials(tmp_path)
    assert names(tmp_path) == ["x"]


def test_the_order_is_write_sync_rename_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        order.append("sync folder" if is_folder else "sync file")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_bytes(tmp_path / "x", b"new")
    assert order == ["sync file", "rename", "sync folder"]


def test_lines_are_appended(tmp_path: Path) -> None:
    append_line(tmp_path / "a/log", "one")
    append_line(tmp_path / "a/log", "zwei ❤ \udfff")
    assert (tmp_path / "a/log").read_text(encoding="utf-8") == "one\nzwei ❤ ?\n"


def test_a_torn_line_is_closed_first(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b'{"a": 1}\n{"b"')
    append_line(tmp_path / "log", '{"c": 3}')
    assert (tmp_path / "log").read_bytes() == b'{"a": 1}\n{"b"\n{"c": 3}\n'


def test_a_place_that_is_no_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for act in (write_bytes, append_line):
        with pytest.raises(RunError, match="cannot write"):
            act(tmp_path / "file" / "x", b"" if act is write_bytes else "")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "read-only or not yours"),
        (errno.ENOENT, "folder is gone"),
        (errno.ENOTDIR, "no folder"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_each_failure_has_its_words(code: int, words: str) -> None:
    text = explain(OSError(code, os.strerror(code)), Path("out/x"))
    assert text.startswith("cannot write out/x: ")
    assert words in text


def test_a_tree_goes_whole_or_was_never_there(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a/b/c", b"")
    remove_tree(tmp_path / "a")
    remove_tree(tmp_path / "a")
    assert names(tmp_path) == []


def test_the_hash() -> None:
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_partial_that_cannot_be_removed_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))
    monkeypatch.setattr(Path, "unlink", fail(errno.EIO))
    with pytest.raises(RunError, match="Input/output error"):
        files.write_bytes(tmp_path / "x", b"new")


# Room on the disk


def test_what_is_free_is_that_of_the_folder_to_be(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    for path in (tmp_path, tmp_path / "not/yet/there"):
        assert free_bytes(path) == pytest.approx(free, rel=0.05)


def test_a_disk_is_not_filled_to_the_brim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    left = SPARE_BYTES + 1000
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=left))
    check_space(tmp_path, 1000)
    with pytest.raises(RunError, match=r"only 32 MiB are free .* 32 are kept: free some space"):
        check_space(tmp_path, 1001)


# What lies in a stranger's folder


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "nothing"):
        with pytest.raises(OSError):
            read_regular(path)
    (tmp_path / "x").write_bytes(b"12345")
    assert read_regular(tmp_path / "x") == b"12345"
    assert read_regular(tmp_path / "x", 3) == b"1234"  # one more, which tells


@pytest.mark.parametrize("inside", ["work", "rounds/00", "lock", "metrics.json"])
def test_a_link_that_leads_out_is_refused(tmp_path: Path, inside: str) -> None:
    run = tmp_path / "run"
    (run / inside).parent.mkdir(parents=True)
    refuse_links(run)
    (run / inside).symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"is a link: what is written or deleted there"):
        refuse_links(run)


def test_a_link_to_the_run_itself_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "disk/run").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "disk/run")
    refuse_links(tmp_path / "run")
    refuse_gone(tmp_path / "run")


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is gone: it was moved or deleted"):
        refuse_gone(tmp_path / "run")


# The lock


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        hold_lock(path, "run x"),
        pytest.raises(RunInUse, match=rf"run x is in use by process {os.getpid()}: wait"),
        hold_lock(path, "run x"),
    ):
        pass
    with hold_lock(path, "run x"):
        pass


def test_a_lock_that_cannot_be_is_explained(tmp_path: Path, monkeypatch: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunError, match="cannot write"), hold_lock(tmp_path / "pipe", "run x"):
        pass
    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOLCK))
    with pytest.raises(RunError, match="cannot be locked"), hold_lock(tmp_path / "l", "run x"):
        pass
