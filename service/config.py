"""How to serve. What is promised (alpha, delta, mode) is in the bundle, never here.

No postponed annotations: Serve's typed builder needs the class itself. No Ray either, since what
Ray reads from the environment follows from this.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from calibration.drift import AlarmBudget
from model.image import MAX_PIXELS
from service.engine import Limits

#: Places of ``access_log`` that are no paths.
STDERR, NO_LOG = "stderr", "none"


class ServiceConfig(BaseModel):
    """Exactly ``args:`` in ``deploy/serve.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundles: tuple[Path, ...] = Field(
        min_length=1,
        description="bundles of different names, on every node that may hold a replica; the first "
        "one answers requests that name no model",
    )
    replicas: int = Field(default=1, ge=1)
    max_replicas: int | None = Field(
        default=None, ge=1, description="Serve adds replicas under load, up to so many"
    )
    num_cpus: float = Field(default=0.4, ge=0, description="CPUs reserved for a replica")
    num_gpus: float = Field(default=0, ge=0, description="GPUs reserved for a replica")
    threads: int = Field(default=1, ge=1, description="CPU threads of a forward pass")
    compile: bool = Field(
        default=False,
        description="by torch.compile: faster single images for minutes of start-up; needs a C++ "
        "compiler on every node",
    )
    max_body_bytes: int = Field(default=10 * 1024 * 1024, ge=1)
    max_pixels: int = Field(
        default=25_000_000,
        ge=1,
        le=MAX_PIXELS,
        description="of all images of a request, checked before decoding",
    )
    max_images: int = Field(default=256, ge=1, description="in one request")
    max_batch_size: int = Field(default=32, ge=1, description="images in one forward pass")
    batch_wait_timeout_s: float = Field(
        default=0, ge=0, description="how long an idle model waits for company to its first image"
    )
    max_queued_requests: int = Field(
        default=128,
        ge=1,
        description="requests admitted to a replica at once; the next one gets 429",
    )
    max_queued_images: int = Field(
        default=256, ge=1, description="images that wait for a model; what would add to it gets 429"
    )
    read_timeout_s: float = Field(default=30, gt=0, description="time for a body to arrive")
    queue_timeout_s: float = Field(
        default=30, gt=0, description="what has waited longer is not computed any more"
    )
    api_keys_file: Path | None = Field(
        default=None, description="one key a line; with $OODGATE_API_KEYS, who may ask"
    )
    admin_keys_file: Path | None = Field(
        default=None,
        description="one key a line; with $OODGATE_ADMIN_KEYS, who may deploy; none: nobody",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="names that the Host header may have; empty: any"
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="origins whose pages may ask from a browser"
    )
    access_log: str = Field(
        default=STDERR, description="a path on each node, 'stderr' of the replica, or 'none'"
    )
    quarantine: Path | None = Field(default=None, description="folder that keeps rejected images")
    quarantine_files: int = Field(default=2_000, ge=2, description="an image and its verdict are 2")
    quarantine_bytes: int = Field(default=256 * 1024 * 1024, ge=1)

    monitor: bool = Field(
        default=True, description="count, and look for drift; without, /metrics is nearly empty"
    )
    drift_days: float = Field(
        default=30, description="alarms of drift: without any drift one in so many days"
    )
    drift_rate: float = Field(default=100, description="at so many images a second, for each model")

    @model_validator(mode="after")
    def _consistent(self) -> "ServiceConfig":
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(
                f"max_replicas is {self.max_replicas}: expected at least replicas, {self.replicas}"
            )
        self.budget()
        return self

    def budget(self) -> AlarmBudget:
        """How often an alarm of drift may be false."""
        return AlarmBudget(days=self.drift_days, rate=self.drift_rate)

    def limits(self) -> Limits:
        """What one request and one replica may take."""
        return Limits(
            max_body_bytes=self.max_body_bytes,
            max_pixels=self.max_pixels,
            max_images=self.max_images,
            max_waiting=self.max_queued_requests,
            read_timeout_s=self.read_timeout_s,
            queue_timeout_s=self.queue_timeout_s,
        )
