"""How far a run is: read from its directory alone, while another process may be writing it."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from steer_heal_love.errors import RunError
from steer_heal_love.piece_names import STEPS_A_PIECE, PieceName, of_round
from steer_heal_love.records import Costed, Judged
from steer_heal_love.runs.codec import unpack
from steer_heal_love.runs.files import read_regular
from steer_heal_love.runs.manifest import Manifest
from steer_heal_love.runs.read import RunView, read_run

STAGES = ("steer", "generate", "heal", "evaluate")
BASELINE_PIECES = 5  # limits, reference texts, base, and the two personas
EVALUATE_PIECES = 2  # steered, healed
ENDINGS = ("done", "failed", "interrupted")


@dataclass(frozen=True)
class Generated:
    """What a round has generated so far."""

    total: int = 0
    kept: int = 0
    tokens: int = 0
    seconds: float = 0.0
    dose: float | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens generated and judged a second; None before there are any."""
        return self.tokens / self.seconds if self.seconds > 0 else None

    def __add__(self, later: Generated) -> Generated:
        """Both together, at the dose of the later."""
        return Generated(
            self.total + later.total,
            self.kept + later.kept,
            self.tokens + later.tokens,
            self.seconds + later.seconds,
            later.dose,
        )


@dataclass(frozen=True)
class Progress:
    """A run as it stands.

    `state` is running, done, failed, interrupted, or died, where the process that held the run is
    gone without a word.
    """

    view: RunView
    events: tuple[Mapping[str, Any], ...]
    state: str
    stage: str  # baseline, one of STAGES, or "" where the run has ended
    share: float  # of the present stage, 0 to 1
    generated: Generated  # of the present round
    eta_s: float | None  # to the end of the last round; None before a round has been timed

    @property
    def rounds(self) -> int:
        """How many rounds the run is to have."""
        return int(self.view.config.get("rounds", 0))

    @property
    def finished(self) -> int:
        """How many rounds are finished."""
        return len(self.view.metrics.get("rounds", []))

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be expected."""
        return self.state != "running"


class Follower:
    """Reads a run's progress again and again; a finished piece of work is read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pieces: dict[PieceName, Generated] = {}

    def look(self) -> Progress:
        """The run as it stands now.

        Raises:
            RunError: it is no run directory, or a file of it is broken.
        """
        view = read_run(self.path)
        events = tuple(view.events())
        state = _state(self.path, events)
        here = of_round(len(view.metrics.get("rounds", [])))
        names = map(PieceName.of_file, Manifest.read(self.path).names)
        pieces = frozenset(name for name in names if name is not None)
        batches = sorted(p for p in pieces if p.inside(here / "generate"))
        generated = sum(map(self._read, batches), Generated())
        stage, share = ("", 0.0) if state != "running" else _stage(view, pieces, here, generated)
        eta = _eta(view, stage, share) if state == "running" else None
        return Progress(view, events, state, stage, share, generated, eta)

    def _read(self, piece: PieceName) -> Generated:
        if piece not in self._pieces:
            try:
                data = read_regular(self.path / piece.file)
                self._pieces[piece] = _count_generated(unpack(data, piece.file))
            except (OSError, RunError):  # entered, and not there yet: the next look will see it
                return Generated()
        return self._pieces[piece]


def _count_generated(piece: Any) -> Generated:
    """Of a piece of generation: the judged completions, and the seconds they took."""
    if not (isinstance(piece, Costed) and isinstance(piece.value, list)):
        return Generated()
    judged = [j for j in piece.value if isinstance(j, Judged)]
    return Generated(
        len(judged),
        sum(j.kept for j in judged),
        sum(len(j.completion.token_ids) for j in judged),
        piece.cost.wall_s,
        judged[-1].completion.kappa if judged else None,
    )


def _state(path: Path, events: Sequence[Mapping[str, Any]]) -> str:
    last = next((e["event"] for e in reversed(events) if e.get("event") in (*ENDINGS, "start")), "")
    if last in ENDINGS:
        return str(last)
    return "running" if is_held(path / "lock") else "died"


def is_held(lock: Path) -> bool:
    """Whether a process holds the lock of a run.

    The process that wrote its number there is looked for first: to try the lock could, for a
    moment, keep a run that is just beginning from getting it.
    """
    try:
        number = read_regular(lock, 32).decode("ascii", errors="replace").strip()
        if number.isdigit() and _holds(int(number), lock):
            return True
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except OSError:
        pass  # no lock, or none that can be read
    return False


def _holds(number: int, lock: Path) -> bool:
    """Whether this process is there, and was when the lock was written."""
    try:
        process = psutil.Process(number)
        begun = process.create_time() <= lock.stat().st_mtime + 1
        return begun and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _stage(
    view: RunView, pieces: frozenset[PieceName], here: PieceName, generated: Generated
) -> tuple[str, float]:
    """The stage under way, and how much of it is done, from the pieces of work that are there."""
    if "base" not in view.metrics:
        return "baseline", min(1.0, sum(p.stage == "baseline" for p in pieces) / BASELINE_PIECES)
    if here / "heal/result" in pieces:
        return "evaluate", sum(here / c in pieces for c in ("steered", "healed")) / EVALUATE_PIECES
    wanted, parts = (
        int(_setting(view, "dose", "n_keep", 1)),
        int(_setting(view, "heal", "epochs", 1)),
    )
    if view.config.get("method") == "online":  # which generates nothing before its heal
        wanted = 0 if here / "direction" in pieces else 1
        parts = -(-int(_setting(view, "online", "steps", 1)) // STEPS_A_PIECE)
    # Only the newest epoch's piece is there for sure.
    epochs = [p.epoch for p in pieces if p.inside(here / "heal") and p.epoch is not None]
    if epochs or generated.kept >= wanted:
        newest = max(epochs, default=-1)
        return "heal", min(1.0, (newest + 1) / max(1, parts))
    if here / "direction" in pieces:
        return "generate", min(1.0, generated.kept / max(1, wanted))
    return "steer", 0.0


def _setting(view: RunView, group: str, name: str, default: float) -> float:
    value = view.config.get(group, {}).get(name, default)
    return value if isinstance(value, int | float) else default


def _eta(view: RunView, stage: str, share: float) -> float | None:
    """Seconds to the end of the last round, by the mean of the rounds so far."""
    times = [entry.get("wall_s") for entry in view.metrics.get("rounds", [])]
    times = [t for t in times if isinstance(t, Mapping) and t]
    if not times:
        return None
    left = int(view.config.get("rounds", 0)) - len(times)
    means = {name: sum(float(t.get(name, 0)) for t in times) / len(times) for name in STAGES}
    whole = sum(sum(map(float, t.values())) for t in times) / len(times)
    before = STAGES.index(stage) if stage in STAGES else 0
    inside = sum(means[name] for name in STAGES[:before]) + share * means.get(stage, 0.0)
    return max(0.0, whole * left - inside)
