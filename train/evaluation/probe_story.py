"""The part of a report that is of probes: what classifiers go by, and what the gate says to it."""

from __future__ import annotations

from dataclasses import asdict

from calibration.detection import Rate
from train.evaluation.document import Block, Heading, Table, Text
from train.evaluation.findings import percent
from train.evaluation.part import Part
from train.evaluation.posterior import MODEL
from train.evaluation.probe_cells import CLEAN, ProbeCell
from train.evaluation.tables import DASH, between

#: Share of unlike images that a gate should not let in.
MUCH = 0.5

Cells = tuple[ProbeCell, ...]


def part_of(found: Cells, seed: int) -> Part:
    """Everything that the report has of them."""
    return Part(
        name="probes",
        data={"cells": [asdict(cell) for cell in found]},
        seeds={"probes": seed},
        in_short=_in_short(found),
        bad_news=tuple(
            f"Of images made to {cell.probe}, {percent(cell.rejected.share)} are rejected."
            for cell in found
            if cell.probe != CLEAN and (cell.rejected.share or 0.0) < MUCH
        ),
        checked=f"Looked for: probes of which fewer than {MUCH:.0%} are rejected.",
        blocks=_blocks(found),
        files={},
    )


def _blocks(found: Cells) -> tuple[Block, ...]:
    sources = tuple(found[0].right)
    rows = tuple(
        (
            cell.probe,
            *(_between(cell.right[source]) for source in sources),
            *(_between(cell.shape_bias.get(source)) for source in sources),
            _between(cell.rejected),
        )
        for cell in found
    )
    return (
        Heading(text="Shape or texture", level=2),
        Text(
            text=f"Probes made of {found[0].images:,} known images: the object white on black, "
            "patches in another order, and the phases of one image's Fourier transform with the "
            "amplitudes of another of another class: phases carry shape and place, amplitudes "
            "texture."
        ),
        Table(
            heads=(
                "probe",
                *(f"{source}: own class" for source in sources),
                *(f"{source}: shape bias" for source in sources),
                "rejected by the gate",
            ),
            rows=rows,
            caption="Own class: of exchanged images that of the phases. Shape bias: of exchanged "
            "images given one of their two classes, the share given that of the phases (after "
            "Geirhos et al., 2019, whose images are others). 95% intervals.",
        ),
    )


def _in_short(found: Cells) -> tuple[str, ...]:
    exchanged = next((cell for cell in found if cell.shape_bias), None)
    if exchanged is None:
        return ()
    said = "; ".join(
        f"{source} {percent(rate.share)}" for source, rate in exchanged.shape_bias.items()
    )
    return (
        f"Shape bias (phases against amplitudes): {said}. Of such images the gate of {MODEL} "
        f"rejects {percent(exchanged.rejected.share)}.",
    )


def _between(rate: Rate | None) -> str:
    return DASH if rate is None else f"{percent(rate.share)} ({between(rate)})"
