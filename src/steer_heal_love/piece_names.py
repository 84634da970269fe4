"""Names of a run's pieces of work: made here by the loop, taken apart here by who follows it."""

from __future__ import annotations

WORK, SUFFIX = "work/", ".safetensors"  # folder and ending of the files that hold pieces
_ROUNDS = "rounds"
_EPOCH = "epoch-"
STEPS_A_PIECE = 5  # of an online heal: what a killed run has to do again, at most

# Stage of a round's piece by the part after the round; the rest evaluates.
_STAGES = {"direction": "steer", "generate": "generate", "heal": "heal", "rivals": "rivals"}


class PieceName(str):
    """`baseline/base`, `rounds/03/generate/00064`: parts, of which each is inside the one before.

    It is the text that a store of pieces knows the piece by; `/` makes the name of a part.
    """

    __slots__ = ()

    def __truediv__(self, part: str) -> PieceName:
        return PieceName(f"{self}/{part}")

    @classmethod
    def of_file(cls, file: str) -> PieceName | None:
        """The piece that a file of a run directory holds; None where it holds none."""
        if not (file.startswith(WORK) and file.endswith(SUFFIX)):
            return None
        return cls(file.removeprefix(WORK).removesuffix(SUFFIX))

    def inside(self, folder: PieceName) -> str | None:
        """What the piece is called in this folder; None where it is not in it."""
        return self.removeprefix(folder / "") if self.startswith(folder / "") else None

    @property
    def file(self) -> str:
        """The file that holds the piece, in a run directory."""
        return f"{WORK}{self}{SUFFIX}"

    @property
    def round(self) -> int | None:
        """Round that the piece is of; None: of the base model, or of no run."""
        first, _, rest = self.partition("/")
        return _number(rest.partition("/")[0]) if first == _ROUNDS else None

    @property
    def stage(self) -> str:
        """Stage that the piece belongs to: `rounds/03/generate/00064` is of generate."""
        if self.round is None:
            return "evaluate" if is_rival(self.inside(BASELINE) or "") else "baseline"
        return _STAGES.get("".join(self.split("/")[2:3]), "evaluate")

    @property
    def epoch(self) -> int | None:
        """Epoch of a heal that the piece is the state after, from 0; None: it is no such state."""
        last = self.rpartition("/")[2]
        return _number(last.removeprefix(_EPOCH)) if last.startswith(_EPOCH) else None


def _number(digits: str) -> int | None:
    """Names may be a stranger's: not every part that ought to be a number is one."""
    return int(digits) if digits.isdecimal() and len(digits) < 10 else None


BASELINE = PieceName("baseline")  # of the base model alone
LIMITS = BASELINE / "limits"
_RIVAL = "rival-"


def of_rival(name: str) -> PieceName:
    """A rival of the base model that needs no training."""
    return BASELINE / f"{_RIVAL}{name}"


def is_rival(inside_baseline: str) -> bool:
    """Whether a piece of the base model is of such a rival, by its name there."""
    return inside_baseline.startswith(_RIVAL)


def of_round(index: int) -> PieceName:
    """What all pieces of a round are inside: `rounds/03`."""
    return PieceName(f"{_ROUNDS}/{index:02d}")


def of_batch(folder: PieceName, first: int) -> PieceName:
    """The answers from this index on, generated and judged in one batch."""
    return folder / "generate" / f"{first:05d}"


def of_epoch(index: int) -> str:
    """The state after an epoch, or online after so many steps, inside the heal's own folder."""
    return f"{_EPOCH}{index:02d}"


def all_epochs(heal: PieceName) -> str:
    """What the names of a heal's epochs begin with."""
    return f"{heal / _EPOCH}"
