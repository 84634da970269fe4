"""Every rival without training on one model and axis, measured as a run measures them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from results.lines import lines_of
from results.store import Store, tell
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.loop.context import RunContext, extract
from steer_heal_love.loop.rivals.front import list_few, list_grid, measure_rival
from steer_heal_love.records import Direction, Interval, Measurement, NoPieces, Rival
from steer_heal_love.runner.base_cache import cache_baselines
from steer_heal_love.runner.environment import describe_environment
from steer_heal_love.runner.settings import load_config
from steer_heal_love.runs.as_json import items_of
from steer_heal_love.runs.files import write_text

FIGURES = ("trait_nats", "trait_raw_nats", "temperature_match", "kl_matched_nats", "distinct_2")
ITEMS = ("trait_nats", "kl_matched_nats", "perplexity", "relevance", "loop_share")

Front = list[tuple[Rival, Measurement]]


def measure(options: argparse.Namespace) -> int:
    """The grid, point by point, into front.json; returns the exit code.

    What a run of the same model, axis and settings would look for goes into the base's cache too.
    """
    config, contexts = load_config(options.config), load_contexts()
    lm, axis = load_model(options.model), load_axis(options.axis)
    if options.samples is not None:
        evaluate = config.evaluate.model_copy(update={"front_samples": options.samples})
        config = config.model_copy(update={"evaluate": evaluate})
    pieces = cache_baselines(NoPieces(), lm, axis, contexts, config)
    run = RunContext(lm, axis, contexts, config, pieces, lambda *_: None)
    store = Store(options.store / "front")
    names = ("filter", "generate", "evaluate", "steer")
    settings = {
        "model": lm.identity.revision,
        "axis": asdict(axis),
        **{name: getattr(config, name).model_dump(exclude={"batch_size"}) for name in names},
    }
    direction = stored_direction(run, store, settings)
    few = list_few(config.evaluate)
    rivals = [*few, *(r for r in list_grid(config.evaluate) if r not in few)]
    if options.few:
        rivals = few
    measured = []
    for at, rival in enumerate(rivals, 1):

        def compute(rival: Rival = rival) -> dict[str, Any]:
            return to_plain(rival, measure_rival(run, rival, direction))

        measured.append(store.do(rival.name, settings, compute))
        tell(f"front: {rival.words}, {at} of {len(rivals)}")
    values = {
        "model": lm.identity.name,
        "axis": axis.name,
        "samples": config.evaluate.front_samples,
        "environment": describe_environment(lm),
        "rivals": measured,
    }
    write_text(options.docs / "results" / "front.json", lines_of(values, deep=4))
    return 0


def stored_direction(run: RunContext, store: Store, settings: Mapping[str, Any]) -> Direction:
    """The first direction of a run, read once."""

    def compute() -> dict[str, Any]:
        read = extract(run, 0)
        return {"layers": read.layers, "vectors": read.vectors.tolist()}

    found = store.do("direction", settings, compute)
    return Direction(tuple(found["layers"]), torch.tensor(found["vectors"]))


def to_plain(rival: Rival, measured: Measurement) -> dict[str, Any]:
    """What tables and figure are made from."""
    figures = {n: f for n, f in measured.figures.items() if n in FIGURES}
    return {
        "method": rival.method,
        "dose": rival.dose,
        "temperature": rival.temperature,
        "figures": {n: [f.value, f.low, f.high] for n, f in figures.items()},
        "items": {n: v for n, v in items_of(measured).items() if n in ITEMS},
    }


def read(docs: Path) -> Mapping[str, Any] | None:
    """What was measured; None where that is nothing."""
    file = docs / "results" / "front.json"
    if not file.is_file():
        return None
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values


def front_of(values: Mapping[str, Any]) -> Front:
    """The rivals again, the base model first."""
    return [
        (
            Rival(r["method"], r["dose"], r["temperature"]),
            Measurement(
                {n: Interval(*f) for n, f in r["figures"].items()},
                {n: tuple(v) for n, v in r["items"].items()},
            ),
        )
        for r in values["rivals"]
    ]
