"""The metrics of the service, each declared here and nowhere else: name, unit, labels, help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One metric; with ``bounds`` (upper, ascending, without infinity) it is a histogram.

    A gauge is set where a counter adds. Gauges of ``each_replica`` are summed over the replicas
    that have lately been heard of.
    """

    name: str
    help: str
    unit: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] | None = None
    gauge: bool = False
    each_replica: bool = False

    @property
    def kind(self) -> str:
        """In Prometheus' words."""
        if self.bounds is not None:
            return "histogram"
        return "gauge" if self.gauge else "counter"


_FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

REQUESTS = Spec(
    name="oodgate_requests_total",
    help="Classification requests by protocol and outcome (ok, or the code of the error).",
    labels=("protocol", "code"),
    unit="requests",
)
DECISIONS = Spec(
    name="oodgate_decisions_total",
    help="Verdicts by model, decision and reason.",
    labels=("model", "decision", "reason"),
    unit="images",
)
PREDICTIONS = Spec(
    name="oodgate_predictions_total",
    help="Verdicts by predicted class; classes beyond the first 100 are counted as other.",
    labels=("model", "class_label"),
    unit="images",
)
P_VALUE = Spec(
    name="oodgate_p_value",
    help="p-values of the verdicts; uniform on in-distribution traffic.",
    labels=("model",),
    bounds=(0.001, 0.005, 0.01, 0.025, 0.05, *_FRACTIONS, 1.0),
    unit="probability",
)
CONFIDENCE = Spec(
    name="oodgate_confidence",
    help="Calibrated probability of the predicted class.",
    labels=("model",),
    bounds=(*_FRACTIONS, 0.95, 0.99, 0.999, 1.0),
    unit="probability",
)
REQUEST_SECONDS = Spec(
    name="oodgate_request_seconds",
    help="From the arrival of a request in a replica to its answer, errors included.",
    labels=("protocol",),
    bounds=_SECONDS,
    unit="seconds",
)
STAGE_SECONDS = Spec(
    name="oodgate_stage_seconds",
    help="Time of an image in decode and queue; of a batch in forward and gate.",
    labels=("stage",),
    bounds=_SECONDS,
    unit="seconds",
)
BATCH_IMAGES = Spec(
    name="oodgate_batch_images",
    help="Images in one forward pass.",
    bounds=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    unit="images",
)
SHED = Spec(
    name="oodgate_shed_total",
    help="Requests refused because too many were waiting.",
    unit="requests",
)
RELOADS = Spec(
    name="oodgate_reloads_total",
    help="Bundles that were to be deployed while the service ran, by outcome: swapped, shadowed, "
    "ended or refused.",
    labels=("outcome",),
    unit="deployments",
)
SHADOW = Spec(
    name="oodgate_shadow_decisions_total",
    help="Images that a shadow has seen: its bundle, the live decision, the shadow's (or the code "
    "of its error), and whether both predict the same class.",
    labels=("model", "version", "live", "shadow", "same_class"),
    unit="images",
)
QUEUE_IMAGES = Spec(
    name="oodgate_queue_images",
    help="Images that wait for a model now, over all replicas.",
    unit="images",
    gauge=True,
    each_replica=True,
)
GPU_MEMORY = Spec(
    name="oodgate_gpu_memory_bytes",
    help="Memory that PyTorch's allocators hold on GPUs now, of all replicas together; only where "
    "there is one.",
    unit="bytes",
    gauge=True,
    each_replica=True,
)
REJECTION_THRESHOLD = Spec(
    name="oodgate_rejection_threshold",
    help="What p-values are held against at the bundle's own alpha, the smallest over classes: "
    "about the share of in-distribution images that is rejected.",
    unit="probability",
    labels=("model",),
    gauge=True,
)
REFERENCE_IMAGES = Spec(
    name="oodgate_reference_images",
    help="Calibration images that p-values rank among.",
    unit="images",
    labels=("model",),
    gauge=True,
)
DRIFT_SCORE = Spec(
    name="oodgate_drift_score",
    help="Sequential test of drift: log of what bets against no drift are worth, 0 where below; an "
    "alarm sets it back.",
    unit="nats",
    labels=("model",),
    gauge=True,
)
DRIFT_THRESHOLD = Spec(
    name="oodgate_drift_threshold",
    help="The drift score of an alarm: log of the images between two false alarms.",
    unit="nats",
    labels=("model",),
    gauge=True,
)
DRIFT_ALARMS = Spec(
    name="oodgate_drift_alarms_total",
    help="Alarms of the sequential test, which then begins again from the calibration rows: "
    "without drift one in 30 days at 100 images/s, unless set otherwise.",
    unit="alarms",
    labels=("model",),
)
DRIFT_LAST_ALARM = Spec(
    name="oodgate_drift_last_alarm_timestamp_seconds",
    help="When the sequential test alarmed last, in seconds since 1970; absent before the first.",
    unit="seconds",
    labels=("model",),
    gauge=True,
)
DRIFT_IMAGES = Spec(
    name="oodgate_drift_images_total",
    help="Images that the sequential test has looked at.",
    unit="images",
    labels=("model",),
)
DRIFT_SKIPPED = Spec(
    name="oodgate_drift_skipped_total",
    help="Images that were answered and not looked at for drift: too many in a second, or the "
    "Monitor was away.",
    unit="images",
    labels=("model",),
)
WINDOW_DISTANCE = Spec(
    name="oodgate_drift_window_distance",
    help="How far the last images are from the calibration rows, 0 to 1: Kolmogorov-Smirnov of the "
    "score and of each statistic, total variation of predicted_class.",
    unit="distance",
    labels=("model", "statistic"),
    gauge=True,
)
WINDOW_EFFECT = Spec(
    name="oodgate_drift_window_effect",
    help="The distance over what chance gives on average; for display, not for alerts.",
    unit="1",
    labels=("model", "statistic"),
    gauge=True,
)
WINDOW_IMAGES = Spec(
    name="oodgate_drift_window_images",
    help="The last images, which the distances are of.",
    unit="images",
    labels=("model",),
    gauge=True,
)
MODEL_INFO = Spec(
    name="oodgate_model_info",
    help="1 for each bundle that is served.",
    labels=("name", "version"),
    gauge=True,
    unit="1",
)
JOB_IMAGES = Spec(
    name="oodgate_job_images_total",
    help="Images of a batch job by outcome: scored, or error where one could not be decoded; a "
    "service has none.",
    labels=("outcome",),
    unit="images",
)
JOB_SUCCESS = Spec(
    name="oodgate_job_last_success_timestamp_seconds",
    help="When a batch job last ended well, in seconds since 1970; a service has none.",
    unit="seconds",
    gauge=True,
)

SPECS = (
    REQUESTS,
    DECISIONS,
    PREDICTIONS,
    P_VALUE,
    CONFIDENCE,
    REQUEST_SECONDS,
    STAGE_SECONDS,
    BATCH_IMAGES,
    SHED,
    RELOADS,
    SHADOW,
    QUEUE_IMAGES,
    GPU_MEMORY,
    REJECTION_THRESHOLD,
    REFERENCE_IMAGES,
    DRIFT_SCORE,
    DRIFT_THRESHOLD,
    DRIFT_ALARMS,
    DRIFT_LAST_ALARM,
    DRIFT_IMAGES,
    DRIFT_SKIPPED,
    WINDOW_DISTANCE,
    WINDOW_EFFECT,
    WINDOW_IMAGES,
    MODEL_INFO,
    JOB_IMAGES,
    JOB_SUCCESS,
)

#: Told anew by the tests of drift each time that somebody asks.
DRIFT_GAUGES = (
    DRIFT_SCORE,
    DRIFT_THRESHOLD,
    DRIFT_LAST_ALARM,
    WINDOW_DISTANCE,
    WINDOW_EFFECT,
    WINDOW_IMAGES,
)

#: Not exposed to Prometheus: what the Open Inference Protocol reports of each version.
STATISTICS = Spec(name="statistics", help="", unit="", labels=("model", "version", "field"))
LAST_INFERENCE = Spec(
    name="last_inference", help="", unit="", labels=("model", "version"), gauge=True
)

BY_NAME = {spec.name: spec for spec in (*SPECS, STATISTICS, LAST_INFERENCE)}

#: Classes that have a metric of their own; the rest are counted as ``other``.
MAX_CLASSES = 100


def class_metric(label: str, index: int) -> str:
    """How a class is named in metrics."""
    return label if index < MAX_CLASSES else "other"


def table(specs: Sequence[Spec] = SPECS) -> str:
    """All of them as a table in Markdown."""
    rows = [
        f"| `{spec.name}` | {spec.kind} | {spec.unit} | {_listed(spec.labels)} | {spec.help} |"
        for spec in specs
    ]
    return "\n".join(
        ["| name | kind | unit | labels | what |", "| --- | --- | --- | --- | --- |", *rows]
    )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


if __name__ == "__main__":
    print(table())  # noqa: T201
