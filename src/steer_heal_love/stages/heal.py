"""Stage 4, heal: learn the kept texts while a barrier holds the divergence from the base down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.maths.divergence import aggregate_per_sequence, heal_loss
from steer_heal_love.maths.head import head_losses
from steer_heal_love.piece_names import of_epoch
from steer_heal_love.records import Healed, HealStep, NoPieces, Pieces
from steer_heal_love.stages.healing.config import HealConfig
from steer_heal_love.stages.healing.gradient import (
    Term,
    fit_in_memory,
    join_figures,
    parts_of,
)
from steer_heal_love.stages.healing.optimiser import (
    check_weights,
    descend,
    learning_rate,
    take_steps,
)
from steer_heal_love.stages.healing.student import Student, attach_student, target_modules
from steer_heal_love.stages.healing.texts import (
    Batch,
    Example,
    Text,
    Texts,
    anchors_of_epoch,
    batches_of_epoch,
    sequences,
    split,
)

__all__ = ["Example", "HealConfig", "heal", "split", "target_modules"]


def heal(
    lm: LanguageModel,
    examples: Sequence[Example],
    config: HealConfig,
    *,
    seed: int,
    anchors: Sequence[Example] = (),
    pieces: Pieces | None = None,
    on_step: Callable[[HealStep], None] | None = None,
) -> Healed:
    """Train a fresh LoRA adapter (B = 0) on the examples with the barrier; the base is untouched.

    Runs on the model as it is patched now: inside `adapters.student` the history is part of the
    frozen model. The reference's hidden states are computed once. Each epoch is one piece.

    Args:
        anchors: texts on whose completions the student is to stay as the base is, with the
            weight `config.anchor`; none by default, whatever the weight.

    Raises:
        DivergedError: loss or gradient became NaN or infinite; says where.
        ModelError: no module of the model matches the targets.
    """
    if not examples:
        raise ValueError("nothing to heal on: no examples")
    train, held_out = split(examples, config.validation_share, seed)
    held_to = anchors if config.anchor > 0 else ()
    pieces = pieces or NoPieces()
    with attach_student(lm, config, seed, train, held_out, held_to) as (student, texts):
        state = student.state(step=0)
        validation = [validate(student, texts)]
        steps: list[HealStep] = []
        for epoch in range(config.epochs):
            compute = partial(train_epoch, student, texts, epoch, state, on_step)
            done = pieces.do(of_epoch(epoch), compute)
            state = done["state"]
            steps += [HealStep(**step) for step in done["steps"]]
            validation.append(done["validation"])
        student.restore(state)
        return Healed(student.adapter(), tuple(steps), tuple(validation))


@fit_in_memory
def train_epoch(
    student: Student,
    texts: Texts,
    epoch: int,
    state: Mapping[str, Any],
    on_step: Callable[[HealStep], None] | None = None,
) -> dict[str, Any]:
    """One pass over the texts from `state`, as plain data: the new state, steps, validation.

    Raises:
        DivergedError: a loss, a gradient or a weight is not finite.
    """
    config = student.config
    seed = (student.seed + 1_000_003 * epoch) % 2**63
    batches = batches_of_epoch(texts.train, config.batch_size, seed)
    anchors = anchors_of_epoch(texts.anchors, config.anchor_batch, len(batches), seed + 1)
    rate = learning_rate(config, student.optimizer, config.epochs * len(batches))
    first, last = state["step"], state["step"] + len(batches)
    student.restore(state)

    def take(number: int) -> HealStep:
        index = number - first
        figures = step(student, batches[index], anchors[index], rate(number))
        return HealStep(number, epoch + index / len(batches), **figures)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # a model may have dropout
        student.model.train()
        steps = take_steps(range(first, last), take, config.max_grad_norm, on_step)
        student.model.eval()
    check_weights(student, f"epoch {epoch}")
    read = [text.example for part in [*batches, *anchors] for text in part]
    student.lm.token_counter.add(sum(map(len, sequences(read))))
    return {
        "state": student.state(last),
        "steps": [asdict(step) for step in steps],
        "validation": validate(student, texts),
    }


def step(
    student: Student, texts: list[Text], anchors: list[Text], learning_rate: float
) -> dict[str, float]:
    """One step down the loss of a batch: that of the texts, and the anchors' with its weight.

    Returns the figures of a `HealStep`.
    """
    anchored = Term(anchors, student.config.anchor, anchor_loss)
    return descend(student, [anchored, Term(texts, 1.0, text_loss)], learning_rate)


def text_loss(student: Student, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """nll + λ · relu(D − τ), mean over the batch's sequences; and its parts as numbers.

    While training, the two terms' gradients at the final hidden states are among these: through
    the head alone, which is cheap.
    """
    config, hidden = student.config, student.hidden(batch)
    nll, kl = head_losses(
        hidden, batch.reference, batch.targets, student.lm.head, config.divergence
    )
    terms = heal_loss(
        nll,
        kl,
        batch.rows,
        len(batch.input_ids),
        aggregate=config.aggregate,
        lam=config.lam if batch.reference is not None else 0.0,
        tau=config.tau,
    )
    figures = {
        "loss": float(terms.loss.detach()),
        "nll": float(terms.nll.detach()),
        "divergence_mean": float(terms.divergence.detach().mean()),
        "divergence_max": float(terms.divergence.detach().max()),
        "over_tau": float(terms.over_tau),
    }
    if hidden.requires_grad:
        for name, term in {"grad_nll": terms.nll, "grad_barrier": terms.loss - terms.nll}.items():
            (gradient,) = torch.autograd.grad(term, hidden, retain_graph=True)
            figures[name] = float(gradient.float().norm())
    return terms.loss, figures


def anchor_loss(student: Student, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """KL(base ‖ student) per token, mean over the batch's sequences, in nats."""
    hidden = student.hidden(batch)
    _, kl = head_losses(hidden, batch.reference, batch.targets, student.lm.head, "forward")
    loss = aggregate_per_sequence(kl, batch.rows, len(batch.input_ids), "mean").mean()
    return loss, {"anchor_nats": float(loss.detach())}


@fit_in_memory
@torch.no_grad()
def validate(student: Student, texts: Texts) -> dict[str, float]:
    """Loss, nll, D and share over τ of the held-out texts; empty where none is held out."""
    parts = parts_of(student, texts.held_out, len(texts.held_out))
    return join_figures([(share, text_loss(student, batch)[1]) for share, batch in parts])


def rose(healed: Healed) -> bool:
    """Whether the loss ended above where it began: of held-out texts, else of the first steps."""
    held_out = [row["loss"] for row in healed.validation if "loss" in row]
    if held_out:
        return held_out[-1] > held_out[0]
    quarter = max(1, len(healed.steps) // 4)
    losses = [step.loss for step in healed.steps]
    return sum(losses[-quarter:]) > sum(losses[:quarter])
