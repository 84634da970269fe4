"""`shl run` and its neighbours: what they print, where it goes, and how they end."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

import processes
from processes import Ended, shl
from said import Said
from said import refused as refused_by_word
from steer_heal_love import cli
from steer_heal_love.budget.disk import adapter_bytes, estimate_need
from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.axes import builtin_axes, parse_axis
from steer_heal_love.lm.memory import halve
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.environment import describe_environment
from steer_heal_love.runner.model import load_for
from steer_heal_love.runner.repeat import tell_differences
from steer_heal_love.runner.settings import config_from, load_config, read_settings
from steer_heal_love.runs.files import SPARE_BYTES
from steer_heal_love.runs.manifest import SCHEMA
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.terminal.screen import Screen
from tiny import build_model, random_adapter, tiny_lm, tiny_tokenizer
from tiny_run import axis_data, config_data, small_axis, without_time, write_inputs

SECRETS = dict.fromkeys(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"), "hf_secretsecretsecret")

FILES = {
    "axis.toml",
    "baseline",
    "config.toml",
    "diary.md",
    "environment.json",
    "events.jsonl",
    "figures",
    "lock",
    "manifest.json",
    "metrics.json",
    "report.html",
    "rounds",
    "work",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("inputs")
    return folder, write_inputs(folder, rounds=1)


@pytest.fixture(scope="module")
def finished(
    inputs: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ended]:
    """A run of one round, with its figures, and what it said."""
    folder = tmp_path_factory.mktemp("finished")
    said = shl(
        ["run", *inputs[1], "--out", str(folder / "run")],
        folder / "said",
        full=True,
        before=processes.set_environment,
        given=(SECRETS,),
    )
    return folder / "run", said


def refused(said: Said, out: Path, *words: str) -> None:
    """As `said.refused` has it, and nothing left behind."""
    refused_by_word(said, *words)
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}*"))


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--axis", "lvoe"], ["unknown axis 'lvoe'", "did you mean 'love'"]),
        (["--axis", "nowhere.toml"], ["axis file nowhere.toml cannot be read"]),
        (["--model", "/nowhere/at/all"], ["model '/nowhere/at/all' not found"]),
        (["--model", "nowhere.gguf"], ["nowhere.gguf does not exist"]),
        (["--model", "owner/never-heard-of"], ["model 'owner/never-heard-of' cannot be loaded"]),
        (["--rounds", "0"], ["--rounds", "greater than or equal to 1"]),
        (["--rounds", "many"], ["--rounds"]),
        (["--rounds"], ["--rounds"]),
        (["--heal.tau", "-1"], ["--heal.tau", "greater than or equal to 0"]),
        (["--heal.tau", "nan"], ["--heal.tau", "finite"]),
        (["--heal.aggregate", "rms"], ["--heal.aggregate"]),
        (["--dose.kappa-min", "9"], ["kappa_min must not exceed kappa_start"]),
        (["--heal.tua", "1"], ["unknown option --heal.tua", "did you mean --heal.tau?"]),
        (["--config", "nowhere.toml"], ["config file nowhere.toml cannot be read"]),
        (["--config"], ["--config"]),
        (["extra"], ["extra"]),
        (["--dtype", "float8"], ["--dtype"]),
        (["--device", "tpu7"], ["tpu7"]),
        (["--seed", "-1"], ["--seed"]),
        (["--out", "x" * 300], ["File name too long"]),
    ],
)
def test_bad_input_is_one_line(
    say: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: Any,
    arguments: list[str], words: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = [*inputs[1], *([] if "--out" in arguments else ["--out", "out/run"]), *arguments]
    refused(say("run", *given, "--quiet"), tmp_path / "out", *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", ["is not valid TOML", "end of document"]),
        (tomli_w.dumps(axis_data(probes=[])), ["key 'probes'"]),
        (tomli_w.dumps(axis_data(narration=["(a+)+$"])), ["key 'narration.0'"]),
        (tomli_w.dumps(axis_data(name="../../x")), ["key 'name'"]),
    ],
)
def test_a_broken_axis_file_is_one_line(
    say: Callable[..., Said], tmp_path: Path, text: str, words: list[str]
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    said = say("run", "--axis", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "o"))
    refused(said, tmp_path / "o", "mine.toml", *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[heal]\ntua = 1.0\n", ["unknown key 'heal.tua'", "nearest known one is 'tau'"]),
        ("ruonds = 1\n", ["unknown key 'ruonds'", "nearest known one is 'rounds'"]),
        ("heal = 5\n", ["key 'heal'"]),
        ("rounds = 0\n", ["key 'rounds'"]),
        ("[heal]\ntau = inf\n", ["key 'heal.tau'"]),
        ("rounds =\n", ["is not valid TOML", "line 1"]),
        ("rounds = " + "1" * 5000, ["is not valid TOML"]),
        ("x = " + "[" * 5000, ["is not valid TOML"]),
    ],
)
def test_a_broken_config_file_is_one_line(
    say: Callable[..., Said], tmp_path: Path, text: str, words: list[str]
) -> None:
    (tmp_path / "c.toml").write_text(text)
    said = say("run", "--config", str(tmp_path / "c.toml"), "--out", str(tmp_path / "o"))
    refused(said, tmp_path / "o", "c.toml", *words)


def test_a_config_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "c.toml")
    (tmp_path / "c.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than"):
        load_config(tmp_path / "c.toml")
    assert load_config(None) == RunConfig()


def test_a_model_without_a_chat_template_is_refused(
    say: Callable[..., Said], tmp_path: Path
) -> None:
    build_model("llama").save_pretrained(tmp_path / "m")
    tiny_tokenizer("none").save_pretrained(tmp_path / "m")
    said = say("run", "--model", str(tmp_path / "m"), "--out", str(tmp_path / "o"), "--quiet")
    refused(said, tmp_path / "o", "no chat template")


def test_a_folder_that_exists_is_refused_and_left_alone(
    say: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o/mine.txt").write_text("precious")
    refused_by_word(say("run", "--out", str(tmp_path / "o")), "exists already")
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_one_line(
    say: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: Any,
    code: int,
) -> None:  # fmt: skip
    def fsync(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    said = say("run", *inputs[1], "--out", str(tmp_path / "a/o"), "--quiet")
    refused(said, tmp_path / "a", "cannot write")


def test_too_little_space_is_told_before_the_start(
    say: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: Any
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=5 << 20))
    said = say("run", *inputs[1], "--out", str(tmp_path / "a/o"), "--quiet")
    refused(said, tmp_path / "a", "only 5 MiB are free", "free some space")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=SPARE_BYTES + 9999))
    said = say("run", *inputs[1], "--out", str(tmp_path / "a/o"), "--quiet")
    refused(said, tmp_path / "a", "the run needs about 3 and 32 are kept", "fewer --rounds")


def test_the_estimate_is_above_what_a_run_takes_but_not_far(
    finished: tuple[Path, Ended], inputs: tuple[Path, list[str]]
) -> None:
    taken = sum(p.stat().st_blocks * 512 for p in finished[0].rglob("*"))
    settings, axis = read_settings(finished[0])
    need = estimate_need(load_model(settings.model, device="cpu"), axis, settings)
    assert taken < need.final < 2 * taken
    assert need.peak > need.final


def test_the_estimate_grows_with_what_is_asked_for() -> None:
    axis, lm = small_axis(), tiny_lm()
    asked: list[dict[str, Any]] = [
        {},
        {"rounds": 4},
        {"rounds": 4, "heal": {"rank": 16}},
        {"rounds": 4, "heal": {"rank": 16, "epochs": 9}},
        {"rounds": 4, "heal": {"rank": 16, "epochs": 9}, "dose": {"max_generated": 4000}},
        {"rounds": 4, "heal": {"rank": 16, "epochs": 9}, "evaluate": {"samples": 4000}},
    ]
    peaks = [estimate_need(lm, axis, config_from(config_data(**a), "x")).peak for a in asked]
    assert peaks == sorted(set(peaks))
    adapter = random_adapter(lm, rank=3)
    exact = sum(t.numel() * 4 for t in adapter.tensors.values())
    config = config_from(config_data(heal={"rank": 3, "layer_low": 0.0, "layer_high": 1.0}), "x")
    assert exact <= adapter_bytes(lm, config) < 1.5 * exact + 20_000


def test_a_prompt_longer_than_the_context_is_one_line(tmp_path: Path, inputs: Any) -> None:
    (tmp_path / "long.toml").write_text(tomli_w.dumps(axis_data(probes=["word " * 2000])))
    given = [*inputs[1], "--axis", str(tmp_path / "long.toml"), "--out", str(tmp_path / "o")]
    said = shl(["run", *given, "--quiet"], tmp_path / "said")
    assert said.code == 2
    (line,) = said.err.splitlines()
    assert "exceeds the model's context of 512" in line


# A run


def test_a_run_ends_well_and_says_where_its_files_are(finished: tuple[Path, Ended]) -> None:
    path, said = finished
    assert said.code == 0
    assert said.err == ""
    assert {p.name for p in path.iterdir()} == FILES
    for name in ("report.html", "diary.md", "love_loop", "metrics.json", "rounds/NN/adapter"):
        assert name in said.out
    assert "\x1b" not in said.out
    assert {p.stem for p in (path / "figures").iterdir()} >= {"love_loop", "dose_and_kept", "heal"}
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["schema"] == SCHEMA
    assert {"axis", "model", "seed", "base", "prompt_pos", "prompt_neg"} <= set(metrics)
    (entry,) = metrics["rounds"]
    assert {"round", "dose", "kept", "total", "steered", "healed", "wall_s"} <= set(entry)
    assert {"trait_nats", "perplexity", "loop_share", "distinct_2"} <= set(entry["healed"])


def test_no_secret_is_in_any_file(finished: tuple[Path, Ended]) -> None:
    path, said = finished
    files = [p for p in path.rglob("*") if p.is_file()]
    assert not [p for p in files if b"hf_secret" in p.read_bytes()]
    assert "hf_secret" not in said.out + said.err


def test_a_finished_run_is_sound(say: Callable[..., Said], finished: tuple[Path, Ended]) -> None:
    said = say("verify", str(finished[0]))
    assert said.code == 0
    assert "files are sound" in said.out


def test_json_is_json(tmp_path: Path, inputs: Any) -> None:
    given = [*inputs[1], "--out", str(tmp_path / "run"), "--json"]
    said = shl(["run", *given], tmp_path / "said")
    assert said.err == ""
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["event"] for line in lines] == ["baseline", "round", "done"]
    assert lines[1]["healed"]["trait_nats"] is not None
    assert lines[2]["run"] == str(tmp_path / "run")


def test_a_starved_round_is_one_line_and_keeps_the_directory(tmp_path: Path, inputs: Any) -> None:
    out = tmp_path / "run"
    given = [*inputs[1], "--out", str(out), "--filter.max-perplexity", "1.001", "--quiet"]
    said = shl(["run", *given], tmp_path / "said")
    assert said.code == 1
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("shl: round 0: starved: 0 of 16 completions kept")
    assert "perplexity 16" in line
    assert (out / "metrics.json").is_file()
    assert (out / "diary.md").is_file()
    events = [json.loads(e)["event"] for e in (out / "events.jsonl").read_text().splitlines()]
    assert events[-1] == "failed"


# A run once more


def test_a_repeated_run_is_the_same(
    inputs: tuple[Path, list[str]], finished: tuple[Path, Ended], tmp_path: Path
) -> None:
    """From its own directory alone, also where the axis file that it was begun with is gone."""
    path = Path(shutil.copytree(finished[0], tmp_path / "first"))
    again = ["run", "--from", str(path), "--out", str(tmp_path / "again")]
    axis = inputs[0] / "axis.toml"
    text = axis.read_bytes()
    try:
        axis.unlink()
        said = shl(again, tmp_path / "said", full=True, before=processes.draw_no_pages)
    finally:
        axis.write_bytes(text)
    assert (said.code, said.err) == (0, "")
    one, other = (json.loads((p / "metrics.json").read_text()) for p in (path, tmp_path / "again"))
    assert without_time(one) == without_time(other)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        file = f"rounds/00/adapter/{name}"
        assert (path / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    for name in ("config.toml", "axis.toml"):
        assert (path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    event = json.loads((tmp_path / "again/events.jsonl").read_text().splitlines()[0])
    assert (event["event"], event["of"]) == ("repeat", "first")
    # Someone may have committed meanwhile.
    differing = [d for d in event["differences"] if not d.startswith("git commit")]
    assert differing == []
    if not event["differences"]:
        assert f"nothing is known to differ from what run {path} was made with" in said.out


@pytest.mark.parametrize(
    "flags",
    [
        ["--rounds", "2"],
        ["--heal.tau=2"],
        ["--axis", "love"],
        ["--config", "c.toml"],
        ["--resume"],
        ["--heal.learning_rate", "1"],
    ],
)
def test_a_repeated_run_takes_no_other_settings(
    say: Callable[..., Said], finished: tuple[Path, Ended], tmp_path: Path, flags: list[str]
) -> None:
    said = say("run", "--from", str(finished[0]), "--out", str(tmp_path / "o"), *flags)
    refused(said, tmp_path / "o", "cannot be combined with --from", "leave it out")


def test_only_a_sound_run_is_repeated(
    say: Callable[..., Said], finished: tuple[Path, Ended], tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "o")]
    refused(say("run", "--from", str(tmp_path), *out), tmp_path / "o", "not a run directory")
    refused(say("run", *out, "--from"), tmp_path / "o", "--from")
    path = Path(shutil.copytree(finished[0], tmp_path / "first"))
    config = path / "config.toml"
    config.write_text(config.read_text().replace("rounds = 1", "rounds = 2"))
    said = say("run", f"--from={path}", *out)
    refused(said, tmp_path / "o", "config.toml: its bytes have changed", "restore")


def test_what_differs_on_this_machine_is_said_and_the_model_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = describe_environment(tiny_lm())
    model = {**now["model"], "revision": "sha256:old", "name": "elsewhere", "source": "elsewhere"}
    packages = {**now["packages"], "torch": "2.0", "gone": "1.0"}
    begun = {**now, "packages": packages, "model": model, "threads": 64, "git_commit": None}
    now = {**now, "model": {**now["model"], "revision": "sha256:new"}}
    tell_differences(Path("old"), begun, now, Screen(1))
    said = capsys.readouterr()
    assert said.err.startswith("warning: the model is not the one of run old")
    assert said.out.splitlines() == [
        "differs from run old:",
        "  model: sha256:new here, sha256:old then",
        f"  torch: {now['packages']['torch']} here, 2.0 then",
        "  gone: none here, 1.0 then",
        f"  threads: {now['threads']} here, 64 then",
    ]
    tell_differences(Path("old"), begun, now, Screen(1, quiet=True))
    said = capsys.readouterr()
    assert (said.out, said.err.partition(":")[0]) == ("", "warning")


def test_a_model_that_was_not_pinned_may_be_another(capsys: pytest.CaptureFixture[str]) -> None:
    now = describe_environment(tiny_lm())
    unknown = {**now, "model": {**now["model"], "revision": "unknown"}}
    (line,) = tell_differences(Path("old"), unknown, unknown, Screen(1))
    assert "may be another one" in line
    assert tell_differences(Path("old"), {}, now, Screen(1)) == []
    assert "is not known: its environment.json is broken" in capsys.readouterr().out


# A model's own code


def test_no_file_can_trust_a_models_own_code(
    say: Callable[..., Said], inputs: Any, finished: tuple[Path, Ended], tmp_path: Path
) -> None:
    """Only the user's own flag: a config, a run to repeat or to go on with may be a stranger's."""
    words = ["asks for trust_remote_code", "read that code", "--trust-remote-code as a flag"]
    config = tmp_path / "c.toml"
    config.write_text("trust_remote_code = true\n")
    out = tmp_path / "o"
    refused(say("run", "--config", str(config), "--out", str(out)), out, "config file", *words)
    settings, axis = read_settings(finished[0])
    values = {**settings.model_dump(), "trust_remote_code": True}
    run = RunDirectory.create(tmp_path / "strangers", values, axis, {})
    refused(say("run", "--from", str(run.path), "--out", str(out)), out, *words)
    refused(say("resume", str(run.path)), out, *words)
    refused(say("eval", str(run.path)), out, *words)
    refused(say("run", *inputs[1], "--out", str(run.path), "--resume"), out, *words)
    assert read_settings(run.path, trust=True)[0].trust_remote_code


def test_the_risk_of_a_models_own_code_is_named(
    inputs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config_from({"model": str(inputs[0] / "tiny"), "trust_remote_code": True}, "x")
    with Screen(1, quiet=True) as screen:
        load_for(settings, screen)
    said = capsys.readouterr().err
    assert "it can read, change and send everything that you can on this machine" in said


# The other commands


def test_axes_are_listed_and_shown(say: Callable[..., Said], tmp_path: Path) -> None:
    listed = say("axes")
    assert listed.code == 0
    assert all(name in listed.out for name in builtin_axes())
    assert "\x1b" not in listed.out
    shown = say("axes", "show", "love")
    assert shown.code == 0
    assert parse_axis(shown.out, "shown").name == "love"
    assert say("axes", "--help").code == 0
    refused(say("axes", "show", "lvoe"), tmp_path / "x", "did you mean 'love'")
    refused(say("axes", "delete"), tmp_path / "x", "usage")


def test_a_strangers_axis_cannot_command_the_terminal(
    say: Callable[..., Said], tmp_path: Path
) -> None:
    evil = "\x1b[31m red \u009b31m \u202e rtl \x07 ❤ שלום"
    (tmp_path / "x.toml").write_text(tomli_w.dumps(axis_data(description=evil)), "utf-8")
    shown = say("axes", "show", str(tmp_path / "x.toml"))
    assert not [c for c in shown.out if not c.isprintable() and c != "\n"]
    assert "❤ שלום" in shown.out
    assert parse_axis(shown.out, "shown").description == evil


def test_the_report_is_written_again(
    say: Callable[..., Said], finished: tuple[Path, Ended], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished[0], path)
    before = {p.name: p.read_bytes() for p in (path / "figures").iterdir()}
    shutil.rmtree(path / "figures")
    (path / "diary.md").unlink()
    (path / "report.html").unlink()
    said = say("report", str(path))
    assert said.code == 0
    assert said.out.splitlines()[:2] == [str(path / "report.html"), str(path / "diary.md")]
    assert {Path(line).name for line in said.out.splitlines()[2:]} == set(before)
    assert {p.name for p in (path / "figures").iterdir()} == set(before)
    assert say("verify", str(path)).code == 0


@pytest.mark.parametrize("command", ["report", "resume", "verify"])
def test_no_run_directory_is_one_line(
    say: Callable[..., Said], tmp_path: Path, command: str
) -> None:
    refused(say(command, str(tmp_path / "none")), tmp_path / "none", "not a run directory")
    refused(say(command), tmp_path / "none")


def test_commands_help_and_version(say: Callable[..., Said], tmp_path: Path) -> None:
    assert say("--version").out.startswith("shl ")
    assert "usage" in say("--help").out
    assert say().code == 2
    for command in ("run", "resume", "report", "verify"):
        assert say(command, "--help").code == 0
    refused(say("rnu"), tmp_path / "x", "did you mean 'run'")


def test_what_breaks_the_screen_is_taken_out_of_an_error(say: Callable[..., Said]) -> None:
    said = say("run", "--axis", "\x1b[31mred\nline two\x07")
    refused_by_word(said)
    assert "\x1b" not in said.err


def test_interrupts_and_broken_pipes_have_their_codes(
    say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(error: BaseException) -> Callable[[list[str]], int]:
        def dispatch(_arguments: list[str]) -> int:
            raise error

        return dispatch

    monkeypatch.setattr(cli, "dispatch", raising(KeyboardInterrupt()))
    assert say("run").code == 130
    monkeypatch.setattr(cli, "dispatch", raising(PermissionError(13, "Permission denied", "/x")))
    said = say("run")
    assert (said.code, said.err) == (2, "shl: /x: Permission denied\n")
    monkeypatch.setattr(cli, "dispatch", raising(BrokenPipeError()))
    with Path(os.devnull).open("w") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        with pytest.raises(SystemExit) as stop:
            cli.main(["run"])
    assert stop.value.code == 1


def test_every_setting_is_a_key_and_a_flag() -> None:
    config = config_from(config_data(), "x")
    assert config_from(config.model_dump(), "x") == config
    assert config.heal.rank == 2


def test_the_libraries_are_one_threaded_here() -> None:
    assert torch.get_num_threads() == 1


def test_what_the_rooms_warn_of_is_in_the_log_and_on_the_screen(
    inputs: tuple[Path, list[str]],
    tmp_path: Path,
    say: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
    light: None,
) -> None:
    import steer_heal_love.loop.context as work

    extract = work.steer.extract_direction

    def tight(*arguments: Any) -> Any:
        halve(64, "reading hidden states", "use less")
        return extract(*arguments)

    monkeypatch.setattr(work.steer, "extract_direction", tight)
    out = tmp_path / "run"
    said = say("run", *inputs[1], "--out", str(out))
    assert said.code == 0
    told = "reading hidden states ran out of memory with 64 rows at a time: on with 32"
    events = [json.loads(line) for line in (out / "events.jsonl").read_text("utf-8").splitlines()]
    assert [e["message"] for e in events if e["event"] == "warning"] == [told]
    assert f"warning: {told}" in " ".join((said.out + said.err).split())


def test_a_second_run_finds_the_baseline_of_the_first(
    inputs: tuple[Path, list[str]], tmp_path: Path
) -> None:
    shared = {"SHL_CACHE": str(tmp_path / "cache")}
    runs = [tmp_path / name for name in ("one", "two")]
    for out in runs:
        arguments = ["run", *inputs[1], "--out", str(out), "--quiet"]
        how = {"before": processes.set_environment, "given": (shared,)}
        assert shl(arguments, tmp_path / "said", **how).code == 0
    found = [(out / "events.jsonl").read_text("utf-8").count("from-cache") for out in runs]
    assert found == [0, 6]
    one, two = (json.loads((out / "metrics.json").read_text("utf-8")) for out in runs)
    assert one["base"] == two["base"]
    assert one["rounds"][0]["healed"] == two["rounds"][0]["healed"]
