"""`shl tune`: where to steer, and how to read the direction, for an axis on a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.loop.tune import DOSE, Candidate, Scan, scan
from steer_heal_love.maths.paired import paired_difference
from steer_heal_love.maths.statistics import excludes_zero
from steer_heal_love.records import NoPieces
from steer_heal_love.report.figures.drawing import save_twins
from steer_heal_love.report.figures.tune import (
    EXTRACTIONS,
    RANDOM,
    TuneRow,
    tune_plot,
    tune_table,
)
from steer_heal_love.report.text.words import one_line
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.base_cache import cache_baselines
from steer_heal_love.runner.model import load_for, settle
from steer_heal_love.runner.remote_code import drop_trust, refuse_silent_trust
from steer_heal_love.runner.settings import files_named, load_config
from steer_heal_love.runs.codec import to_json, to_toml
from steer_heal_love.runs.files import write_text
from steer_heal_love.stages.steer import SteerConfig
from steer_heal_love.terminal.flags import parse
from steer_heal_love.terminal.screen import Screen


@dataclass(frozen=True)
class TuneArguments:
    """Find the band of layers, and the way to read the direction, that pay best on a model.

    Each is tried at dose 1 on fixed texts, and measured by the trait at equal entropy over the root
    of the divergence from base. Nothing is trained.
    """

    axis: str | None = None
    """Built-in axis or path of an axis .toml; by default the settings', or love."""
    model: str | None = None
    """Hub id, local folder, .gguf file, or the alias smollm2; by default the settings'."""
    config: Path | None = None
    """TOML file of settings, as of shl run; flags beat it."""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""
    out: Path = Path("tune")
    """Folder for tune.json, the figure (SVG and PNG) and tune.toml, settings for shl run."""
    quiet: bool = False
    """Say nothing but errors."""


def main(arguments: list[str]) -> int:
    """Parse, scan, show, write."""
    named = files_named(arguments).config
    from_file = load_config(named)
    options = parse(TuneArguments, arguments, "shl tune", TuneArguments(config=named))
    refuse_silent_trust(from_file, f"config file {named}", options.trust_remote_code)
    settings = _settings(options, drop_trust(from_file))
    axis = load_axis(settings.axis)
    if options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a file: name a folder")
    with Screen(1, quiet=options.quiet) as screen:
        lm = load_for(settings, screen)
        contexts = load_contexts()
        settled = settle(lm, axis, settings, screen)
        pieces = cache_baselines(NoPieces(), lm, axis, contexts, settled)

        def report(done: int, total: int) -> None:
            screen.report("baseline", done, total)

        scanned = scan(lm, axis, contexts, settled, pieces=pieces, report=report)
    rows = list_rows(scanned)
    subject = one_line(f"axis {axis.name} on {lm.identity.name}")
    files = save_twins([tune_plot(rows, subject)], options.out)
    files += _write_values(scanned, {"axis": axis.name, "model": lm.identity.name}, options.out)
    files.append(_write_settings(settings, scanned.best.steer, options.out))
    if not options.quiet:
        Console().print(tune_table(rows))
        plain = Console(soft_wrap=True, highlight=False)
        plain.print(describe_best(scanned), markup=False)
        plain.print(f"written: {', '.join(map(str, files))}", markup=False)
    return 0


def _settings(options: TuneArguments, from_file: RunConfig) -> RunConfig:
    changes = {name: getattr(options, name) for name in ("axis", "model")}
    changes = {name: value for name, value in changes.items() if value is not None}
    trust = {"trust_remote_code": options.trust_remote_code}
    return from_file.model_copy(update={**changes, **trust})


def list_rows(scanned: Scan) -> list[TuneRow]:
    """All candidates as they are shown, the most trait for its divergence first."""

    def row(candidate: Candidate) -> TuneRow:
        figures, steer = candidate.measured.figures, candidate.steer
        trait = (m.items["trait_nats"] for m in (candidate.measured, scanned.base))
        return TuneRow(
            steer.band_low,
            steer.band_high,
            RANDOM if candidate.random else EXTRACTIONS[steer.extraction],
            paired_difference(*trait),
            figures.get("temperature_match"),
            figures.get("kl_matched_nats"),
            candidate.efficiency,
            scanned.against_own(candidate),
            own=candidate is scanned.own,
            best=candidate is scanned.best,
        )

    rows = [row(candidate) for candidate in scanned.candidates]
    return sorted(rows, key=lambda r: -r.efficiency.value if r.efficiency else float("inf"))


def describe_best(scanned: Scan) -> str:
    """Which candidate the settings are of, and whether it can be told from the settings' own."""
    best = scanned.best
    if best is scanned.own:
        return "No band and no extraction does better than the settings' own."
    steer = best.steer
    name = f"Layers {steer.band_low:g}–{steer.band_high:g}, {EXTRACTIONS[steer.extraction]}"
    ahead = scanned.against_own(best)
    if ahead is not None and excludes_zero(ahead):
        return f"{name}: more trait for its divergence than the settings' own."
    return f"{name}: the most trait for its divergence, but the settings' own may be as good."


def _write_values(scanned: Scan, head: dict[str, Any], folder: Path) -> list[Path]:
    candidates = [
        {
            "band": [c.steer.band_low, c.steer.band_high],
            "extraction": c.steer.extraction,
            "random": c.random,
            "own": c is scanned.own,
            "best": c is scanned.best,
            "figures": {name: asdict(figure) for name, figure in c.measured.figures.items()},
            "against_own": None if (d := scanned.against_own(c)) is None else asdict(d),
        }
        for c in scanned.candidates
    ]
    base = {name: asdict(figure) for name, figure in scanned.base.figures.items()}
    path = folder / "tune.json"
    write_text(path, to_json({**head, "dose": DOSE, "base": base, "candidates": candidates}))
    return [path]


def _write_settings(settings: RunConfig, best: SteerConfig, folder: Path) -> Path:
    """What was set, with the band and the extraction in full; trust is for each command to give."""
    values = settings.model_dump(mode="json", exclude_defaults=True, exclude={"trust_remote_code"})
    named = {"axis": settings.axis, "model": settings.model, "steer": best.model_dump(mode="json")}
    path = folder / "tune.toml"
    write_text(path, to_toml({**values, **named}))
    return path
