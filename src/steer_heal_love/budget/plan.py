"""Put together: what a run of these settings takes on a machine, and what to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer_heal_love.budget.duration import round_seconds
from steer_heal_love.budget.machines import GIB, Machine
from steer_heal_love.budget.memory import (
    STAGES,
    Device,
    MemoryPoint,
    Sizes,
    first_weights,
    list_memory_points,
)
from steer_heal_love.budget.rehearsal import rehearse
from steer_heal_love.budget.rows import rows_in_flight, with_rows
from steer_heal_love.budget.shape import Shape, adapter_numbers
from steer_heal_love.budget.texts import Texts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.heal import target_modules
from steer_heal_love.stages.healing.student import lowest_layer

# Resident after the imports of a run, and taken by a CUDA context with its libraries' workspaces:
# the first is measured by `python -m benchmarks.plan`, the second is assumed.
PROGRAM_BYTES = int(0.55 * GIB)
DRIVER_BYTES = int(0.75 * GIB)
MARGIN = 0.1  # of a device's memory that is left alone: for what a GPU's allocator cannot use


@dataclass(frozen=True)
class Plan:
    """What a run takes on a machine."""

    lm: LanguageModel  # without weights
    asked: RunConfig  # the settings as they were given
    sizes: Sizes
    config: RunConfig  # with the rows in flight chosen
    texts: Texts
    machine: Machine
    place: Device
    moments: Sequence[MemoryPoint]
    seconds: Mapping[str, float]  # stage: seconds of a round; empty where no speed is known

    @property
    def peak(self) -> MemoryPoint:
        """The moment that takes most."""
        return max(self.moments, key=lambda m: m.total)

    @property
    def stages(self) -> Mapping[str, MemoryPoint]:
        """The highest moment of each stage, in the order of a run."""
        points = {stage: [m for m in self.moments if m.stage == stage] for stage in STAGES}
        return {stage: max(own, key=lambda m: m.total) for stage, own in points.items()}

    @property
    def usable(self) -> int:
        """Bytes of a device that a plan may fill."""
        return int(self.machine.memory * (1 - MARGIN))

    @property
    def fits(self) -> bool:
        """Whether the run fits on one device of the machine, or on those that share its layers."""
        return self.peak.total <= self.usable

    @property
    def host_bytes(self) -> int:
        """Memory of the host that loading takes, each process for itself, on the way to a GPU."""
        if self.machine.device == "cpu" or self.config.quantize == "4bit":
            return 0
        each = PROGRAM_BYTES + self.sizes.shape.weight_bytes("none")
        return self.machine.count * each


def make_plan(
    lm: LanguageModel,
    config: RunConfig,
    texts: Texts,
    machine: Machine,
    *,
    packs: bool = False,
    libraries: int | None = None,
) -> Plan:
    """Plan a run of these settings.

    Args:
        lm: a model without weights, in the dtype of the run.
        packs: whether the machine is a CPU on which frozen weights are kept packed, too.
        libraries: bytes that are taken before the model is there; usual ones unless given.

    Raises:
        ModelError: no module of the model matches the targets of the heal.
    """
    if libraries is None:
        libraries = PROGRAM_BYTES if machine.device == "cpu" else DRIVER_BYTES
    place, shape = Device(machine.device, libraries, packs, machine.sharing), Shape.of(lm)
    free = machine.memory - libraries - first_weights(shape, config, machine.sharing)
    free -= shape.packed_bytes() if packs else 0
    asked, config = config, planned_rows(shape, config, texts, free, machine)
    sizes = measure_sizes(lm, config, texts, machine.device, machine.count)
    return Plan(
        lm=lm,
        asked=asked,
        sizes=sizes,
        config=config,
        texts=texts,
        machine=machine,
        place=place,
        moments=list_memory_points(sizes, config, texts, place),
        seconds=round_seconds(sizes, config, texts, machine),
    )


def measure_sizes(
    lm: LanguageModel, config: RunConfig, texts: Texts, device: str, shards: int = 1
) -> Sizes:
    """Read the sizes off a model without weights, and rehearse a round's passes on it."""
    return Sizes(
        shape=Shape.of(lm),
        adapter=adapter_numbers(lm, config.adapter),
        adapted_from=lowest_layer(lm, target_modules(lm, config.adapter)),
        passes=rehearse(lm, config, texts, device=device, shards=shards),
    )


def planned_rows(
    shape: Shape, config: RunConfig, texts: Texts, free: int, machine: Machine
) -> RunConfig:
    """The settings with the rows that a run would choose, with so many bytes free."""
    if config.generate.batch_size is not None:
        return config
    prompt = max(lot.shared + lot.longest for lot in (texts.prompts, texts.persona))
    count = machine.count
    return with_rows(config, rows_in_flight(shape, config, prompt, free, machine.device, count))


def in_four_bits(plan: Plan) -> Plan:
    """The same plan with the linear layers in 4 bits, and the rows that there is room for then."""
    return on_machine(plan, plan.machine, quantize="4bit")


def with_shared_layers(plan: Plan) -> Plan:
    """The same plan with one model on all devices of the machine, in place of one on each."""
    return on_machine(plan, plan.machine.together)


def on_machine(plan: Plan, machine: Machine, **changes: Any) -> Plan:
    """The same plan elsewhere, or with other settings, with the rows that there is room for."""
    config, place = plan.asked.model_copy(update=changes), plan.place
    return make_plan(
        plan.lm, config, plan.texts, machine, packs=place.packs, libraries=place.libraries
    )
