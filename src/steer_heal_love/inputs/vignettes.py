"""Read moral vignettes: the bundled ones, tiny-mfv's files from a folder, or its hub data set."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from steer_heal_love.errors import DataError, hint_at
from steer_heal_love.inputs.text_files import explain_first, number_lines, parse_json, read_text

FOUNDATIONS = ("care", "fairness", "loyalty", "authority", "sanctity", "liberty", "social")

TINYMFV_NAMES = ("classic", "scifi", "ai-actor")
TINYMFV_KINDS = ("other_violate", "self_violate")
TINYMFV_HUB_ID = "wassname/tiny-mfv"

MAX_BYTES = 16_000_000
MAX_VIGNETTES = 20_000

# tiny-mfv's name of each foundation, in the order of FOUNDATIONS.
COARSE = ("Care", "Fairness", "Loyalty", "Authority", "Sanctity", "Liberty", "SocialNorms")
_HUMAN = tuple(f"human_{name}" for name in COARSE)  # per cent of people

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]
_Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Percent = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True)
class Vignette:
    """A short act that violates one moral foundation, or none ("social": odd but not wrong)."""

    id: str
    text: str
    foundation: str  # one of FOUNDATIONS
    human: tuple[float, ...] | None = None  # share of people per foundation, sums to 1

    @property
    def label(self) -> str:
        """The right answer: what most people chose, else what the vignette was written for."""
        if self.human is None:
            return self.foundation
        return FOUNDATIONS[self.human.index(max(self.human))]


class _Line(BaseModel):
    """One line of a file, ours or tiny-mfv's; keys that nothing here needs are let be."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    id: _Id
    text: _Text
    foundation: _Text
    foundation_coarse: _Text | None = None


_Percents = TypeAdapter(dict[str, _Percent])


def load_bundled() -> list[Vignette]:
    """The vignettes that come with the package: our own, labelled, without human shares."""
    file = resources.files("steer_heal_love") / "data" / "vignettes.jsonl"
    return parse_vignettes(file.read_text(encoding="utf-8"), "vignettes.jsonl")


def load_tinymfv(
    folder: str | Path | None = None, name: str = "classic", kind: str = "other_violate"
) -> list[Vignette]:
    """One of tiny-mfv's sets of 132 vignettes with human shares.

    Args:
        folder: where `vignettes_<name>_<kind>.jsonl` is; None for the hub data set.
        name: classic, scifi or ai-actor.
        kind: other_violate ("You see …") or self_violate ("You …").

    Raises:
        DataError: unknown set, no such file, a broken one, or the hub cannot be reached.
    """
    _check_choice("set", name, TINYMFV_NAMES)
    _check_choice("kind", kind, TINYMFV_KINDS)
    if folder is None:
        return load_file(_download(f"{name}/vignettes_{kind}.jsonl"))
    return load_file(Path(folder).expanduser() / f"vignettes_{name}_{kind}.jsonl")


def load_file(path: Path) -> list[Vignette]:
    """The vignettes of one .jsonl file, ours or tiny-mfv's."""
    text = read_text(path, f"vignette file {path}", MAX_BYTES, DataError)
    return parse_vignettes(text, str(path))


def parse_vignettes(text: str, file: str) -> list[Vignette]:
    """Vignettes from the text of a .jsonl file; `file` is its name in error messages.

    Raises:
        DataError: with file, line and remedy; also for a file without a vignette.
    """
    vignettes: dict[str, Vignette] = {}
    for number, line in number_lines(text):
        where = f"vignette file {file}, line {number}"
        vignette = _parse_line(line, where)
        if vignette.id in vignettes:
            raise DataError(f"{where}: the id {vignette.id!r} is there twice: rename one")
        vignettes[vignette.id] = vignette
        if len(vignettes) > MAX_VIGNETTES:
            raise DataError(f"{where}: more than {MAX_VIGNETTES:,} vignettes: split the file")
    if not vignettes:
        raise DataError(f"vignette file {file} holds no vignette: give one JSON object a line")
    return list(vignettes.values())


def _parse_line(line: str, where: str) -> Vignette:
    data = parse_json(line, where, DataError)
    if not isinstance(data, dict):
        raise DataError(f"{where} is not a JSON object: write {{'id': …, 'foundation': …, …}}")
    try:
        parsed = _Line.model_validate(data)
        percents = _Percents.validate_python(
            {key: data[key] for key in _HUMAN if data.get(key) is not None}
        )
    except ValidationError as error:
        raise DataError(f"{where}: {explain_first(error)}") from None
    return Vignette(
        id=parsed.id,
        text=parsed.text,
        foundation=_foundation(parsed.foundation_coarse or parsed.foundation, where),
        human=_shares(percents, where),
    )


def _foundation(name: str, where: str) -> str:
    """Our name of a foundation; tiny-mfv writes "Social Norms" with and without the space."""
    plain = name.lower().replace(" ", "").removesuffix("norms")
    if plain not in FOUNDATIONS:
        raise DataError(f"{where}: {name!r} is no foundation: use one of {', '.join(FOUNDATIONS)}")
    return plain


def _shares(percents: dict[str, float], where: str) -> tuple[float, ...] | None:
    """Human shares as probabilities; the per cents of a file are rounded, so they are rescaled."""
    if not percents:
        return None
    missing = [key for key in _HUMAN if key not in percents]
    if missing:
        raise DataError(f"{where}: key {missing[0]!r} is missing beside others: give all or none")
    total = sum(percents.values())
    if not 90 <= total <= 110:  # rounding alone leaves tiny-mfv's between 98 and 102
        raise DataError(f"{where}: the human shares sum to {total:g} per cent, not 100: mend them")
    return tuple(percents[key] / total for key in _HUMAN)


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        hint = hint_at(value, known)
        raise DataError(f"unknown tiny-mfv {name} {value!r}: {hint}there is {', '.join(known)}")


def _download(file: str) -> Path:
    """A file of the hub data set, from the hub's own cache where it is there already."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(TINYMFV_HUB_ID, file, repo_type="dataset"))
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"the data set {TINYMFV_HUB_ID} cannot be fetched from the hub: {reason}: give a "
            "folder with its vignettes_*.jsonl files instead"
        ) from None
