"""How to serve. What is promised (alpha, delta, mode) is in the bundle, never here.

No postponed annotations: Serve's typed builder needs the class itself. No Ray either, since what
Ray reads from the environment follows from this.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from model.image import MAX_PIXELS
from service.engine import Limits


class ServiceConfig(BaseModel):
    """Exactly ``args:`` in ``deploy/serve.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: Path = Field(description="a bundle, on every node that may hold a replica")
    replicas: int = Field(default=1, ge=1)
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
        default=25_000_000, ge=1, le=MAX_PIXELS, description="checked before decoding"
    )
    max_batch_size: int = Field(default=32, ge=1)
    batch_wait_timeout_s: float = Field(
        default=0, ge=0, description="how long an idle model waits for company to its first image"
    )
    max_queued_requests: int = Field(
        default=128,
        ge=1,
        description="requests admitted to a replica at once; the next one gets 429",
    )
    read_timeout_s: float = Field(default=30, gt=0, description="time for a body to arrive")

    def limits(self) -> Limits:
        """What one request and one replica may take."""
        return Limits(
            max_body_bytes=self.max_body_bytes,
            max_pixels=self.max_pixels,
            max_waiting=self.max_queued_requests,
            read_timeout_s=self.read_timeout_s,
        )
