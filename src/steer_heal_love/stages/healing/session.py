"""One heal: the adapter on the model, the texts, and what is computed once for them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from typing import Any

import peft
import torch
import transformers
from torch import Tensor, nn

from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.memory import half, is_out_of_memory
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.attention import quick_attention
from steer_heal_love.lm.patches.frozen_layers import Below
from steer_heal_love.maths.divergence import HealTerms, aggregate_per_sequence, heal_loss
from steer_heal_love.maths.head import head_losses
from steer_heal_love.records import Adapter, HealStep
from steer_heal_love.stages.healing.config import HealConfig
from steer_heal_love.stages.healing.texts import (
    Batch,
    Example,
    make_batch,
    reference_states,
    sequences,
)
from steer_heal_love.stages.healing.trainer import HealTrainer, term_figures


class Session:
    """The adapter attached to the model while it is trained, and detached again on exit."""

    def __init__(
        self,
        lm: LanguageModel,
        config: HealConfig,
        modules: list[str],
        seed: int,
        train: list[Example],
        held_out: list[Example],
        on_step: Callable[[HealStep], None] | None,
        anchors: Sequence[Example] = (),
    ) -> None:
        self.lm, self.config, self.seed = lm, config, seed
        self.modules = modules
        self.depth = lowest_layer(lm, modules)
        self.below = Below(lm, self.depth)
        self.stack = ExitStack()
        self.max_grad_norm, self.anchor = config.max_grad_norm, config.anchor
        self.micro = config.batch_size
        self.train, self.held_out, self.on_step = train, held_out, on_step
        self.anchors = list(anchors)

    def __enter__(self) -> Session:
        self.model_config = dict(vars(self.lm.model.config))
        texts = self.train + self.held_out
        needs_reference = self.config.divergence != "none" and self.config.lam > 0
        self.reference = (
            reference_states(self.lm, texts, self.config.reference) if needs_reference else None
        )
        if self.anchors:
            self.anchor_reference = reference_states(self.lm, self.anchors, "base")
        texts += self.anchors
        if self.depth:
            self.stack.enter_context(self.below.attached())
            self.lower = self.below.read(sequences(texts))
        self.stack.enter_context(quick_attention(self.lm, max(map(len, sequences(texts)))))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model = peft.get_peft_model(
                self.lm.model,
                peft.LoraConfig(
                    r=self.config.rank,
                    lora_alpha=self.config.alpha,
                    target_modules=self.modules,
                    lora_dropout=0.0,
                    bias="none",
                    task_type="CAUSAL_LM",
                ),
            )
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stack.close()
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
                trained = self._train_epoch(epoch, state)
                anchors = [i for step in self.anchors_of(epoch, self._n_batches()) for i in step]
                read = [*self.train, *(self.anchors[i] for i in anchors)]
                self.lm.meter.add(sum(map(len, sequences(read))))
                return trained
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
            anchors = self.anchors_of(epoch, len(batches))
            trainer = HealTrainer(self, batches, anchors, epoch, schedule, scratch)
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
        total = self.config.epochs * self._n_batches()
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

    def _n_batches(self) -> int:
        return math.ceil(len(self.train) / self.config.batch_size)

    def anchors_of(self, epoch: int, n_batches: int) -> list[list[int]]:
        """Indices of the anchors beside each batch of an epoch: all in turn, shuffled anew."""
        if not self.anchors:
            return [[] for _ in range(n_batches)]
        size, count = self.config.anchor_batch, len(self.anchors)
        generator = torch.Generator().manual_seed((self.seed + 1_000_003 * epoch + 1) % 2**63)
        turns = math.ceil(size * n_batches / count)
        order = [
            i for _ in range(turns) for i in torch.randperm(count, generator=generator).tolist()
        ]
        return [order[n * size : (n + 1) * size] for n in range(n_batches)]

    def _length(self, index: int) -> int:
        example = (self.train + self.held_out)[index]
        return len(example.prompt) + len(example.completion)

    def collate(self, indices: Sequence[int]) -> Batch:
        """The batch of these texts; held-out texts come after the training texts."""
        texts = self.train + self.held_out
        lower = [self.lower[i] for i in indices] if self.depth else None
        return make_batch(self.lm, texts, indices, self.reference, lower)

    def collate_anchors(self, indices: Sequence[int]) -> Batch:
        """The batch of these anchors."""
        first = len(self.train) + len(self.held_out)
        lower = [self.lower[first + i] for i in indices] if self.depth else None
        return make_batch(self.lm, self.anchors, indices, self.anchor_reference, lower)

    def anchor_divergence(self, batch: Batch) -> Tensor:
        """KL(base ‖ student) per token of a batch of anchors, mean over its sequences, in nats."""
        _, kl = head_losses(
            self._hidden(batch), batch.reference, batch.targets, self.lm.head, "forward"
        )
        return aggregate_per_sequence(kl, batch.rows, len(batch.input_ids), "mean").mean()

    def _hidden(self, batch: Batch) -> Tensor:
        """Final hidden states [tokens, d] where the batch's targets are predicted."""
        # Padding is on the right, where causal attention never looks from a real token: without a
        # padding mask the fused causal kernel runs.
        lower = nullcontext() if batch.lower is None else self.below.giving(batch.lower)
        with lower:
            states = self.lm.decoder(input_ids=batch.input_ids, use_cache=False).last_hidden_state
        hidden: Tensor = states[batch.rows, batch.columns]
        return hidden

    def terms(self, batch: Batch) -> tuple[HealTerms, Tensor]:
        """The heal loss of a batch, and the hidden states that it is a function of."""
        hidden = self._hidden(batch)
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


def lowest_layer(lm: LanguageModel, modules: Sequence[str]) -> int:
    """Index of the lowest decoder layer that holds one of the named modules."""
    named = dict(lm.model.named_modules())
    wanted = {id(named[name]) for name in modules}
    return next(
        i for i, layer in enumerate(lm.layers) if any(id(m) in wanted for m in layer.modules())
    )
