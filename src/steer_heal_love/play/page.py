"""The playground's page: one message, four columns, and everything that they depend on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import gradio as gr
from markupsafe import escape

from steer_heal_love.errors import ConfigError, SteerHealLoveError
from steer_heal_love.lm.sampler.sampling import Sampling
from steer_heal_love.maths.direction import Gate, Operator
from steer_heal_love.maths.schedule import Schedule, ScheduleShape
from steer_heal_love.play.as_python import as_python
from steer_heal_love.play.loaded import Loaded
from steer_heal_love.play.panes import column_html, heading_html, key_html
from steer_heal_love.play.serial_worker import SerialWorker
from steer_heal_love.play.turn import CONDITIONS, Column, Setting, take_turn
from steer_heal_love.report.text.words import one_line

MAX_TOKENS = 512
LEAST_KAPPA = 3.0  # that the slider reaches both ways
EXAMPLES = 4  # of the axis's probes


def page_theme() -> Any:
    """The page's theme: the system's own fonts, since none may be fetched.

    The green of its button and the grey of its small print are dark enough to be read by everybody.
    """
    return gr.themes.Default(
        primary_hue="emerald",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        body_text_color_subdued="*neutral_600",
    )


@dataclass(frozen=True)
class _Inputs:
    """The components that a setting is read from, in the order of `read_setting`."""

    prompt: Any
    round: Any
    kappa: Any
    schedule: Any
    length: Any
    floor: Any
    gate: Any
    operator: Any
    system: Any
    temperature: Any
    tokens: Any
    seed: Any

    def all(self) -> list[Any]:
        return list(vars(self).values())


def read_setting(
    prompt: Any,
    round_index: Any,
    kappa: Any,
    schedule: Any,
    length: Any,
    floor: Any,
    gate: Any,
    operator: Any,
    system: Any,
    temperature: Any,
    tokens: Any,
    seed: Any,
) -> Setting:
    """The setting that the page, or whoever calls in its place, asks for.

    Raises:
        ConfigError: a value is none, or out of its bounds.
    """
    numbers = (round_index, kappa, length, floor, temperature, tokens, seed)
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise ConfigError("a number is missing: fill it in")
    if not 0 <= temperature <= 10 or not 1 <= tokens <= MAX_TOKENS:
        raise ConfigError(f"temperature must lie in 0 to 10, tokens in 1 to {MAX_TOKENS}")
    known = ((schedule, ScheduleShape), (gate, Gate), (operator, Operator))
    if any(value not in get_args(choices) for value, choices in known):
        raise ConfigError("schedule, gate or operator is not one that there is")
    try:
        dosing = Schedule() if schedule == "constant" else Schedule(schedule, int(length), floor)
        drawn = abs(int(seed)) % 2**31
        rounds = int(round_index)
    except (ValueError, OverflowError) as error:
        raise ConfigError(str(error)) from None
    return Setting(
        str(prompt or ""),
        rounds,
        float(kappa),
        gate,
        operator,
        dosing,
        system=str(system or "").strip() or None,
        seed=drawn,
        sampling=Sampling(int(tokens), float(temperature)),
    )


def make_page(loaded: Loaded, path: Path, worker: SerialWorker) -> Any:
    """The page over a loaded run.

    Nothing of a visitor is kept: each request brings its whole setting, and answers wait their
    turn with the worker. So a second tab, or a second visitor, changes nothing for the first.
    """

    def ask(*values: Any) -> Iterator[list[str]]:
        try:
            setting = read_setting(*values)
            for columns in worker.follow(lambda: take_turn(loaded, setting)):
                yield [column_html(loaded, setting, column) for column in columns]
        except SteerHealLoveError as error:
            raise gr.Error(str(escape(one_line(error))), print_exception=False) from None

    def ask_again(*values: Any) -> Iterator[Any]:
        """As `ask`, where there is something to ask: a slider may be moved before."""
        if str(values[0] or "").strip():
            yield from ask(*values)
        else:
            yield [gr.skip()] * len(CONDITIONS)

    def write_program(*values: Any) -> str:
        try:
            return as_python(loaded, read_setting(*values), run=path)
        except SteerHealLoveError as error:
            return f"# {one_line(error)}"

    with gr.Blocks(title="Steer Heal Love", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(heading_html(loaded, path))
        inputs, button = _inputs(loaded)
        with gr.Row(equal_height=False):
            answers = [
                gr.HTML(column_html(loaded, None, Column(name)), elem_id=name, min_width=220)
                for name in CONDITIONS
            ]
        gr.HTML(key_html())
        with gr.Accordion("Copy as Python", open=False):
            program = gr.Code(language="python", interactive=False, elem_id="program")
        one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "model"}
        gr.on(
            [button.click, inputs.prompt.submit],
            ask,
            inputs.all(),
            answers,
            api_name="ask",
            show_progress="minimal",
            **one_at_a_time,
        )
        gr.on(
            [inputs.round.release, inputs.kappa.release]
            + [c.input for c in (inputs.schedule, inputs.gate, inputs.operator)],
            ask_again,
            inputs.all(),
            answers,
            api_visibility="private",
            show_progress="minimal",
            trigger_mode="always_last",
            **one_at_a_time,
        )
        gr.on(
            [page.load, *(component.change for component in inputs.all())],
            write_program,
            inputs.all(),
            program,
            api_name="program",
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
        )
    return page


def _inputs(loaded: Loaded) -> tuple[_Inputs, Any]:
    """The components above the columns."""
    reach = max(LEAST_KAPPA, 2 * max(loaded.doses))
    probes = loaded.known_axis().probes
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(
            probes[0], label="Message", lines=2, scale=5, max_length=20_000, elem_id="message"
        )
        button = gr.Button("Ask", variant="primary", scale=1, min_width=120, elem_id="ask")
    gr.Examples([[probe] for probe in probes[1 : 1 + EXAMPLES]], prompt, label="Or ask")
    with gr.Row():
        round_index = gr.Slider(
            0,
            loaded.rounds,
            loaded.rounds,
            step=1,
            label="Rounds healed (0 is the base model)",
            elem_id="round",
        )
        kappa = gr.Slider(
            -reach,
            reach,
            round(loaded.dose(loaded.rounds), 2),
            step=0.01,
            label="Dose κ of the steered column",
            elem_id="kappa",
        )
    with gr.Row():
        schedule = gr.Dropdown(list(get_args(ScheduleShape)), value="constant", label="Schedule")
        gate = gr.Dropdown(list(get_args(Gate)), value="none", label="Gate (by cosine)")
        operator = gr.Dropdown(list(get_args(Operator)), value="add", label="Operator")
    with gr.Accordion("More", open=False):
        with gr.Row():
            length = gr.Slider(1, MAX_TOKENS, 32, step=1, label="Schedule's length, tokens")
            floor = gr.Slider(0, 1, 0.25, step=0.01, label="Schedule's floor, share of κ")
        with gr.Row():
            temperature = gr.Slider(0, 2, 1.0, step=0.05, label="Temperature (0: the likeliest)")
            tokens = gr.Slider(1, MAX_TOKENS, 96, step=1, label="Length limit, tokens")
            seed = gr.Number(0, precision=0, label="Seed")
        system = gr.Textbox("", label="System prompt", lines=1, max_length=20_000)
    return (
        _Inputs(
            prompt,
            round_index,
            kappa,
            schedule,
            length,
            floor,
            gate,
            operator,
            system,
            temperature,
            tokens,
            seed,
        ),
        button,
    )
