"""The present setting as a Python program that draws the same answers."""

from __future__ import annotations

from pathlib import Path

from steer_heal_love.maths.schedule import Schedule
from steer_heal_love.play.loaded import Loaded
from steer_heal_love.play.turn import Setting

_PROGRAM = """\
{clock}from pathlib import Path

from steer_heal_love import load_model, read_run, steering, student
from steer_heal_love.lm.reading.chat import decode_text, encode_chat
from steer_heal_love.lm.sampler.generate import {names}, generate
{imports}
run = read_run(Path({run!r}))
lm = load_model({model!r}, device={device!r}, dtype={dtype!r}{date})
prompt = {prompt!r}
system = {system!r}
how = {sampling!r}


def answer(system, dosing=None):
    ids = encode_chat(lm, prompt, system)
    [made] = generate(lm, [ids], how, seed={seed}, dosing=dosing)
    return decode_text(lm, made.token_ids)


answers = {{"base": answer(system)}}
persona = run.axis.pos_system
answers["prompted"] = answer(persona if system is None else persona + "\\n\\n" + system)

# What the round healed: the student before it, steered along its direction.
kappa = {kappa!r}
direction = run.direction({before})
with (
    student(lm, [run.adapter(r) for r in range({before})]),
    steering(lm, direction, kappa{options}){name},
):
    answers["steered"] = answer(system{dosing})
with student(lm, [run.adapter(r) for r in range({round})]):
    answers["healed"] = answer(system)

for condition, text in answers.items():
    print(f"{{condition}}:\\n{{text}}\\n")
"""


def as_python(loaded: Loaded, setting: Setting, *, run: Path) -> str:
    """A program that loads the run and prints the four answers of this setting.

    It samples one row at a time, so in bfloat16 the last bits of a logit, and with them now and
    then a token, may differ from what the playground drew in one batch.
    """
    constant = setting.schedule.shape == "constant"
    imports = "" if constant else "from steer_heal_love.maths.schedule import Schedule\n"
    gate = "" if setting.gate == "none" else f", gate={setting.gate!r}"
    operator = "" if setting.operator == "add" else f", operator={setting.operator!r}"
    template = loaded.lm.template
    return _PROGRAM.format(
        clock="import datetime\n" if template.dated else "",
        date=f", date={template.date!r}" if template.dated else "",
        names="Sampling" if constant else "Dosing, Sampling",
        imports=imports,
        run=str(run),
        model=loaded.lm.identity.name,
        device=loaded.lm.device.type,
        dtype=loaded.lm.identity.dtype,
        prompt=setting.prompt,
        system=setting.system,
        sampling=setting.sampling,
        seed=setting.seed,
        kappa=setting.kappa,
        before=max(0, setting.round - 1),
        round=setting.round,
        options=gate + operator,
        name="" if constant else " as patch",
        dosing="" if constant else f", Dosing(patch, kappa, {_schedule(setting.schedule)})",
    )


def _schedule(schedule: Schedule) -> str:
    return f"Schedule({schedule.shape!r}, {schedule.length}, {schedule.floor!r})"
