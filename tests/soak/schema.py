"""Schemathesis on the service's own OpenAPI document, from an environment of its own.

Its checks: no 5xx, statuses and content types and bodies as the document says. What it generates
for administration goes with the admin key, so that it comes past the door.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients import environments
from tests.integration.running import ROOT, Service
from tests.soak.expected import Version

ENVIRONMENT = "schemathesis"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
#: No answer for so long is a hang.
DEADLINE_S = 120


@dataclass(frozen=True, kw_only=True)
class Conformance:
    """How schemathesis ended, what it sent, and what it printed."""

    status: int
    requests: int
    output: str

    @property
    def faults(self) -> list[str]:
        """What it printed, where something is not as documented."""
        return [] if self.status == 0 else self.output.splitlines()

    def to_dict(self) -> dict[str, Any]:
        return {"what": "schemathesis", "requests": self.requests, "faults": self.faults}

    def __str__(self) -> str:
        verdict = "as documented" if self.status == 0 else f"NOT as documented\n{self.output}"
        return f"schemathesis: {self.requests:,} requests, {verdict}"


def is_built() -> bool:
    """Whether the environment is there; ``build`` makes it."""
    return environments.is_built(ENVIRONMENT)


def build() -> None:
    """About half a minute."""
    environments.build(ENVIRONMENT)


def conform(
    service: Service, version: Version, folder: Path, *, examples: int, seed: int = 0
) -> Conformance:
    """``examples`` generated requests for each operation; configuration and report in ``folder``.

    Paths name the model that is served, or all of them would end at a 404.
    """
    report = folder / "schemathesis.ndjson"
    names = f'"path.model" = "{version.name}"\n"path.version" = "{version.version}"\n'
    (folder / "schemathesis.toml").write_text(f"[parameters]\n{names}")
    command = [
        str(environments.python(ENVIRONMENT).with_name("schemathesis")),
        "run",
        f"http://127.0.0.1:{service.port}/openapi.json",
        f"--checks={','.join(CHECKS)}",
        f"--max-examples={examples}",
        "--phases=examples,coverage,fuzzing",
        f"--request-timeout={DEADLINE_S}",
        f"--seed={seed}",
        "--no-shrink",
        "--continue-on-failure",
        "--no-color",
        f"--header=Authorization: Bearer {service.admin_key()}",
        f"--report-ndjson-path={report}",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return Conformance(
        status=done.returncode,
        requests=_requests(report),
        output=(done.stdout + done.stderr).replace(str(ROOT), "."),
    )


def _requests(report: Path) -> int:
    """Responses in the report's events."""
    if not report.exists():
        return 0
    return sum(_recorded(json.loads(line)) for line in report.read_text().splitlines())


def _recorded(event: Any) -> int:
    """Interactions of one event, wherever they are in it."""
    if isinstance(event, dict):
        own = len(event["interactions"]) if isinstance(event.get("interactions"), dict) else 0
        return own + sum(_recorded(v) for k, v in event.items() if k != "interactions")
    return sum(map(_recorded, event)) if isinstance(event, list) else 0
