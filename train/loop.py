"""The training loop: deterministic, interruptible, resumable at any step.

What a step sees follows from the seed and the step alone (``train.batches``), so an interrupted
run ends with the weights of an undisturbed one on the same machine. The same loop runs on one
device and, a process each, on several (``train.parallel``).
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from model.checkpoint import CheckpointError, write_atomic
from train.batch_sizes import INITIAL_IMAGES, images_at_once
from train.batches import Batch, Batches, mixed_seed
from train.config import TrainConfig
from train.divergence import Watchdog
from train.images import Images
from train.learner import Classifier, FlowLearner, build_learner
from train.meter import Meter
from train.parallel import Alone, World
from train.progress import Progress
from train.state import Counters, load_state, save_state
from train.stepper import Stepper
from train.validation import VALIDATION_ROWS, validate

HISTORY_FILE = "history.jsonl"
STATE_FILE = "state.safetensors"

#: Steps between two looks at figures, which wait for the device.
LOOK_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Where a run stopped: its counters, whether it is done, and figures of its last epoch."""

    counters: Counters
    finished: bool
    figures: dict[str, float]


class Trainer:
    """A classifier, its optimiser and its rows; ``run`` trains until done or interrupted."""

    def __init__(
        self,
        config: TrainConfig,
        classifier: Classifier,
        images: Images,
        validation: Images,
        out: Path,
        *,
        world: World | None = None,
        save_every_s: float = 60.0,
    ) -> None:
        self._config = config
        self._world = world or Alone()
        self._learner = build_learner(classifier, config)
        self._stepper = Stepper(self._learner, config, self._world)
        self._device = classifier.device
        self._validation = validation.drawn(VALIDATION_ROWS, config.seed)
        self._out = out
        self._save_every_s = save_every_s
        self._batches = Batches(
            config,
            images,
            classifier.config.levels,
            self._device,
            rank=self._world.rank,
            workers=self._world.size,
        )
        beta = config.beta if config.kind == "flow" else math.inf
        self._watchdog = Watchdog(self._out / STATE_FILE, config.learning_rate, beta)

    @property
    def kept(self) -> Classifier:
        """The classifier that the run leaves behind: the average of weights where there is one."""
        if self._stepper.average is None:
            return self._learner.classifier
        return self._stepper.average.module.classifier  # type: ignore[return-value]

    def start(self) -> Counters:
        """Data-dependent initialisation on the first rows, for a run that begins."""
        if self._world.rank == 0:
            (self._out / HISTORY_FILE).unlink(missing_ok=True)  # another run's, were there one
        if not self._config.init:
            dim = self._learner.classifier.config.dim
            self._learner.initialise(self._batches.first(images_at_once(dim, INITIAL_IMAGES)))
        self._world.share_weights(self._learner)
        if self._stepper.average is not None:
            self._stepper.average.module.load_state_dict(self._learner.state_dict())
        return Counters()

    def resume(self) -> Counters:
        """Load the saved state, for a run that goes on; one stopped before its first begins."""
        path = self._out / STATE_FILE
        if not self._world.any(path.exists()):
            return self.start()
        counters = load_state(path, self._saved, self._stepper.optimizer)
        if self._world.rank == 0:
            _forget_after(self._out / HISTORY_FILE, counters.step)
        return counters

    def run(self, counters: Counters, stop_at: int | None = None) -> Stopped:
        """Train from ``counters`` on; SIGINT or SIGTERM ends after the step, with the state saved.

        ``stop_at`` ends at that step as an interruption would. Raises ``TrainingDivergedError``
        when the loss is no longer finite or far above its best; the state last saved is then the
        last good one.
        """
        total = len(self._batches)
        end = total if stop_at is None else min(stop_at, total)
        meter = self._meter(counters)
        step, began = counters.step, time.monotonic()
        saved = began

        def reached() -> Counters:
            seconds = counters.seconds + time.monotonic() - began
            return Counters(step=step, seconds=seconds, sums=self._world.sum(meter.sums()))

        self._learner.train()
        with (
            interruption() as interrupted,
            torch.random.fork_rng([self._device] if self._device.type == "cuda" else []),
            self._progress(step) as progress,
        ):
            if not step:
                self._save(counters)
            for batch in self._batches.between(step, end):
                if self._world.any(interrupted.times > 0 or self._world.told_to_stop()):
                    break
                if step % self._batches.epoch_steps == 0:
                    meter.reset()
                self._train_step(step, batch, meter)
                step += 1
                progress.advance(batch.images, **self._look(step, meter))
                if step % self._batches.epoch_steps == 0:
                    self._note_epoch(reached(), meter)
                if self._world.any(time.monotonic() - saved > self._save_every_s):
                    saved = time.monotonic()
                    self._judge(step, meter)
                    self._save(reached())
        self._judge(step, meter)
        figures, finished = self._watchdog.finite(step, self._figures(meter)), step >= total
        stopped = self._ended(reached(), finished)
        self._learner.eval()
        return Stopped(counters=stopped, finished=finished, figures=figures)

    def _ended(self, reached: Counters, finished: bool) -> Counters:
        """Save what was reached; a run interrupted in doubt goes back to the state last saved."""
        if finished:
            self._watchdog.at_the_end(reached.step)
        elif self._watchdog.suspicious:
            return self.resume()
        self._save(reached)
        return reached

    @property
    def _saved(self) -> nn.ModuleDict:
        """Everything whose tensors a state holds."""
        parts: dict[str, nn.Module] = {"learner": self._learner}
        if self._stepper.average is not None:
            parts["average"] = self._stepper.average
        return nn.ModuleDict(parts)

    def _meter(self, counters: Counters) -> Meter:
        generative = isinstance(self._learner, FlowLearner)
        flow = self._learner.classifier.config if generative else None
        # sums are of all workers: the first begins with them, the others with nothing
        return Meter(flow, counters.sums) if self._world.rank == 0 else Meter(flow)  # type: ignore[arg-type]

    def _train_step(self, step: int, batch: Batch, meter: Meter) -> None:
        """One optimiser step."""
        config = self._config
        # dropout: the same after a resumption, another one on each worker
        torch.manual_seed(mixed_seed(config.seed, 2, step, self._world.rank))
        result = self._stepper.step(batch, learning_rate(config, step, len(self._batches)))
        if result is not None:
            meter.add(result, batch.labels)

    def _figures(self, meter: Meter) -> dict[str, float]:
        return meter.figures(self._world.sum(meter.sums()))

    def _look(self, step: int, meter: Meter) -> dict[str, str]:
        """Figures for the progress line, every few steps; raises where training has diverged."""
        if step % LOOK_EVERY:
            return {}
        self._judge(step, meter)
        figures = self._watchdog.finite(step, self._figures(meter))
        return {name: f"{value:.3f}" for name, value in figures.items()}

    def _judge(self, step: int, meter: Meter) -> None:
        """Show the watchdog the steps since it last looked."""
        loss, images = self._world.sum(meter.recent())
        if images:
            self._watchdog.look(step, loss / images)

    def _note_epoch(self, counters: Counters, meter: Meter) -> None:
        """A line of the log: figures of the epoch, and of held-out rows at its end."""
        epoch = counters.step // self._batches.epoch_steps
        figures = self._watchdog.finite(counters.step, self._figures(meter))
        if self._world.rank == 0:
            line = {
                "epoch": epoch,
                "step": counters.step,
                "seconds": round(counters.seconds, 1),
                "train": figures,
                "validation": validate(self.kept, self._validation),
            }
            with (self._out / HISTORY_FILE).open("a") as file:
                file.write(json.dumps(line) + "\n")
        self._learner.train()

    def _progress(self, step: int) -> Progress:
        total = self._batches.images_before(len(self._batches))
        shown = self._world.rank == 0
        return Progress("training", total, initial=self._batches.images_before(step), shown=shown)

    def _save(self, counters: Counters) -> None:
        if self._watchdog.suspicious:
            return
        # by all workers, whose weights are the same: an error of one alone would leave them waiting
        self._watchdog.check_weights(counters.step, self._learner)
        if self._world.rank == 0:
            save_state(self._out / STATE_FILE, self._saved, self._stepper.optimizer, counters)


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """Linear warm-up, then a cosine to zero; a function of the step alone."""
    warmup = max(1, round(config.warmup_fraction * total_steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _forget_after(history: Path, step: int) -> None:
    """Drop the epochs that a run saw after its state was saved; it will see them again.

    A run that was killed may have left half a line.
    """
    if not history.exists():
        return
    lines = history.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    try:
        kept = [line for line in whole if json.loads(line)["step"] <= step]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{history}: not the log of a run ({error!r}): move it away to go on without it"
        ) from error
    write_atomic(history, "".join(kept).encode())


class Interruptions:
    """How often the process has been asked to end."""

    def __init__(self) -> None:
        self.times = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self.times += 1


@contextmanager
def interruption() -> Iterator[Interruptions]:
    """Turn SIGINT and SIGTERM into something to look at; outside the main thread, where Python
    gives no signals, there is never any."""
    noted = Interruptions()
    heard = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if heard else ()
    old = {number: signal.signal(number, noted.note) for number in numbers}
    try:
        yield noted
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
