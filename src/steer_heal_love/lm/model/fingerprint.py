"""Which weights a model has, as hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.utils import hub


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over the names and bytes of all parameters and buffers, hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def revision_of(source: str) -> str:
    """sha256:… over the weights of a local folder; of a hub model its commit, or "unknown"."""
    folder = Path(source)
    if folder.is_dir():
        digest = hashlib.sha256()
        for file in sorted(folder.glob("*.safetensors")):
            digest.update(sha256(file).encode())
        return f"sha256:{digest.hexdigest()}"
    return commit_of(source) or "unknown"


def commit_of(hub_id: str) -> str | None:
    """The commit that a hub model's default branch is at: by the hub, or offline by its cache.

    None where neither tells, as of a model that there is not.
    """
    resolved = getattr(hub.resolve_revision(hub_id), "resolved", None)
    if resolved is None:
        try:
            file = hub.cached_file(hub_id, "config.json")
        except (OSError, ValueError):  # told by whoever loads the model
            return None
        resolved = hub.extract_commit_hash(file, None)
    return None if resolved is None else str(resolved)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
