"""The doors of the house: which room may import which. docs/architecture.md has the picture."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "steer_heal_love"
SOURCE = Path(__file__).parents[1] / "src" / PACKAGE

LM = {"lm.tokens", "lm.memory", "lm.model", "lm.patches", "lm.reading", "lm.sampler"}

# Room: the rooms that it may import besides itself, from the ground floor up. A room is a folder or
# a file of the package; in lm, report and export the folders and files inside are rooms too.
DOORS: dict[str, set[str]] = {
    "_version": set(),
    "errors": set(),
    "records": {"errors"},
    "piece_names": set(),
    "maths": {"errors", "records"},
    "inputs": {"errors", "records"},
    "lm.memory": {"errors"},
    "lm.tokens": {"errors"},
    "lm.model": {"errors", "maths"},
    "lm.patches": {"errors", "records", "maths", "lm.tokens", "lm.memory", "lm.model"},
    "lm.reading": {"errors", "lm.tokens", "lm.memory", "lm.model", "lm.patches"},
    "lm.sampler": {"errors", "records", "maths", *LM} - {"lm.sampler"},
    "verdicts": {"records", "maths"},
    "runs": {"errors", "records", "piece_names", "inputs"},
    "stages": {"errors", "records", "piece_names", "maths", "inputs", *LM},
    "harness": {"errors", "records", "maths", "inputs", "lm.model", "lm.patches", "stages"},
    "checks": {
        *{"errors", "records", "inputs", "maths", "lm.model", "lm.reading"},
        *{"stages", "verdicts"},
    },
    "run_config": {"lm.model", "stages"},
    "budget": {
        "errors",
        "records",
        "piece_names",
        "maths",
        "inputs",
        *LM,
        "runs",
        "stages",
        "run_config",
    },
    "loop": {
        *{"errors", "records", "piece_names", "maths", "inputs", *LM},
        *{"stages", "run_config", "budget"},
    },
    "api": {"records", "inputs", *LM, "stages", "run_config", "budget"},
    "parallel": {"errors", "records", "lm.model", "runs"},
    "report.escape": set(),
    "report.states": {"records", "maths", "verdicts", "runs"},
    "report.text": {"records", "maths", "verdicts", "runs", "report.escape", "report.states"},
    "report.compare": {
        *{"errors", "records", "maths", "verdicts", "runs"},
        *{"report.escape", "report.states", "report.text"},
    },
    "report.figures": {
        *{"records", "maths", "verdicts", "runs"},
        *{"report.escape", "report.states", "report.text", "report.compare"},
    },
    "report.page": {
        *{"_version", "records", "maths", "verdicts", "runs"},
        *{"report.escape", "report.states", "report.text", "report.compare", "report.figures"},
    },
    "report.write": {"runs", "report.states", "report.text", "report.figures", "report.page"},
    "terminal": {"errors", "records", "verdicts", "report.escape", "report.states", "report.text"},
    "sweep": {
        *{"errors", "inputs", "stages", "run_config", "verdicts", "runs"},
        *{"report.escape", "report.states", "report.text", "report.compare", "report.write"},
    },
    "export.gguf": {"errors", "records", "lm.model", "lm.patches"},
    "export": {
        *{"_version", "errors", "records", "maths", "inputs", "runs", "verdicts"},
        *{"lm.model", "lm.patches", "lm.reading", "export.gguf"},
        *{"report.escape", "report.states", "report.text"},
    },
    "runner": {
        *{"_version", "errors", "records", "piece_names", "inputs", "lm.model", "lm.reading"},
        *{
            "stages",
            "verdicts",
            "runs",
            "run_config",
            "budget",
            "loop",
            "parallel",
            "terminal",
            "sweep",
        },
        *{"report.text", "report.write"},
    },
    "play": {
        *{"errors", "records", "maths", "inputs", "stages", "run_config", "runs", "export"},
        *{"lm.model", "lm.patches", "lm.reading", "lm.sampler", "terminal", "runner"},
        *{"report.escape", "report.states", "report.text"},
    },
    "commands": {
        *{"errors", "records", "maths", "inputs", "stages", "harness", "checks", "verdicts"},
        *{"lm.model", "lm.patches", "lm.sampler", "run_config", "budget", "loop", "runs"},
        *{"report.escape", "report.states", "report.text", "report.compare", "report.figures"},
        *{"report.page", "report.write", "terminal", "sweep", "export", "runner", "play"},
    },
    "lm": set(),  # nothing but rooms, as report
    "report": set(),
    "cli": {"_version", "errors"},  # a command is imported when it is asked for, by its name
    "__main__": {"cli"},
    "__init__": {"_version"},  # the public names are imported when they are first used
}

# Inside the room of stages one stage knows nothing of another; these are for all of them.
SHARED_BY_STAGES = ("stages.settings", "stages.instruments", "stages.healing", "stages.dosing")

# Libraries that only some may import, by module or room.
REPORT = {"report.text", "report.compare", "report.figures"}
LIBRARY_DOORS: dict[str, set[str]] = {
    "transformers": {*LM, "stages.healing.optimiser", "runner.model"},
    "peft": {*LM, "stages.healing.student"},
    "regex": {"inputs.patterns", "maths"},
    "tyro": {"commands", "terminal"},
    "rich": {*{"commands", "terminal", "play", "sweep", "runner"}, *REPORT},
    "gradio": {"play.page", "play.serving"},
    "uvicorn": {"commands.playground"},
    "ray": {"sweep.cluster", "sweep.search"},
    "optuna": {"sweep.search"},
    "accelerate": {"runner.tracking"},
    "altair": {"report.figures"},
    "datasets": {"harness.tasks"},
    "lm_eval": {"harness"},
    "vl_convert": {"report.figures", "report.page"},
}
MATHS_LIBRARIES = {"torch", "numpy", "scipy", "jaxtyping", "regex"}


def modules() -> dict[str, Path]:
    """Every module of the package by its name inside it: "lm.load", "stages", "__init__"."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


MODULES = modules()


SPLIT = {"lm", "report", "export"}  # what is in these folders are rooms of their own
HALLS = {"lm", "report"}  # folders of rooms, with nothing of their own: all pass through


def room_of(module: str) -> str:
    """The room that a module lives in."""
    top, *inside = module.split(".")
    room = ".".join([top, *inside[:1]])
    return room if top in SPLIT and room in DOORS else top


def imports(source: str) -> Iterator[tuple[str, int]]:
    """Absolute dotted names that a module imports anywhere in it, each with its line.

    Of `from a import b` both a and a.b: whether b is a module is not for the text to say.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(level=0, module=str(origin), names=names):
                yield origin, node.lineno
                yield from ((f"{origin}.{alias.name}", node.lineno) for alias in names)
            case ast.ImportFrom(level=level) if level > 0:
                raise AssertionError(f"line {node.lineno}: imports are absolute in this project")


def own_imports(source: str) -> Iterator[tuple[str, int]]:
    """Modules of the package that a module imports, by their name inside the package."""
    for name, line in imports(source):
        inside = name.removeprefix(f"{PACKAGE}.")
        if inside != name and inside in MODULES:
            yield inside, line


def without_type_checking(source: str) -> str:
    """The source less its blocks under `if TYPE_CHECKING:`, which never run."""
    tree = ast.parse(source)
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return ast.unparse(tree)


def closed_doors(module: str, source: str) -> list[str]:
    """What a module imports and may not, one line each."""
    if module == "__init__":
        source = without_type_checking(source)
    room, found = room_of(module), []
    for target, line in own_imports(source):
        other = room_of(target)
        if other != room and other not in DOORS[room] | HALLS:
            found.append(f"{module}, line {line}: {room} must not import {other} ({target})")
        if (
            room == other == "stages"
            and target != "stages"
            and not target.startswith(SHARED_BY_STAGES)
            and target != module
        ):
            found.append(f"{module}, line {line}: one stage must not import another ({target})")
    return found


def closed_library_doors(module: str, source: str) -> list[str]:
    """Libraries that a module imports and may not, one line each."""
    found = []
    for name, line in imports(source):
        library = name.split(".")[0]
        allowed = LIBRARY_DOORS.get(library)
        if allowed is not None and not {module, room_of(module)} & allowed:
            found.append(f"{module}, line {line}: {library} is for {', '.join(sorted(allowed))}")
        known = library in sys.stdlib_module_names or library in {PACKAGE, *MATHS_LIBRARIES}
        if room_of(module) == "maths" and not known:
            found.append(f"{module}, line {line}: maths must not import {library}")
    return found


def test_every_module_has_a_room() -> None:
    strangers = sorted(m for m in MODULES if room_of(m) not in DOORS)
    assert not strangers, f"say in DOORS and docs/architecture.md where these live: {strangers}"
    empty = sorted(set(DOORS) - {room_of(m) for m in MODULES})
    assert not empty, f"nothing lives in these rooms any more: {empty}"


def test_no_room_can_reach_itself() -> None:
    """The doors only go down: from no room do they lead back to it."""
    for room in DOORS:
        reached, ahead = set(), list(DOORS[room])
        while ahead:
            step = ahead.pop()
            if step not in reached:
                reached.add(step)
                ahead += DOORS[step]
        assert room not in reached, f"the doors lead in a circle from {room}"


@pytest.mark.parametrize("module", MODULES)
def test_doors(module: str) -> None:
    assert closed_doors(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", MODULES)
def test_library_doors(module: str) -> None:
    assert closed_library_doors(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("maths.direction", "from steer_heal_love.lm.model.load import load_model"),
        ("records", "from steer_heal_love.runs import write"),
        ("lm.model.load", "from steer_heal_love.lm.sampler.generate import generate"),
        ("stages.steer", "from steer_heal_love.stages.heal import heal"),
        ("stages.steer", "from steer_heal_love.stages import heal"),
        ("stages.heal", "import steer_heal_love.loop.iterative"),
        ("report.text.diary", "from steer_heal_love.loop.iterative import run_loop"),
        ("cli", "def f():\n    from steer_heal_love.commands import run"),
        ("__init__", "from steer_heal_love.runs.write import read_run"),
    ],
)
def test_a_closed_door_is_seen(module: str, line: str) -> None:
    assert closed_doors(module, line)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("stages.steer", "from steer_heal_love.stages.settings import StageConfig"),
        ("lm.sampler.generate", "from steer_heal_love.lm.model.load import load_model"),
        ("loop.iterative", "from steer_heal_love.stages import heal, steer"),
        ("maths.divergence", "from steer_heal_love.maths.head import Head"),
        (
            "__init__",
            "if TYPE_CHECKING:\n    from steer_heal_love.runs.write import read_run",
        ),
    ],
)
def test_an_open_door_is_let_be(module: str, line: str) -> None:
    assert closed_doors(module, line) == []


def test_a_closed_library_door_is_seen() -> None:
    assert closed_library_doors("maths.direction", "import transformers")
    assert closed_library_doors("maths.direction", "import pandas")
    assert closed_library_doors("stages.steer", "from peft import LoraConfig")
    assert closed_library_doors("lm.model.load", "import transformers") == []


def loaded_with(module: str) -> set[str]:
    """Names that are imported with a module, directly or through others of the package."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        tree = ast.parse(MODULES[ahead.pop()].read_text(encoding="utf-8"))
        later = (ast.FunctionDef, ast.AsyncFunctionDef, ast.If)  # If: TYPE_CHECKING
        tree.body = [node for node in tree.body if not isinstance(node, later)]
        for name, _line in imports(ast.unparse(tree)):
            parts = name.split(".")
            for end in range(1, len(parts) + 1):  # a module comes with the packages it is in
                step = ".".join(parts[:end])
                inside = step.removeprefix(f"{PACKAGE}.")
                if step not in found and inside in MODULES:
                    ahead.append(inside)
                found.add(step)
    return found


@pytest.mark.parametrize("command", ["watch", "chat", "steer", "run"])
def test_what_draws_nothing_does_not_wait_for_figures(command: str) -> None:
    drawing = {"altair", "vl_convert", f"{PACKAGE}.report.figures.drawing"}
    assert not drawing & loaded_with(f"commands.{command}")


def test_watching_loads_no_model() -> None:
    loaded = loaded_with("commands.watch")
    assert not {"transformers", "peft", f"{PACKAGE}.lm.model.load"} & loaded
    assert {"torch", f"{PACKAGE}.report.escape"} <= loaded  # it does follow what is imported


def imported_by(arguments: list[str]) -> set[str]:
    """Every module that is imported when `shl` has done this."""
    code = (
        "import sys\n"
        "from steer_heal_love.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stderr.splitlines()[-1].split())


HEAVY = {"torch", "transformers", "peft", "numpy", "scipy", "altair"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-command"]])
def test_the_command_line_does_not_wait_for_torch(arguments: list[str]) -> None:
    """Help, version and a wrong name are answered without any heavy import."""
    assert not (HEAVY | {"pydantic"}) & imported_by(arguments)


@pytest.mark.parametrize("arguments", [["axes"], ["axes", "show", "love"], ["presets"]])
def test_lists_do_not_wait_for_torch(arguments: list[str]) -> None:
    assert not HEAVY & imported_by(arguments)
