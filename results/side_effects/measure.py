"""What a student and the base model are asked: the same items, the same prompts and noise."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from results.side_effects.subjects import Subject
from results.store import Store
from steer_heal_love.checks.axis_validity import check_validity
from steer_heal_love.errors import DataError
from steer_heal_love.inputs.prompts import spread, training_prompts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.chat import encode_text
from steer_heal_love.lm.reading.relevance import relevance
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.lm.sampler.generate import Sampling
from steer_heal_love.maths.repetition import is_loop
from steer_heal_love.records import Axis, Context
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.instruments.answer_pairs import answer_pair_values
from steer_heal_love.stages.instruments.capability import measure_capability, ordinary_paragraphs

OWN, OPPOSITE = "own", "opposite"  # answer pairs of the run's axis; under the opposite persona
RELEVANCE_OTHERS = 4

Items = dict[str, list[float | None]]


@dataclass(frozen=True, eq=False)
class Questions:
    """What every subject on one model and axis is asked."""

    lm: LanguageModel
    store: Store
    contexts: Sequence[Context]
    axes: Sequence[Axis]  # other than the run's own
    mundane: int  # ordinary questions
    max_new_tokens: int


def mundane_prompts(subject: Subject, contexts: Sequence[Context], count: int) -> list[str]:
    """Ordinary questions that come with the package and that the run was not trained on.

    Raises:
        DataError: it was trained on all of them.
    """
    trained = set(training_prompts(subject.axis, contexts, subject.settings.dose.min_prompts))
    left = [c.text for c in contexts if c.text not in trained]
    if not left:
        raise DataError(
            f"run {subject.name}: it was trained on every bundled context, so no ordinary question "
            "is left to ask: lower dose.min_prompts"
        )
    return spread(left, count)


def valid_axes(questions: Questions, own: Axis) -> tuple[list[Axis], list[str]]:
    """Of the other axes those that can be measured on this model, and the names of the rest."""
    valid, rest = [], []
    for axis in questions.axes:
        if axis.name == own.name:
            continue
        settings = {"model": _model_of(questions.lm), "axis": _digest(asdict(axis))}
        answer = questions.store.do(
            f"validity/{settings['model'][:12]}-{axis.name}",
            settings,
            partial(_validity, questions.lm, axis),
        )
        if answer == "yes":
            valid.append(axis)
        else:
            rest.append(axis.name)
    return valid, rest


def _validity(lm: LanguageModel, axis: Axis) -> str:
    return check_validity(lm, axis).verdict.answer


def measure_round(
    questions: Questions, subject: Subject, last: int | None, others: Sequence[Axis]
) -> Items:
    """Items of the student after a round; of the base model where `last` is None."""
    adapters = [] if last is None else subject.adapters(last)
    prompts = mundane_prompts(subject, questions.contexts, questions.mundane)

    def compute() -> Items:
        with student(questions.lm, adapters) if adapters else nullcontext():
            return {
                **_traits(questions.lm, subject.axis, others),
                **_capability(questions.lm),
                **_mundane(questions, subject, prompts),
            }

    settings = {
        "model": _model_of(questions.lm),
        "axes": [_digest(asdict(axis)) for axis in (subject.axis, *others)],
        "prompts": _digest(prompts),
        "max_new_tokens": questions.max_new_tokens,
        "generate": subject.settings.generate.model_dump(),
        "seed": subject.settings.seed,
        "adapters": None if last is None else _adapter_hashes(subject, last),
    }
    place = "base" if last is None else f"{last:02d}"
    found: Items = questions.store.do(f"{subject.name}/{place}", settings, compute)
    return found


def _traits(lm: LanguageModel, own: Axis, others: Sequence[Axis]) -> Items:
    """Answer pairs: of the run's axis, also under its opposite persona, and of other axes."""
    return {
        f"pairs/{OWN}": list(answer_pair_values(lm, own)),
        f"pairs/{OPPOSITE}": list(answer_pair_values(lm, own, own.neg_system)),
        **{f"pairs/{axis.name}": list(answer_pair_values(lm, axis)) for axis in others},
    }


def _capability(lm: LanguageModel) -> Items:
    """Surprise at each paragraph of ordinary text, nats per token, and how many tokens it has."""
    paragraphs = ordinary_paragraphs()
    measured = measure_capability(lm, paragraphs)
    return {
        "capability_nats": list(measured.items["capability_nats"]),
        "capability_tokens": [float(len(encode_text(lm, p))) for p in paragraphs],
    }


def _mundane(questions: Questions, subject: Subject, prompts: Sequence[str]) -> Items:
    """Sampled answers to ordinary questions, scored under the base model."""
    lm, g = questions.lm, subject.settings.generate
    sampling = Sampling(questions.max_new_tokens, g.temperature, g.top_k, g.top_p)
    answers = sample_answers(lm, prompts, sampling, seed=subject.settings.seed)
    scored = filtering.score_completions(lm, subject.axis, answers, subject.settings.filter)
    own = [-float(np.mean(s.surprise_nats)) if s.surprise_nats else None for s in scored]
    ids = [c.token_ids for c in answers]
    return {
        "mundane_perplexity": [_finite(s.scores.perplexity) for s in scored],
        "mundane_relevance": relevance(
            lm, prompts, ids, own_nats=own, n_other=RELEVANCE_OTHERS, seed=subject.settings.seed
        ),
        "mundane_persona_nats": [s.scores.trait_nats for s in scored],
        "mundane_loops": [float(is_loop(c.text)) for c in answers],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _model_of(lm: LanguageModel) -> str:
    return _digest([lm.identity.name, lm.identity.revision, lm.identity.dtype])


def _adapter_hashes(subject: Subject, last: int) -> list[str]:
    """What the student is made of: the files' hashes, so that another run of this name is new."""
    folder = subject.view.path / "rounds"
    files = [
        folder / f"{r:02d}/adapter/adapter_model.safetensors" for r in subject.rounds if r <= last
    ]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
