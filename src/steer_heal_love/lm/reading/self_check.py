"""Whether this package reads a model as transformers does: tried on one prompt when it is loaded.

Architectures differ in ways that no list foresees: another scale of the logits, positions that are
counted otherwise, a cache of their own. What comes out tells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.memory import is_out_of_memory
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.quiet import first_line
from steer_heal_love.lm.patches.packed import head_logits
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.reading.context import Prefix
from steer_heal_love.lm.tokens import pad_left

TOKENS = 24  # of the prompt
# How far logits may be apart, as a share of their spread over the vocabulary: rounding is below.
LIMIT = 5e-3
LIMIT_COARSE = 0.15  # in half precision or four bits


@torch.inference_mode()
def refuse_other_logits(lm: LanguageModel) -> None:
    """Hold our logits against those of transformers' own pass over a short prompt.

    Ours come of a pass over the whole prompt, as texts are scored and learnt, and of two rows of
    different lengths that are read on from a cache, as texts are sampled.

    Raises:
        ModelError: they are others, or our passes fail.
    """
    ids = encode_chat(lm, "How are you today?")[:TOKENS]
    rows = [ids, ids[2:] if len(ids) > 6 else ids]
    try:
        theirs = [_library(lm, row) for row in rows]
        ours = [_whole(lm, ids), *_read_on(lm, rows)]
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"model {lm.identity.name!r} ({type(lm.model).__name__}) cannot be read here "
            f"({first_line(error)[:200]}): its architecture is not supported"
        ) from error
    apart = max(_distance(a, b) for a, b in zip([theirs[0], *theirs], ours, strict=True))
    if apart > (LIMIT if lm.identity.dtype == "float32" else LIMIT_COARSE):
        raise ModelError(
            f"model {lm.identity.name!r} ({type(lm.model).__name__}): what is computed here is "
            f"{apart:.1%} from transformers' own: its architecture is not supported"
        )


def _library(lm: LanguageModel, row: list[int]) -> Tensor:
    logits: Tensor = lm.model(input_ids=torch.tensor([row], device=lm.device)).logits[0, -1]
    return logits


def _whole(lm: LanguageModel, row: list[int]) -> Tensor:
    ids = torch.tensor([row], device=lm.device)
    states = lm.decoder(input_ids=ids, past_key_values=None, use_cache=False).last_hidden_state
    return head_logits(lm, states[:, -1])[0]


def _read_on(lm: LanguageModel, rows: list[list[int]]) -> list[Tensor]:
    """The last logits of rows that are read up to their last token, and then on."""
    batch = pad_left(rows, lm.pad_id, lm.device)
    context = Prefix().begin(lm, len(rows))
    context.read(lm, batch.ids[:, :-1], batch.positions[:, :-1], batch.mask[:, :-1])
    states = context.read(lm, batch.ids[:, -1:], batch.positions[:, -1:])
    return list(head_logits(lm, states[:, -1]))


def _distance(theirs: Tensor, ours: Tensor) -> float:
    """Standard deviation of the difference of the logits, as a share of that of theirs.

    0 where transformers' own logits are no numbers, which is told elsewhere.
    """
    if not bool(theirs.isfinite().all()):
        return 0.0
    difference = theirs.double() - ours.double()
    apart = difference.std() / theirs.double().std().clamp(min=1e-9)
    return float(apart.nan_to_num(nan=float("inf")))
