"""`shl dose-curve`: trait against coherence over doses, as a table and a figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.loop.dose_curve import Personas, measure_curve
from steer_heal_love.records import Measurement, NoPieces
from steer_heal_love.report.figures.dose_curve import PAIRS, PERSONA, dose_plot, dose_tables
from steer_heal_love.report.page.figure_page import save_dose_plot
from steer_heal_love.report.text.words import one_line
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.base_cache import cache_baselines
from steer_heal_love.runner.model import load_for, settle
from steer_heal_love.runner.remote_code import drop_trust, refuse_silent_trust
from steer_heal_love.runner.settings import files_named, load_config
from steer_heal_love.runs.codec import to_json
from steer_heal_love.runs.files import write_text
from steer_heal_love.stages.dosing.application import DosingConfig
from steer_heal_love.terminal.flags import parse
from steer_heal_love.terminal.screen import Screen
from steer_heal_love.verdicts import INVALID
from steer_heal_love.verdicts.instruments import validity

DOSES = "0,0.25,0.5,0.75,1,1.25,1.5,2"
LEAST = 4  # answers per dose
LARGEST = 1e6


@dataclass(frozen=True)
class CurveArguments:
    """Measure what doses do to a model: trait and coherence of its steered answers.

    Answers are sampled at each dose, with the same prompts and the same noise, and scored under the
    unsteered model as a run scores them.
    """

    dosing: DosingConfig
    kappas: str = DOSES
    """Doses κ, separated by commas; 0 is the model as it is."""
    contrast: str | None = None
    """Amplifications γ of the contrast of the personas, separated by commas, such as 0,2,4,8, in
    place of doses: see shl steer --contrast."""
    axis: str | None = None
    """Built-in axis or path of an axis .toml; by default the settings', or love."""
    model: str | None = None
    """Hub id, local folder, .gguf file, or the alias smollm2; by default the settings'."""
    samples: int = 64
    """Answers per dose."""
    seed: int = 0
    """Seed of the answers."""
    config: Path | None = None
    """TOML file of settings, as of shl run; flags beat it."""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""
    out: Path | None = None
    """Folder for the figure (SVG, PNG and HTML) and the values (JSON)."""
    quiet: bool = False
    """Say nothing but errors."""


def main(arguments: list[str]) -> int:
    """Parse, measure, show, draw."""
    named = files_named(arguments).config
    from_file = load_config(named)
    default = CurveArguments(from_file.dosing, config=named)
    options = parse(CurveArguments, arguments, "shl dose-curve", default)
    refuse_silent_trust(from_file, f"config file {named}", options.trust_remote_code)
    doses, symbol = read_doses(options.kappas), "κ"
    if options.contrast is not None:
        if options.kappas != DOSES:
            raise ConfigError("--kappas and --contrast are two curves: ask for one at a time")
        doses, symbol = read_doses(options.contrast, "--contrast"), "γ"
    settings = _settings(options, drop_trust(from_file))
    axis = load_axis(settings.axis)
    _refuse_file(options.out)
    with Screen(quiet=options.quiet) as screen:
        lm = load_for(settings, screen)
        contexts = load_contexts()
        settings = settle(lm, axis, settings, screen)
        pieces = cache_baselines(NoPieces(), lm, axis, contexts, settings)
        personas, measured = measure_curve(
            lm,
            axis,
            contexts,
            settings,
            doses,
            options.samples,
            contrast=symbol == "γ",
            pieces=pieces,
            report=screen.report,
        )
    points = list(_told(measured, len(doses), options.quiet))
    marks = find_marks(personas)
    if not options.quiet:
        Console().print(*dose_tables(points, marks, symbol))
    if options.out is not None:
        subject = one_line(f"axis {axis.name} on {lm.identity.name}")
        head = {
            "axis": axis.name,
            "model": lm.identity.name,
            "seed": settings.seed,
            "samples": options.samples,
            "dosing": settings.dosing.model_dump(),
            "not_valid": {name: mark for name, mark in marks.items() if mark},
        }
        files = save_dose_plot(dose_plot(points, subject, marks, symbol), options.out)
        files.append(_write_values(head, points, symbol, options.out / "dose_curve.json"))
        if not options.quiet:
            Console(soft_wrap=True).print(f"written: {', '.join(map(str, files))}", markup=False)
    return 0


def read_doses(text: str, flag: str = "--kappas") -> list[float]:
    """Doses in ascending order, each once.

    Raises:
        ConfigError: one is no number, or there is none.
    """
    doses = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        try:
            kappa = float(word)
        except ValueError:
            raise ConfigError(f"{flag}: {word!r} is no number: write 0,0.5,1") from None
        if not abs(kappa) < LARGEST:
            raise ConfigError(f"{flag}: {word} is no dose: write numbers such as 0,0.5,1")
        doses.add(kappa + 0.0)  # no negative zero
    if not doses:
        raise ConfigError(f"{flag}: name at least one dose, such as 0,0.5,1")
    return sorted(doses)


def _told(
    measured: Iterable[tuple[float, Measurement]], count: int, quiet: bool
) -> Iterable[tuple[float, Measurement]]:
    """The points, with a progress bar where somebody watches."""
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    return track(measured, "doses", total=count, console=console, transient=True, disable=hidden)


def _settings(options: CurveArguments, from_file: RunConfig) -> RunConfig:
    if options.samples < LEAST:
        raise ConfigError(f"--samples: {options.samples} answers tell nothing: at least {LEAST}")
    if not 0 <= options.seed < 2**31:
        raise ConfigError(f"--seed: {options.seed} is no seed: 0 to {2**31 - 1}")
    changes: dict[str, Any] = {"dosing": options.dosing, "seed": options.seed}
    changes["trust_remote_code"] = options.trust_remote_code
    for name in ("axis", "model"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    return from_file.model_copy(update=changes)


def _refuse_file(folder: Path | None) -> None:
    """Before minutes go into what could not be written."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file: name a folder")


def find_marks(personas: Personas) -> dict[str, str]:
    """Of each instrument, what to write beside it; empty where it is valid on this model."""
    pos, neg = personas.pos.items, personas.neg.items
    return {
        name: "" if validity(pos[name], neg[name]).answer == "yes" else INVALID
        for name in (PERSONA, PAIRS)
    }


def _write_values(
    head: dict[str, Any], points: Sequence[tuple[float, Measurement]], symbol: str, path: Path
) -> Path:
    doses = [
        {
            "kappa" if symbol == "κ" else "gamma": kappa,
            "figures": {name: asdict(figure) for name, figure in m.figures.items()},
            "items": {name: list(values) for name, values in m.items.items()},
        }
        for kappa, m in points
    ]
    write_text(path, to_json({**head, "doses": doses}))
    return path
