"""One round of a model in this process, with the highest memory of each stage:
`python -m benchmarks.plan_round NAME FOLDER`, as `benchmarks.plan` starts it.

Completions are few and of full length, and the filter is open, so that the round does the same work
each time.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

from benchmarks.measure import reset_peak, settle, used_bytes
from benchmarks.memory import build_wide, make_texts, step_config
from benchmarks.workload import endless
from steer_heal_love.budget.machines import GIB
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.memory import peak_bytes
from steer_heal_love.lm.model.load import ALIAS, load_model, load_tokenizer
from steer_heal_love.lm.model.meta_model import config_of
from steer_heal_love.loop.iterative import run_loop
from steer_heal_love.piece_names import PieceName
from steer_heal_love.records import Cost, Costed
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.stages.filter import FilterConfig, measure_limits
from steer_heal_love.stages.heal import heal

T = TypeVar("T")

CPU = torch.device("cpu")

# Published configurations, as far as sizes follow from them.
SHAPES: dict[str, dict[str, Any]] = {
    "gemma-3-270m shape": {
        "model_type": "gemma3_text",
        "vocab_size": 262_144,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "sliding_window": 512,
        "max_position_embeddings": 32_768,
    },
    "qwen3-0.6b shape": {
        "model_type": "qwen3",
        "vocab_size": 151_936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40_960,
        "tie_word_embeddings": True,
    },
}
MODELS = (ALIAS, *SHAPES)
NEW_TOKENS = {ALIAS: 96, "gemma-3-270m shape": 64, "qwen3-0.6b shape": 32}


@dataclass(frozen=True)
class Measured:
    """Bytes at most while a model went through a round, stage by stage, and seconds."""

    libraries: int  # before the model
    peaks: dict[str, int]
    seconds: dict[str, float]


def settings(name: str) -> RunConfig:
    """One round: full batches, few texts."""
    new = {"max_new_tokens": NEW_TOKENS[name]}
    default = RunConfig()
    dose = {"n_keep": 24, "min_kept": 2, "probe_batch": 64, "target_keep": 1e-6, "top_share": 1.0}
    evaluate = {"front": (), "rivals": (), "samples": 12, "long_samples": 4, "long_tokens": 128}
    return RunConfig(
        rounds=1,
        dtype="bfloat16",
        steer=default.steer.model_copy(update={"contexts": 32}),
        dose=default.dose.model_copy(update=dose),
        generate=default.generate.model_copy(update=new),
        heal=default.heal.model_copy(update={"epochs": 2}),
        evaluate=default.evaluate.model_copy(update=evaluate | new),
    )


def save_random(name: str, folder: str) -> None:
    """A model of this shape with random weights, and the embedded model's tokenizer."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        config_of(SHAPES[name]), dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    load_tokenizer(ALIAS).save_pretrained(folder)


def measure(name: str, spec: str) -> Measured:
    """The round itself, in this process."""
    wide = build_wide(512, CPU)
    heal(wide, make_texts(512, 2, 8), step_config(2), seed=0)
    del wide
    settle()
    libraries = used_bytes(CPU)
    axis, config = load_axis("love"), settings(name)
    with tempfile.TemporaryDirectory() as folder:
        pieces = PeakPieces(Path(folder) / "run", config)
        with pieces.stage("load"):
            lm = endless(load_model(spec, device="cpu", dtype=config.dtype))
        for _ in run_loop(lm, axis, load_contexts(), config, pieces=pieces):
            pass
    return Measured(libraries, pieces.peaks, pieces.seconds)


class PeakPieces:
    """A run directory that notes the highest memory of each outermost piece, by stage.

    The filter's limits are open, and of the baseline only the base is measured.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.run = RunDirectory.create(folder, config.model_dump(), load_axis("love"), {})
        self.peaks: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.base: Any = None
        self.depth = 0

    def do(self, name: str, compute: Callable[[], T]) -> T:
        """The piece, stored as in any run."""
        if name == "baseline/limits":
            return Costed(measure_limits([], FilterConfig()), Cost())  # type: ignore[return-value]
        if name.startswith("baseline/prompt_"):
            return self.base  # type: ignore[no-any-return]
        if self.depth:
            return self.run.do(name, compute)
        with self.stage(PieceName(name).stage):
            value = self.run.do(name, compute)
        if name == "baseline/base":
            self.base = value
        return value

    def forget(self, prefix: str) -> None:
        """As a run does."""
        self.run.forget(prefix)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note the peak of what is done inside."""
        settle()
        reset_peak(CPU)
        self.depth, started = 1, time.perf_counter()
        try:
            yield
        finally:
            self.depth = 0
            self.peaks[name] = max(self.peaks.get(name, 0), peak_bytes(CPU))
            taken = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + taken
            print(f"{name}: {self.peaks[name] / GIB:.2f} GiB", file=sys.stderr, flush=True)


if __name__ == "__main__":
    json.dump(vars(measure(*sys.argv[1:])), sys.stdout)
