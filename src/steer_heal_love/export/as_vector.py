"""An export as a direction, in the formats of repeng, llama.cpp and steering-vectors."""

from __future__ import annotations

from steer_heal_love.export.gguf.files import direction_tensors, write_control_vector
from steer_heal_love.export.job import ExportJob, ExportResult
from steer_heal_love.export.read_back import check_direction, check_gguf_tensors
from steer_heal_love.runs.as_json import pack_direction
from steer_heal_love.runs.files import write_bytes


def write_vector(job: ExportJob) -> ExportResult:
    """The direction of the student's round.

    repeng's own format is llama.cpp's control vector, in GGUF. steering-vectors has no file
    format of its own (its vectors are pickled), so its layers go into safetensors.

    Raises:
        ModelError: a file does not hold what was written to it.
    """
    student = job.student
    direction = student.direction()
    files = {
        "control_vector": f"{student.slug}-control-vector.gguf",
        "direction": "direction.safetensors",
    }
    write_control_vector(
        direction,
        job.config().model_type,
        job.folder / files["control_vector"],
        job.about(f"The direction of round {student.round}."),
    )
    write_bytes(job.folder / files["direction"], pack_direction(direction))
    check_direction(job.folder / files["direction"], direction)
    check_gguf_tensors(job.folder / files["control_vector"], direction_tensors(direction))
    job.tokenizer().save_pretrained(job.folder)
    return ExportResult(
        files=files,
        layers=direction.layers,
        checks=(
            "Read back from both files, every number is the run's. Not checked: llama.cpp, repeng "
            "and steering-vectors did not run here.",
        ),
        notes=layer_notes(direction.layers),
        measured={"layers": list(direction.layers), "dose": student.entry.get("dose")},
    )


def layer_notes(layers: tuple[int, ...]) -> tuple[str, ...]:
    """What to say of layer 0, where llama.cpp has no control vector."""
    if 0 not in layers:
        return ()
    return (
        "The direction has a vector for layer 0, where llama.cpp has no control vector: llama.cpp "
        "refuses the file, and repeng reads it.",
    )
