"""How many examples the fuzz tests try: SHL_FUZZ_EXAMPLES, 200 where it is not set."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import HealthCheck, settings

from steer_heal_love.errors import SteerHealLoveError

EXAMPLES = int(os.environ.get("SHL_FUZZ_EXAMPLES", "200"))
FUZZ = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def refusal(call: Callable[[], object]) -> str:
    """What a call was refused with; "" where it was not. Any other error is the test's failure."""
    try:
        call()
    except SteerHealLoveError as error:
        return str(error)
    return ""
