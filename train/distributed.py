"""Data parallel training on a Ray cluster, by Ray Train: the same loop, in a process a worker.

Each worker holds the weights and sees its share of every batch; gradients are summed. Order, noise
and augmentation are drawn for the whole batch, so the number of workers changes nothing but time
and the last bits of sums. Two things are each worker's own: dropout's choices, and what the
baseline's BatchNorm takes means over; of its running statistics the first worker's are kept.

The workers' machines share the run's folder (``out``) and see DATA under the name that is given
here. The first worker alone writes: the run, and what it prints, into a folder ``.ray-...`` in it
that is gone at the end. There the driver, the process in front of the user, leaves the word to
stop. A worker that is lost takes the others with it; all go on from the state last saved.

Only functions of this module import Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.cluster import ClusterError, check_address, unreachable
from train.config import TrainConfig
from train.loop import Interruptions, Stopped, interruption
from train.parallel import Distributed
from train.progress import say
from train.run import run_trainer
from train.worker_failures import raise_final

#: How often workers are started for one command: lost twice, and the third time is the last.
ATTEMPTS = 3

STOP_FILE = "stop"
_OUTPUT_FILE = "output"
_POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the driver hands to each worker; ``out`` and ``scratch`` are absolute."""

    config: TrainConfig
    out: Path
    scratch: Path
    folder: Path
    stop_at: int | None


def work(settings: dict[str, Any]) -> Stopped:
    """What each worker runs; where a run has begun, because a worker was lost, it goes on."""
    job: Job = settings["job"]
    if not job.scratch.is_dir():
        raise ClusterError(
            f"{job.out} is not on {socket.gethostname()}: expected a folder that all machines of "
            "the cluster share; choose such an --out"
        )
    with contextlib.suppress(OSError):
        os.chdir(job.folder)  # so that DATA as a relative path is found where it can be
    world = Distributed(job.scratch / STOP_FILE)
    if world.rank:
        return run_trainer(job.config, job.out, world, job.stop_at)
    with (
        (job.scratch / _OUTPUT_FILE).open("a", buffering=1) as output,
        contextlib.redirect_stderr(output),
    ):
        return run_trainer(job.config, job.out, world, job.stop_at)


def train_on_ray(
    config: TrainConfig, out: Path, stop_at: int | None = None, *, address: str | None = None
) -> Stopped:
    """Train with ``config.workers`` workers: begin a run, or go on with the one in ``out``.

    On the Ray cluster at ``address``, or at RAY_ADDRESS; with neither, on a Ray of this machine
    that ends with the run. Each worker takes a GPU where the cluster has any, and
    ``config.threads`` CPUs. SIGINT or SIGTERM stops the workers after a step, with the state saved.
    Raises what workers raise, and ``ClusterError``.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None:
        check_address(address)
    _import_ray(address)
    with _scratch_folder(out.resolve()) as scratch, _cluster(config, address):
        folder, out = Path.cwd(), out.resolve()
        job = Job(config=config, out=out, scratch=scratch, folder=folder, stop_at=stop_at)
        for left in reversed(range(ATTEMPTS)):
            stopped = _attempt(job, last=not left)
            if stopped is not None:
                return stopped
            say("a worker was lost: all go on from the state last saved")
    raise AssertionError("the last attempt returns or raises")


def _import_ray(address: str | None) -> None:
    """Ray reads its environment once, at import."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it would show lines twice
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    }
    if address is None:  # nobody but this run's processes, on this machine, is let in
        settings |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its node is 127.0.0.1
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        }
        if sys.platform == "linux":
            settings["GLOO_SOCKET_IFNAME"] = "lo"
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        import ray.train.torch  # noqa: F401
    except ImportError as error:
        raise ClusterError(
            f"more than one worker needs Ray Train ({error}): pip install 'oodgate[serve]', or "
            "leave --workers out"
        ) from error


@contextlib.contextmanager
def _cluster(config: TrainConfig, address: str | None) -> Iterator[None]:
    """A Ray to train on; one that was there before stays."""
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    with tempfile.TemporaryDirectory(prefix="ood-", ignore_cleanup_errors=True) as folder:
        if address is None:
            quiet |= {"include_dashboard": False, "_temp_dir": folder}
            quiet["num_cpus"] = max(os.cpu_count() or 1, config.workers * config.threads)
        try:
            try:
                ray.init(address=address or "local", **quiet)
            except ConnectionError as error:
                raise unreachable(address or "local", error) from error
            _check_size(config, local=address is None)
            yield
        finally:
            ray.shutdown()


def _check_size(config: TrainConfig, local: bool) -> None:
    """Refuse what this machine cannot hold; a cluster may grow."""
    import ray

    found = ray.cluster_resources()
    gpus, cpus = int(found.get("GPU", 0)), int(found.get("CPU", 0))
    if local and 0 < gpus < config.workers:
        raise ClusterError(
            f"--workers {config.workers}: expected at most {gpus}, the GPUs of this machine, of "
            "which each worker takes one; or hide them (CUDA_VISIBLE_DEVICES=) to train on CPUs"
        )
    if 0 < gpus < config.workers or cpus < config.workers * config.threads:
        say(
            f"{config.workers} workers wait for a cluster that has {gpus} GPUs and {cpus} CPUs to "
            "grow: each takes a GPU where there are any, and its --threads in CPUs"
        )


@contextlib.contextmanager
def _scratch_folder(out: Path) -> Iterator[Path]:
    """A folder in ``out`` for one command; an ``out`` without a run does not stay either."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(
            prefix=".ray-", dir=out, ignore_cleanup_errors=True
        ) as folder:
            yield Path(folder)
    finally:
        with contextlib.suppress(OSError):
            out.rmdir()


def _attempt(job: Job, *, last: bool) -> Stopped | None:
    """Train; None where a worker was lost on the way."""
    from ray.train import WorkerGroupError

    try:
        return _watched(lambda: _fit(job), job)
    except WorkerGroupError as error:
        raise_final(error.worker_failures)
        if not last:
            return None
        if any(
            type(failure).__module__.startswith("ray.")
            for failure in error.worker_failures.values()
        ):
            raise ClusterError(
                f"workers were lost {ATTEMPTS} times; see that their machines have the memory, "
                f"then go on from the state last saved with: --resume --out {job.out}"
            ) from error
        raise


def _fit(job: Job) -> Stopped:
    """One run of Ray Train."""
    import ray
    import ray.train.torch

    kit: Any = ray.train  # its types are those of an older Ray Train
    trainer = kit.torch.TorchTrainer(
        work,
        train_loop_config={"job": job},
        scaling_config=kit.ScalingConfig(
            num_workers=job.config.workers,
            use_gpu=ray.cluster_resources().get("GPU", 0) > 0,
            resources_per_worker={"CPU": job.config.threads},
        ),
        run_config=kit.RunConfig(
            name=f"attempt-{secrets.token_hex(4)}",
            storage_path=str(job.scratch),
            logging_config=kit.LoggingConfig(log_level="CRITICAL"),
        ),
    )
    stopped: Stopped = trainer.fit().return_value
    return stopped


def _watched(fit: Callable[[], Stopped], job: Job) -> Stopped:
    """Run ``fit`` beside this thread, which shows what the first worker prints and hears signals.

    Ray's own answer to SIGINT, in force on the main thread only, would end workers unsaved.
    """
    done: Future[Stopped] = Future()

    def run() -> None:
        try:
            done.set_result(fit())
        except BaseException as error:
            done.set_exception(error)

    output = job.scratch / _OUTPUT_FILE
    shown = output.stat().st_size if output.exists() else 0
    with interruption() as interrupted:
        threading.Thread(target=run, daemon=True).start()
        while True:
            over = bool(wait([done], _POLL_S).done)
            shown = _show(output, shown)
            if over:
                return done.result()
            _pass_on(interrupted, job)


def _pass_on(interrupted: Interruptions, job: Job) -> None:
    """The first signal asks the workers to stop, the second does not wait for them."""
    stop = job.scratch / STOP_FILE
    if interrupted.times > 1:
        raise ClusterError(
            f"ended before the workers had stopped; go on from the state last saved with: --resume "
            f"--out {job.out}"
        )
    if interrupted.times and not stop.exists():
        stop.touch()
        say("stopping the workers; once more to end without them")


def _show(output: Path, start: int) -> int:
    """Print what was added to ``output`` since byte ``start``; returns how far it goes."""
    if not output.exists():
        return start
    with output.open("rb") as file:
        file.seek(start)
        added = file.read()
    sys.stderr.write(added.decode(errors="replace"))
    sys.stderr.flush()
    return start + len(added)
