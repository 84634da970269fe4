"""A folder is there whole, or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from exports import make

from steer_heal_love.errors import RunError
from steer_heal_love.export.folder import whole_folder


def write_half(target: Path, error: BaseException) -> None:
    with whole_folder(target) as folder:
        (folder / "x").write_text("1")
        raise error


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a/b"
    with whole_folder(target) as folder:
        (folder / "x").write_text("1")
        assert not target.exists()
    assert [p.name for p in target.iterdir()] == ["x"]
    assert [p.name for p in target.parent.iterdir()] == ["b"]


def test_an_empty_folder_is_filled_and_a_filled_one_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as folder:
        (folder / "x").write_text("1")
    with pytest.raises(RunError, match="is not empty: choose another --to"):
        whole_folder(tmp_path / "empty").__enter__()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(RunError, match="is no folder: choose another --to"):
        whole_folder(tmp_path / "file").__enter__()
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x")])
def test_nothing_is_left_where_the_writing_fails(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write_half(tmp_path / "a/b/c", error)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*/out: the disk is full"):
        write_half(tmp_path / "out", OSError(errno.ENOSPC, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_read_only_names_the_flag(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="--to"):
        whole_folder(tmp_path / "out").__enter__()


KILLED = """
import os, signal, sys
from pathlib import Path
from steer_heal_love.export.folder import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "x").write_text("1")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_left_is_swept_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False, timeout=120)
    assert done.returncode == -9
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    with whole_folder(target) as folder:
        (folder / "x").write_text("2")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["peft", "merged", "gguf", "vector"])
def test_an_export_that_fails_late_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from steer_heal_love.export import exporting

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "write_sidecar", full)
    with pytest.raises(RunError, match="the disk is full"):
        make(kind, run, tmp_path / "out")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
