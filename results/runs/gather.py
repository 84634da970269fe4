"""Out of run directories, what the pages need of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from results.runs.records import FrontDose, Measured, Round, Run, SweepFigures
from steer_heal_love.maths.paired import known
from steer_heal_love.report.states import read_figure, read_mapping, read_number, read_rounds
from steer_heal_love.runs.read import RunView, read_run
from steer_heal_love.sweep.file import Sweep
from steer_heal_love.sweep.naming import canonical

FIGURES = (
    *("trait_nats", "perplexity", "relevance", "distinct_2", "self_bleu", "capability_perplexity"),
    *("perplexity_ratio", "relevance_ratio"),
)
SHARES = ("loop_share", "long_loop_share")
ITEMS = ("trait_nats", "perplexity", "capability_nats")
_NOT_SETTINGS = ("seed", "axis", "model", "rounds")  # each run says them itself


Items = Mapping[str, Mapping[str, Sequence[float | None]]]


def gather(folder: Path, sweep: Sweep, name: str) -> SweepFigures:
    """The figures of every trial that has a finished round, in the order of the sweep's file.

    Raises:
        RunError: a file of a run is broken.
    """
    places = [folder / trial.name for trial in sweep.trials]
    views = [read_run(place) for place in places if (place / "config.toml").is_file()]
    views = [view for view in views if read_rounds(view.metrics)]
    flats = [_flat(view.config) for view in views]
    shared = _shared(flats)
    asked = [int(trial.values.get("rounds", 8)) for trial in sweep.trials]
    return SweepFigures(
        name=name,
        trials=len(sweep.trials),
        rounds=max(asked),
        settings=shared,
        environment={view.path.name: environment_of(view.path) for view in views},
        runs=tuple(
            _run(view, {k: v for k, v in flat.items() if k not in shared})
            for view, flat in zip(views, flats, strict=True)
        ),
    )


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        elif before or key not in _NOT_SETTINGS:
            found[f"{before}{key}"] = value
    return found


def _shared(flats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that are the same in all."""
    if not flats:
        return {}
    first = {key: canonical(value) for key, value in flats[0].items()}
    return {
        key: flats[0][key]
        for key in first
        if all(key in flat and canonical(flat[key]) == first[key] for flat in flats)
    }


def environment_of(run: Path) -> dict[str, Any]:
    """Where a run was carried out; empty where its file is missing or broken."""
    try:
        read = read_mapping(json.loads((run / "environment.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
    wanted = ("steer_heal_love", "git_commit", "device", "threads", "packages")
    return {key: read[key] for key in wanted if key in read}


def _run(view: RunView, own: dict[str, Any]) -> Run:
    metrics = view.metrics
    baseline = replace(view, metrics={**metrics, "rounds": []}).items()

    def measured(condition: str) -> Measured:
        return _measured(metrics.get(condition), baseline.get(condition, {}))

    entries = [entry for entry in read_rounds(metrics) if entry.get("healed")]
    return Run(
        trial=view.path.name,
        settings=own,
        axis=str(metrics.get("axis") or view.axis.name),
        model=str(metrics.get("model") or view.config.get("model")),
        seed=int(view.config.get("seed", 0)),
        base=measured("base"),
        prompt_pos=measured("prompt_pos"),
        prompt_neg=measured("prompt_neg"),
        rounds=tuple(_round(view, entry) for entry in entries),
    )


def _round(view: RunView, entry: Mapping[str, Any]) -> Round:
    number = int(entry["round"])
    until_here = replace(view, metrics={**view.metrics, "rounds": [dict(entry)]})
    items = until_here.items()  # of this round, and of the baseline
    rivals = read_mapping(entry.get("rivals"))
    return Round(
        number=number,
        kappa=read_number(entry.get("dose")) or 0.0,
        kept=int(entry.get("kept", 0)),
        total=int(entry.get("total", 0)),
        cosine_first=read_number(entry.get("cosine_first")) or 0.0,
        divergence=read_number(read_mapping(entry.get("heal")).get("divergence")),
        healed=_measured(entry.get("healed"), items.get("healed", {})),
        steered=_measured(entry.get("steered"), items.get("steered", {})),
        front=read_front(view.path, entry),
        rivals={name: _measured(rivals[name], items.get(name, {})) for name in rivals},
        stopped=str(entry["stopped"]) if entry.get("stopped") else None,
    )


def read_front(run: Path, entry: Mapping[str, Any]) -> tuple[FrontDose, ...]:
    """The doses of raw steering that a round of a run measured, with the values per item.

    As they are: steering at another temperature, and other rivals, are no points of that line.
    """
    doses = entry.get("front") or []
    if not doses:
        return ()
    file = run / f"rounds/{int(entry['round']):02d}" / "metrics.json"
    rows = json.loads(file.read_text(encoding="utf-8")).get("front_items", [])
    return tuple(
        FrontDose(float(dose["dose"]), _measured(dose, items))
        for dose, items in zip(doses, rows, strict=True)
        if (dose.get("method", "steering"), dose.get("temperature", 1)) == ("steering", 1)
    )


def _measured(entry: object, items: Mapping[str, Sequence[float | None]]) -> Measured:
    figures = {}
    for name in FIGURES:
        figure = read_figure(entry, name)
        if figure is not None:
            figures[name] = (figure.value, *(figure.bounds or (None, None)))
    counts = {name: known(items[name]) for name in SHARES if name in items}
    return Measured(
        figures=figures,
        items={name: tuple(items[name]) for name in ITEMS if name in items},
        counts={name: (round(sum(values)), len(values)) for name, values in counts.items()},
    )
