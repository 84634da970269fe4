"""`shl export` and what `shl eval` makes of it: words, flags, one line for each mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from export_run import write_tiny_run
from said import Said
from tiny_run import axis_data, config_data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_run(tmp_path_factory.mktemp("run"))


def test_all_kinds_at_once(run: Path, tmp_path: Path, say: Callable[..., Said]) -> None:
    out = tmp_path / "out"
    kinds = ("peft", "merged", "gguf", "vector")
    done = say("export", str(run), "--to", str(out), "--as", *kinds, "--device", "cpu")
    assert done.code == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(kinds)
    for kind in kinds:
        assert f"{kind}: tiny, axis kind, round" in done.out
        note = json.loads((out / kind / "steer_heal_love.json").read_text("utf-8"))
        assert note["kind"] == kind
        assert note["run"]["round"] == (0 if kind == "vector" else 1)
    assert done.err.startswith("warning: the licence of tiny was not found")
    assert "KL from the exact student" in done.out


def test_one_kind_is_the_folder_itself(run: Path, tmp_path: Path, say: Callable[..., Said]) -> None:
    out = tmp_path / "deep/out"
    given = ("export", str(run), "--to", str(out), "--as", "vector", "--round", "1", "--quiet")
    done = say(*given, "--license", "mit")
    assert (done.code, done.out, done.err) == (0, "", "")
    note = json.loads((out / "steer_heal_love.json").read_text("utf-8"))
    assert note["run"]["round"] == 1
    again = say(*given)
    assert again.code == 2
    assert "is not empty: choose another --to" in again.err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--as", "vector", "--round", "7"], r"no healed round 7: its rounds are 0, 1"),
        (["--as", "peft", "peft"], "at most once"),
        (["--as"], "--as"),
        (["--as", "onnx"], "onnx"),
        (["--as", "merged", "--rank", "2"], "--rank goes with --as peft"),
        (["--as", "peft", "--dtype", "float32"], "--dtype goes with --as gguf or merged"),
        (["--as", "peft", "--llama-cpp", "/x"], "--llama-cpp goes with --as gguf"),
        (["--as", "peft", "--rank", "0"], "--rank must be at least 1"),
        (["--as", "peft", "--public"], "--public goes with --push-to-hub"),
        (["--as", "peft", "vector", "--push-to-hub", "a/b"], "one kind at a time"),
        (["--as", "peft", "--push-to-hub", "a/b"], "--base-model owner/name"),
        (["--as", "peft", "--base-model", "nonsense"], "is no hub id"),
        (["--as", "merged", "--model", "/no/such"], "not found"),
        (["--as", "merged", "--device", "tpu9"], "--device tpu9"),
    ],
)
def test_a_mistake_is_one_line(
    run: Path, tmp_path: Path, say: Callable[..., Said], given: list[str], words: str
) -> None:
    done = say("export", str(run), "--to", str(tmp_path / "out"), *given, "--quiet")
    assert done.code == 2
    assert words in done.err
    assert done.err.splitlines()[-1].startswith("shl: ")
    assert not (tmp_path / "out").exists()


def test_no_run_is_one_line(tmp_path: Path, say: Callable[..., Said]) -> None:
    done = say("export", str(tmp_path), "--to", str(tmp_path / "out"), "--as", "peft")
    assert done.code == 2
    assert "is not a run directory" in done.err


def test_eval_takes_an_adapters_folder(run: Path, tmp_path: Path, say: Callable[..., Said]) -> None:
    """As it takes the run itself: the same model, the same figures."""
    out, found = tmp_path / "out", tmp_path / "found.json"
    axis, config = tmp_path / "axis.toml", tmp_path / "config.toml"
    axis.write_text(tomli_w.dumps(axis_data()), "utf-8")
    config.write_text(tomli_w.dumps(config_data()), "utf-8")
    assert say("export", str(run), "--to", str(out), "--as", "peft", "--quiet").code == 0
    how = ("--axis", str(axis), "--config", str(config), "--dtype", "float32", "--quiet")
    of_folder = say("eval", str(out), *how, "--out", str(found))
    assert (of_folder.code, of_folder.out) == (0, "")
    figures = json.loads(found.read_text("utf-8"))
    assert figures["model"]["items"]["trait_nats"] != figures["base"]["items"]["trait_nats"]
    by_hand = ("eval", str(run.parent / "tiny"), "--adapter", str(out))
    assert say(*by_hand, *how, "--out", str(tmp_path / "hand.json")).code == 0
    assert json.loads((tmp_path / "hand.json").read_text("utf-8")) == figures
