"""Sampled answers to user messages, as records."""

from __future__ import annotations

from collections.abc import Sequence

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import decode_text, encode_chat
from steer_heal_love.lm.sampler.generate import Dosing, Sampling, generate
from steer_heal_love.records import Completion


def sample_answers(
    lm: LanguageModel,
    prompts: Sequence[str],
    sampling: Sampling | Sequence[Sampling],
    *,
    seed: int,
    first_index: int = 0,
    system: str | Sequence[str | None] | None = None,
    kappa: float = 0.0,
    dosing: Dosing | None = None,
    batch_size: int | None = None,
) -> list[Completion]:
    """One answer per prompt, of the model as it is patched now; see `generate`.

    Args:
        kappa: the dose of a steering that is on, for the record.
        system: a system prompt for all of them, or one for each.

    Raises:
        DivergedError, OutOfMemory: as `generate` does.
    """
    systems = [system] * len(prompts) if system is None or isinstance(system, str) else system
    rows = generate(
        lm,
        [encode_chat(lm, p, s) for p, s in zip(prompts, systems, strict=True)],
        sampling,
        seed=seed,
        first_index=first_index,
        batch_size=batch_size,
        dosing=dosing,
    )
    return [
        Completion(
            prompt=prompt,
            text=decode_text(lm, row.token_ids),
            token_ids=row.token_ids,
            end_id=row.end_id,
            kappa=kappa,
            seed=seed,
            index=first_index + i,
            kappas=row.kappas,
            rewinds=row.rewinds,
            dropped=row.dropped,
            drawn=None if row.spent is None else row.spent.sampled_tokens,
            watched=0 if row.spent is None else row.spent.watched_tokens,
        )
        for i, (prompt, row) in enumerate(zip(prompts, rows, strict=True))
    ]
