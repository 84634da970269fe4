"""A finished run with adapters that change the model, written without running the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
import torch

from tiny import random_adapter, save_tiny_model
from tiny_run import axis_data

if TYPE_CHECKING:
    from steer_heal_love.lm.model.load import LanguageModel
    from steer_heal_love.records import Adapter, Answer, Measurement

ROUNDS = 2
TEXTS = (
    ("How are you?", "I am well, and I care about you."),
    ("Tell me about rain.", "The train leaves at noon, and be kind."),
)


def write_run(
    path: Path,
    lm: LanguageModel,
    model: str,
    adapters: Sequence[Adapter],
    *,
    layers: tuple[int, ...] = (1, 2),
    axis: dict[str, Any] | None = None,
    texts: Sequence[tuple[str, str]] = TEXTS,
) -> Path:
    """A run of as many rounds as there are adapters, of the model that `model` loads."""
    from steer_heal_love.inputs.axes import parse_axis
    from steer_heal_love.records import Baseline, Direction, Healed, HealStep, RoundRecord
    from steer_heal_love.runs.write import RunDirectory

    settings = {"model": model, "axis": "kind", "rounds": len(adapters), "seed": 7}
    config: dict[str, Any] = {**settings, "heal": {"aggregate": "rmse", "divergence": "reverse"}}
    config["heal"] |= {"tau": 1.0, "lam": 1.0}
    found = parse_axis(tomli_w.dumps(axis or axis_data()), "kind.toml")
    environment = {
        "steer_heal_love": "0.1.0",
        "packages": {"torch": torch.__version__},
        "model": asdict(lm.identity),
    }
    run = RunDirectory.create(path, config, found, environment)
    plain = _measured(0.1, [])
    head = {"axis": found.name, "model": lm.identity.name, "seed": 7, "tau": 1.0}
    run.record_baseline(Baseline(plain, _measured(0.4, []), _measured(-0.2, [])), head)
    generator = torch.Generator().manual_seed(1)
    for index, adapter in enumerate(adapters):
        step = HealStep(0, 0.5, 1.0, 1.2, 0.3, 0.5, 0.0, 1.0, 1.0)
        width = int(lm.head.weight.shape[1])
        run.record_round(
            RoundRecord(
                round=index,
                direction=Direction(layers, torch.randn(len(layers), width, generator=generator)),
                dose=0.5 + index,
                judged=(),
                healed_result=Healed(adapter, (step,), ()),
                cosine_first=1.0,
                steered=_measured(0.9, []),
                healed=_measured(0.8 + index / 10, _answers(texts)),
                cost={},
            )
        )
    return path


def write_tiny_run(folder: Path, kind: Any = "llama", **settings: Any) -> Path:
    """A run of `ROUNDS` rounds of a tiny model that is saved beside it."""
    from steer_heal_love.lm.model.load import load_model

    where = save_tiny_model(folder / "tiny", kind)
    lm = load_model(str(where), dtype="float32", device="cpu")
    adapters = [random_adapter(lm, seed=i, rank=2 + i, alpha=4.0) for i in range(ROUNDS)]
    return write_run(folder / "run", lm, str(where), adapters, **settings)


def _measured(trait: float, answers: list[Answer]) -> Measurement:
    from steer_heal_love.records import Interval, Measurement

    figures = {
        "trait_nats": Interval(trait, trait - 0.05, trait + 0.05),
        "perplexity": Interval(7.0, 6.0, 8.0),
        "loop_share": Interval(0.0, 0.0, 0.1),
    }
    items = {"trait_nats": (trait, trait + 0.1), "perplexity": (7.0, 7.5)}
    return Measurement(figures, items, tuple(answers))


def _answers(texts: Sequence[tuple[str, str]]) -> list[Answer]:
    from steer_heal_love.records import Answer

    return [
        Answer("healed", "sampled", prompt, text, (text,), (1.0,), False, True, ())
        for prompt, text in texts
    ]
