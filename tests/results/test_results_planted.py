"""The whole command on a tiny model: what it measures, writes, and does not do twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
import tomli_w
from results.planted import students
from results.planted.planting import INSIDE, TO_THE_END, Kind
from results.planted.tables import AGGREGATES

from results import __main__ as command
from tiny import save_tiny_model
from tiny_run import axis_data, config_data

BLOCKS = ("planted-seen", "planted-learnt")
PAGE = "\n".join(f"<!-- {name}:begin -->\n<!-- {name}:end -->" for name in BLOCKS)
SHORT = (
    Kind(INSIDE.where, at=8, period=2, loop=8, rest=4),
    Kind(TO_THE_END.where, at=8, period=2, loop=10),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("planted")
    (folder / "docs").mkdir()
    (folder / "docs" / "RESULTS.md").write_text(PAGE, encoding="utf-8")
    save_tiny_model(folder / "tiny")
    axis = axis_data(probes=[f"Tell me about day {i}." for i in range(24)])
    (folder / "axis.toml").write_text(tomli_w.dumps(axis), encoding="utf-8")
    settings = config_data(
        dose={"n_keep": 8}, generate={"max_new_tokens": 24}, heal={"epochs": 1, "batch_size": 2}
    )
    (folder / "config.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("KINDS", SHORT), ("SEEDS", (0, 1))):
            patch.setattr(students, name, value)
        assert run(folder) == 0
        yield folder


def run(folder: Path) -> int:
    flags = ("--model", "tiny"), ("--axis", "axis.toml"), ("--config", "config.toml")
    places = ("--store", "store"), ("--docs", "docs")
    paths = [w for flag, name in (*flags, *places) for w in (flag, str(folder / name))]
    return command.main(["planted", "--share", "0.5", "--tau", "0.5", *paths])


def values_of(folder: Path) -> dict[str, list[dict[str, object]]]:
    text = (folder / "docs" / "results" / "planted.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def test_all_blocks_are_written(done: Path) -> None:
    text = (done / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    seen, learnt = (
        text.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0] for name in BLOCKS
    )
    for aggregate in AGGREGATES:
        assert seen.count(f"| {aggregate} |") == 3
        assert learnt.count(f"| {aggregate} |") == (1 if aggregate == "rmse" else 2)
        assert f"| {aggregate} | 0.5 |" in learnt
    assert "| over τ = 0.5 | over τ = 1 |" in seen
    assert "a loop in 50 % of them" in seen
    assert "| none |  |" in learnt


def test_the_values_behind_the_page_are_kept(done: Path) -> None:
    values = values_of(done)
    assert [s["barrier"] for s in values["students"]] == [
        *("none", *AGGREGATES),
        *("mean", "p95", "max"),
    ]
    for s in values["students"]:
        for found in s["seeds"]:  # type: ignore[attr-defined]
            of = found["divergence"]
            sorts = {"clean": 4, "inside": 2, "to the end": 2}
            assert {name: len(v) for name, v in of["rmse"].items()} == sorts
            for sort in sorts:  # mean, rmse and maximum of a text can only rise
                rows = zip(*(of[n][sort] for n in ("mean", "rmse", "max")), strict=True)
                assert all(m <= r + 1e-9 and r <= x + 1e-9 for m, r, x in rows)
            assert min(of["max"]["inside"]) > 0
            assert len(found["repeats"]) == 4


def test_other_barriers_are_matched_where_no_loop_is(done: Path) -> None:
    plain, *others = values_of(done)["students"]
    of = {
        name: median(v for found in plain["seeds"] for v in found["divergence"][name]["clean"])  # type: ignore[attr-defined]
        for name in AGGREGATES
    }
    for row in others[len(AGGREGATES) :]:
        own = of[row["barrier"]] / row["tau"]  # type: ignore[index,operator]
        assert own == pytest.approx(of["rmse"] / 0.5, rel=0.01)


def test_what_was_measured_is_not_measured_again(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (done / "store").rglob("*.json")}
    page = (done / "docs" / "RESULTS.md").read_text(encoding="utf-8")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was computed again")

    for name in ("sample", "heal", "look"):
        monkeypatch.setattr(students, name, refuse)
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
        command.parse(["planted", f"{flag}={value}"])
    assert flag in capsys.readouterr().err
