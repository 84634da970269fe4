"""`shl axes check`: what is amiss with an axis, and whether it is valid on the model at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro

from steer_heal_love.checks.axis_text import Finding, check_form
from steer_heal_love.checks.axis_validity import Validity, check_validity
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.lm.model.load import DType, Quantize
from steer_heal_love.lm.model.sources import ALIAS
from steer_heal_love.records import Axis
from steer_heal_love.report.escape import escape_terminal
from steer_heal_love.report.text.words import signed as signed_number
from steer_heal_love.runner.model import load_for
from steer_heal_love.runner.settings import config_from
from steer_heal_love.terminal.flags import parse
from steer_heal_love.terminal.screen import Screen
from steer_heal_love.verdicts.answers import signed

SHOWN = 5  # pairs of a list


@dataclass(frozen=True)
class CheckArguments:
    """Tell what is amiss with an axis, and whether a model can express it.

    Exit code 0 where it is fit to be used; 1 where there is a problem, or where the model does not
    tell the two persona prompts apart on the axis's answer pairs.
    """

    axis: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="AXIS")]
    """Built-in axis, or the path of an axis .toml."""
    model: str = ALIAS
    """Model to try it on: hub id, local folder, .gguf file, or the alias smollm2."""
    form_only: bool = False
    """Check the text alone, without a model."""
    vignettes: bool = False
    """Also try the moral vignettes, where the axis names foundations."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, …"""
    dtype: DType = "auto"
    """Precision of the model."""
    quantize: Quantize = "none"
    """Hold the linear layers in 4 bits (bitsandbytes; needs CUDA)."""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""
    json: bool = False
    """One JSON object in place of words."""


def main(arguments: list[str]) -> int:
    """Parse, check, tell."""
    options = parse(CheckArguments, arguments, "shl axes check")
    axis = load_axis(options.axis)
    findings = check_form(axis)
    with Screen(quiet=options.json) as screen:
        validity = None if options.form_only else _on_model(options, axis, screen)
        if options.json:
            print(json.dumps(_data(axis, findings, validity), ensure_ascii=False))  # noqa: T201
        else:
            screen.say("\n".join(_words(axis, findings, validity)))
    return 0 if _fit(findings, validity) else 1


def _on_model(options: CheckArguments, axis: Axis, screen: Screen) -> Validity:
    names = ("model", "device", "dtype", "quantize", "trust_remote_code")
    settings = config_from({name: getattr(options, name) for name in names}, "shl axes check")
    return check_validity(load_for(settings, screen), axis, vignettes=options.vignettes)


def _fit(findings: Sequence[Finding], validity: Validity | None) -> bool:
    sound = all(f.level != "problem" for f in findings)
    return sound and (validity is None or validity.verdict.answer == "yes")


def _words(axis: Axis, findings: Sequence[Finding], validity: Validity | None) -> list[str]:
    counts = f"{len(axis.probes)} probes, {len(axis.pairs)} pairs"
    lines = [f"axis {escape_terminal(axis.name)}: {counts}", ""]
    if validity is not None:
        lines += [*_validity_words(axis, validity), ""]
    lines += [f"{f.level}: {f.where}: {escape_terminal(f.words)}" for f in findings]
    if not findings:
        lines.append("its text: nothing is amiss")
    return lines


def _validity_words(axis: Axis, validity: Validity) -> list[str]:
    lines = [
        f"trait of the model, nats per token: {signed(validity.base)}",
        f"  under the positive persona prompt: {signed(validity.pos)}",
        f"  under the negative persona prompt: {signed(validity.neg)}",
        validity.verdict.words,
        f"A shift of less than about {validity.blind:.2f} cannot be told with these pairs.",
    ]
    lines += _leaning_words(axis, validity)
    against = validity.against()
    if against:
        lines.append(
            f"Pairs that go the other way: {len(against)} of {len(axis.pairs)}, most of all"
        )
        lines += [
            f"  pair {i + 1} (−{-validity.pair_shifts[i]:.2f}): "
            f"{escape_terminal(axis.pairs[i].question)}"
            for i in against[:SHOWN]
        ]
    if validity.vignettes is not None:
        lines.append(f"moral vignettes: {validity.vignettes.words}")
    return lines


def _leaning_words(axis: Axis, found: Validity) -> list[str]:
    """How far the base prefers one side, and what would even it out."""
    pairs, side = len(axis.pairs), "with the trait" if found.base.value >= 0 else "without it"
    lean = f"the base prefers the answers {side} by {abs(found.base.value):.2f} nats per token"
    if not found.leans:
        return [f"Unsteered, {lean}."]
    between = sum(found.pair_shifts) / pairs
    lines = [
        f"warning: {lean}, more than half of the {abs(between):.2f} that lie between the personas: "
        "a model that is merely sharper seems to have more of the trait"
    ]
    drop, balance = found.to_drop(), found.to_balance()
    remedies = [f"drop pairs {', '.join(str(i + 1) for i in drop)}"] if drop else []
    remedies.append(
        f"write {len(balance)} of the {pairs} anew so that it finds their other side as much "
        "likelier"
    )
    lines.append(f"  {', or '.join(remedies)}. It leans most on")
    return lines + [
        f"  pair {i + 1} ({signed_number(found.base_pairs[i])}): "
        f"{escape_terminal(axis.pairs[i].question)}"
        for i in balance[:SHOWN]
    ]


def _data(axis: Axis, findings: Sequence[Finding], validity: Validity | None) -> dict[str, Any]:
    return {
        "axis": axis.name,
        "fit": _fit(findings, validity),
        "findings": [asdict(f) for f in findings],
        "validity": None if validity is None else _validity_data(validity),
    }


def _validity_data(validity: Validity) -> dict[str, Any]:
    proposed = {"drop": validity.to_drop(), "balance": validity.to_balance()}
    return {**asdict(validity), "leans": validity.leans, **proposed}
