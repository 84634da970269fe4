"""A sweep made small: does the code run?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steer_heal_love.runs.codec import to_toml
from steer_heal_love.runs.files import write_text
from steer_heal_love.sweep.file import Sweep
from steer_heal_love.sweep.naming import canonical
from steer_heal_love.sweep.trial import Trial

ROUNDS = 2
VALUES = 2  # of each setting in which the trials differ, the first ones

SHORT: Mapping[str, Any] = {
    "steer": {"contexts": 8},
    "dose": {
        **{"n_keep": 8, "probe_batch": 8, "batch": 8, "min_kept": 2, "max_generated": 32},
        **{"min_prompts": 8, "top_share": 1.0},
    },
    "generate": {"max_new_tokens": 24},
    "heal": {"epochs": 1},
    "evaluate": {
        **{"samples": 8, "max_new_tokens": 24, "long_samples": 2, "long_tokens": 32},
        **{"mfv": "off", "max_perplexity_ratio": 1e6, "max_loop_excess": 2.0},
    },
}


def write_small(sweep: Sweep, file: Path, over: Mapping[str, Any]) -> None:
    """Write a sweep with fewer trials of few short rounds.

    Args:
        over: settings over those of every trial; a setting in which the trials differ stays.
    """
    trials = [{"name": t.name.replace(".", "-"), **_small(t, over)} for t in _first_values(sweep)]
    write_text(file, to_toml({"list": trials}))


def _small(trial: Trial, over: Mapping[str, Any]) -> dict[str, Any]:
    rounds = min(int(trial.values.get("rounds", ROUNDS)), ROUNDS)
    found = merged(merged(trial.values, SHORT), {**over, "rounds": rounds})
    for key, value in trial.varied.items():
        *groups, last = key.split(".")
        table = found
        for group in groups:
            table = table.setdefault(group, {})
        table[last] = value
    return found


def _first_values(sweep: Sweep) -> Iterator[Trial]:
    """The trials that have none but the first values of every setting in which they differ."""
    seen: dict[str, list[str]] = {}
    for trial in sweep.trials:
        for key, value in trial.varied.items():
            values, said = seen.setdefault(key, []), canonical(value)
            if said not in values:
                values.append(said)
    for trial in sweep.trials:
        places = [seen[key].index(canonical(value)) for key, value in trial.varied.items()]
        if max(places, default=0) < VALUES:
            yield trial


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables of settings as one; what stands in `above` wins."""
    found = dict(below)
    for key, value in above.items():
        own = found.get(key)
        if isinstance(own, Mapping) and isinstance(value, Mapping):
            value = merged(own, value)
        found[key] = value
    return found
