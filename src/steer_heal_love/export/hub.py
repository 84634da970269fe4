"""Publishing an exported folder on the Hugging Face hub, when the user asks for it."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HFValidationError,
    HTTPError,  # of the HTTP library that this version goes by
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from steer_heal_love.errors import ConfigError, SteerHealLoveError
from steer_heal_love.export.licence import Licence
from steer_heal_love.export.student import Base


class PushError(SteerHealLoveError):
    """The hub did not take an export; the folder is there even so."""

    exit_code = 1


def refuse_push(repo: str, base: Base, licence: Licence) -> None:
    """Raises ConfigError where an export must not, or cannot, be published.

    Nothing is sent to find that out.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"--push-to-hub {repo!r} is no hub id: {error}") from None
    if "/" not in repo:
        raise ConfigError(f"--push-to-hub {repo!r}: give owner/name")
    if base.hub_id is None:
        raise ConfigError(
            f"the base model is {base.name!r}, a path of this machine that would be published: "
            "give its name on the hub with --base-model owner/name"
        )
    if licence.id is None:
        raise ConfigError(
            "the base model's licence was not found, and it goes with what is published: look it "
            "up and give it with --license"
        )
    if huggingface_hub.get_token() is None:
        raise ConfigError("not logged in at the hub: run `hf auth login` first, or set HF_TOKEN")


def push_folder(folder: Path, repo: str, *, public: bool = False) -> str:
    """Upload every file of a folder to a model repository, made private unless `public`.

    Returns:
        The address of the commit.

    Raises:
        PushError: the hub cannot be reached or refuses.
    """
    api = huggingface_hub.HfApi()
    try:
        api.create_repo(repo, repo_type="model", private=not public, exist_ok=True)
        sent = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            repo_type="model",
            commit_message="Export of Steer Heal Love",
        )
    except (HTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PushError(
            f"{repo} was not published: {reason}; the export is in {folder}, and "
            f"`hf upload {repo} {folder}` sends it"
        ) from None
    return str(sent.commit_url)
