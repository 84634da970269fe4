"""The command `shl`: picks the sub-command, and turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import io
import os
import sys

from steer_heal_love._version import __version__
from steer_heal_love.errors import SteerHealLoveError, hint_at

# name: (module of commands/, what it does)
COMMANDS = {
    "run": ("run", "steer, heal, love: the whole loop, from a persona pair to healed adapters"),
    "sweep": ("sweep", "many runs from one file, here or on a Ray cluster, and side by side"),
    "resume": ("resume", "go on with a run that was stopped or killed, or extend a finished one"),
    "report": ("report", "write a run's page, diary and figures, or a page of several runs"),
    "watch": ("watch", "follow a running run from another terminal"),
    "steer": ("steer", "a steered answer beside the unsteered one, to get a feeling for an axis"),
    "chat": ("chat", "talk to a run's rounds in the terminal, with or without steering"),
    "playground": ("playground", "a page to ask base, prompted, steered and healed side by side"),
    "eval": ("eval", "measure a run's healed model, or any model with or without an adapter"),
    "dose-curve": ("dose_curve", "trait against coherence over doses: a table and a figure"),
    "tune": ("tune", "find the layers, and the way to read the direction, that pay best"),
    "export": ("export", "a run's result for other programs: PEFT, merged, GGUF, vectors"),
    "compare": ("compare", "show runs beside one another: barrier, trait, coherence, verdicts"),
    "audit-filter": ("audit_filter", "what the filter catches, on completions of known truth"),
    "axes": ("axes", "list the built-in axes, show one, or check one of your own"),
    "plan": ("plan", "what a run will take of memory, time and disk, and what to choose"),
    "presets": ("presets", "list settings for known models, or show one with its sources"),
    "verify": ("verify", "check every file of a run against its manifest"),
}

USAGE = """usage: shl COMMAND [OPTIONS]

Distil a steering vector into LoRA weights, heal the incoherence, and loop.

commands:
{commands}

shl COMMAND --help tells a command's options; shl --version the version.
"""


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 the run went wrong, 2 bad input, 130/143 interrupted."""
    arguments = [_as_utf8(a) for a in (sys.argv[1:] if argv is None else argv)]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console without UTF-8 gets ? for what it lacks
            stream.reconfigure(errors="replace")
    try:
        sys.exit(dispatch(arguments))
    except SteerHealLoveError as error:
        print(f"shl: {one_line(str(error))}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `shl … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a path that is too long, a folder that nobody may read, …
        where = f"{error.filename}: " if error.filename else ""
        print(f"shl: {one_line(f'{where}{error.strerror or error}')}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


def dispatch(arguments: list[str]) -> int:
    """Exit code of the command that the arguments name."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {name:<{width}}  {task}" for name, (_, task) in COMMANDS.items()]
        print(USAGE.format(commands="\n".join(lines)), end="")  # noqa: T201
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version", "version"):
        print(f"shl {__version__}")  # noqa: T201
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        hint = hint_at(name, COMMANDS)
        raise SteerHealLoveError(f"unknown command {name!r}: {hint}`shl --help` lists them")
    module = importlib.import_module(f"steer_heal_love.commands.{COMMANDS[name][0]}")
    code: int = module.main(rest)
    return code


def _as_utf8(argument: str) -> str:
    """An argument as it was typed, also where a locale without UTF-8 put its bytes aside."""
    aside = any("\ud800" <= c <= "\udfff" for c in argument)
    return os.fsencode(argument).decode("utf-8", "replace") if aside else argument


def one_line(text: str) -> str:
    """Text on one line, with control characters made harmless."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
