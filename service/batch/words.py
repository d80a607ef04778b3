"""Numbers and texts of a summary in words, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from calibration.detection import Rate
from calibration.windows import Moved
from service.batch.change import Change
from service.batch.errors import Errors
from service.batch.outcomes import Outcomes, Promise
from service.batch.p_values import BINS, Histogram
from service.batch.summary import Summary


def plain(text: str) -> str:
    """One line without anything that would steer a terminal; a stranger may have named a file."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def percent(share: float | None) -> str:
    """A share in [0, 1]."""
    return "-" if share is None else f"{share:.1%}"


def rate(found: Rate, level: str) -> str:
    """A share with its interval."""
    if found.share is None:
        return "no row"
    return f"{found.share:.2%} [{found.low:.2%}, {found.high:.2%}] at {level}"


def model_of(summary: Summary) -> str:
    """Name and version, as far as the table says."""
    known = [part for part in (summary.model_name, summary.model_version) if part]
    return plain(" ".join(known)) or "a model without a name"


def mix(summary: Summary) -> list[tuple[str, int, str]]:
    """(outcome, rows, share of all rows) of each kind that there is."""
    counts = {**summary.outcomes.decisions, "scored": summary.outcomes.scored}
    counts["error"] = summary.errors.count
    return [
        (plain(name), count, percent(count / summary.rows))
        for name, count in counts.items()
        if count
    ]


def promised(promise: Promise) -> str:
    """What the share that is rejected is held against."""
    sure = f" with confidence {1 - promise.delta:.4g}" if promise.delta is not None else ""
    among = f" among {promise.reference_size:,} rows" if promise.reference_size else ""
    return (
        f"of images like the calibration rows at most {promise.alpha}{sure} "
        f"(rejected is p <= {promise.threshold}, ranked{among})"
    )


def judged(found: Histogram) -> str:
    """Whether the p-values are those of typical images."""
    if found.outside is None:
        return f"{found.total:,} p-values; no band, their ranks are not known to be of one set"
    many, few = (_bins(found.outside, sign) for sign in (1, -1))
    if not (many or few):
        return f"all {BINS} bins within the band of typical images ({found.total:,} p-values)"
    told = [f"too many {many}" if many else "", f"too few {few}" if few else ""]
    count = sum(1 for one in found.outside if one)
    return f"{count} of {BINS} bins outside of the band of typical images: " + ", ".join(
        text for text in told if text
    )


def _bins(outside: Sequence[int], sign: int) -> str:
    """Where bins side by side are outside, in spans of p."""
    spans: list[list[int]] = []
    for b in (b for b, one in enumerate(outside) if one == sign):
        if spans and spans[-1][1] == b:
            spans[-1][1] = b + 1
        else:
            spans.append([b, b + 1])
    return " and ".join(f"from {a / BINS:g} to {b / BINS:g}" for a, b in spans)


def alarm(change: Change) -> str:
    """What the sequential test says."""
    if change.alarm is None:
        return f"no alarm in {change.tested:,} scores ({change.budget})"
    found = change.alarm
    return (
        f"ALARM at row {found.row:,} (id {found.id!r}), after {found.scores:,} scores "
        f"({change.budget})"
    )


def distance(one: Moved) -> str:
    """How far, and over what chance has."""
    return f"{plain(one.name)} {one.distance:.3f} ({one.effect:.1f} x chance)"


def classes(outcomes: Outcomes) -> list[tuple[str, int, str]]:
    """(class, rows, share) of the most frequent, and of all others together."""
    rows = [(plain(label), count) for label, count in outcomes.predictions]
    if outcomes.other_predictions:
        rows.append(("other", outcomes.other_predictions))
    total = sum(count for _, count in rows)
    return [(label, count, percent(count / total)) for label, count in rows]


def faults(errors: Errors) -> list[tuple[str, int]]:
    """(text, rows) of the most frequent errors, and of all others together."""
    rows = [(plain(text), count) for text, count in errors.texts]
    return [*rows, ("other", errors.other)] if errors.other else rows
