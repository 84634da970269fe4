"""`shl chat`: talk to a run, an export or any model in the terminal."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from steer_heal_love.errors import ConfigError, SteerHealLoveError
from steer_heal_love.lm.model.load import DType
from steer_heal_love.lm.sampler.sampling import Sampling
from steer_heal_love.play.columns import make_console, show_growing, stream_one
from steer_heal_love.play.conversation import Conversation
from steer_heal_love.play.open_model import open_any
from steer_heal_love.play.turn import Setting
from steer_heal_love.report.escape import escape_terminal
from steer_heal_love.report.text.words import one_line
from steer_heal_love.terminal.flags import parse


@dataclass(frozen=True)
class ChatArguments:
    """Talk to a healed model, or to any round of its run, with or without steering.

    Messages come from the terminal or from standard input, one a line; /help lists the commands.
    """

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")]
    """A run directory, a folder of `shl export`, a folder with a PEFT adapter, or a model: hub id,
    local folder, .gguf file, or smollm2."""
    round: int | None = None
    """Begin after this many healed rounds; by default after all."""
    kappa: float = 0.0
    """Begin with this dose."""
    contrast: float = 0.0
    """Begin with the contrast of the personas, amplified by this γ, in place of a dose: see shl
    steer --contrast."""
    axis: str | None = None
    """Of an export or a model: built-in axis, or the path of an axis .toml; by default the export's
    own, and without one there is no steering."""
    system: str | None = None
    """Begin with this system prompt."""
    max_new_tokens: int = 256
    """Length limit of an answer, tokens."""
    temperature: float = 1.0
    """Sampling temperature; 0 takes the likeliest token."""
    seed: int = 0
    """Seed of the noise."""
    device: str | None = None
    """Where to compute: auto, cpu, cuda, …; by default as the run did, else auto."""
    dtype: DType | None = None
    """Precision of the model; by default the run's, else auto."""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""


def main(arguments: list[str]) -> int:
    """Parse, load, talk."""
    options = parse(ChatArguments, arguments, "shl chat")
    if options.max_new_tokens < 1:
        raise ConfigError("--max-new-tokens must be at least 1")
    if not 0 <= options.temperature <= 100:
        raise ConfigError("--temperature must lie between 0 and 100")
    if options.kappa and options.contrast:
        raise ConfigError(
            "--kappa and --contrast are two ways to the trait: begin with one of them"
        )
    loaded = open_any(
        options.what,
        axis=options.axis,
        device=options.device,
        dtype=options.dtype,
        trust=options.trust_remote_code,
    )
    talk = Conversation(
        loaded, Sampling(options.max_new_tokens, options.temperature), seed=options.seed, round=0
    )
    talk.command(f"/round {loaded.rounds if options.round is None else options.round}")
    talk.command(f"/kappa {options.kappa}")
    talk.command(f"/contrast {options.contrast}")
    talk.command(f"/system {options.system or ''}")
    console = make_console()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is no UTF-8 is no reason to end the talk
    if sys.stdin.isatty():
        import readline  # noqa: F401  (input() edits lines with it)
    if sys.stdin.isatty() or loaded.path is None:
        console.print(Text(escape_terminal(_greeting(talk, options.what))), soft_wrap=True)
    _talk(talk, console)
    return 0


def _greeting(talk: Conversation, source: str) -> str:
    """The first line: who answers, and what there is where it is not a run's rounds."""
    if talk.loaded.path is not None:
        there = ""
    elif talk.loaded.rounds:
        there = ": round 1 is its base model with the adapter, round 0 without"
    else:
        there = ": the only model here, so it is round 0, and stands where a run has its base"
    return f"{talk.speaker} of {source}{there}; /help lists the commands"


def _talk(talk: Conversation, console: Console) -> None:
    """Read and answer until the end of input or /quit; a mistake costs one line."""
    while (message := _read(talk, console)) is not None:
        try:
            if message.strip() in ("/quit", "/exit"):
                return
            if message.strip():
                _answer(talk, console, message.strip())
        except SteerHealLoveError as error:
            print(f"shl: {one_line(str(error))}", file=sys.stderr)  # noqa: T201
        except KeyboardInterrupt:  # this answer is not wanted; the talk goes on
            console.print("(stopped)")


def _read(talk: Conversation, console: Console) -> str | None:
    """The next line; None at the end of input. What is piped in is repeated, to be followed."""
    prompt = f"[{talk.speaker}] > "
    try:
        if sys.stdin.isatty():
            return input(prompt)
        line = sys.stdin.readline()
    except (EOFError, KeyboardInterrupt):
        console.print("")
        return None
    if not line:
        return None
    console.print(Text(f"{prompt}{escape_terminal(line.rstrip())}"), soft_wrap=True)
    return line.rstrip("\r\n")


def _answer(talk: Conversation, console: Console, message: str) -> None:
    if message == "/compare":
        setting, growing = talk.compare()
        titles = _titles(talk, setting)
        show_growing(console, growing, titles, judge=titles["base"])
    elif message.startswith("/"):
        said = talk.command(message)
        console.print(Text(escape_terminal(said)), soft_wrap=True)
    else:
        column = stream_one(console, talk.ask(message))
        talk.keep(message, column.text)


def _titles(talk: Conversation, setting: Setting) -> dict[str, str]:
    return {
        "base": "base" if talk.loaded.rounds else talk.loaded.name(0),
        "prompted": "prompted",
        "steered": f"steered, κ {setting.kappa:g}",
        "healed": f"healed, {talk.loaded.name(talk.round)}",
        "contrasted": f"contrast, γ {setting.gamma:g}",
    }
