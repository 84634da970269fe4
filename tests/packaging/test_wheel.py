"""The wheel and the sdist hold everything, and the wheel runs outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tiny_run import write_inputs

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "steer_heal_love"

pytestmark = pytest.mark.faults


def call(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the wheel and the sdist; the wheel is made from the sdist, as build does it."""
    out = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), ".", cwd=ROOT)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment with the wheel.

    Its dependencies are those of the environment that the tests run in, by a path file that comes
    after the environment's own packages; the checkout itself is not on the path.
    """
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=True, symlinks=True)
    python = home / "bin" / "python"
    [wheel] = built.glob("*.whl")
    call(str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel), cwd=home)
    [packages] = home.glob("lib/python*/site-packages")
    lines = [sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
    (packages / "zz_dependencies.pth").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    return python


def test_every_file_of_the_package_is_in_the_wheel(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = [p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert len(files) > 100
    for file in files:
        assert f"steer_heal_love/{file.relative_to(PACKAGE).as_posix()}" in inside
    assert not any(name.startswith(("tests/", "docs/", "benchmarks/")) for name in inside)
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_the_sdist_holds_what_a_build_and_the_tests_need(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "Makefile"} <= names
    assert {"constraints.txt", "mkdocs.yml", "docs/method.md", "tests/tiny.py"} <= names
    assert "src/steer_heal_love/data/axes/love.toml" in names
    assert not any(n.startswith(("runs/", ".git/", ".venv/")) or "__pycache__" in n for n in names)


def test_it_is_the_wheel_that_is_imported(installed: Path, tmp_path: Path) -> None:
    code = "import steer_heal_love as s; print(s.__file__, s.__version__)"
    where = call(str(installed), "-c", code, cwd=tmp_path)
    assert str(installed.parents[1]) in where
    assert str(ROOT) not in where


def test_one_round_on_a_tiny_model(installed: Path, tmp_path: Path) -> None:
    flags = write_inputs(tmp_path, rounds=1)
    shl = str(installed.parent / "shl")
    environment = {"SHL_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    call(shl, "run", *flags, "--out", "run", "--quiet", cwd=tmp_path, **environment)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert len(metrics["rounds"]) == 1
    assert (tmp_path / "run" / "diary.md").is_file()
    assert "are sound" in call(shl, "verify", "run", cwd=tmp_path, **environment)


@pytest.mark.parametrize("arguments", [["axes"], ["presets"], ["axes", "show", "love"]])
def test_its_data_come_with_it(installed: Path, tmp_path: Path, arguments: list[str]) -> None:
    said = call(str(installed.parent / "shl"), *arguments, cwd=tmp_path, COLUMNS="200")
    assert "love" in said or "gemma-3-4b-it" in said
