"""A summary for people and programs: a dozen lines for the terminal, and three files.

``summary.json`` for programs, ``report.html`` for people, which needs nothing else, and
``most_atypical.png``, the sheet of images that is on the page as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from service.batch import words
from service.batch.labelled import Labelled
from service.batch.page import to_page
from service.batch.summary import Summary

JSON_FILE, PAGE_FILE, SHEET_FILE = "summary.json", "report.html", "most_atypical.png"

#: Columns, classes and images that the terminal is told of, and letters of a line of it.
TOLD, WIDTH = 3, 160


def told(summary: Summary) -> str:
    """About a dozen lines; what a table does not have is left out."""
    mix = ", ".join(f"{count:,} {name} ({share})" for name, count, share in words.mix(summary))
    lines = [("rows", f"{summary.rows:,} by {words.model_of(summary)}{mix and ': ' + mix}")]
    lines += [*_gate(summary), *_classes(summary), *_change(summary)]
    if summary.labelled is not None:
        lines.append(("labels", _labels(summary.labelled)))
    for text, count in words.faults(summary.errors)[:TOLD]:
        lines.append(("error", f"{count:,} x {text}"))
    for one in summary.atypical[:TOLD]:
        said = f"{one.id!r}: p {one.p_value:.3g}, score {one.score:.4g}, {one.class_label!r}"
        lines.append(("strangest", f"row {one.row:,} {said}"))
    return "\n".join(f"{head:<10} {_cut(text)}" for head, text in lines)


def write_report(
    write: Callable[[str, bytes], None], summary: Summary, sheet: bytes | None
) -> None:
    """Give ``write`` the name and content of each file; ``sheet``: a PNG, None without images.

    The page is last: where it is, all is.
    """
    plain = json.dumps(summary.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    write(JSON_FILE, (plain + "\n").encode())
    if sheet is not None:
        write(SHEET_FILE, sheet)
    write(PAGE_FILE, to_page(summary, sheet).encode())


def _gate(summary: Summary) -> list[tuple[str, str]]:
    lines, outcomes = [], summary.outcomes
    if outcomes.rejected is not None:
        lines.append(("rejected", words.rate(outcomes.rejected, "99%")))
    if outcomes.promise is not None:
        lines.append(("promised", words.promised(outcomes.promise)))
    if outcomes.fdr_rejected is not None:
        lines.append(("strangers", f"{outcomes.fdr_rejected:,} rows named (fdr_rejected)"))
    if summary.p_values is not None:
        lines.append(("p-values", words.judged(summary.p_values)))
    return lines


def _classes(summary: Summary) -> list[tuple[str, str]]:
    found = words.classes(summary.outcomes)
    if not found:
        return []
    more = f" and {len(found) - TOLD} more" if len(found) > TOLD else ""
    return [("predicted", ", ".join(f"{name} {share}" for name, _, share in found[:TOLD]) + more)]


def _change(summary: Summary) -> list[tuple[str, str]]:
    change = summary.change
    if change is None:
        return []
    lines = [("change", words.alarm(change))]
    if change.of_score is not None:
        most = ", ".join(words.distance(one) for one in change.moved[:TOLD])
        lines.append(("moved", f"{words.distance(change.of_score)}; most: {most}"))
    return lines


def _labels(found: Labelled) -> str:
    accepted = words.percent(found.accepted.share)
    return (
        f"{found.rows:,} known: accuracy {words.percent(found.accuracy.share)}, {accepted} of the "
        f"{found.coverage:.1%} that are accepted; NLL {found.nll:.3f}, Brier {found.brier:.3f}, "
        f"ECE {found.ece:.3f}"
    )


def _cut(text: str) -> str:
    """Whatever the length of a stranger's text."""
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."
