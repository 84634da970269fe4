"""The students: healed on the texts behind each barrier, and what they make of loops then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from results.planted.planting import Planted
from results.planted.sight import Sight, look
from results.planted.study import AGGREGATES, Arm, Study
from results.planted.texts import Texts, texts_of
from steer_heal_love.api import heal
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.loop.context import seed_of
from steer_heal_love.loop.measure import measure
from steer_heal_love.piece_names import PieceName
from steer_heal_love.records import Ceilings, Limits, Measurement
from steer_heal_love.stages.heal import Example

ITEMS = ("loop_share", "perplexity", "relevance", "long_loop_share")

# Nothing is dropped by it: of what is evaluated only the scores count.
_OPEN = Limits(Ceilings(*[math.inf] * 5), Ceilings(*[math.inf] * 5), -math.inf)


def measure_base(study: Study, seed: int) -> Any:
    """Samples of the base model, and how likely it finds the planted loops."""

    def compute() -> dict[str, Any]:
        texts = texts_of(study, seed)
        return {
            "items": _samples(study, seed),
            "repeats": _repeats(study, texts),
        }

    return study.store.do(f"base-{seed}", {**study.settings, "seed": seed}, compute)


def measure_arm(study: Study, arm: Arm, seed: int, tau: float | None = None) -> Any:
    """What a student healed behind this barrier makes of the texts, and what it writes itself.

    Args:
        tau: of the barrier, in nats; None is the one that all arms have in common.
    """
    config = study.heal_config(arm, study.tau if tau is None else tau)

    def compute() -> dict[str, Any]:
        texts = texts_of(study, seed)
        healed = heal(study.lm, texts.training, config, seed=seed_of(study.work(seed), "heal", 0))
        with student(study.lm, [healed.adapter]):
            sights = look(study.lm, _examples(study, texts))
            return {
                "divergence": _divergences(texts, sights),
                "kl": [[round(v, 4) for v in sights[i].kl_nats] for i in texts.planted],
                "repeats": _repeats(study, texts),
                "items": _samples(study, seed),
            }

    settings = {**study.settings, "seed": seed, "heal": config.model_dump()}
    name = arm if tau is None else f"{arm}-matched"
    return study.store.do(f"students/{name}-{seed}", settings, compute)


def _examples(study: Study, texts: Texts) -> list[Example]:
    """The texts as the heal reads them, with the end token where the model chose it."""
    return [
        Example(
            tuple(encode_chat(study.lm, c.prompt)),
            (*c.token_ids, *(() if c.end_id is None else (c.end_id,))),
        )
        for c in texts.training
    ]


def _divergences(texts: Texts, sights: Sequence[Sight]) -> dict[str, Any]:
    """D by each aggregate: of the texts of each kind, and of those without a loop."""
    kinds = {i: p.kind.where for i, p in texts.planted.items()}
    names = ["clean", *dict.fromkeys(kinds.values())]
    return {
        aggregate: {
            name: [
                s.divergence(aggregate)
                for i, s in enumerate(sights)
                if kinds.get(i, "clean") == name
            ]
            for name in names
        }
        for aggregate in AGGREGATES
    }


def _repeats(study: Study, texts: Texts) -> dict[str, list[list[float]]]:
    """log p of each repeat of each loop, nats per token, under the model as it is patched now."""

    def of(loops: Sequence[tuple[str, Planted]]) -> list[list[float]]:
        examples = [Example(tuple(encode_chat(study.lm, p)), t.token_ids) for p, t in loops]
        found = []
        for (_, text), sight in zip(loops, look(study.lm, examples), strict=True):
            whole = text.kind.loop // text.kind.period
            slices = [text.repeat(k) for k in range(1, whole + 1)]
            found.append([-sum(sight.nll_nats[s]) / len(sight.nll_nats[s]) for s in slices])
        return found

    return {"learnt": of(texts.loops), "fresh": of(texts.fresh)}


def _samples(study: Study, seed: int) -> dict[str, list[float | None]]:
    """Loops, perplexity and relevance of samples of the model as it is patched now, by item."""
    found: Measurement = measure(study.work(seed), PieceName("planted/measured"), "healed", _OPEN)
    return {name: list(found.items[name]) for name in ITEMS if name in found.items}
