"""What a run will take of the disk, told before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from steer_heal_love.budget.shape import adapter_numbers
from steer_heal_love.errors import RunError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.piece_names import STEPS_A_PIECE
from steer_heal_love.records import Axis
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runs.files import SPARE_BYTES, free_bytes
from steer_heal_love.stages.heal import target_modules

# Bytes, measured on finished runs.
_PAGES = 2_500_000  # diary, page and figure; the last two carry their own program
_BLOCK = 4096  # what a disk gives a small file
_ROW, _TOKEN = 900, 40  # an answer with its scores, and each of its tokens, in one file
_ITEM = 24  # the value of an instrument for an item, in one file
_INSTRUMENTS = 20  # values that a sampled answer has
_VIGNETTE_ITEMS, _OTHER_ITEMS = 1500, 100
_FLOAT = 4


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that a run takes when it is finished, and while it takes most."""

    final: int
    peak: int


def estimate_need(lm: LanguageModel, axis: Axis, config: RunConfig) -> DiskNeed:
    """What a run of these settings takes of the disk: an upper estimate, less than twice too high.

    Everything is there twice, as a piece to resume from and as a result. While a heal goes on each
    of its epochs holds the adapter and AdamW's two moments of it.
    """
    adapter = adapter_bytes(lm, config)
    rivals = len(config.evaluate.rivals)
    heals = config.rounds + rivals
    rows = config.rounds * config.dose.max_generated * _row(config.generate.max_new_tokens)
    conditions = 3 + 2 * config.rounds + rivals + _fronts(config)
    texts = rows + conditions * _condition(axis, config)
    directions = config.rounds * len(lm.layers) * lm.head.weight.shape[1] * _FLOAT
    online = math.ceil(config.online.steps / STEPS_A_PIECE)
    states = config.heal.epochs if config.method == "iterative" else online
    final = _PAGES + _BLOCK * _files(config) + 2 * (heals * adapter + texts + directions)
    return DiskNeed(final, final + (3 * states + 1) * adapter)


def _fronts(config: RunConfig) -> int:
    """Rivals without training, at most: all of the grid, and the base model beside them."""
    e = config.evaluate
    grid = len(e.front) * len(e.front_temperatures) + len(e.front_contrasts) + len(e.front_random)
    return 1 + grid if e.front else 0


def adapter_bytes(lm: LanguageModel, config: RunConfig) -> int:
    """Size of one round's LoRA: rank · (inputs + outputs) numbers of each adapted module."""
    modules = len(target_modules(lm, config.adapter))
    return _FLOAT * adapter_numbers(lm, config.adapter) + 400 * modules


def _row(tokens: int) -> int:
    return _ROW + _TOKEN * tokens


def _condition(axis: Axis, config: RunConfig) -> int:
    """Answers and values per item of one condition, in one file."""
    how = config.evaluate
    answers = (how.samples + 3) * _row(how.max_new_tokens)
    answers += how.long_samples * _row(how.long_tokens)
    items = _INSTRUMENTS * how.samples + 4 * len(axis.pairs) + _OTHER_ITEMS
    items += _VIGNETTE_ITEMS if how.mfv != "off" else 0
    return answers + _ITEM * items


def _files(config: RunConfig) -> int:
    batches = math.ceil(config.dose.max_generated / min(config.dose.probe_batch, config.dose.batch))
    return 24 + config.rounds * (14 + batches) + 2 * len(config.evaluate.rivals)


def refuse_full_disk(out: Path, need: int = 0, present: int = 0) -> None:
    """Raises RunError where a run that needs so much, of which so much is there, has no room."""
    missing, free = max(0, need - present), free_bytes(out)
    if free < missing + SPARE_BYTES:
        raise RunError(
            f"cannot write {out}: only {_mib(free)} MiB are free on that disk, the run needs about "
            f"{_mib(missing)} and {_mib(SPARE_BYTES)} are kept: free some space, or ask for fewer "
            "--rounds or a smaller --heal.rank"
        )


def bytes_in(folder: Path) -> int:
    """What the files of a folder take together."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f}"
