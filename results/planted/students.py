"""Students healed behind each barrier on the base model's own samples, loops planted in some.

Steered texts, as the loop collects them, differ from the base everywhere: the trait alone would use
up much of τ. On its own samples the base model is at no distance from itself, and what exceeds that
is the loop's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from results.lines import lines_of
from results.planted.planting import KINDS, Kind, choose_places, plant
from results.planted.tables import AGGREGATES, CLEAN, matched_taus
from results.store import Store, tell
from steer_heal_love.api import heal
from steer_heal_love.budget.rows import choose_rows
from steer_heal_love.errors import StarvedRound
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.inputs.prompts import training_prompts
from steer_heal_love.lm.model.load import LanguageModel, load_model
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.chat import decode_text, encode_chat
from steer_heal_love.loop.collect import base_limits, sample
from steer_heal_love.loop.context import RunContext, seed_of
from steer_heal_love.loop.dose_curve import spread_prompts
from steer_heal_love.maths.divergence import aggregate_per_sequence
from steer_heal_love.maths.head import head_losses
from steer_heal_love.records import Completion, NoPieces
from steer_heal_love.runner.environment import describe_environment
from steer_heal_love.runner.settings import load_config
from steer_heal_love.runs.files import write_text
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.heal import Example
from steer_heal_love.stages.healing.texts import reference_states

SEEDS = (0, 1, 2)

Texts = tuple[list[Completion], dict[int, Kind]]  # to heal on; those with a loop, by index


def measure(options: argparse.Namespace) -> int:
    """The base model and every student, seed by seed, into planted.json; returns the exit code."""
    config, contexts = load_config(options.config), load_contexts()
    lm, axis = load_model(options.model), load_axis(options.axis)
    config = choose_rows(
        lm, axis, training_prompts(axis, contexts, config.dose.min_prompts), config
    )
    store = Store(options.store / "planted")
    configs = [config.model_copy(update={"seed": seed}) for seed in SEEDS]
    runs = [RunContext(lm, axis, contexts, c, NoPieces(), lambda *_: None) for c in configs]

    def heal_behind(barrier: str, tau: float) -> dict[str, Any]:
        seeds = [measure_student(run, store, options.share, barrier, tau) for run in runs]
        tell(f"planted: {barrier} at τ = {tau:g}")
        return {"barrier": barrier, "tau": tau, "seeds": seeds}

    base = heal_behind("base", 0.0)["seeds"]
    students = [heal_behind(barrier, options.tau) for barrier in ("none", *AGGREGATES)]
    matched = matched_taus(students[0]["seeds"], options.tau)
    students += [heal_behind(barrier, tau) for barrier, tau in matched.items()]
    values = {
        "model": lm.identity.name,
        "texts": config.dose.n_keep,
        "share": options.share,
        "kinds": [asdict(kind) for kind in KINDS],
        "tau": options.tau,
        "default_tau": config.heal.tau,
        "environment": describe_environment(lm),
        "base": base,
        "students": students,
    }
    write_text(options.docs / "results" / "planted.json", lines_of(values, deep=4))
    return 0


@cache
def texts_of(run: RunContext, store: Store, share: float) -> Texts:
    """The base model's samples of this seed that its filter lets through, loops planted.

    Raises:
        StarvedRound: too few are, or too few of them are long enough.
    """
    seed, wanted = run.config.seed, run.config.dose.n_keep
    training = _sampled(run, store)[:wanted]
    if len(training) < wanted:
        passed = f"{len(training)} texts of the base model pass the filter"
        raise StarvedRound(f"seed {seed}: {passed}, and {wanted} are wanted")
    try:
        places = choose_places([len(c.token_ids) for c in training], share, KINDS, seed)
    except ValueError as error:
        raise StarvedRound(f"seed {seed}: {error}: lower --share") from None
    for i, kind in places.items():
        ids = plant(training[i].token_ids, kind)
        text = decode_text(run.lm, ids)
        training[i] = replace(training[i], token_ids=ids, text=text, end_id=None)
    return training, dict(sorted(places.items()))


def _settings(run: RunContext) -> dict[str, Any]:
    """What every stored piece depends on."""
    stages = {key: getattr(run.config, key).model_dump() for key in ("filter", "generate")}
    texts = {"seed": run.config.seed, "texts": run.config.dose.n_keep}
    return {"model": run.lm.identity.name, "axis": run.axis.name, **stages, **texts}


def _sampled(run: RunContext, store: Store) -> list[Completion]:
    def compute() -> list[dict[str, Any]]:
        prompts = spread_prompts(run.prompts, 2 * run.config.dose.n_keep)
        # not the noise of the samples that the limits are taken from
        texts = sample(run, prompts, 0.0, seed_of(run, "planted"), 0)
        limits, config = base_limits(run), run.config.filter
        judged = filtering.judge_all(run.lm, run.axis, texts, limits, config, trait=False)
        return [asdict(j.completion) for j in judged if j.coherent and j.completion.token_ids]

    rows = store.do(f"texts-{run.config.seed}", _settings(run), compute)
    return [Completion(**{**row, "token_ids": tuple(row["token_ids"])}) for row in rows]


def measure_student(run: RunContext, store: Store, share: float, barrier: str, tau: float) -> Any:
    """What a student healed behind this barrier makes of the texts and of loops.

    Args:
        barrier: an aggregate; or none, or base for the base model, whose τ counts for nothing.
    """
    own = {"divergence": "none"} if barrier == "none" else {"aggregate": barrier, "tau": tau}
    # Nothing is held out: it is the texts that were learnt from whose divergence is looked at. No
    # anchors: it is the barrier that is looked at.
    config = run.config.heal.model_copy(update={**own, "validation_share": 0.0, "anchor": 0.0})

    def compute() -> dict[str, Any]:
        texts = texts_of(run, store, share)
        if barrier == "base":
            return _measured(run.lm, texts)
        healed = heal(run.lm, texts[0], config, seed=seed_of(run, "heal", 0))
        with student(run.lm, [healed.adapter]):
            return _measured(run.lm, texts)

    planted = {"share": share, "kinds": [asdict(kind) for kind in KINDS]}
    settings = {**_settings(run), **planted, "heal": config.model_dump()}
    return store.do(f"{barrier}-{tau:g}-{run.config.seed}", settings, compute)


@torch.inference_mode()
def look(lm: LanguageModel, examples: Sequence[Example]) -> list[tuple[list[float], list[float]]]:
    """Of each text, position by position: the surprise of its token, and KL(model ‖ base), nats.

    The model is looked at as it is patched now, beside the base model, as the heal sees them.
    """
    own = reference_states(lm, examples, "previous") if examples else []
    base = reference_states(lm, examples, "base") if examples else []
    values = []
    for example, hidden, reference in zip(examples, own, base, strict=True):
        targets = torch.tensor(example.completion, device=lm.device)
        nll, kl = head_losses(hidden, reference, targets, lm.head, "reverse")
        values.append((nll.tolist(), kl.tolist()))
    return values


def _measured(lm: LanguageModel, texts: Texts) -> dict[str, Any]:
    """Of the model as it is patched now, on the texts as the heal reads them.

    D by each aggregate, as the barrier reckons it: of each kind, and of texts without a loop. And
    log p of each repeat of each loop, nats per token.
    """
    training, planted = texts
    ends = [() if c.end_id is None else (c.end_id,) for c in training]
    examples = [
        Example(tuple(encode_chat(lm, c.prompt)), (*c.token_ids, *end))
        for c, end in zip(training, ends, strict=True)
    ]
    divergence: dict[str, dict[str, list[float]]] = {name: {CLEAN: []} for name in AGGREGATES}
    repeats = []
    for i, (nll, kl) in enumerate(look(lm, examples)):
        where = planted[i].where if i in planted else CLEAN
        for name in AGGREGATES:
            one = torch.zeros(len(kl), dtype=torch.long)
            d = float(aggregate_per_sequence(torch.tensor(kl), one, 1, name)[0])
            divergence[name].setdefault(where, []).append(d)
        if i in planted:
            places = map(planted[i].repeat, range(1, planted[i].repeats + 1))
            repeats.append([-float(np.mean(nll[place])) for place in places])
    return {"divergence": divergence, "repeats": repeats}
