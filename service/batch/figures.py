"""The drawings of a report as inline SVG, in the colours of the page."""

from __future__ import annotations

import html
from collections.abc import Sequence

from service.batch.labelled import Bin
from service.batch.p_values import BINS, Histogram

#: Of both drawings, in pixels; the axes' origin is LEFT of the left and BELOW above the bottom.
WIDTH, HEIGHT, LEFT, BELOW, ABOVE = 640, 260, 48, 34, 12

QUARTERS = (0.25, 0.5, 0.75, 1.0)


def histogram(found: Histogram) -> str:
    """Bars of the p-values before their band; one outside of it has another colour and a mark."""
    bounds = [0] * BINS if found.high is None else list(found.high)
    top = 1.12 * max(*found.counts, *bounds, 1)
    step = (WIDTH - LEFT) / BINS
    pieces = [_band(b, found, step, top) for b in range(BINS)]
    pieces += [_bar(b, found, step, top) for b in range(BINS)]
    typical = _y(found.total / BINS, top)
    pieces.append(f'<line class="dash" x1="{LEFT}" x2="{WIDTH}" y1="{typical}" y2="{typical}"/>')
    counts = sorted({round(top / 1.12 * part) for part in QUARTERS})
    pieces += _axes("p-value", WIDTH, [(f"{count:,}", count) for count in counts], top)
    return _svg("rows in each bin of the p-value", pieces)


def reliability(bins: Sequence[Bin]) -> str:
    """Share of hits against confidence with 95% intervals; on the dashed line both are equal."""
    ends = f'x1="{LEFT}" y1="{_y(0, 1)}" x2="{WIDTH - ABOVE}" y2="{_y(1, 1)}"'
    pieces = [f'<line class="dash" {ends}/>']
    pieces += [_whisker(one) for one in bins]
    heights = [(f"{part:g}", part) for part in QUARTERS]
    pieces += _axes("confidence", WIDTH - ABOVE, heights, 1)
    return _svg("share of hits against confidence", pieces)


def _whisker(one: Bin) -> str:
    said = f"{one.rows:,} rows: confidence {one.confidence:.3f}, accuracy {one.accuracy:.3f}"
    x, low, high = _x(one.confidence), _y(one.low, 1), _y(one.high, 1)
    return (
        f'<line class="whisker" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>'
        f'<circle class="dot" cx="{x}" cy="{_y(one.accuracy, 1)}" r="4">'
        f"<title>{said}</title></circle>"
    )


def _band(b: int, found: Histogram, step: float, top: float) -> str:
    if found.low is None or found.high is None:
        return ""
    low, high = _y(found.low[b], top), _y(found.high[b], top)
    x, height = round(LEFT + b * step, 1), round(low - high, 1)
    return f'<rect class="band" x="{x}" y="{high}" width="{round(step, 1)}" height="{height}"/>'


def _bar(b: int, found: Histogram, step: float, top: float) -> str:
    count, outside = found.counts[b], found.outside
    sign = outside[b] if outside is not None else 0
    x, y, wide = LEFT + b * step + step * 0.2, _y(count, top), step * 0.6
    said = f"p from {b / BINS:g} to {(b + 1) / BINS:g}: {count:,} rows"
    said += ("", ", more than typical images have", ", fewer than typical images have")[sign]
    mark = ""
    if sign:
        place = f'x="{x + wide / 2:.1f}" y="{y - 4:.1f}"'
        mark = f'<text class="mark" {place}>{"▲" if sign > 0 else "▼"}</text>'
    kind = "bar out" if sign else "bar"
    size = f'x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{round(_y(0, top) - y, 1)}"'
    return f'<rect class="{kind}" {size}><title>{said}</title></rect>{mark}'


def _axes(name: str, right: float, heights: Sequence[tuple[str, float]], top: float) -> list[str]:
    """The x axis from 0 to 1, which is at ``right``; ``heights`` are told beside the y axis."""
    base = _y(0, top)
    pieces = [f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{base}" y2="{base}"/>']
    for at in (0.0, *QUARTERS):
        anchor = "end" if at == 1 else "middle"
        x = LEFT + at * (right - LEFT)
        pieces.append(f'<text x="{x:.0f}" y="{base + 15}" text-anchor="{anchor}">{at:g}</text>')
    pieces.append(f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 3}">{name}</text>')
    for text, value in heights:
        place = f'x="{LEFT - 6}" y="{_y(value, top) + 4:.1f}" text-anchor="end"'
        pieces.append(f"<text {place}>{text}</text>")
    return pieces


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - ABOVE), 1)


def _y(value: float, top: float) -> float:
    return round(HEIGHT - BELOW - (HEIGHT - BELOW - ABOVE) * value / top, 1)


def _svg(label: str, pieces: Sequence[str]) -> str:
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{html.escape(label)}">'
        + "".join(pieces)
        + "</svg>"
    )
