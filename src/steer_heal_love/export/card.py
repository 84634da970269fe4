"""The model card: README.md with the hub's front matter, made from the run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import huggingface_hub
import jinja2

from steer_heal_love._version import __version__
from steer_heal_love.export.fidelity import Fidelity
from steer_heal_love.export.job import ExportResult
from steer_heal_love.export.licence import Licence
from steer_heal_love.export.lora import SERVED_RANKS
from steer_heal_love.export.student import Student
from steer_heal_love.records import Interval
from steer_heal_love.report.escape import escape_markdown
from steer_heal_love.report.states import (
    LOOPS,
    PERPLEXITY,
    TRAIT,
    parse_metrics,
    read_figure,
    read_mapping,
    read_rounds,
)
from steer_heal_love.report.text.summary import verdict_lines
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import number, one_line, percent, plain, signed
from steer_heal_love.runs.write import RunDirectory

_FIGURES = (
    (TRAIT, "trait, nats per token", signed),
    (PERPLEXITY, "perplexity", plain),
    (LOOPS, "loops", percent),
    ("relevance", "relevance to the question", number),
    ("self_bleu", "likeness of the answers to each other", number),
    ("capability_perplexity", "perplexity of plain text", plain),
)
_RELATIONS = {"peft": "adapter", "merged": "finetune", "gguf": "finetune", "vector": "adapter"}
_LIBRARIES = {"peft": "peft", "merged": "transformers"}


def model_card(kind: str, student: Student, result: ExportResult, licence: Licence) -> str:
    """The text of the card. Everything that comes from the run is escaped."""
    environment = jinja2.Environment(  # noqa: S701  (Markdown: the filter `md` escapes it)
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=False
    )
    environment.filters["md"] = lambda text: escape_markdown(str(text))
    source = resources.files("steer_heal_love.data").joinpath("model_card.md.jinja")
    template = environment.from_string(source.read_text(encoding="utf-8"))
    text = template.render(_facts(kind, student, result, licence))
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"


def front_matter(kind: str, student: Student, licence: Licence) -> str:
    """The hub's metadata, YAML."""
    tags = ["steer-heal-love", "activation-steering", "self-distillation", "persona"]
    data = huggingface_hub.ModelCardData(
        base_model=student.base.hub_id,
        library_name=_LIBRARIES.get(kind),
        license=licence.id or "other",
        license_name=licence.name if licence.id else "unknown",
        license_link=licence.link,
        pipeline_tag=None if kind == "vector" else "text-generation",
        tags=[*tags, *({"peft": ["lora"], "gguf": ["gguf"]}.get(kind, []))],
        base_model_relation=_RELATIONS[kind] if student.base.hub_id else None,
    )
    return str(data.to_yaml())


def _facts(kind: str, student: Student, result: ExportResult, licence: Licence) -> dict[str, Any]:
    view, base = student.view, student.base
    rounds = read_rounds(view.metrics)
    heal = read_mapping(view.config.get("heal"))
    return {
        "front_matter": front_matter(kind, student, licence),
        "title": f"{base.label} · {view.axis.name}",
        "what": f"{view.axis.description} Round {student.round} of a run of Steer Heal Love.",
        "kind": kind,
        "rank": result.rank,
        "dtype": result.dtype,
        "files": result.files,
        "layers": result.layers,
        "base": base.label,
        "rounds_words": "round 0" if student.round == 0 else f"rounds 0 to {student.round}",
        "read_from": _read_from(student),
        "dose": number(student.entry.get("dose")),
        "usage": _usage(kind, student, result),
        "prompting": [_outside_code(note) for note in result.prompting],
        "axis": view.axis,
        "round": student.round,
        "figures": _figure_rows(view.metrics, student.entry),
        "fidelity": " ".join([*result.costs, *_fidelity_words(result.fidelity), *result.checks]),
        "verdicts": verdict_lines(parse_metrics(view.metrics).verdicts)[2:],
        "barrier": f"{heal.get('aggregate')} of the {heal.get('divergence')} KL divergence, "
        f"τ = {heal.get('tau')} nats, λ = {heal.get('lam')}",
        "seed": number(view.metrics.get("seed"), 0),
        "rounds": [_round_row(entry) for entry in rounds],
        "kept": sum(int(entry.get("kept") or 0) for entry in rounds),
        "generated": sum(int(entry.get("total") or 0) for entry in rounds),
        "weights": f" ({base.revision})" if base.revision else "",
        "computed_in": base.dtype or "an unknown precision",
        "notes": result.notes,
        "licence": _licence_words(licence, base.label),
        "licence_files": [name for name, _ in licence.files],
        "reproduce": "shl run --config reproduce/config.toml --axis reproduce/axis.toml "
        f"--rounds {student.round + 1} --out again",
        "versions": _versions(student),
        "version": __version__,
    }


def _read_from(student: Student) -> str:
    if student.round == 0:
        return f"the untouched base model {student.base.label}"
    last = student.round - 1
    healed = "round 0" if last == 0 else f"rounds 0 to {last}"
    return f"{student.base.label} with the adapters of {healed} on"


def _figure_rows(metrics: Mapping[str, Any], entry: Mapping[str, Any]) -> list[list[str]]:
    conditions = map(entry.get, ("steered", "healed"))
    measured = [metrics.get("base"), metrics.get("prompt_pos"), *conditions]
    rows = []
    for name, words, show in _FIGURES:
        figures = [read_figure(measurement, name) for measurement in measured]
        if any(figures):
            mark = mark_of(parse_metrics(metrics).verdicts, name)
            head = f"{words} (**{mark}**)" if mark else words
            rows.append([head, *(_cell(figure, show) for figure in figures)])
    return rows


def _cell(figure: Interval | None, show: Any) -> str:
    if figure is None:
        return "–"
    if figure.bounds is None:
        return str(show(figure.value))
    low, high = figure.bounds
    return f"{show(figure.value)} ({show(low)} to {show(high)})"


def _round_row(entry: Mapping[str, Any]) -> list[str]:
    heal = read_mapping(entry.get("heal"))
    kept, total = number(entry.get("kept"), 0), number(entry.get("total"), 0)
    return [
        number(entry.get("round"), 0),
        number(entry.get("dose")),
        f"{kept} of {total}",
        number(heal.get("divergence")),
        number(entry.get("cosine_first")),
    ]


def _fidelity_words(fidelity: Fidelity | None) -> Sequence[str]:
    if fidelity is None:
        return ()
    texts = "its own answers" if fidelity.own_answers else "the axis's questions"
    return (
        f"Read back from its files by {fidelity.read_by} and computed in {fidelity.computed_in}, "
        f"this export diverges from the exact student by {fidelity.mean_kl_nats:.2g} nats per "
        f"token on average and {fidelity.worst_kl_nats:.2g} at the worst token (KL over the whole "
        f"vocabulary, {fidelity.tokens} tokens of {fidelity.texts} of {texts}).",
    )


def _outside_code(text: str) -> str:
    """Markdown with what stands outside its code spans escaped."""
    parts = text.split("`")
    return "`".join(part if i % 2 else escape_markdown(part) for i, part in enumerate(parts))


def _licence_words(licence: Licence, base: str) -> str:
    if licence.id is None:
        return (
            f"The licence of the base model {base} was not found ({licence.source}). It holds for "
            "this export too: look it up before you pass anything on."
        )
    known = ", ".join(str(x) for x in (licence.name, licence.link) if x)
    return (
        f"{licence.id}{f' ({known})' if known else ''}, the licence of the base model {base} "
        f"({licence.source}), holds for this export too."
    )


def _versions(student: Student) -> str:
    environment = RunDirectory(student.view.path).environment()
    packages = read_mapping(environment.get("packages"))
    known = {"steer-heal-love": environment.get("steer_heal_love"), **packages}
    return ", ".join(f"{name} {one_line(v)}" for name, v in known.items() if v)


def _usage(kind: str, student: Student, result: ExportResult) -> str:
    base, files = student.base.name, result.files
    match kind:
        case "peft":
            served = next((served for served in SERVED_RANKS if result.rank <= served), result.rank)
            return _code("python", _PEFT.format(base=base)) + _code(
                "",
                f"vllm serve {base} --enable-lora --max-lora-rank {served} \\\n"
                "    --lora-modules healed=DIR",
            )
        case "merged":
            return _code("python", _MERGED)
        case "gguf":
            return _code("", _GGUF.format(**files))
        case _:
            return _code("python", _VECTOR.format(**files, layers=list(result.layers)))


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n\n"


_PEFT = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("DIR")
base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "DIR")"""
_MERGED = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("DIR")
model = AutoModelForCausalLM.from_pretrained("DIR")"""
_GGUF = """\
llama-cli -m {model}
llama-cli -m BASE.gguf --lora {lora}
llama-cli -m BASE.gguf --control-vector-scaled {control_vector}:1.0"""
_VECTOR = """\
# repeng
from repeng import ControlModel, ControlVector
vector = ControlVector.import_gguf("{control_vector}")
model = ControlModel(model, {layers})
model.set_control(vector, 1.0)

# steering-vectors
from safetensors.torch import load_file
from steering_vectors import SteeringVector
layers = {{int(name.removeprefix("layer.")): v for name, v in load_file("{direction}").items()}}
with SteeringVector(layers).apply(model, multiplier=1.0):
    ..."""
