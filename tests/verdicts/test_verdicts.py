"""Every verdict's yes, no and cannot tell on made-up items, and a broken model that gets none."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from steer_heal_love.maths.paired import paired_difference
from steer_heal_love.records import (
    BARE,
    Adapter,
    Baseline,
    Completion,
    Direction,
    Healed,
    Interval,
    Judged,
    Measurement,
    Rival,
    RoundRecord,
    Scores,
)
from steer_heal_love.verdicts import (
    INVALID,
    RoundEvidence,
    Verdict,
    all_verdicts,
    beats_prompting,
    beats_steering,
    can_filter,
    can_heal,
    coherent,
    evidence_of,
    keeps_moving,
    stays_coherent,
    to_json,
    validity,
)
from steer_heal_love.verdicts.coherence import out_of_bounds

N_PAIRS, N_SAMPLES = 48, 64
PAIR = np.random.default_rng(0).normal(0, 0.3, N_PAIRS)
SAMPLE = np.random.default_rng(1).normal(0, 0.35, N_SAMPLES)


def noise(seed: int, n: int, scale: float) -> np.ndarray:
    return np.random.default_rng(100 + seed).normal(0, scale, n)


def model(
    trait: float,
    perplexity: float = 7.4,
    loops: int = 2,
    relevance: float = 0.8,
    openings: int = 4,
    seed: int = 0,
) -> Measurement:
    """A condition's items: what the items have in common, and a little noise of its own."""
    log_p = math.log(perplexity) + SAMPLE + noise(seed, N_SAMPLES, 0.1)
    items = {
        "trait_nats": trait + PAIR + noise(seed + 1, N_PAIRS, 0.1),
        "persona_nats": trait / 2 + SAMPLE / 4 + noise(seed + 2, N_SAMPLES, 0.05),
        "perplexity": np.exp(log_p),
        "loop_share": np.arange(N_SAMPLES) < loops,
        "opening_share": np.arange(N_SAMPLES) < openings,
        "relevance": relevance + SAMPLE / 2 + noise(seed + 3, N_SAMPLES, 0.1),
    }
    return Measurement({}, {k: tuple(float(x) for x in v) for k, v in items.items()})


def without(m: Measurement, *names: str, **items: tuple[float | None, ...]) -> Measurement:
    return Measurement({}, {k: v for k, v in (m.items | items).items() if k not in names})


BASE = model(0.17)
POS, NEG = model(0.25, seed=10), model(-0.19, seed=20)
STEERED = model(1.17, 11.9, seed=30)
HEALED = model(0.80, 7.5, seed=40)
BROKEN = model(2.50, 40.0, loops=40, relevance=0.0, seed=50)
MUTE = without(model(2.5, seed=60), perplexity=(None,) * N_SAMPLES, relevance=(None,) * N_SAMPLES)

VALID = validity(POS.items["trait_nats"], NEG.items["trait_nats"])
INVALIDITY = validity(BASE.items["trait_nats"], BASE.items["trait_nats"])
COHERENT = coherent(HEALED, BASE)
INCOHERENT = coherent(BROKEN, BASE)
UNCLEAR = replace(COHERENT, answer="cannot tell")


def evidence(healed: Measurement, **changes: object) -> RoundEvidence:
    kept = tuple(BASE.items["perplexity"])
    return replace(
        RoundEvidence(STEERED, healed, 1.0, 60, 96, kept, tuple(STEERED.items["persona_nats"])),
        **changes,
    )


def test_validity() -> None:
    assert VALID.answer == "yes"
    assert VALID.interval is not None
    assert VALID.interval.low > 0
    assert INVALIDITY.answer == "no"
    assert INVALID in INVALIDITY.words
    backwards = validity(NEG.items["trait_nats"], POS.items["trait_nats"])
    assert backwards.answer == "no"
    assert validity(NEG.items["trait_nats"], POS.items["trait_nats"], -1).answer == "yes"
    assert validity((1.0, None), (None, 0.0)).answer == "cannot tell"
    assert validity((1.0, 2.0), (0.0,)).answer == "cannot tell"


def test_coherent() -> None:
    assert COHERENT.answer == "yes", COHERENT.words
    assert coherent(BASE, BASE).answer == "yes"
    assert INCOHERENT.answer == "no"
    few = [Measurement({}, {k: v[:8] for k, v in m.items.items()}) for m in (HEALED, BASE)]
    spread = tuple(2.0 + 2 * i for i in range(8))
    for factor in (1.2, 1.4):  # within the limit, and beyond it, but too thin for either
        unlike = without(few[0], perplexity=tuple(factor * x for x in spread[::-1]))
        assert coherent(unlike, without(few[1], perplexity=spread)).answer == "cannot tell"
    assert COHERENT.figures["perplexity_ratio"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    "flaw",
    [
        {"perplexity": 12.0},
        {"loops": 20},
        {"relevance": 0.4},
        {"openings": 50},
    ],
    ids=str,
)
def test_each_flaw_alone_is_incoherence(flaw: dict[str, float]) -> None:
    assert coherent(model(0.8, seed=40, **flaw), BASE).answer == "no"  # type: ignore[arg-type]


def test_answers_without_perplexity_are_incoherence() -> None:
    assert coherent(MUTE, BASE).answer == "no"
    holes = tuple(None if i % 4 == 0 else v for i, v in enumerate(HEALED.items["perplexity"]))
    assert coherent(without(HEALED, perplexity=holes), BASE).answer == "no"
    beyond = (math.inf,) * N_SAMPLES
    assert coherent(without(HEALED, perplexity=beyond), BASE).answer == "no"


def test_coherence_without_relevance_or_with_other_items() -> None:
    thin = ("relevance", "opening_share")
    assert coherent(without(HEALED, *thin), without(BASE, *thin)).answer == "yes"
    assert coherent(without(HEALED, "loop_share"), BASE).answer == "cannot tell"
    fewer = Measurement({}, {k: v[:32] for k, v in HEALED.items.items()})
    assert coherent(fewer, BASE).answer == "cannot tell"
    blind = without(BASE, relevance=tuple(SAMPLE))  # relevance does not see base's own answers
    assert coherent(model(0.8, relevance=-1.0, seed=40), blind).answer == "yes"


def test_q0_filter() -> None:
    good = evidence(HEALED)
    assert can_filter([good], BASE, VALID).answer == "yes"
    assert can_filter([good, evidence(HEALED, passed=1)], BASE, VALID).answer == "no"
    assert can_filter(
        [evidence(HEALED, kept_perplexity=(90.0, 95.0, 99.0))], BASE, VALID
    ).answer == ("no")
    plain = evidence(HEALED, kept_persona_nats=tuple(BASE.items["persona_nats"]))
    assert can_filter([plain], BASE, VALID).answer == "cannot tell"
    unseen = can_filter([good], BASE, INVALIDITY)
    assert unseen.answer == "cannot tell"
    assert INVALID in unseen.words
    assert can_filter([evidence(HEALED, kept_perplexity=())], BASE, VALID).answer == "no"
    assert can_filter([], BASE, VALID).answer == "cannot tell"


def test_q1_heal() -> None:
    found = can_heal(HEALED, STEERED, BASE, VALID, COHERENT)
    assert found.answer == "yes", found.words
    assert found.figures["shift"] == pytest.approx(0.63, abs=0.1)
    assert found.figures["retained"] == pytest.approx(0.63, abs=0.1)
    assert found.figures["retained_low"] < 0.63 < found.figures["retained_high"] + 0.1
    undone = model(0.0, seed=70)
    assert can_heal(undone, STEERED, BASE, VALID, COHERENT).answer == "no"
    assert can_heal(BASE, STEERED, BASE, VALID, COHERENT).answer == "no"
    faint = model(0.185, seed=40)
    assert can_heal(faint, STEERED, BASE, VALID, COHERENT).answer == "cannot tell"
    assert can_heal(HEALED, STEERED, BASE, VALID, UNCLEAR).answer == "cannot tell"
    assert "retained" not in can_heal(HEALED, BASE, BASE, VALID, COHERENT).figures


def test_q2_stay_coherent() -> None:
    assert stays_coherent([COHERENT, COHERENT]).answer == "yes"
    broke = stays_coherent([COHERENT, INCOHERENT, COHERENT])
    assert broke.answer == "no"
    assert "round 1" in broke.words
    assert stays_coherent([COHERENT, UNCLEAR]).answer == "cannot tell"
    assert stays_coherent([COHERENT]).answer == "cannot tell"  # one round is no loop
    assert stays_coherent([INCOHERENT]).answer == "no"


def loop(*traits: float, cosines: tuple[float, ...] = ()) -> list[RoundEvidence]:
    return [
        evidence(model(t, 7.5, seed=40 + 10 * i), cosine_first=c)
        for i, (t, c) in enumerate(zip(traits, cosines or (1.0,) * len(traits), strict=True))
    ]


def test_q3_keep_moving() -> None:
    rising = keeps_moving(loop(0.5, 0.7, 0.9), VALID, COHERENT)
    assert rising.answer == "yes"
    assert rising.figures["slope"] == pytest.approx(0.2, abs=0.05)
    assert keeps_moving(loop(0.5, 0.4, 0.3), VALID, COHERENT).answer == "no"
    assert keeps_moving(loop(0.5, 0.7), VALID, UNCLEAR).answer == "cannot tell"
    turned = loop(0.5, 0.7, 0.9, cosines=(1.0, 0.8, 0.2))
    assert keeps_moving(turned, VALID, COHERENT).answer == "no"
    assert keeps_moving(loop(0.5), VALID, COHERENT).answer == "cannot tell"
    assert keeps_moving(loop(0.5, 0.51), VALID, COHERENT).answer == "cannot tell"


def test_beats_prompting() -> None:
    found = beats_prompting(HEALED, POS, BASE, VALID, COHERENT)
    assert found.answer == "yes"
    assert found.figures["advantage"] == pytest.approx(
        found.figures["healed_shift"] - found.figures["prompt_shift"]
    )
    assert beats_prompting(BASE, HEALED, BASE, VALID, COHERENT).answer == "no"
    assert beats_prompting(POS, POS, BASE, VALID, COHERENT).answer == "cannot tell"
    assert beats_prompting(HEALED, POS, BASE, VALID, UNCLEAR).answer == "cannot tell"


def front(*points: tuple[str, float, float]) -> list[tuple[Rival, Measurement]]:
    """The base model, and rivals at dose 1, 2, …: method, trait, perplexity."""
    rivals = [
        (Rival(method, k + 1.0), model(trait, perplexity, seed=200 + 10 * k))
        for k, (method, trait, perplexity) in enumerate(points)
    ]
    return [(BARE, BASE), *rivals]


WIDE = front(("steering", 0.3, 6.8), ("contrast", 0.5, 8.0), ("steering", 0.9, 12.0))


def test_beats_steering_is_to_beat_the_best_rival_within_the_bounds() -> None:
    found = beats_steering(HEALED, BASE, WIDE, VALID, COHERENT)
    assert found.answer == "yes", found.words
    assert "contrast γ 2, the best within the bounds (2 of 3 measured rivals" in found.words
    assert found.figures["rivals_within"] == 2
    assert found.interval is not None
    expected = paired_difference(HEALED.items["trait_nats"], WIDE[2][1].items["trait_nats"])
    assert found.interval == expected
    weak = model(0.2, 7.5, seed=40)
    assert beats_steering(weak, BASE, WIDE, VALID, COHERENT).answer == "no"
    level = model(found.figures["rival_trait"] - 0.01, 7.5, seed=40)
    assert beats_steering(level, BASE, WIDE, VALID, COHERENT).answer == "cannot tell"
    assert beats_steering(HEALED, BASE, WIDE, VALID, UNCLEAR).answer == "cannot tell"


def test_beats_steering_without_rivals_or_without_any_within_the_bounds() -> None:
    for none in ([], front(), [(Rival("steering", 1.0), HEALED)]):
        assert beats_steering(HEALED, BASE, none, VALID, COHERENT).answer == "cannot tell"
    dear = front(("steering", 1.9, 12.0))
    found = beats_steering(HEALED, BASE, dear, VALID, COHERENT)
    assert found.answer == "yes"
    assert "base itself, since 0 of 1 measured rivals are within" in found.words


def test_who_is_out_of_the_bounds_beats_nobody() -> None:
    dear = model(1.5, 7.4 * 1.3, seed=41)
    found = beats_steering(dear, BASE, WIDE, VALID, COHERENT)
    assert found.answer == "no"
    assert "out of the bounds of its rivals: perplexity 1." in found.words


def test_the_bounds_are_kept_by_estimates() -> None:
    assert out_of_bounds(BASE, BASE) == []
    [words] = out_of_bounds(model(0.2, 7.4 * 1.3), BASE)
    assert words.startswith("perplexity 1.")
    [words] = out_of_bounds(model(0.2, 7.4, relevance=0.4), BASE)
    assert words.startswith("relevance 0.")
    [words] = out_of_bounds(model(0.2, 7.4, loops=40), BASE)
    assert words.startswith("loops +")
    half = {name: Interval(x, x, x) for name, x in (("distinct_2", 0.4),)}
    whole = {name: Interval(x, x, x) for name, x in (("distinct_2", 0.8),)}
    poor, rich = (Measurement({**BASE.figures, **f}, BASE.items) for f in (half, whole))
    assert out_of_bounds(poor, rich) == ["distinct-2 0.50 × base"]
    assert out_of_bounds(rich, poor) == []
    assert out_of_bounds(Measurement({}, {}), BASE) == ["perplexity not measured"]


@pytest.mark.parametrize("wreck", [BROKEN, MUTE], ids=["broken", "mute"])
def test_a_broken_model_never_looks_good(wreck: Measurement) -> None:
    rounds = [evidence(HEALED), evidence(wreck)]
    found = all_verdicts(
        Baseline(BASE, POS, NEG), rounds, front(("steering", 0.5, 7.5), ("steering", 1, 9))
    )
    judged = ("q1_heal", "q2_stay_coherent", "q3_keep_moving", "coherent")
    for name in (*judged, "beats_prompting", "beats_steering"):
        assert found[name].answer == "no", name


def test_nothing_rests_on_an_invalid_instrument() -> None:
    found = all_verdicts(Baseline(BASE, POS, POS), loop(0.5, 0.7, 0.9), WIDE)
    assert found["valid.trait_nats"].answer == found["valid.persona_nats"].answer == "no"
    for name in ("q0_filter", "q1_heal", "q3_keep_moving", "beats_prompting", "beats_steering"):
        assert found[name].answer == "cannot tell", name
        assert INVALID in found[name].words
    assert found["q2_stay_coherent"].answer == "yes"  # rests on no trait


def test_all_verdicts_of_a_run_that_worked_as_json() -> None:
    found = all_verdicts(Baseline(BASE, POS, NEG), loop(0.6, 0.8, 1.0), WIDE)
    assert {name: v.answer for name, v in found.items()} == dict.fromkeys(found, "yes")
    plain = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert plain["q1_heal"]["interval"]["low"] > 0
    for verdict in plain.values():
        assert set(verdict) == {"answer", "figures", "interval", "rule", "words"}
        assert verdict["rule"]
        assert verdict["words"].endswith(".")


def test_json_has_no_infinities() -> None:
    verdict = Verdict("no", {"x": math.inf, "y": math.nan}, None, "r", "w")
    assert to_json({"v": verdict})["v"]["figures"] == {"x": None, "y": None}


def test_before_the_first_round_there_is_validity_alone() -> None:
    found = all_verdicts(Baseline(BASE, POS, NEG), [])
    assert set(found) == {"valid.trait_nats", "valid.persona_nats"}
    signs = all_verdicts(Baseline(BASE, NEG, POS), [], instruments={"trait_nats": -1, "absent": 1})
    assert signs["valid.trait_nats"].answer == "yes"
    assert len(signs) == 1


def test_evidence_of_a_record() -> None:
    import torch

    def judged(perplexity: float, *reasons: str) -> Judged:
        scores = Scores(perplexity, 1, 1, 0, 0, 1, False, False, False, False, perplexity / 10)
        return Judged(Completion("p", "t", (1,), 2, 1.0, 0, 0), scores, reasons)

    record = RoundRecord(
        round=0,
        direction=Direction((1,), torch.ones(1, 2)),
        dose=1.0,
        judged=(judged(5.0), judged(6.0, "surplus"), judged(7.0, "loop"), judged(8.0)),
        healed_result=Healed(Adapter({}, {}), (), ()),
        cosine_first=0.9,
        steered=STEERED,
        healed=HEALED,
        cost={},
    )
    found = evidence_of(record)
    assert (found.passed, found.total) == (3, 4)
    assert found.kept_perplexity == (5.0, 8.0)
    assert found.kept_persona_nats == (0.5, 0.8)
