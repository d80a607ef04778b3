"""A summary as one page of HTML that needs nothing else: no request, no script.

Every text of the table is escaped; names of files and what is wrong with them are a stranger's.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from service.batch import figures, words
from service.batch.page_style import CSS
from service.batch.summary import QUANTILES, Summary

#: Rows of the table of what moved.
MOVED = 12


def to_page(summary: Summary, sheet: bytes | None) -> str:
    """``sheet``: a PNG of the most atypical images in their order, None without."""
    title = html.escape(f"Batch of {summary.rows:,} images by {words.model_of(summary)}")
    sections = (
        _decisions(summary),
        _p_values(summary),
        _atypical(summary, sheet),
        _change(summary),
        _labelled(summary),
        _predictions(summary),
        _spread(summary),
        _errors(summary),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n" + "\n".join(sections) + "\n</main>\n</body>\n</html>\n"
    )


def _decisions(summary: Summary) -> str:
    found = words.mix(summary)
    if not found:
        return _section("Decisions", _text("The table has no row."))
    bar = "".join(
        f'<span class="{_kind(name)}" style="flex-grow:{count}"></span>' for name, count, _ in found
    )
    said = html.escape(", ".join(f"{name} {share}" for name, _, share in found), quote=True)
    items = "".join(
        f'<li><i class="{_kind(name)}"></i>{html.escape(name)} <b>{count:,}</b> ({share})</li>'
        for name, count, share in found
    )
    parts = [f'<div class="mix" role="img" aria-label="{said}">{bar}</div><ul>{items}</ul>']
    outcomes = summary.outcomes
    if outcomes.rejected is not None:
        parts.append(_text(f"Rejected: {words.rate(outcomes.rejected, '99%')} confidence."))
    if outcomes.promise is not None:
        parts.append(_text(f"Promised: {words.promised(outcomes.promise)}."))
    if outcomes.fdr_rejected is not None:
        told = f"{outcomes.fdr_rejected:,} rows are named strangers (column fdr_rejected)."
        parts.append(_text(told))
    return _section("Decisions", *parts)


def _p_values(summary: Summary) -> str:
    found = summary.p_values
    if found is None:
        return ""
    caption = "Dashed: what uniform p-values have."
    if found.outside is not None:
        caption += (
            f" Grey: for images like the calibration rows all bars end within the band in "
            f"{found.level:.0%} of cases, over the draw of these rows and of the images."
        )
    text = words.judged(found)
    return _section(
        "p-values",
        _text(f"{text[0].upper()}{text[1:]}."),
        _figure(figures.histogram(found), caption),
    )


def _atypical(summary: Summary, sheet: bytes | None) -> str:
    if not summary.atypical:
        return ""
    parts = []
    if sheet is not None:
        data = base64.b64encode(sheet).decode()
        alt = "the most atypical images, in the order of the table below"
        image = f'<img src="data:image/png;base64,{data}" alt="{alt}">'
        parts.append(_figure(image, "The most atypical first, from the left and from the top."))
    rows = []
    for one in summary.atypical:
        numbers = (f"{one.p_value:.4g}", f"{one.score:.5g}")
        true = "-" if one.label is None else one.label
        rows.append((f"{one.row:,}", one.id, *numbers, one.class_label, true))
    heads = ("row", "id", "p-value", "score", "predicted", "true class")
    return _section("Most atypical", *parts, _table(heads, rows))


def _change(summary: Summary) -> str:
    found = summary.change
    if found is None:
        return ""
    rows = []
    for one in found.moved[:MOVED]:
        name, places = one.name, (f"{one.before:.4g}", f"{one.after:.4g}")
        if one.class_index is not None:
            name = f"{name}, class {one.class_index}"
            places = (words.percent(one.before), words.percent(one.after))
        rows.append((name, f"{one.distance:.3f}", f"{one.effect:.1f}", *places))
    heads = ("column", "distance", "x chance", "median before", "median here")
    return _section(
        "Change",
        _text(f"Sequential test over the rows in their order: {words.alarm(found)}."),
        _text(
            f"What moved most: {found.sample_rows:,} rows against {found.reference_rows:,} of the "
            "calibration. About 1 x chance is no change; for display, no alarm. A table that is "
            "sorted, by class for instance, gives an alarm without any change."
        ),
        _table(heads, rows),
    )


def _labelled(summary: Summary) -> str:
    found = summary.labelled
    if found is None:
        return ""
    rows = [
        ("labelled rows", f"{found.rows:,}"),
        ("labels that are no class of the model", f"{found.unknown:,}"),
        ("accuracy", words.rate(found.accuracy, "95%")),
        ("accuracy of what is accepted", words.rate(found.accepted, "95%")),
        ("coverage: share accepted", words.percent(found.coverage)),
        ("NLL, nats", f"{found.nll:.4f}"),
        ("Brier score", f"{found.brier:.4f}"),
        (f"calibration error (ECE) of {found.ece_rows:,} rows", f"{found.ece:.4f}"),
    ]
    caption = "Share of hits against confidence in bins of equal mass, with 95% intervals."
    drawing = _figure(figures.reliability(found.bins), caption)
    return _section("Against the labels", _table(("measure", "value"), rows), drawing)


def _predictions(summary: Summary) -> str:
    rows = [(name, f"{count:,}", share) for name, count, share in words.classes(summary.outcomes)]
    return _section("Predicted classes", _table(("class", "rows", "share"), rows)) if rows else ""


def _spread(summary: Summary) -> str:
    heads = ("column", *(f"{level:.0%}" for level in QUANTILES), "not a number")
    rows = [
        (name, *(f"{value:.5g}" for value in one.values), f"{one.missing:,}")
        for name, one in summary.spread.items()
    ]
    told = _text(f"Quantiles of a sample of {summary.sample_rows:,} rows with scores.")
    return _section("Scores", told, _table(heads, rows)) if rows else ""


def _errors(summary: Summary) -> str:
    rows = [(text, f"{count:,}") for text, count in words.faults(summary.errors)]
    told = _text(f"{summary.errors.count:,} rows have an error; N stands for a number.")
    return _section("Errors", told, _table(("error", "rows"), rows)) if rows else ""


def _kind(name: str) -> str:
    """A class of the style sheet: never the table's own word."""
    return name if name in ("accept", "abstain", "reject", "scored") else "error"


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{html.escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def _text(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(words.plain(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
