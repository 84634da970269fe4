"""Stage 4, heal: learn the kept texts while a barrier holds the divergence from the base down."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import peft
import torch
import transformers
from pydantic import Field, model_validator
from torch import Tensor, nn

from steer_heal_love.errors import DivergedError, ModelError
from steer_heal_love.lm.load import LanguageModel
from steer_heal_love.lm.memory import half, is_out_of_memory
from steer_heal_love.maths.divergence import HealTerms, heal_loss
from steer_heal_love.maths.head import head_losses
from steer_heal_love.records import Adapter, Healed, HealStep, NoPieces, Pieces
from steer_heal_love.stages.healing.texts import (
    Batch,
    Example,
    make_batch,
    reference_states,
    split,
)
from steer_heal_love.stages.healing.trainer import HealTrainer, term_figures
from steer_heal_love.stages.settings import StageConfig

__all__ = ["Example", "HealConfig", "heal", "split", "target_modules"]


class HealConfig(StageConfig):
    """loss = nll + λ · relu(D − τ), D an aggregate over positions of the per-token KL."""

    aggregate: Literal["mean", "rmse", "p95", "max"] = "rmse"
    """How the per-position divergences of a sequence become D; a mean misses short loops."""
    divergence: Literal["reverse", "forward", "none"] = "reverse"
    """KL(student ‖ reference), its reverse, or none (plain distillation)."""
    reference: Literal["base", "previous"] = "base"
    """What the barrier holds on to: the base model, or the student of the round before."""
    lam: float = Field(1.0, ge=0)
    """Weight λ of the barrier."""
    tau: float = Field(1.0, ge=0)
    """Divergence τ (nats) under which the barrier is silent."""
    rank: int = Field(16, ge=1)
    """LoRA rank."""
    alpha: float = Field(32.0, gt=0)
    """LoRA alpha; the update is scaled by alpha / rank."""
    layer_low: float = Field(0.2, ge=0, lt=1)
    """Where the adapted layers begin, as a fraction of the depth."""
    layer_high: float = Field(0.8, gt=0, le=1)
    """Where the adapted layers end, as a fraction of the depth."""
    targets: tuple[str, ...] = ()
    """Names of the linear modules to adapt, such as q_proj; none given means all in a layer."""
    epochs: int = Field(3, ge=1)
    """Passes over the kept completions."""
    learning_rate: float = Field(4e-4, gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """Learning-rate schedule."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of AdamW."""
    batch_size: int = Field(8, ge=1)
    """Sequences per optimiser step."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    validation_share: float = Field(0.1, ge=0, lt=1)
    """Share of the kept completions that is held out to validate on."""

    @model_validator(mode="after")
    def _ordered(self) -> HealConfig:
        if self.layer_low >= self.layer_high:
            raise ValueError("layer_low must be below layer_high")
        return self


def heal(
    lm: LanguageModel,
    examples: Sequence[Example],
    config: HealConfig,
    *,
    seed: int,
    pieces: Pieces | None = None,
    on_step: Callable[[HealStep], None] | None = None,
) -> Healed:
    """Train a fresh LoRA adapter (B = 0) on the examples with the barrier; the base is untouched.

    Runs on the model as it is patched now: inside `adapters.student` the history is part of the
    frozen model. The reference's hidden states are computed once. Each epoch is one piece.

    Raises:
        DivergedError: loss or gradient became NaN or infinite; says where.
        ModelError: no module of the model matches the targets.
    """
    if not examples:
        raise ValueError("nothing to heal on: no examples")
    train, held_out = split(examples, config.validation_share, seed)
    session = _Session(lm, config, seed, train, held_out, on_step)
    pieces = pieces or NoPieces()
    with session:
        state = session.initial_state()
        validation = [session.validate()]
        steps: list[HealStep] = []
        for epoch in range(config.epochs):
            done = pieces.do(f"epoch-{epoch:02d}", partial(session.train_epoch, epoch, state))
            state = done["state"]
            steps += [HealStep(**step) for step in done["steps"]]
            validation.append(done["validation"])
        return Healed(session.adapter(state), tuple(steps), tuple(validation))


def rose(healed: Healed) -> bool:
    """Whether the loss ended above where it began: of held-out texts, else of the first steps."""
    held_out = [row["loss"] for row in healed.validation if "loss" in row]
    if held_out:
        return held_out[-1] > held_out[0]
    quarter = max(1, len(healed.steps) // 4)
    losses = [step.loss for step in healed.steps]
    return sum(losses[-quarter:]) > sum(losses[:quarter])


def target_modules(lm: LanguageModel, config: HealConfig) -> list[str]:
    """Full names of the linear modules that get an adapter."""
    low = math.floor(len(lm.layers) * config.layer_low)
    high = max(low + 1, math.floor(len(lm.layers) * config.layer_high))
    chosen = {id(m) for layer in lm.layers[low:high] for m in layer.modules()}
    names = [
        name
        for name, module in lm.model.named_modules()
        if id(module) in chosen
        and isinstance(module, nn.Linear)
        and (not config.targets or name.rsplit(".", 1)[-1] in config.targets)
    ]
    if not names:
        wanted = ", ".join(config.targets) or "any linear module"
        raise ModelError(f"no module named {wanted} in layers {low} to {high - 1} to adapt")
    return names


class _Session:
    """The adapter attached to the model while it is trained, and detached again on exit."""

    def __init__(
        self,
        lm: LanguageModel,
        config: HealConfig,
        seed: int,
        train: list[Example],
        held_out: list[Example],
        on_step: Callable[[HealStep], None] | None,
    ) -> None:
        self.lm, self.config, self.seed = lm, config, seed
        self.max_grad_norm = config.max_grad_norm
        self.micro = config.batch_size
        self.train, self.held_out, self.on_step = train, held_out, on_step

    def __enter__(self) -> _Session:
        self.model_config = dict(vars(self.lm.model.config))
        needs_reference = self.config.divergence != "none" and self.config.lam > 0
        self.reference = (
            reference_states(self.lm, self.train + self.held_out, self.config.reference)
            if needs_reference
            else None
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model = peft.get_peft_model(
                self.lm.model,
                peft.LoraConfig(
                    r=self.config.rank,
                    lora_alpha=self.config.alpha,
                    target_modules=target_modules(self.lm, self.config),
                    lora_dropout=0.0,
                    bias="none",
                    task_type="CAUSAL_LM",
                ),
            )
        return self

    def __exit__(self, *_exc: object) -> None:
        self.model.unload()
        if hasattr(self.lm.model, "peft_config"):
            del self.lm.model.peft_config
        self.lm.model.eval()
        vars(self.lm.model.config).clear()  # the trainer turns `use_cache` off
        vars(self.lm.model.config).update(self.model_config)

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained tensors by PEFT's names."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def initial_state(self) -> dict[str, Any]:
        """Weights as initialised, AdamW's moments at zero."""
        weights = {n: p.detach().clone() for n, p in self.parameters().items()}
        zeros = {n: torch.zeros_like(p) for n, p in weights.items()}
        return {"weights": weights, "exp_avg": zeros, "exp_avg_sq": dict(zeros), "step": 0}

    def train_epoch(self, epoch: int, state: dict[str, Any]) -> dict[str, Any]:
        """One pass over the texts from `state`; returns the new state, the curve, validation.

        Where the graph of a batch does not fit in memory the epoch begins again, with the batch in
        parts of half the size, which changes nothing but rounding.
        """
        while True:
            try:
                return self._train_epoch(epoch, state)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self.model.zero_grad()
            self.micro = half(self.micro, "heal", "use shorter texts, or a smaller model")

    def _train_epoch(self, epoch: int, state: dict[str, Any]) -> dict[str, Any]:
        parameters = self.parameters()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state["weights"][name])
        optimizer = self._optimizer(parameters, state)
        batches = self._epoch_batches(epoch)
        schedule = self._schedule(optimizer, state)
        # The trainer seeds the global generator when it is made.
        with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng(devices=[]):
            trainer = HealTrainer(self, batches, epoch, schedule, scratch)
            trainer.train()
        self.lm.model.eval()
        if not all(bool(p.isfinite().all()) for p in parameters.values()):
            raise DivergedError(
                f"heal: a weight of the adapter is not finite after epoch {epoch}: "
                "lower --heal.learning-rate"
            )
        moments = [optimizer.state[p] for p in parameters.values()]
        names = list(parameters)
        return {
            "state": {
                "weights": {n: p.detach().cpu().clone() for n, p in parameters.items()},
                "exp_avg": {
                    n: m["exp_avg"].cpu().clone() for n, m in zip(names, moments, strict=True)
                },
                "exp_avg_sq": {
                    n: m["exp_avg_sq"].cpu().clone() for n, m in zip(names, moments, strict=True)
                },
                "step": state["step"] + len(batches),
            },
            "steps": [asdict(step) for step in trainer.steps],
            "validation": self.validate(),
        }

    def _optimizer(
        self, parameters: dict[str, nn.Parameter], state: dict[str, Any]
    ) -> torch.optim.AdamW:
        optimizer = torch.optim.AdamW(
            list(parameters.values()),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
        )
        for name, parameter in parameters.items():
            optimizer.state[parameter] = {
                "step": torch.tensor(float(state["step"])),
                "exp_avg": state["exp_avg"][name].to(parameter.device).clone(),
                "exp_avg_sq": state["exp_avg_sq"][name].to(parameter.device).clone(),
            }
        return optimizer

    def _schedule(self, optimizer: torch.optim.AdamW, state: dict[str, Any]) -> Any:
        total = self.config.epochs * math.ceil(len(self.train) / self.config.batch_size)
        factor = transformers.get_scheduler(
            self.config.schedule,
            optimizer,
            num_warmup_steps=math.ceil(total * self.config.warmup_share),
            num_training_steps=total,
        ).lr_lambdas[0]
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self.config.learning_rate
        done = state["step"]
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step + done))

    def _epoch_batches(self, epoch: int) -> list[list[int]]:
        """Indices into the training texts: shuffled by (seed, epoch), then alike in length."""
        generator = torch.Generator().manual_seed((self.seed + 1_000_003 * epoch) % 2**63)
        order = torch.randperm(len(self.train), generator=generator).tolist()
        size = self.config.batch_size
        pool = size * 8
        batches = []
        for start in range(0, len(order), pool):
            part = sorted(order[start : start + pool], key=self._length)
            batches += [part[i : i + size] for i in range(0, len(part), size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def _length(self, index: int) -> int:
        example = (self.train + self.held_out)[index]
        return len(example.prompt) + len(example.completion)

    def collate(self, indices: Sequence[int]) -> Batch:
        """The batch of these texts; held-out texts come after the training texts."""
        return make_batch(self.lm, self.train + self.held_out, indices, self.reference)

    def terms(self, batch: Batch) -> tuple[HealTerms, Tensor]:
        """The heal loss of a batch, and the hidden states that it is a function of."""
        # Padding is on the right, where causal attention never looks from a real token: without a
        # padding mask the fused causal kernel runs.
        hidden = self.lm.decoder(
            input_ids=batch.input_ids,
            use_cache=False,
        ).last_hidden_state[batch.rows, batch.columns]
        nll, kl = head_losses(
            hidden, batch.reference, batch.targets, self.lm.head, self.config.divergence
        )
        return heal_loss(
            nll,
            kl,
            batch.rows,
            len(batch.input_ids),
            aggregate=self.config.aggregate,
            lam=self.config.lam if batch.reference is not None else 0.0,
            tau=self.config.tau,
        ), hidden

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss, nll, D and share over τ of the held-out texts; empty where none is held out."""
        if not self.held_out:
            return {}
        size = self.micro
        indices = [len(self.train) + i for i in range(len(self.held_out))]
        totals: dict[str, float] = {}
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            terms, _ = self.terms(self.collate(chosen))
            for name, value in term_figures(terms).items():
                totals[name] = totals.get(name, 0.0) + value * len(chosen)
        return {name: value / len(indices) for name, value in totals.items()}

    def adapter(self, state: dict[str, Any]) -> Adapter:
        """The trained tensors in PEFT's file format."""
        parameters = self.parameters()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state["weights"][name])
        tensors = peft.get_peft_model_state_dict(self.model, save_embedding_layers=False)
        settings = self.model.peft_config["default"]
        saved = settings.to_dict()
        saved["inference_mode"] = True
        saved["base_model_name_or_path"] = self.lm.identity.source
        saved["target_modules"] = sorted(saved["target_modules"])
        return Adapter(
            {name: t.detach().cpu().contiguous().clone() for name, t in sorted(tensors.items())},
            {k: v for k, v in saved.items() if _is_plain(v)},
        )


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)
