"""A sweep's file: which trials it asks for, what they are called, and every mistake on one line."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from fuzz import FUZZ, refusal
from steer_heal_love.errors import ConfigError
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.settings import check_settings
from steer_heal_love.sweep.file import MAX_TRIALS, Sweep, nest, read_sweep
from steer_heal_love.sweep.naming import LONGEST, find_varying, name_sample, name_trials, shortest
from steer_heal_love.sweep.settings import Range

EXAMPLE = Path(__file__).parents[2] / "sweeps" / "example.toml"

VALUES: dict[str, list[Any]] = {
    "seed": [0, 1, 2],
    "axis": ["love", "axes/my axis.toml", "other/my_axis.toml"],
    "model": ["smollm2", "owner/Name-1.5", "other/Name-1.5"],
    "heal.aggregate": ["mean", "rmse", "p95"],
    "heal.targets": [[], ["q_proj"], ["q_proj", "v_proj"]],
    "heal.batch_size": [1, 2],
    "generate.batch_size": [8, 64],
    "heal.lam": [0.0, 0.5, 1e-7],
}
GRIDS = st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries(
        {k: st.lists(st.sampled_from(VALUES[k]), min_size=1, unique_by=repr) for k in keys}
    )
)


def sweep_of(folder: Path, **tables: Any) -> Sweep:
    path = folder / "sweep.toml"
    path.write_text(tomli_w.dumps(tables), encoding="utf-8")
    return read_sweep(path)


@FUZZ
@given(grid=GRIDS, flat=st.booleans())
def test_any_grid_gives_each_combination_once(
    tmp_path: Path, grid: dict[str, list[Any]], flat: bool
) -> None:
    tables = grid if flat else nest(grid)
    trials = sweep_of(tmp_path, base={"rounds": 2}, grid=tables).trials
    wanted = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    assert len(trials) == len(wanted)
    found = [dict(trial.values) for trial in trials]
    assert all(nest({"rounds": 2, **one}) in found for one in wanted)
    names = [trial.name for trial in trials]
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name) for name in names)
    assert all(len(name) <= LONGEST + 3 for name in names)  # 3: -2 where two would be alike
    again = sweep_of(tmp_path, base={"rounds": 2}, grid=tables).trials
    assert [trial.name for trial in again] == names
    for trial in trials:
        check_settings(RunConfig, trial.values, trial.name)


def test_the_last_key_moves_fastest_and_names_are_short(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, grid={"heal.aggregate": ["mean", "rmse"], "seed": [0, 1]})
    assert [trial.name for trial in sweep.trials] == [
        "aggregate-mean_seed-0",
        "aggregate-mean_seed-1",
        "aggregate-rmse_seed-0",
        "aggregate-rmse_seed-1",
    ]
    assert sweep.trials[0].varied == {"heal.aggregate": "mean", "seed": 0}
    assert sweep.trials[0].values == {"heal": {"aggregate": "mean"}, "seed": 0}


def test_listed_trials_come_after_the_grid_and_may_name_themselves(tmp_path: Path) -> None:
    sweep = sweep_of(
        tmp_path,
        base={"seed": 5, "heal": {"lam": 1.0}},
        grid={"heal": {"lam": [0.5, 2.0]}},
        list=[{"name": "sft", "heal": {"divergence": "none"}}, {"heal.lam": 4.0, "seed": 6}],
    )
    names = ["lam-0.5", "lam-2.0", "sft", "lam-4.0_seed-6"]
    assert [trial.name for trial in sweep.trials] == names
    assert sweep.trials[2].values == {"seed": 5, "heal": {"lam": 1.0, "divergence": "none"}}


def test_names_keep_what_tells_settings_apart() -> None:
    assert shortest(["heal.batch_size", "generate.batch_size", "seed"]) == [
        "heal.batch_size",
        "generate.batch_size",
        "seed",
    ]
    trials = [{"model": "a/Same", "seed": 1}, {"model": "b/Same", "seed": 1}]
    assert find_varying(trials) == ["model"]
    assert name_trials(trials) == ["model-Same", "model-Same-2"]
    assert name_trials([{"seed": 3}]) == ["trial"]
    (long, _) = name_trials([{"axis": "x" * 300}, {"axis": "y" * 300}])
    assert len(long) == LONGEST


def test_a_sample_is_named_by_its_values_to_the_last_digit() -> None:
    one, other = {"heal.lam": 0.1234567, "seed": 1}, {"heal.lam": 0.1234568, "seed": 1}
    assert name_sample(one) == name_sample(dict(reversed(one.items())))
    assert name_sample(one) != name_sample(other)
    assert name_sample(one).startswith("lam-0.123_seed-1_")


def test_what_makes_a_sweep_is_not_the_machine(tmp_path: Path) -> None:
    base = {"grid": {"seed": [0, 1]}, "search": {"fields": {"seed": [0, 1]}, "samples": 2}}
    design = sweep_of(tmp_path, **base).design
    assert sweep_of(tmp_path, **base, resources={"cpus": 4}).design == design
    more = {**base, "search": {**base["search"], "samples": 9}}
    assert sweep_of(tmp_path, **more).design == design
    assert sweep_of(tmp_path, **{**base, "grid": {"seed": [0, 2]}}).design != design


def test_the_example_is_sound() -> None:
    sweep = read_sweep(EXAMPLE)
    assert len(sweep.trials) == 4
    assert sweep.search is not None
    assert sweep.search.fields["heal.lam"] == Range(low=0.03, high=3.0, log=True)
    for trial in sweep.trials:
        assert check_settings(RunConfig, trial.values, trial.name).rounds == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["asks for no trial"]),
        ("[grid", ["is not valid TOML"]),
        ("[gird]\nseed = [0]", ["unknown key 'gird'", "'grid'"]),
        ("grid = 3", ["[grid]", "table"]),
        ("[grid]\nseed = 0", ["[grid]", "'seed'", "list of values"]),
        ("[grid]\nseed = []", ["'seed'", "list of values"]),
        ("[grid]\nseed = [0, 0]", ["'seed'", "twice"]),
        ("[grid]\nheal.aggregat = ['rmse']", ["'heal.aggregat'", "'aggregate'"]),
        ("[grid]\nheal = ['x']", ["'heal' is a group"]),
        ("[grid]\nseed.x = [1]", ["'seed'", "list of values"]),
        ("[grid]\n'heal.lam.x' = [1]", ["unknown key 'heal.lam.x'"]),
        ("[base]\nheal.lamb = 1\n[grid]\nseed = [0]", ["[base]", "'heal.lamb'", "'lam'"]),
        ("[base]\nheal.lam = 1\n'heal.lam' = 2\n[grid]\nseed = [0]", ["'heal.lam' is there twice"]),
        ("[grid]\nseed = [0, 1]\n[[list]]\nseed = 1", ["seed-1", "are the same"]),
        ("[[list]]\nname = 'a/b'", ["[[list]] 1", "'name'"]),
        ("[[list]]\nname = 'lock'", ["[[list]] 1", "'lock' is taken"]),
        ("[[list]]\nname = 'compare_x'", ["'compare_x' is taken"]),
        ("[[list]]\nname = 'a'\n[[list]]\nname = 'a'\nseed = 1", ["two trials are named 'a'"]),
        ("list = [1]", ["'list' must be tables"]),
        ("[grid]\nseed = [0]\n[resources]\ncpu = 1", ["[resources]", "'cpu'", "'cpus'"]),
        ("[grid]\nseed = [0]\n[resources]\ncpus = -1", ["[resources]", "'cpus'", "greater than 0"]),
        ("[search]\nsamples = 3", ["[search]", "'fields'"]),
        ("[search.fields]\nheal.lam = {low = 2, high = 1}", ["'heal.lam'", "less than high"]),
        ("[search.fields]\nheal.lam = {low = 0, high = 1, log = true}", ["above 0"]),
        ("[search.fields]\nheal.lam = {low = 0}", ["'heal.lam'", "'high'"]),
        ("[search.fields]\nheal.lam = 3", ["'heal.lam'", "a list of choices"]),
        ("[search.fields]\nheal.targets = [[], ['q']]", ["choices are numbers"]),
        ("[search.fields]\nseed = [1, 1]", ["holds a choice twice"]),
        ("[search]\nobjectiv = 'x'\n[search.fields]\nseed = [0, 1]", ["'objectiv'", "'objective'"]),
        (f"[grid]\nseed = {list(range(MAX_TRIALS + 1))}", ["1,001 trials"]),
    ],
)
def test_mistakes_are_one_line_that_names_file_and_key(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_sweep(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    for word in words:
        assert word in line


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_sweep(tmp_path / "none.toml")


@FUZZ
@given(data=st.data())
def test_any_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    text = EXAMPLE.read_text("utf-8")
    at = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(at, min(len(text), at + 30)))
    put = data.draw(st.text(max_size=12) | st.sampled_from(["[grid]", "[[list]]", "= {", "nan"]))
    path = tmp_path / "any.toml"
    path.write_text(text[:at] + put + text[end:], encoding="utf-8", errors="replace", newline="")
    said = refusal(lambda: read_sweep(path))
    assert said == "" or str(path) in said
