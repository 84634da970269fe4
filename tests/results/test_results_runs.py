"""The whole command on a tiny model, and the sweeps that the project publishes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomli_w
from results.runs import carry_out
from results.runs.gather import environment_of, read_front
from results.runs.records import read_figures
from results.studies import STUDIES

from results import __main__ as command
from steer_heal_love.commands.sweep import job_of
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.sweep.file import read_sweep
from tiny import save_tiny_model
from tiny_run import axis_data, config_data

ROOT = command.ROOT
SWEEPS = [name for study in STUDIES.values() for name in study.sweeps]
EVALUATE = {"rivals": ["sft"], "relevance_others": 1, "long_samples": 2, "long_tokens": 16}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "docs").mkdir()
    page = (ROOT / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    (folder / "docs" / "RESULTS.md").write_text(page, encoding="utf-8")
    save_tiny_model(folder / "model")
    (folder / "axis").with_suffix(".toml").write_text(tomli_w.dumps(axis_data()), encoding="utf-8")
    settings = config_data(evaluate=EVALUATE) | {
        "rounds": 1,
        "model": str(folder / "model"),
        "axis": str(folder / "axis.toml"),
    }
    trials = [{"name": f"seed-{seed}", "seed": seed, **settings} for seed in (0, 1)]
    (folder / "heal.toml").write_text(tomli_w.dumps({"list": trials}), encoding="utf-8")
    assert run(folder) == 0
    return folder


def run(folder: Path, *more: str) -> int:
    places = ["--sweeps", str(folder), "--store", str(folder / "store")]
    return command.main(["heal", *places, "--docs", str(folder / "docs"), *more])


def block_of(folder: Path) -> str:
    text = (folder / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    return text.split("<!-- heal:begin -->")[1].split("<!-- heal:end -->")[0]


def test_the_runs_are_carried_out_and_the_page_is_written(done: Path) -> None:
    block = block_of(done)
    assert "2 runs (seeds 0, 1), 1 round each" in block
    for name in ("persona as system prompt", "steered, at", "plain distillation", "**healed**"):
        assert f"| {name}" in block
    assert (done / "docs" / "results" / "heal.png").read_bytes()[:4] == b"\x89PNG"
    assert "healed" in (done / "docs" / "results" / "heal.svg").read_text(encoding="utf-8")


def test_where_a_run_was_carried_out_is_kept_without_its_host(tmp_path: Path) -> None:
    assert environment_of(tmp_path) == {}
    text = json.dumps({"device": "cpu", "threads": 2, "host": "not kept"})
    (tmp_path / "environment.json").write_text(text, encoding="utf-8")
    assert environment_of(tmp_path) == {"device": "cpu", "threads": 2}


def test_the_figures_are_those_of_the_runs(done: Path) -> None:
    figures = read_figures(done / "docs" / "results" / "heal.json")
    assert figures is not None
    for found in figures.runs:
        metrics = json.loads((done / "store" / "heal" / found.trial / "metrics.json").read_text())
        healed = metrics["rounds"][0]["healed"]
        own = found.rounds[0].healed
        assert own.figures["trait_nats"][0] == pytest.approx(healed["trait_nats"], rel=1e-4)
        assert own.counts["long_loop_share"][1] == 2
        assert len(own.items["trait_nats"]) == len(found.base.items["trait_nats"]) == 2
        assert set(found.rounds[0].rivals) == {"sft"}
    assert "heal.lam" in figures.settings
    assert {run.seed for run in figures.runs} == {0, 1}


def test_doses_of_raw_steering_come_with_their_items(tmp_path: Path) -> None:
    entry = {"round": 0, "front": [{"dose": 0.5, "trait_nats": 0.25, "perplexity": 9.0}]}
    file = tmp_path / "rounds" / "00" / "metrics.json"
    file.parent.mkdir(parents=True)
    items = [{"trait_nats": [0.0, 0.5], "perplexity": [9.0, None]}]
    file.write_text(json.dumps({**entry, "front_items": items}), encoding="utf-8")
    (found,) = read_front(tmp_path, entry)
    assert found.kappa == 0.5
    assert found.measured.items == {"trait_nats": (0.0, 0.5), "perplexity": (9.0, None)}
    assert found.measured.figures["trait_nats"] == (0.25, None, None)
    assert read_front(tmp_path, {"round": 1, "front": []}) == ()
    others = [
        {"method": "steering", "dose": 0.5, "temperature": 0.7},
        {"method": "contrast", "dose": 4.0, "temperature": 1.0},
        {"method": "steering", "dose": 1.0, "temperature": 1.0},
    ]
    file.write_text(json.dumps({"front_items": items * 3}), encoding="utf-8")
    assert [d.kappa for d in read_front(tmp_path, {"round": 0, "front": others})] == [1.0]


def test_the_page_is_rebuilt_from_the_json_file_alone(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = block_of(done)

    def refuse(*_: object) -> None:
        raise AssertionError("a run was begun or read")

    monkeypatch.setattr(carry_out.sweep_command, "main", refuse)
    monkeypatch.setattr(carry_out, "gather", refuse)
    (done / "docs" / "results" / "heal.svg").unlink()
    assert run(done, "--page-only") == 0
    assert block_of(done) == before
    assert (done / "docs" / "results" / "heal.svg").is_file()


def test_runs_are_collected_as_they_are(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = block_of(done)

    def refuse(*_: object) -> None:
        raise AssertionError("a run was begun")

    monkeypatch.setattr(carry_out.sweep_command, "main", refuse)
    assert run(done, "--collect") == 0
    assert block_of(done) == before


def test_what_is_not_published_goes_to_a_folder_aside(tmp_path: Path) -> None:
    assert command.parse(["heal"]).docs == ROOT / "docs"
    aside = command.parse(["heal", "--sweeps", str(tmp_path)]).docs
    assert aside != ROOT / "docs"
    assert (aside / "RESULTS.md").is_file()


@pytest.mark.parametrize("name", SWEEPS)
def test_every_published_sweep_can_be_begun(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(ROOT / "sweeps" / f"{name}.toml")
    assert sweep.text.startswith("# ")
    for trial in sweep.trials:
        job = job_of(trial.name, trial.values, tmp_path, trust=False)
        axis = load_axis(job.settings["axis"])
        assert len(axis.pairs) >= 24


@pytest.mark.parametrize("name", list(STUDIES))
def test_the_published_page_has_a_place_for_every_block(name: str) -> None:
    text = (ROOT / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    for block in STUDIES[name].blocks:
        assert text.count(f"<!-- {block}:begin -->") == text.count(f"<!-- {block}:end -->") == 1
