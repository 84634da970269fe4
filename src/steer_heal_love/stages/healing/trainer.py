"""transformers' training loop around the heal loss."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader

from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.memory import is_out_of_memory
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.quiet import quiet_transformers
from steer_heal_love.maths.divergence import HealTerms
from steer_heal_love.records import HealStep
from steer_heal_love.stages.healing.texts import Batch

LOG = logging.getLogger(__name__)

SPIKE, SPIKE_AFTER = 100.0, 5  # times the median of the norms so far, once there are so many
_MEANS = ("loss", "nll", "divergence_mean", "over_tau")


@runtime_checkable
class Session(Protocol):
    """What the trainer needs of the heal that it runs for."""

    lm: LanguageModel
    model: Any  # the model with the adapter attached
    seed: int
    max_grad_norm: float
    anchor: float  # weight of the anchors' divergence
    micro: int  # sequences whose graph is in memory at a time
    on_step: Callable[[HealStep], None] | None

    def collate(self, indices: Sequence[int]) -> Batch:
        """The batch of these texts."""

    def collate_anchors(self, indices: Sequence[int]) -> Batch:
        """The batch of these anchors."""

    def anchor_divergence(self, batch: Batch) -> Tensor:
        """Divergence from the base on a batch of anchors, nats per token."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained."""

    def terms(self, batch: Batch) -> tuple[HealTerms, Tensor]:
        """The loss of a batch, and the hidden states that it is a function of."""


class HealTrainer(transformers.Trainer):  # type: ignore[misc]
    """transformers' training loop over one epoch of the heal loss."""

    def __init__(
        self,
        session: Session,
        batches: list[list[int]],
        anchors: list[list[int]],
        epoch: int,
        schedule: Any,
        scratch: str,
    ) -> None:
        self.session, self.batches, self.epoch_index = session, batches, epoch
        self.steps: list[HealStep] = []
        self.found: list[dict[str, float]] = []  # of the parts of the present batch
        self.aside: dict[str, Tensor] = {}  # gradients of the present batch's earlier shards
        on_cpu = session.lm.device.type == "cpu"
        # It warns of processes that it does not share the work out to: that is done here.
        with quiet_transformers():
            arguments = transformers.TrainingArguments(
                output_dir=scratch,
                num_train_epochs=1,
                per_device_train_batch_size=1,
                max_grad_norm=session.max_grad_norm,
                bf16=session.lm.dtype == torch.bfloat16,
                use_cpu=on_cpu,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                remove_unused_columns=False,
                dataloader_pin_memory=False,
                seed=session.seed % 2**32,
            )
        super().__init__(
            model=session.model,
            args=arguments,
            train_dataset=list(zip(batches, anchors, strict=True)),
            optimizers=(schedule.optimizer, schedule),
        )
        self.remove_callback(transformers.PrinterCallback)
        self.args._n_gpu = 1  # of several it would make copies of the model

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """The session's model is where it should be."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The epoch's batches in their fixed order; one item of the loader is one batch."""

        def collate(step: tuple[list[int], list[int]]) -> dict[str, Any]:
            texts, anchors = step
            parts = []
            for shard in self.session.lm.team.own:
                parts += [(shard, self._anchors_loss, p) for p in self._parts(anchors, shard)]
                parts += [(shard, self._texts_loss, p) for p in self._parts(texts, shard)]
            return {"parts": parts, "totals": {"texts": len(texts), "anchors": len(anchors)}}

        return DataLoader(self.train_dataset, batch_size=None, collate_fn=collate)  # type: ignore[arg-type]

    def _parts(self, indices: list[int], shard: int) -> list[list[int]]:
        """The texts of a batch that are this shard's, as many at a time as fit."""
        own, size = indices[shard :: self.session.lm.team.shards], self.session.micro
        return [own[i : i + size] for i in range(0, len(own), size)]

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Gradients of this process's part of the batch; what all found of it is recorded.

        Where one process runs out of memory, all do, so that all begin the epoch again.
        """
        self.found.clear()
        self.aside.clear()
        problem: str | None = None
        loss = torch.zeros(())
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
            self._take_back()
        except (RuntimeError, MemoryError) as error:
            if self.session.lm.team.processes == 1 or not is_out_of_memory(error):
                raise
            problem = str(error)
        told = self.session.lm.team.gather((self.found, problem))
        if any(trouble is not None for _, trouble in told):
            raise MemoryError("a process of this run ran out of memory")
        self._record([figures for found, _ in told for figures in found])
        return loss.to(self.args.device)  # the trainer keeps its sum there

    def compute_loss(
        self,
        model: nn.Module,  # noqa: ARG002  (the adapter is attached to the session's model)
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: ARG002
        num_items_in_batch: Any = None,  # noqa: ARG002
    ) -> Tensor:
        """Heal loss of one batch, or of a process's share of it, which may come in parts.

        The loss is a mean over sequences, plus one over anchors, so the parts' gradients add up to
        the batch's. All but the last part's are made here. Shards' gradients are each summed on
        their own, as they are where each shard has its own process.
        """
        # Of no part at all the loss is zero, with a gradient of zeros.
        loss = torch.stack([p.sum() * 0.0 for p in self.session.parameters().values()]).sum()
        before = None
        for k, (shard, loss_of, indices) in enumerate(inputs["parts"], start=1):
            if before not in (None, shard):
                self._set_aside()
            before = shard
            loss = loss_of(indices, inputs["totals"])
            if k < len(inputs["parts"]):
                loss.backward()
        return loss

    def _anchors_loss(self, indices: list[int], totals: Mapping[str, int]) -> Tensor:
        part = self.session.collate_anchors(indices)
        share = len(indices) / totals["anchors"]
        divergence = self.session.anchor_divergence(part)
        self.found.append({"anchor_nats": share * float(divergence.detach())})
        return self.session.anchor * share * divergence

    def _texts_loss(self, indices: list[int], totals: Mapping[str, int]) -> Tensor:
        terms, hidden = self.session.terms(self.session.collate(indices))
        share = len(indices) / totals["texts"]
        self.found.append({"share": share, **_part_figures(terms, hidden)})
        return terms.loss * share

    def _set_aside(self) -> None:
        """Take the gradients so far away, and add them again at the end of the step."""
        for name, p in self.session.parameters().items():
            if p.grad is not None:
                self.aside[name] = p.grad + self.aside.get(name, 0.0)
                p.grad = None

    def _take_back(self) -> None:
        for name, p in self.session.parameters().items():
            if name in self.aside:
                gradient = self.aside.pop(name)
                p.grad = gradient if p.grad is None else gradient + p.grad

    def _record(self, parts: Sequence[Mapping[str, float]]) -> None:
        step = self.epoch_index * len(self.batches) + len(self.steps)
        record = HealStep(
            step=step,
            epoch=self.epoch_index + len(self.steps) / len(self.batches),
            **joined_figures(parts),
        )
        if not math.isfinite(record.loss):
            raise DivergedError(
                f"heal: the loss is {record.loss} at step {step}: lower --heal.learning-rate"
            )
        self.steps.append(record)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Join the processes' gradients and clip; record the norm before it, and look whether it
        is what it was until now.

        Raises:
            DivergedError: the gradient is not finite.
        """
        if self.session.lm.team.processes > 1:
            self._add_gradients()
        norm = super()._clip_grad_norm(model)
        record = replace(self.steps[-1], grad_norm=float(norm))
        if not math.isfinite(record.grad_norm):
            raise DivergedError(
                f"heal: the gradient is not finite at step {record.step}: lower "
                "--heal.learning-rate, or use float32"
            )
        before = [s.grad_norm for s in self.steps[:-1]]
        if len(before) >= SPIKE_AFTER and record.grad_norm > SPIKE * statistics.median(before):
            LOG.warning(
                "heal: the gradient's norm jumped to %.3g at step %d (median until then %.3g); it "
                "was clipped to %g",
                record.grad_norm,
                record.step,
                statistics.median(before),
                self.session.max_grad_norm,
            )
        self.steps[-1] = record
        if self.session.on_step is not None:
            self.session.on_step(record)
        return norm

    def _add_gradients(self) -> None:
        """The gradient of the whole batch in each process: those of the adapter alone, at once."""
        gradients = [p.grad for p in self.session.parameters().values() if p.grad is not None]
        joined = torch.cat([g.flatten() for g in gradients])
        self.session.lm.team.add(joined)
        for g, part in zip(gradients, joined.split([g.numel() for g in gradients]), strict=True):
            g.copy_(part.view_as(g))

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs  # already on the device

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:  # noqa: ARG002
        """Not counted here: the benchmarks count by model arithmetic."""
        return 0


def term_figures(terms: HealTerms) -> dict[str, float]:
    """The parts of a batch's loss as numbers, by the names of `HealStep`."""
    return {
        "loss": float(terms.loss.detach()),
        "nll": float(terms.nll.detach()),
        "divergence_mean": float(terms.divergence.detach().mean()),
        "divergence_max": float(terms.divergence.detach().max()),
        "over_tau": float(terms.over_tau),
    }


def _part_figures(terms: HealTerms, hidden: Tensor) -> dict[str, float]:
    """The terms of a part of a batch, and the gradients of the two at the hidden states."""
    return {
        **term_figures(terms),
        "grad_nll": _gradient_norm(terms.nll, hidden),
        "grad_barrier": _gradient_norm(terms.loss - terms.nll, hidden),
    }


def joined_figures(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Figures of a batch from its parts': means by `share` of the sequences, the largest maximum,
    and norms of what lies side by side. Parts of anchors have `anchor_nats` alone, which add up.
    """
    texts = [p for p in parts if "share" in p]
    whole = {name: sum(p["share"] * p[name] for p in texts) for name in _MEANS}
    whole["divergence_max"] = max(p["divergence_max"] for p in texts)
    for name in ("grad_nll", "grad_barrier"):
        whole[name] = math.sqrt(sum((p["share"] * p[name]) ** 2 for p in texts))
    whole["anchor_nats"] = sum(p.get("anchor_nats", 0.0) for p in parts)
    return whole


def _gradient_norm(term: Tensor, hidden: Tensor) -> float:
    """Norm of a term's gradient at the final hidden states, through the head alone (cheap)."""
    if not term.requires_grad or not hidden.requires_grad:
        return 0.0
    (gradient,) = torch.autograd.grad(term, hidden, retain_graph=True)
    return float(gradient.float().norm())
