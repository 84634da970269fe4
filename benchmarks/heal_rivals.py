"""Two other ways to train the same adapter: the naive heal, and TRL's `SFTTrainer`.

The naive heal is the yardstick of speed and memory: the reference model runs again in every step of
every epoch, and log-probabilities of the whole vocabulary stand at every position, `[batch, seq,
V]`. Its mathematics is that of the heal, so the two must end in the same adapter.
"""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks.plain import adapted, lora_config, mixed_precision
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.tokens import pad_right
from steer_heal_love.stages.heal import Example, HealConfig


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    losses: tuple[float, ...]
    tensors: dict[str, Tensor]


def train_naively(
    lm: LanguageModel, texts: Sequence[Example], config: HealConfig, seed: int
) -> Trained:
    """Reverse-KL rmse barrier towards the bare base model, everything in full in every step."""
    total = config.epochs * math.ceil(len(texts) / config.batch_size)
    losses = []
    with adapted(lm, config, seed) as model:
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        warm_up = math.ceil(total * config.warmup_share)
        schedule = transformers.get_scheduler(config.schedule, optimizer, warm_up, total)
        for batch in shuffled_batches(texts, config, seed):
            loss = naive_loss(lm, model, batch, config)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        named = ((n, p) for n, p in model.named_parameters() if p.requires_grad)
        tensors = {n.replace(".default", ""): p.detach().cpu().clone() for n, p in named}
    return Trained(tuple(losses), tensors)


def shuffled_batches(
    texts: Sequence[Example], config: HealConfig, seed: int
) -> Iterator[list[Example]]:
    """Batches of every epoch, shuffled."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(config.epochs):
        order = torch.randperm(len(texts), generator=generator).tolist()
        for start in range(0, len(order), config.batch_size):
            yield [texts[i] for i in order[start : start + config.batch_size]]


def naive_loss(
    lm: LanguageModel, model: Any, batch: Sequence[Example], config: HealConfig
) -> Tensor:
    """nll + λ · relu(rmse over completion positions of KL(student ‖ base) − τ)."""
    padded = pad_right([[*e.prompt, *e.completion] for e in batch], lm.pad_id, lm.device)
    ids, inside = padded.ids, torch.zeros_like(padded.mask[:, 1:])
    for row, text in enumerate(batch):
        begin = len(text.prompt) - 1
        inside[row, begin : begin + len(text.completion)] = 1
    inputs = {"input_ids": ids, "attention_mask": padded.mask, "use_cache": False}
    with mixed_precision(lm):
        student = model(**inputs).logits[:, :-1].float().log_softmax(-1)
        with torch.no_grad(), model.disable_adapter():
            reference = model(**inputs).logits[:, :-1].float().log_softmax(-1)
    nll = -student.gather(-1, ids[:, 1:, None])[..., 0]
    kl = (student.exp() * (student - reference)).sum(-1).clamp(min=0)
    count = inside.sum(-1)
    squares = (kl.square() * inside).sum(-1) / count
    divergence = squares.clamp(min=1e-12).sqrt()  # at 0 the root's gradient is infinite
    barrier = torch.relu(divergence - config.tau)
    return ((nll * inside).sum(-1) / count + config.lam * barrier).mean()


def trl_missing() -> str | None:
    """Why TRL cannot be used; None where it can."""
    try:
        import datasets  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        return f"TRL is not compared with ({error}): pip install trl -c constraints.txt"
    return None


def train_with_trl(
    lm: LanguageModel, texts: Sequence[Example], config: HealConfig, seed: int
) -> None:
    """TRL's supervised trainer: same LoRA, texts, batch and precision; no barrier at all.

    Gradient checkpointing, TRL's default, is off, since the heal has none. TRL patches the model
    that it is given: give it a copy.
    """
    import datasets
    import trl

    logging.getLogger("trl").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    rows = [
        {
            "input_ids": [*t.prompt, *t.completion],
            "labels": [-100] * len(t.prompt) + list(t.completion),
        }
        for t in texts
    ]
    with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng(devices=[]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = trl.SFTTrainer(
                model=lm.model,
                args=trl.SFTConfig(**_trl_settings(lm, config, seed, scratch)),
                train_dataset=datasets.Dataset.from_list(rows),
                processing_class=lm.tokenizer,
                peft_config=lora_config(lm, config),
            )
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train()
        trainer.model.unload()
        if hasattr(lm.model, "peft_config"):
            del lm.model.peft_config


def _trl_settings(lm: LanguageModel, config: HealConfig, seed: int, scratch: str) -> dict[str, Any]:
    return {
        "output_dir": scratch,
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "max_grad_norm": config.max_grad_norm,
        "weight_decay": config.weight_decay,
        "bf16": lm.dtype == torch.bfloat16,
        "use_cpu": lm.device.type == "cpu",
        "gradient_checkpointing": False,
        "max_length": None,
        "seed": seed,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
