"""Traffic that changes before a real Prometheus: does the alert of drift fire, and when.

One service has a bundle several times, under the names of the streams. Each stream is images like
those of the calibration and then others, but for the control, which stays as it is.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.integration.running import Service
from tests.integration.together import verdicts_of
from tests.soak.prometheus import Prometheus, wait_until, watching
from tests.soak.renamed import renamed

ALERT = "OodgateDrift"
#: The stream that does not change.
CONTROL = "control"
#: Images that are sent before it is waited for the Monitor: fewer than one replica's cap.
PART = 400
_LINE = re.compile(r"images for (\S+) have changed: alarm of drift (\d+) images after")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stream:
    """``within``: after so many images of the change the alarm has to be; None for a control."""

    name: str
    clean: Sequence[bytes]
    changed: Sequence[bytes]
    within: int | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``delay``: images of the change that the first alarm took, None without any."""

    stream: str
    clean: int
    changed: int
    within: int | None
    delay: int | None
    alarms: int
    firing: bool
    delivered: bool

    @property
    def faults(self) -> list[str]:
        """What is not as it must be."""
        if self.within is None:
            silent = not (self.alarms or self.firing or self.delivered)
            return [] if silent else [f"{self.stream}: alarmed without any change"]
        found = []
        if self.delay is None or not 0 < self.delay <= self.within:
            found.append(f"{self.stream}: alarm after {self.delay}, not within {self.within}")
        if not (self.firing and self.delivered):
            found.append(f"{self.stream}: firing {self.firing}, delivered {self.delivered}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """For the record."""
        return {**asdict(self), "faults": self.faults}


def streams(
    typical: Sequence[bytes], strangers: Sequence[bytes], clean: int, changed: int, within: int
) -> list[Stream]:
    """A mix of one stranger in five, a tenth more brightness, one image again and again; a control.

    ``typical``: images like those of the calibration, none twice; all streams begin with the first
    ``clean`` of them and go on with the others.
    """
    first, rest = list(typical[:clean]), list(typical[clean : clean + changed])
    if len(rest) < changed or len(strangers) < changed // 5:
        raise SystemExit(
            f"{len(typical)} typical images and {len(strangers)} strangers: expected at least "
            f"{clean + changed} and {changed // 5}"
        )
    mixed = [strangers[i // 5] if i % 5 == 0 else image for i, image in enumerate(rest)]
    return [
        Stream(CONTROL, first, rest, None),
        Stream("mixed", first, mixed, within),
        Stream("brighter", first, [brighter(image) for image in rest], within),
        Stream("stuck", first, [first[0]] * changed, within),
    ]


def brighter(image: bytes) -> bytes:
    """A tenth of full scale added to every pixel."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened, dtype=np.int64) + 26
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def bundles_for(bundle: Path, folder: Path, wanted: Sequence[Stream]) -> list[Path]:
    """The bundle once for each stream, by its name."""
    return [renamed(bundle, folder / stream.name, stream.name) for stream in wanted]


@contextmanager
def prometheus_of(service: Service) -> Iterator[Prometheus]:
    """Watches the service while this is open."""
    with tempfile.TemporaryDirectory() as folder, watching(service.port, Path(folder)) as found:
        yield found


def drift(
    service: Service, prometheus: Prometheus, wanted: Sequence[Stream], say: Say
) -> Iterator[Outcome]:
    """Send all streams; what came of each."""
    for stream in wanted:
        say(f"{stream.name}: {len(stream.clean)} typical images, {len(stream.changed)} after them")
        _send(service, stream.name, stream.clean, 0)
        _send(service, stream.name, stream.changed, len(stream.clean))
    alarmed = {s.name for s in wanted if _alarms(service.metrics(), s.name)}
    wait_until(lambda: _names(prometheus.firing(ALERT)) >= alarmed, f"{ALERT} fires of {alarmed}")
    wait_until(lambda: _names(prometheus.delivered(ALERT)) >= alarmed, "the Alertmanager knows")
    for stream in wanted:
        yield _outcome(service, prometheus, stream)


def _send(service: Service, model: str, images: Sequence[bytes], before: int) -> None:
    """In order, a few hundred at once; then until the Monitor has looked at them all."""
    for start in range(0, len(images), PART):
        part = images[start : start + PART]
        verdicts_of(service, model, part)
        before += len(part)
        _wait_for(service, model, before)


def _wait_for(service: Service, model: str, images: int) -> None:
    """Until the Monitor has looked at so many."""
    what = f"{images} images of {model} were looked at"
    wait_until(lambda: _looked_at(service.metrics(), model) == images, what)


def _outcome(service: Service, prometheus: Prometheus, stream: Stream) -> Outcome:
    lines = reversed(_LINE.findall(service.text()))  # so that the first of each stream stays
    first = {name: int(images) for name, images in lines}.get(stream.name)
    return Outcome(
        stream=stream.name,
        clean=len(stream.clean),
        changed=len(stream.changed),
        within=stream.within,
        delay=None if first is None else first - len(stream.clean),
        alarms=_alarms(service.metrics(), stream.name),
        firing=stream.name in _names(prometheus.firing(ALERT)),
        delivered=stream.name in _names(prometheus.delivered(ALERT)),
    )


def _looked_at(found: Mapping[str, float], model: str) -> int:
    return int(found[f'oodgate_drift_images_total{{model="{model}"}}'])


def _alarms(found: Mapping[str, float], model: str) -> int:
    return int(found[f'oodgate_drift_alarms_total{{model="{model}"}}'])


def _names(alerts: Sequence[Mapping[str, str]]) -> set[str]:
    return {labels["model"] for labels in alerts}
