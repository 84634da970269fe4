"""`shl eval`: what is measured, what it says and writes, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from processes import shl
from said import Said
from steer_heal_love.harness.measure import HarnessConfig, measure_tasks
from steer_heal_love.harness.tasks import load_tasks
from steer_heal_love.lm.model.load import LanguageModel, load_model
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runs.read import read_run
from steer_heal_love.stages.instruments.answer_pairs import answer_pair_values
from tiny_run import config_data, write_inputs

CONDITIONS = ["base", "prompt_pos", "prompt_neg", "model"]
QUESTIONS = [
    {"question": f"{word} is", "choices": ["kind", "fine today", "a rule"], "answer": i % 3}
    for i, word in enumerate(["Love", "Rain", "Noon", "A friend", "The train", "The weather"])
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model `tiny`, axis.toml, config.toml, questions q.jsonl, and a run of two rounds in `run`."""
    folder = tmp_path_factory.mktemp("eval")
    flags = [*write_inputs(folder), "--dtype", "float32"]
    said = shl(["run", *flags, "--out", str(folder / "run"), "--quiet"], folder / "said")
    assert (said.code, said.err) == (0, "")
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    return load_model(str(folder / "tiny"), dtype="float32")


def model_flags(folder: Path) -> list[str]:
    """Flags of a model that make its battery short."""
    named = {name: str(folder / f"{name}.toml") for name in ("axis", "config")}
    return [str(folder / "tiny"), "--axis", named["axis"], "--config", named["config"]]


def refused(said: Said, *words: str) -> None:
    """One line on stderr, nothing on stdout, exit code 2."""
    assert (said.code, said.out) == (2, "")
    (line,) = said.err.splitlines()
    for word in words:
        assert word in line


# The battery


def test_a_run_is_measured_as_it_was(say: Callable[..., Said], folder: Path) -> None:
    out = folder / "figures/run.json"
    said = say("eval", str(folder / "run"), "--out", str(out))
    assert (said.code, said.err) == (0, "")
    for word in (*CONDITIONS, "model / base", "trait_nats", "Trait shift", "As coherent as base?"):
        assert word in said.out
    assert "\x1b" not in said.out
    found = json.loads(out.read_text())
    assert list(found) == CONDITIONS
    metrics = json.loads((folder / "run/metrics.json").read_text())
    stored = {**metrics, "model": metrics["rounds"][-1]["healed"]}
    for name in CONDITIONS:
        value, low, high = found[name]["figures"]["trait_nats"]
        assert value == pytest.approx(stored[name]["trait_nats"], rel=1e-5)
        assert low <= value <= high
        assert len(found[name]["items"]["trait_nats"]) == 2
        assert len(found[name]["items"]["perplexity"]) == 4


@pytest.mark.parametrize("last", [0, 1])
def test_a_round_has_the_adapters_up_to_it(folder: Path, lm: LanguageModel, last: int) -> None:
    out = folder / f"round{last}.json"
    flags = ["--round", str(last), "--out", str(out), "--quiet"]
    said = shl(["eval", str(folder / "run"), *flags], folder / f"said{last}")
    assert (said.code, said.out, said.err) == (0, "", "")
    run = read_run(folder / "run")
    with student(lm, [run.adapter(r) for r in range(last + 1)]):
        expected = answer_pair_values(lm, run.axis)
    found = json.loads(out.read_text())
    assert found["model"]["items"]["trait_raw_nats"] == pytest.approx(list(expected), rel=1e-5)


def test_a_model_with_an_adapter_differs_from_base(folder: Path) -> None:
    adapter = str(folder / "run/rounds/00/adapter")
    out = folder / "adapter.json"
    flags = [*model_flags(folder), "--samples", "5", "--dtype", "float32", "--device", "cpu"]
    said = shl(["eval", *flags, "--adapter", adapter, "--out", str(out)], folder / "said-adapter")
    assert (said.code, said.err) == (0, "")
    found = json.loads(out.read_text())
    of_run = json.loads((folder / "run/metrics.json").read_text())["rounds"][0]["healed"]
    value = found["model"]["figures"]["trait_nats"][0]
    assert value == pytest.approx(of_run["trait_nats"], rel=1e-5)
    assert value != found["base"]["figures"]["trait_nats"][0]
    assert len(found["model"]["items"]["perplexity"]) == 5


def test_a_model_without_an_adapter_is_its_own_base(folder: Path) -> None:
    out = folder / "plain.json"
    said = shl(["eval", *model_flags(folder), "--out", str(out)], folder / "said-plain")
    assert (said.code, said.err) == (0, "")
    assert "Trait shift 0 [0, 0] nats" in " ".join(said.out.split())
    found = json.loads(out.read_text())
    for name, figure in found["base"]["figures"].items():
        assert found["model"]["figures"][name] == figure
    ratios = [k for k in found["model"]["figures"] if k.endswith("_ratio")]
    assert "perplexity_ratio" in ratios
    for name in ratios:
        assert found["model"]["figures"][name] == [1, 1, 1]
        assert name not in said.out, "ratios stand beside their figure"
    lines = [line for line in said.out.splitlines() if line.strip().startswith("perplexity ")]
    assert "× 1 [1, 1]" in lines[-1], "in the last of the tables that 80 characters hold"


def test_a_model_at_another_temperature_is_sharper_and_has_no_more_trait(folder: Path) -> None:
    out = folder / "cold.json"
    flags = ["--temperature", "0.5", "--dtype", "float32", "--out", str(out)]
    said = shl(["eval", *model_flags(folder), *flags], folder / "said-cold")
    assert (said.code, said.err) == (0, "")
    found = json.loads(out.read_text())
    base, cold = found["base"], found["model"]
    assert cold["figures"]["temperature_match"][0] == pytest.approx(2, rel=0.02)
    assert base["figures"]["temperature_match"][0] == 1
    assert cold["figures"]["entropy_shift_nats"][0] < 0 == base["figures"]["entropy_shift_nats"][0]
    assert cold["items"]["trait_nats"] == pytest.approx(base["items"]["trait_nats"], abs=0.01)
    raw, plain = (found[name]["items"]["trait_raw_nats"] for name in ("model", "base"))
    assert max(abs(a - b) for a, b in zip(raw, plain, strict=True)) > 0.01
    assert base["items"]["trait_nats"] == plain
    assert cold["figures"]["kl_nats"][0] > 0 == base["figures"]["kl_nats"][0]
    assert "sharpened: " in said.out


# The harness's tasks


def test_tasks_of_a_run_need_no_battery(
    say: Callable[..., Said], folder: Path, lm: LanguageModel, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    said = say("eval", str(folder / "run"), "--tasks", str(folder / "q.jsonl"), "--out", "o.json")
    assert (said.code, said.err) == (0, "")
    assert "Trait shift" not in said.out
    assert [p.name for p in tmp_path.iterdir()] == ["o.json"]
    found = json.loads(Path("o.json").read_text())
    assert list(found) == ["tasks"]
    run = read_run(folder / "run")
    tasks = load_tasks([str(folder / "q.jsonl")])
    expected = measure_tasks(lm, [run.adapter(0), run.adapter(1)], tasks, HarnessConfig())
    assert [(f["task"], f["metric"], f["count"]) for f in found["tasks"]] == [
        ("q", "acc", 6),
        ("q", "acc_norm", 6),
    ]
    for plain, figure in zip(found["tasks"], expected.figures, strict=True):
        assert plain["base"] == [figure.base.value, figure.base.low, figure.base.high]
        assert plain["items"]["model"] == list(figure.student_items)
        assert plain["difference"][0] == pytest.approx(figure.difference.value)
        row = next(x for x in said.out.splitlines() if f" {figure.metric} " in x)
        assert row.split()[:3] == ["q", figure.metric, "6"]
        assert f"{figure.difference.value:+.3g} [" in row


def test_tasks_and_the_battery_go_together(folder: Path) -> None:
    out = folder / "both.json"
    flags = ["--tasks", str(folder / "q.jsonl"), "--battery", "--limit", "3"]
    said = shl(["eval", *model_flags(folder), *flags, "--out", str(out)], folder / "said-both")
    assert (said.code, said.err) == (0, "")
    found = json.loads(out.read_text())
    assert list(found) == [*CONDITIONS, "tasks"]
    assert [f["count"] for f in found["tasks"]] == [3, 3]


def test_json_has_no_infinity(say: Callable[..., Said], folder: Path, tmp_path: Path) -> None:
    flags = ["--tasks", str(folder / "q.jsonl"), "--limit", "1", "--quiet"]
    said = say("eval", str(folder / "tiny"), *flags, "--out", str(tmp_path / "o.json"))
    assert said == Said(0, "", "")
    found = json.loads((tmp_path / "o.json").read_text(), parse_constant=pytest.fail)
    assert found["tasks"][0]["difference"] == [0, None, None]
    assert all(map(math.isfinite, found["tasks"][0]["base"]))


def test_names_are_text_and_long_prompts_are_told(
    say: Callable[..., Said], folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "[red]\x1b[31m.json"
    file.write_text(json.dumps([{**QUESTIONS[0], "question": "rain " * 500}]), encoding="utf-8")
    said = say("eval", str(folder / "tiny"), "--tasks", str(file))
    assert (said.code, said.err) == (0, "")
    assert "\x1b" not in said.out
    assert "[red]␛[31m" in said.out
    assert "lost their beginning" in said.out


# Refused


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["{run}", "--round", "2"], ["has no healed round 2", "[0, 1]"]),
        (["{run}", "--round", "-1"], ["has no healed round -1"]),
        (["{run}", "--adapter", "{run}/rounds/00/adapter"], ["--adapter goes with a model"]),
        (["{run}", "--axis", "love"], ["--axis goes with a model"]),
        (["{run}", "--config", "x.toml"], ["--config goes with a model"]),
        (["{tiny}", "--round", "0"], ["--round goes with a run directory"]),
        (["{tiny}", "--adapter", "nowhere"], ["nowhere", "adapter"]),
        (["{tiny}", "--axis", "lvoe"], ["did you mean 'love'"]),
        (["{tiny}", "--config", "nowhere.toml"], ["nowhere.toml cannot be read"]),
        (["{tiny}", "--samples", "1"], ["--samples", "greater than or equal to 4"]),
        (["{tiny}", "--dtype", "float8"], ["--dtype"]),
        (["{tiny}", "--temperature", "0"], ["--temperature 0: give a number above 0"]),
        (
            ["{tiny}", "--tasks", "{q}", "--temperature", "2"],
            ["--temperature goes with the battery"],
        ),
        (["{tiny}", "--limit", "3"], ["go with --tasks"]),
        (["{tiny}", "--tasks", "{q}", "--limit", "0"], ["--limit"]),
        (["{tiny}", "--tasks", "{q}", "{q}"], ["two tasks called 'q'"]),
        (["{tiny}", "--tasks", "none.jsonl"], ["task file none.jsonl cannot be read"]),
        (["{tiny}", "--tasks"], ["--tasks: name at least one"]),
        ([], ["--help"]),
    ],
)
def test_bad_input_is_one_line(
    say: Callable[..., Said], folder: Path, flags: list[str], words: list[str]
) -> None:
    names = {name: str(folder / name) for name in ("run", "tiny")} | {"q": str(folder / "q.jsonl")}
    refused(say("eval", *(flag.format(**names) for flag in flags), "--quiet"), *words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["/nowhere/at/all"], ["model '/nowhere/at/all' not found"]),
        (["{tiny}", "--device", "tpu7"], ["--device tpu7 cannot be used"]),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line(
    say: Callable[..., Said], folder: Path, flags: list[str], words: list[str]
) -> None:
    refused(say("eval", *(flag.format(tiny=folder / "tiny") for flag in flags), "--quiet"), *words)


def test_a_run_without_a_healed_round_is_one_line(
    say: Callable[..., Said], folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    (tmp_path / "run/metrics.json").write_text(json.dumps({**metrics, "rounds": []}))
    refused(say("eval", str(tmp_path / "run")), "has no healed round -1: its rounds are []")


def test_only_the_flag_gives_leave_to_run_code(
    say: Callable[..., Said], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steer_heal_love.commands import eval as command

    def load(settings: RunConfig, _screen: object) -> None:
        assert settings.trust_remote_code
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "load_for", load)
    shutil.copytree(folder / "run", tmp_path / "run")
    config = tmp_path / "run/config.toml"
    config.write_text(tomli_w.dumps(config_data(trust_remote_code=True)), encoding="utf-8")
    for flags in ([str(tmp_path / "run")], [str(folder / "tiny"), "--config", str(config)]):
        refused(say("eval", *flags), "--trust-remote-code")
        assert say("eval", *flags, "--trust-remote-code").code == 130


def test_help_tells_the_question_format(say: Callable[..., Said]) -> None:
    said = say("eval", "--help")
    assert said.code == 0
    for word in ("--tasks", "--battery", "--limit", "--device", "--dtype", "--samples", "choices"):
        assert word in said.out
