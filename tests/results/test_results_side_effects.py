"""The whole command on tiny runs: what it measures, writes, and does not do twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from results.side_effects import __main__ as command
from results.side_effects.measure import mundane_prompts
from results.side_effects.subjects import find_subjects

from steer_heal_love.commands.run import main as run_command
from steer_heal_love.errors import ConfigError, DataError
from steer_heal_love.inputs.axes import load_contexts, parse_axis
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.stages.instruments.answer_pairs import answer_pair_values
from tiny_run import PAIRS, axis_data, write_inputs

PAGE = f"<!-- {command.BLOCK}:begin -->\n<!-- {command.BLOCK}:end -->"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two rounds that differ by their seed, one that is not finished, and the page."""
    folder = tmp_path_factory.mktemp("side-effects")
    (folder / "docs").mkdir()
    (folder / "docs" / "RESULTS.md").write_text(PAGE, encoding="utf-8")
    flags = write_inputs(
        folder, evaluate={"long_samples": 2, "long_tokens": 12}, heal={"epochs": 1}
    )
    for seed in ("0", "1"):
        out = str(folder / "runs" / f"seed-{seed}")
        assert run_command([*flags, "--seed", seed, "--out", out, "--quiet"]) == 0
    _unfinished(folder / "runs" / "seed-0", folder / "runs" / "seed-2")
    other = other_axis(folder / "tiny")
    (folder / "other.toml").write_text(tomli_w.dumps(other), encoding="utf-8")
    blind = other | {"name": "blind", "pairs": [_turned(p) for p in other["pairs"]]}
    (folder / "blind.toml").write_text(tomli_w.dumps(blind), encoding="utf-8")
    assert run(folder) == 0
    return folder


def _unfinished(run: Path, copy: Path) -> None:
    """The same run before its last round was healed."""
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    copy.mkdir()
    for name in ("config.toml", "axis.toml"):
        (copy / name).write_bytes((run / name).read_bytes())
    text = json.dumps(metrics | {"rounds": metrics["rounds"][:1]})
    (copy / "metrics.json").write_text(text, encoding="utf-8")


def _turned(pair: dict[str, str]) -> dict[str, str]:
    return {**pair, "trait": pair["other"], "other": pair["trait"]}


def other_axis(model: Path) -> dict[str, Any]:
    """An axis that is valid on the tiny model: each pair turned to where its persona pulls it."""
    pairs = [
        *PAIRS,
        {"question": "Rain?", "trait": "It rains.", "other": "The sun is out."},
        {"question": "Now?", "trait": "Later on.", "other": "At once, friend."},
    ]
    data = axis_data(name="other", pairs=pairs)
    axis, lm = parse_axis(tomli_w.dumps(data), "other.toml"), load_model(str(model))
    pos, neg = (answer_pair_values(lm, axis, s) for s in (axis.pos_system, axis.neg_system))
    turned = [p if a > b else _turned(p) for p, a, b in zip(pairs, pos, neg, strict=True)]
    return data | {"pairs": turned}


def run(folder: Path, *more: str) -> int:
    return command.main(
        [
            str(folder / "runs"),
            "--tiny",
            *("--axes", str(folder / "other.toml"), str(folder / "blind.toml")),
            *("--store", str(folder / "store"), "--docs", str(folder / "docs")),
            *more,
        ]
    )


def values_of(folder: Path) -> dict[str, Any]:
    file = folder / "docs" / "results" / "side_effects.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def test_the_page_has_a_line_a_round(done: Path) -> None:
    text = (done / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    assert "Mean of 2 runs that differ by their seed, axis kind." in text
    assert text.count("\n| 0 |") == text.count("\n| 1 |") == 2
    assert "| round | its own axis | asked as the opposite persona |" in text
    assert "Not finished, and left out: seed-2." in text
    assert "After round 1:" in text


def test_the_page_says_which_runs_it_is_of(done: Path) -> None:
    text = (done / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    assert f"`python -m results.side_effects {done / 'runs'}`" in text
    assert command.command_of([command.DEFAULT]) == "make results-side-effects"
    of_ours = command.command_of([command.DEFAULT / "seed-0"])
    assert of_ours == "python -m results.side_effects runs/results/loop/seed-0"


def test_only_axes_that_are_valid_on_the_model_are_measured(done: Path) -> None:
    [group] = values_of(done)["groups"]
    assert group["invalid"] == ["blind"]
    assert set(group["rounds"][-1]["shifts"]) == {"own", "opposite", "pull", "other"}
    text = (done / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    assert "Not measured, since not valid on this model: blind." in text


def test_figures_agree_with_what_the_runs_measured_themselves(done: Path) -> None:
    """Answer pairs and ordinary text were also measured in the run, on the same items."""
    [group] = values_of(done)["groups"]
    last = group["rounds"][-1]
    metrics = [
        json.loads((done / f"runs/seed-{seed}/metrics.json").read_text("utf-8")) for seed in (0, 1)
    ]
    shifts = [m["rounds"][1]["healed"]["trait_nats"] - m["base"]["trait_nats"] for m in metrics]
    assert last["shifts"]["own"]["value"] == pytest.approx(sum(shifts) / 2, abs=1e-3)
    ratio = 1.0
    for m in metrics:
        name = "capability_perplexity"
        ratio *= m["rounds"][1]["healed"][name] / m["base"][name]
    assert last["capability_ratio"]["value"] == pytest.approx(ratio**0.5, rel=5e-3)
    shares = [m["rounds"][1]["healed"]["long_loop_share"] for m in metrics]
    assert last["long_loops"]["value"] == pytest.approx(sum(shares) / 2)


def test_the_figure_is_drawn(done: Path) -> None:
    folder = done / "docs" / "results"
    assert (folder / "side_effects.png").read_bytes()[:4] == b"\x89PNG"
    assert "its own axis" in (folder / "side_effects.svg").read_text(encoding="utf-8")


def test_what_was_measured_is_not_measured_again(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (done / "store").rglob("*.json")}
    page = (done / "docs" / "RESULTS.md").read_text(encoding="utf-8")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was computed again")

    for name in ("sample_answers", "answer_pair_values", "check_validity"):
        monkeypatch.setattr(f"results.side_effects.measure.{name}", refuse)
    assert run(done) == 0
    assert {p: p.stat().st_mtime_ns for p in (done / "store").rglob("*.json")} == before
    assert (done / "docs" / "RESULTS.md").read_text(encoding="utf-8") == page


def test_ordinary_questions_are_none_that_the_run_was_trained_on(done: Path) -> None:
    [[subject, _]], _ = find_subjects([done / "runs"])
    contexts = load_contexts()
    asked = mundane_prompts(subject, contexts, 6)
    assert len(set(asked)) == 6
    assert not set(asked) & set(subject.axis.probes)
    every = subject.settings.dose.model_copy(update={"min_prompts": 10_000})
    settings = subject.settings.model_copy(update={"dose": every})
    greedy = type(subject)(subject.name, subject.view, settings, subject.axis)
    with pytest.raises(DataError, match="trained on every bundled context"):
        mundane_prompts(greedy, contexts, 6)


def test_without_a_finished_run_it_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`make results-loop` makes the runs") as error:
        command.main([str(tmp_path), "--tiny", "--docs", str(tmp_path)])
    assert error.value.exit_code == 2
    assert not list(tmp_path.iterdir())
