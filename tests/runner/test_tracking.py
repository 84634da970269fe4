"""A run's figures reach a tracker, under the same names whichever it is."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from said import Said, refused, say
from steer_heal_love.errors import ConfigError
from steer_heal_love.records import (
    Adapter,
    Baseline,
    Cost,
    Direction,
    Healed,
    HealStep,
    Interval,
    Measurement,
    RoundRecord,
)
from steer_heal_love.runner.tracking import (
    PROJECT,
    TrackerName,
    Tracking,
    figures,
    open_tracker,
    plain_settings,
)
from tiny_run import write_inputs

__all__ = ["say"]

TRACKERS = get_args(TrackerName)


def measured(trait: float) -> Measurement:
    return Measurement({"trait_nats": Interval(trait, trait - 0.1, trait + 0.1)}, {})


BASELINE = Baseline(measured(0.1), measured(0.4), measured(-0.2))
STEPS = tuple(
    HealStep(i, i / 3, 2.0 - i, 1.5 - i, 0.5, 0.9, 0.25, 1.0, 0.0, math.inf if i == 1 else 3.0)
    for i in range(3)
)


def record(r: int) -> RoundRecord:
    import torch

    return RoundRecord(
        round=r,
        direction=Direction((1,), torch.ones(1, 4)),
        dose=0.5,
        judged=(),
        healed_result=Healed(Adapter({}, {}), STEPS, ()),
        cosine_first=1.0,
        steered=measured(0.7),
        healed=measured(0.6),
        cost={"heal": Cost(2.5, 100, 1 << 30)},
    )


class Recorder:
    """A tracker that remembers; `breaks_at` is the call at which it fails."""

    def __init__(self, breaks_at: int = -1) -> None:
        self.calls: list[tuple[str, Any, int | None]] = []
        self.breaks_at = breaks_at

    def _note(self, name: str, values: Any = None, step: int | None = None) -> None:
        if len(self.calls) == self.breaks_at:
            raise ConnectionError("no network\nand more")
        self.calls.append((name, values, step))

    def start(self) -> None:
        self._note("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._note("settings", values)

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        self._note("log", values, step)

    def finish(self) -> None:
        self._note("finish")


def tell(tracker: Recorder | None, warn: Callable[[str], None]) -> None:
    tracking = Tracking(tracker, warn)
    tracking.begin({"heal": {"tau": 1.0}, "rounds": 2})
    for r in (BASELINE, record(0), record(1)):
        tracking.tell(r)
    tracking.end()


def test_everything_arrives_in_order_and_steps_never_go_back() -> None:
    tracker = Recorder()
    tell(tracker, pytest.fail)
    names = [name for name, _, _ in tracker.calls]
    assert names == ["start", "settings", *["log"] * 9, "finish"]
    assert tracker.calls[1][1] == {"heal.tau": 1.0, "rounds": 2}
    assert [step for name, _, step in tracker.calls if name == "log"] == [0, 0, 1, 2, 3, 3, 4, 5, 6]
    logged = [values for name, values, _ in tracker.calls if name == "log"]
    assert logged[0]["base/trait_nats"] == 0.1
    assert logged[1]["heal/loss"] == 2.0
    assert logged[4]["healed/trait_nats"] == 0.6
    assert logged[4]["healed/trait_nats/low"] == pytest.approx(0.5)
    assert (logged[4]["round/index"], logged[8]["round/index"]) == (0, 1)
    assert logged[4]["wall_s/heal"] == 2.5


def test_what_is_not_finite_is_left_out() -> None:
    tracker = Recorder()
    tell(tracker, pytest.fail)
    steps = [v for name, v, _ in tracker.calls if name == "log" and "heal/loss" in v]
    assert ["heal/grad_norm" in v for v in steps] == [True, False, True] * 2


@pytest.mark.parametrize("breaks_at", [0, 1, 2, 5, 11])
def test_a_tracker_that_fails_is_told_of_once_and_left(breaks_at: int) -> None:
    tracker, warnings = Recorder(breaks_at), list[str]()
    tell(tracker, warnings.append)
    assert warnings == ["tracking ended: no network"]
    assert len(tracker.calls) == breaks_at


def test_without_a_tracker_nothing_happens() -> None:
    tell(None, pytest.fail)


def test_a_baseline_and_a_round_share_no_name_but_their_own() -> None:
    one, other = dict(figures(BASELINE)), dict(figures(record(0)))
    assert {n.split("/")[0] for n in one} == {"base", "prompt_pos", "prompt_neg"}
    assert {n.split("/")[0] for n in other} == {"steered", "healed", "round", "wall_s"}


def test_settings_are_flat_and_plain() -> None:
    given = {"a": {"b": {"c": 1}, "d": None}, "e": (0.5, 1.0), "f": "x", "g": True}
    assert plain_settings(given) == {"a.b.c": 1, "e": "0.5, 1.0", "f": "x", "g": True}


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_library_is_one_line_before_anything_is_written(
    name: TrackerName, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, say: Callable[..., Said]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == name else found(n, *a)
    )
    with pytest.raises(ConfigError, match=f"pip install {name}"):
        open_tracker(name, tmp_path / "run")
    flags = write_inputs(tmp_path)
    refused(say("run", *flags, "--out", str(tmp_path / "run"), "--track", name))
    assert not (tmp_path / "run").exists()


def stand_in(name: str, seen: list[tuple[str, Any]]) -> Any:
    """What accelerate's tracker calls of the library of this name."""

    def init(**how: Any) -> Any:
        seen.append(("init", how))
        return SimpleNamespace(
            log=lambda values, step=None: seen.append(("log", (values, step))),
            finish=lambda: seen.append(("finish", None)),
        )

    return SimpleNamespace(
        init=init,
        config=SimpleNamespace(update=lambda values, **_: seen.append(("settings", values))),
        search_experiments=lambda **_: [],
        create_experiment=lambda **how: seen.append(("experiment", how["name"])) or "1",
        start_run=lambda **how: init(**how),
        log_params=lambda values: seen.append(("settings", values)),
        log_metrics=lambda values, step=None: seen.append(("log", (values, step))),
        end_run=lambda: seen.append(("finish", None)),
        utils=SimpleNamespace(
            validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
        ),
        __spec__=SimpleNamespace(name=name),
    )


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_each_gets_the_same_names_through_accelerate(
    name: TrackerName, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The library is a stand-in: it would need an account, a server or a browser."""
    seen: list[tuple[str, Any]] = []
    monkeypatch.setitem(sys.modules, name, stand_in(name, seen))
    tracking = Tracking(open_tracker(name, tmp_path / "love-1"), pytest.fail)
    tracking.begin({"heal": {"tau": 1.0}})
    tracking.tell(BASELINE)
    tracking.tell(record(0))
    tracking.end()
    kinds = [kind for kind, _ in seen if kind != "experiment"]
    assert kinds == ["init", "settings", *["log"] * 5, "finish"]
    began = next(how for kind, how in seen if kind == "init")
    assert "love-1" in began.values()
    assert PROJECT in {*began.values(), *(v for k, v in seen if k == "experiment")}
    logged = [values for kind, values in seen if kind == "log"]
    assert logged[0] == (dict(figures(BASELINE)), 0)
    assert logged[-1] == (dict(figures(record(0))), 3)


def test_a_run_fills_tensorboards_files(
    tmp_path: Path, say: Callable[..., Said], light: None
) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed: pip install 'steer-heal-love[track]'",
    )
    run = tmp_path / "runs" / "tracked"
    flags = [*write_inputs(tmp_path, rounds=1), "--out", str(run)]
    said = say("run", *flags, "--track", "tensorboard")
    assert said.code == 0, said.err
    found = event_accumulator.EventAccumulator(str(tmp_path / "runs" / "tensorboard" / "tracked"))
    found.Reload()
    names = set(found.Tags()["scalars"])
    assert {"base/trait_nats", "healed/perplexity", "heal/loss", "round/dose"} <= names
    assert [e.value for e in found.Scalars("round/index")] == [0]
    assert say("verify", str(run)).code == 0


def test_a_value_that_is_there_is_not_changed() -> None:
    worse = replace(record(0), healed=measured(-3.25))
    assert dict(figures(worse))["healed/trait_nats"] == -3.25
