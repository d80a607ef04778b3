"""One image explained as a figure, after Figs. 3 and 5 of Mackowiak et al., CVPR 2021."""

from __future__ import annotations

from matplotlib.figure import Figure

from service.cli.explain_drawing import padded, short, wrapped
from service.cli.explain_gate import draw_gate
from service.cli.explain_maps import draw_maps
from service.cli.explain_strip import draw_strip
from service.cli.explain_subject import Subject
from service.verdict import Decision, Verdict
from train.evaluation.style import blank

#: Inches.
WIDTH = 12.0
MAPS, GATE, STRIP, HEAD = 2.85, 3.75, 3.0, 0.6


def draw(subject: Subject) -> Figure:
    """The figure, to be called under ``style.styled``."""
    heights = [MAPS, GATE, STRIP] if subject.way else [MAPS, GATE]
    figure = blank(WIDTH, sum(heights) + HEAD)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    parts = [figure.add_subfigure(grid[i]) for i in range(len(heights))]
    draw_maps(parts[0], subject, WIDTH)
    draw_gate(parts[1], subject, WIDTH)
    if subject.way is not None:
        draw_strip(parts[2], subject.way, WIDTH)
    padded(figure)
    words = wrapped(told(subject.name, subject.found.verdict), WIDTH * 0.7)
    figure.suptitle(words, size=11, x=0.012, ha="left")
    return figure


def told(name: str, verdict: Verdict) -> str:
    """The decision in words."""
    probability = verdict.posterior[verdict.class_index]
    return (
        f"{short(name, 40)}: {verdict.decision.upper()}, {_meaning(verdict)}. Most probable class "
        f"{verdict.class_label} ({probability:.1%}); p-value {verdict.p_value:.3g}, rejected at "
        f"{verdict.threshold:.3g} or less."
    )


def _meaning(verdict: Verdict) -> str:
    if verdict.decision is Decision.REJECT:
        return "like nothing the model knows, so its class and posterior promise nothing"
    if verdict.decision is Decision.ABSTAIN:
        return f"typical but ambiguous, one of {', '.join(verdict.prediction_set[:8])}"
    return "typical and sure"
