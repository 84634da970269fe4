"""`shl steer`: a steered answer beside the unsteered one, to get a feeling for an axis."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.lm.model.load import DType
from steer_heal_love.lm.sampler.sampling import Sampling
from steer_heal_love.maths.direction import Gate, Operator
from steer_heal_love.maths.schedule import Schedule, ScheduleShape
from steer_heal_love.play.columns import make_console, show_growing
from steer_heal_love.play.loaded import Loaded
from steer_heal_love.play.open_model import read_with_words
from steer_heal_love.play.turn import (
    Column,
    Condition,
    Setting,
    check_gamma,
    check_kappa,
    take_turn,
)
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.model import load_for
from steer_heal_love.stages.steer import SteerConfig
from steer_heal_love.terminal.flags import parse
from steer_heal_love.terminal.screen import Screen


@dataclass(frozen=True)
class SteerArguments:
    """Answer a prompt twice, steered along an axis and not, side by side and with the same noise;
    with --contrast a third time, without a direction.

    In a terminal a token's ink says how much it surprises the base model, and its background the
    dose it was drawn at. The axis's direction is read on first use and kept in the cache.
    """

    prompt: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROMPT")]
    """What to ask."""
    axis: str = "love"
    """Built-in axis, or the path of an axis .toml."""
    kappa: float = 1.0
    """Dose: 1 is the shift that the persona itself causes; below 0 steers the other way."""
    contrast: float = 0.0
    """Also answer by the contrast of the two personas for this γ, such as 4:
    log p + γ/2 · [log p(· | persona) − log p(· | opposite)], where the difference counts for 4 nats
    a token at most, and the end of the answer stays as likely as it was. Three passes a token."""
    schedule: ScheduleShape = "constant"
    """How the dose changes over the answer."""
    schedule_length: int = 32
    """Tokens until the schedule is at its floor; of a prefix, its length."""
    schedule_floor: float = 0.25
    """Share of the dose that is left then."""
    gate: Gate = "none"
    """Scale the dose at each position by the cosine of hidden state and direction."""
    operator: Operator = "add"
    """Add the direction, or rotate towards it at constant norm."""
    system: str | None = None
    """A system prompt for all answers."""
    model: str = "smollm2"
    """Hub id, local folder, .gguf file, or the alias smollm2."""
    max_new_tokens: int = 96
    """Length limit, tokens."""
    temperature: float = 1.0
    """Sampling temperature; 0 takes the likeliest token."""
    seed: int = 0
    """Seed of the noise, the same for all answers."""
    band: tuple[float, float] = (0.4, 0.6)
    """Where the steered band of layers begins and ends, as fractions of the depth."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, …"""
    dtype: DType = "auto"
    """Precision of the model."""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""
    json: bool = False
    """One JSON object with every token, its dose and its surprise, in place of the columns."""


def main(arguments: list[str]) -> int:
    """Parse, find the direction, answer."""
    options = parse(SteerArguments, arguments, "shl steer")
    setting = _setting(options)
    axis, config = load_axis(options.axis), _steer_config(options.band)
    settings = RunConfig(
        model=options.model,
        device=options.device,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
    )
    with Screen(quiet=True) as screen:
        lm = load_for(settings, screen)
        direction = read_with_words(lm, axis, config, None if options.json else screen.notes)
    loaded = Loaded(lm, axis, (direction,), (options.kappa,))
    conditions: tuple[Condition, ...] = ("base", "steered")
    if options.contrast:
        conditions = (*conditions, "contrasted")
    growing = take_turn(loaded, setting, conditions)
    if options.json:
        columns: tuple[Column, ...] = ()
        for snapshot in growing:
            columns = snapshot
        print(json.dumps([asdict(c) for c in columns], ensure_ascii=False))  # noqa: T201
        return 0
    titles = {"base": "unsteered", "steered": _title(options)}
    titles["contrasted"] = f"contrast, γ {options.contrast:g}"
    show_growing(make_console(), growing, titles)
    return 0


def _setting(options: SteerArguments) -> Setting:
    """The turn that the flags ask for.

    Raises:
        ConfigError: a flag is out of its bounds.
    """
    if not options.prompt.strip():
        raise ConfigError("the prompt is empty: write something")
    check_kappa(options.kappa)
    check_gamma(options.contrast)
    if options.max_new_tokens < 1:
        raise ConfigError("--max-new-tokens must be at least 1")
    if not 0 <= options.temperature <= 100:
        raise ConfigError("--temperature must lie between 0 and 100")
    return Setting(
        options.prompt,
        kappa=options.kappa,
        gamma=options.contrast,
        gate=options.gate,
        operator=options.operator,
        schedule=read_schedule(options.schedule, options.schedule_length, options.schedule_floor),
        system=options.system,
        seed=options.seed,
        sampling=Sampling(options.max_new_tokens, options.temperature),
    )


def read_schedule(shape: ScheduleShape, length: int, floor: float) -> Schedule:
    """The schedule. Raises ConfigError where there can be none such."""
    try:
        return Schedule() if shape == "constant" else Schedule(shape, length, floor)
    except ValueError as error:
        raise ConfigError(f"--schedule: {error}") from None


def _steer_config(band: tuple[float, float]) -> SteerConfig:
    low, high = band
    if not 0 <= low < high <= 1:
        raise ConfigError("--band needs two fractions, 0 ≤ low < high ≤ 1")
    return SteerConfig(band_low=low, band_high=high)


def _title(options: SteerArguments) -> str:
    extras = [word for word in (options.schedule, options.gate) if word not in ("constant", "none")]
    turned = ["rotated"] if options.operator == "rotate" else []
    return ", ".join([f"steered, κ {options.kappa:g}", *extras, *turned])
