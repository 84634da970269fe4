"""`shl chat` with what `shl export` wrote: it answers as the run does, and says what it is."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from exports import make

from said import Said
from steer_heal_love.export.loading import open_exported
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.play.open_model import open_any
from steer_heal_love.stages.steer import SteerConfig, extract_direction

Talk = Callable[..., Said]
FORMS = ("peft", "merged", "gguf", "gguf file")
ALONE = ("merged", "gguf", "gguf file")
PLACE = ("--device", "cpu", "--dtype", "float32")
STEER = "[steer]\ncontexts = 4\n"


@pytest.fixture(scope="module")
def exports(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each form of the run's last student, and the run."""
    root, found = tmp_path_factory.mktemp("exports"), {"run": run}
    for kind in ("peft", "merged", "gguf", "vector"):
        wish = {"dtype": torch.float32} if kind in ("merged", "gguf") else {}
        _, found[kind] = make(kind, run, root / kind, **wish)  # type: ignore[arg-type]
        with (root / kind / "reproduce/config.toml").open("a", encoding="utf-8") as file:
            file.write(STEER)
    found["gguf file"] = Path(open_exported(str(found["gguf"])).model)
    return found


@pytest.fixture
def talk(say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Say these lines to what lies there."""

    def call(where: Path, *lines: str, flags: tuple[str, ...] = ()) -> Said:
        typed = "".join(f"{line}\n" for line in lines).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), "utf-8"))
        how = ("--max-new-tokens", "8", "--temperature", "0", *PLACE)
        return say("chat", str(where), *how, *flags)

    return call


def converted(where: Path) -> Path:
    """The export, once a GGUF file of it lies in the cache: converting it shows a progress bar."""
    opened = open_exported(str(where))
    if opened.model.endswith(".gguf"):
        load_model(opened.model, device="cpu", dtype="float32")
    return where


def answers(said: Said) -> list[str]:
    """What the model said."""
    lines = said.out.splitlines()
    return [line for line in lines if line.startswith("model: ")]


@pytest.mark.parametrize("form", FORMS)
def test_it_answers_as_the_run_does(exports: dict[str, Path], talk: Talk, form: str) -> None:
    lines = ("How are you?", "Tell me about rain.", "/history")
    said = talk(converted(exports[form]), *lines)
    assert (said.code, said.err) == (0, "")
    expected = answers(talk(exports["run"], *lines))
    assert len(expected) == 2
    assert answers(said) == expected


@pytest.mark.parametrize("form", ALONE)
def test_one_model_is_round_0(exports: dict[str, Path], talk: Talk, form: str) -> None:
    said = talk(converted(exports[form]), "/round 1", "Hello", "/compare")
    first, *_ = said.out.splitlines()
    assert first.startswith(f"exported model of {exports[form]}: the only model here, so it is")
    assert said.err == "shl: there is no round 1: the exported model is all that there is\n"
    titles = [line for line in said.out.splitlines() if line.endswith(":")]
    assert titles == ["exported model:", "prompted:", "steered, κ 1:"]
    assert said.out.count("perplexity under exported model") == 3
    assert "base model" not in said.out


def test_an_adapter_has_its_base_as_round_0(exports: dict[str, Path], talk: Talk) -> None:
    said = talk(exports["peft"], "Hello", "/compare", "/round 0", "/round 2")
    first, *_ = said.out.splitlines()
    assert "round 1 is its base model with the adapter, round 0 without" in first
    assert said.err == "shl: there is no round 2: choose one from 0 (the base model) to 1\n"
    for words in ("healed, with the adapter:\n", "now answers: base model\n", "under base"):
        assert words in said.out
    of_run = talk(exports["run"], "/round 0", "Hello", "/history")
    of_base = talk(exports["peft"], "/round 0", "Hello", "/history")
    assert answers(of_base) == answers(of_run)


@pytest.mark.parametrize("form", FORMS)
def test_the_direction_is_read_where_a_dose_is_asked_for(
    exports: dict[str, Path], talk: Talk, form: str
) -> None:
    """By the export's own axis and settings, from its base or from the only model."""
    loaded = open_any(str(exports[form]), device="cpu", dtype="float32")
    assert loaded.directions == ()
    found = loaded.direction(loaded.rounds)
    assert loaded.direction(0) is found
    base = load_model(loaded.lm.identity.source, device="cpu", dtype="float32")
    own = load_axis(str(exports["peft"] / "reproduce/axis.toml"))
    assert loaded.axis == own
    expected = extract_direction(base, own, load_contexts(), SteerConfig(contexts=4))
    assert torch.equal(found.vectors, expected.vectors)
    plain, steered, back = (
        answers(talk(exports[form], *lines, "/history"))
        for lines in (("Hi",), ("/kappa 40", "Hi"), ("/kappa 40", "/kappa 0", "Hi"))
    )
    assert plain == back != steered


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_without_an_axis_the_talk_goes_on(
    exports: dict[str, Path], talk: Talk, tmp_path: Path, form: str
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(exports[form], bare)
    (bare / "reproduce/axis.toml").unlink()
    said = talk(bare, "/kappa 1", "Hello", "/compare", "/kappa 0", "Hello")
    words = "there is no axis here, so no persona and no steering: begin again with --axis NAME"
    assert said.err.splitlines() == [f"shl: {words}"] * 2
    assert said.code == 0
    assert said.out.count("> Hello\n") == 2
    assert talk(bare, "Hello", flags=("--kappa", "1")).code == 2
    named = talk(bare, "/kappa 1", "Hello", "/compare", flags=("--axis", "love"))
    assert (named.code, named.err) == (0, "")
    assert "steered, κ 1:" in named.out


def test_any_model_can_be_talked_to(exports: dict[str, Path], talk: Talk, run: Path) -> None:
    said = talk(run.parent / "tiny", "Hello", "/history")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"model of {run.parent / 'tiny'}: the only model here")
    assert answers(said) == answers(talk(exports["run"], "/round 0", "Hello", "/history"))


def test_other_weights_than_the_adapters_are_told_of(
    exports: dict[str, Path], talk: Talk, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(exports["peft"], moved)
    note = moved / "steer_heal_love.json"
    text = note.read_text("utf-8")
    revision = text[text.index("sha256:") :][:71]
    note.write_text(text.replace(revision, f"sha256:{'0' * 64}"), "utf-8")
    said = talk(moved, "Hello")
    assert said.code == 0
    assert "warning: the adapter was made for weights sha256:000000000000" in said.err


@pytest.mark.parametrize(
    ("where", "flags", "words"),
    [
        ("run", ("--axis", "love"), "--axis goes with an export or a model"),
        ("vector", (), "holds a direction, not a model"),
        ("peft", ("--axis", "no-such"), "unknown axis 'no-such'"),
        ("peft", ("--round", "2"), "there is no round 2"),
    ],
)
def test_what_does_not_fit_is_one_line(
    exports: dict[str, Path], talk: Talk, where: str, flags: tuple[str, ...], words: str
) -> None:
    said = talk(exports[where], "Hello", flags=flags)
    assert said.code == 2
    assert words in said.err
    assert said.err.count("\n") == 1


def test_a_path_that_is_not_there_is_no_model_of_the_hub(talk: Talk, tmp_path: Path) -> None:
    for where in (tmp_path / "no-run", tmp_path):
        said = talk(where, "Hello")
        assert (said.code, said.out) == (2, "")
        assert f"{where} is not a run directory (no config.toml), and holds no model" in said.err


def test_a_broken_setting_costs_the_direction_alone(
    exports: dict[str, Path], talk: Talk, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(exports["merged"], broken)
    (broken / "reproduce/config.toml").write_text("[steer]\nbands = 1\n", "utf-8")
    said = talk(broken, "Hello", "/kappa 1", "And you?")
    assert said.code == 0
    assert "unknown key 'steer.bands'" in said.err
    assert said.err.count("\n") == 1
    assert "> And you?\n" in said.out
