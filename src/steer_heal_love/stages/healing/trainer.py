"""transformers' training loop around the heal loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader

from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.load import LanguageModel
from steer_heal_love.maths.divergence import HealTerms
from steer_heal_love.records import HealStep
from steer_heal_love.stages.healing.texts import Batch


@runtime_checkable
@runtime_checkable
class Session(Protocol):
    """What the trainer needs of the heal that it runs for."""

    lm: LanguageModel
    model: Any  # the model with the adapter attached
    seed: int
    max_grad_norm: float
    on_step: Callable[[HealStep], None] | None

    def collate(self, indices: Sequence[int]) -> Batch:
        """The batch of these texts."""

    def terms(self, batch: Batch) -> tuple[HealTerms, Tensor]:
        """The loss of a batch, and the hidden states that it is a function of."""


class HealTrainer(transformers.Trainer):  # type: ignore[misc]
    """transformers' training loop over one epoch of the heal loss."""

    def __init__(
        self, session: Session, batches: list[list[int]], epoch: int, schedule: Any, scratch: str
    ) -> None:
        self.session, self.batches, self.epoch_index = session, batches, epoch
        self.steps: list[HealStep] = []
        on_cpu = session.lm.device.type == "cpu"
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
            train_dataset=batches,
            optimizers=(schedule.optimizer, schedule),
        )
        self.remove_callback(transformers.PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The epoch's batches in their fixed order; one item of the loader is one batch."""

        def collate(indices: list[int]) -> dict[str, Batch]:
            return {"batch": self.session.collate(indices)}

        return DataLoader(self.batches, batch_size=None, collate_fn=collate)  # type: ignore[arg-type]

    def compute_loss(
        self,
        model: nn.Module,  # noqa: ARG002  (the adapter is attached to the session's model)
        inputs: dict[str, Batch],
        return_outputs: bool = False,  # noqa: ARG002
        num_items_in_batch: Any = None,  # noqa: ARG002
    ) -> Tensor:
        """Heal loss of one batch; records the step."""
        terms, hidden = self.session.terms(inputs["batch"])
        step = self.epoch_index * len(self.batches) + len(self.steps)
        figures = term_figures(terms)
        if not math.isfinite(figures["loss"]):
            raise DivergedError(
                f"heal: the loss is {figures['loss']} at step {step}: lower --heal.learning-rate"
            )
        barrier = terms.loss - terms.nll
        record = HealStep(
            step=step,
            epoch=self.epoch_index + len(self.steps) / len(self.batches),
            grad_nll=_gradient_norm(terms.nll, hidden),
            grad_barrier=_gradient_norm(barrier, hidden),
            **figures,
        )
        self.steps.append(record)
        if self.session.on_step is not None:
            self.session.on_step(record)
        return terms.loss

    def _prepare_inputs(self, inputs: dict[str, Batch]) -> dict[str, Batch]:
        return inputs  # already on the device

    def floating_point_ops(self, inputs: dict[str, Batch]) -> int:  # noqa: ARG002
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


def _gradient_norm(term: Tensor, hidden: Tensor) -> float:
    """Norm of a term's gradient at the final hidden states, through the head alone (cheap)."""
    if not term.requires_grad or not hidden.requires_grad:
        return 0.0
    (gradient,) = torch.autograd.grad(term, hidden, retain_graph=True)
    return float(gradient.float().norm())
