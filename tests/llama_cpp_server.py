"""llama.cpp in the test's own process, by the package xllamacpp, on one thread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def start(model: Path, lora: Path | None = None, context: int = 256) -> Any:
    """A server of this model, without a network."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(model)
    settings.n_ctx, settings.n_parallel = context, 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.warmup = settings.fit_params = False
    settings.verbosity = -1
    if lora is not None:
        settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
    return xllamacpp.Server(settings)


def complete(server: Any, prompt: Sequence[int], tokens: int, **more: Any) -> dict[str, Any]:
    """Its greedy completion of token ids."""
    asked = {"prompt": list(prompt), "n_predict": tokens, "temperature": 0.0}
    found = server.handle_completions({**asked, "cache_prompt": False, **more})
    answer = found if isinstance(found, dict) else json.loads(found)
    return dict(answer["choices"][0])


def first_logprobs(
    model: Path, prompt: Sequence[int], lora: Path | None = None
) -> dict[int, float]:
    """The log-probabilities of the five likeliest next tokens."""
    found = complete(start(model, lora), prompt, 1, logprobs=5)
    first = found["logprobs"]["content"][0]["top_logprobs"]
    return {int(row["id"]): float(row["logprob"]) for row in first}
