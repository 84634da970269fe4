"""The whole command on a tiny model: what it measures, writes, and does not do twice."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest
import tomli_w
from results.planted import __main__ as command
from results.planted.study import AGGREGATES, ARMS

from tiny import save_tiny_model
from tiny_run import axis_data, config_data

PAGE = "\n".join(f"<!-- {name}:begin -->\n<!-- {name}:end -->" for name in command.BLOCKS)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    (folder / "docs").mkdir()
    (folder / "docs" / "RESULTS.md").write_text(PAGE, encoding="utf-8")
    save_tiny_model(folder / "tiny")
    probes = [f"Tell me about day {i}." for i in range(24)]
    axis = axis_data(probes=probes)
    (folder / "axis.toml").write_text(tomli_w.dumps(axis), encoding="utf-8")
    (folder / "config.toml").write_text(tomli_w.dumps(config_data()), encoding="utf-8")
    assert run(folder) == 0
    return folder


def run(folder: Path) -> int:
    return command.main(
        [
            *("--tiny", "--share", "0.5", "--tau", "0.5"),
            *("--model", str(folder / "tiny"), "--axis", str(folder / "axis.toml")),
            *("--config", str(folder / "config.toml")),
            *("--store", str(folder / "store"), "--docs", str(folder / "docs")),
        ]
    )


def test_all_blocks_are_written(done: Path) -> None:
    text = (done / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    seen, students, matched = (
        text.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0]
        for name in command.BLOCKS
    )
    for aggregate in AGGREGATES:
        assert seen.count(f"| {aggregate} |") == 3
    assert "| over τ = 0.5 | over τ = 1 |" in seen
    assert "in 50 % of them a loop is planted" in seen
    assert "inside, 2 tokens said 5 times in a text of 20" in seen
    for name in ("base, not healed", *ARMS):
        assert f"| {name} |" in students
    assert "Does the mean barrier let loops through where the rmse barrier holds?" in students
    assert "| rmse | 0.5 |" in matched
    for aggregate in ("mean", "p95", "max"):
        assert matched.count(f"| {aggregate} |") == 1
        assert f"| {aggregate} | 0.5 |" not in matched


def test_the_values_behind_the_page_are_kept(done: Path) -> None:
    values = json.loads((done / "docs" / "results" / "planted.json").read_text(encoding="utf-8"))
    assert set(values["by_seed"]) == {"base", *ARMS}
    for arm in ARMS:
        for found in values["by_seed"][arm].values():
            sorts = found["divergence"]["rmse"]
            assert {name: len(v) for name, v in sorts.items()} == {
                "clean": 4,
                "inside": 2,
                "to the end": 2,
            }
            assert all(m <= r <= x for m, r, x in _aggregates(found))
    shown = values["shown"]
    assert set(shown["kl"]) == set(ARMS)
    assert all(len(kl) == len(shown["tokens"]) == 20 for kl in shown["kl"].values())
    start, stop = shown["loop"]
    repeated = shown["tokens"][start - 2 : stop]
    assert repeated == repeated[:2] * 5
    assert (done / "docs" / "results" / "planted.json").stat().st_size < 150_000


def test_other_barriers_are_matched_where_no_loop_is(done: Path) -> None:
    values = json.loads((done / "docs" / "results" / "planted.json").read_text(encoding="utf-8"))
    plain = values["by_seed"]["none"].values()
    of = {
        name: median(v for found in plain for v in found["divergence"][name]["clean"])
        for name in AGGREGATES
    }
    rows = {row["name"]: row for row in values["matched"]}
    assert set(rows) == set(AGGREGATES)
    assert rows["rmse"]["tau"] == 0.5
    for name, row in rows.items():
        assert of[name] / row["tau"] == pytest.approx(of["rmse"] / 0.5, rel=0.01)
    assert set(values["matched_by_seed"]) == {"mean", "p95", "max"}
    assert rows["mean"]["less_rmse"]["value"] == pytest.approx(
        rows["mean"]["goes_on"]["value"] - rows["rmse"]["goes_on"]["value"]
    )


def _aggregates(found: dict[str, dict[str, dict[str, list[float]]]]) -> list[tuple[float, ...]]:
    """Mean, rmse and maximum of each text, which can only rise."""
    by_name = found["divergence"]
    return [
        (m, r + 1e-9, x + 2e-9)
        for sort in by_name["mean"]
        for m, r, x in zip(*(by_name[n][sort] for n in ("mean", "rmse", "max")), strict=True)
    ]


def test_every_student_is_at_some_distance_from_base(done: Path) -> None:
    values = json.loads((done / "docs" / "results" / "planted.json").read_text(encoding="utf-8"))
    for arm in ARMS:
        for found in values["by_seed"][arm].values():
            assert min(found["divergence"]["max"]["inside"]) > 0
            assert len(found["repeats"]["learnt"]) == 4
            assert len(found["repeats"]["fresh"]) > 0


def test_the_figure_is_drawn(done: Path) -> None:
    folder = done / "docs" / "results"
    assert (folder / "planted.png").read_bytes()[:4] == b"\x89PNG"
    svg = (folder / "planted.svg").read_text(encoding="utf-8")
    assert "KL from base (nats)" in svg
    assert "loop to the end" in svg


def test_what_was_measured_is_not_measured_again(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (done / "store").rglob("*.json")}
    page = (done / "docs" / "RESULTS.md").read_text(encoding="utf-8")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was computed again")

    for name in ("texts.sample", "students.heal", "students.measure", "students.look"):
        monkeypatch.setattr(f"results.planted.{name}", refuse)
    assert run(done) == 0
    assert {p: p.stat().st_mtime_ns for p in (done / "store").rglob("*.json")} == before
    assert (done / "docs" / "RESULTS.md").read_text(encoding="utf-8") == page


@pytest.mark.parametrize(
    ("flag", "value"),
    [(flag, value) for flag in ("--share", "--tau") for value in ("-1", "nan", "inf", "many")]
    + [("--share", "0"), ("--share", "1")],
)
def test_a_share_or_tau_that_cannot_be_is_refused(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.parse([f"{flag}={value}"])
    assert flag in capsys.readouterr().err
