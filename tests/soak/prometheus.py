"""A real Prometheus and Alertmanager with the shipped rules, on loopback, ended by their ids."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from service.startup import free_ports

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
#: Command and the Debian package that has it.
COMMANDS = {
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
}
DEADLINE_S = 120.0

yaml: Any = import_module("yaml")


def missing() -> list[str]:
    """Packages without which nothing here can run."""
    return [package for command, package in COMMANDS.items() if shutil.which(command) is None]


class Prometheus:
    """Answers queries; ``alerts`` are those of the Alertmanager beside it."""

    def __init__(self, port: int, alertmanager_port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._alertmanager = f"http://127.0.0.1:{alertmanager_port}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Samples now; raises ``ValueError`` with what is wrong with the expression."""
        asked = urllib.parse.urlencode({"query": expression})
        found = _json(f"{self._url}/api/v1/query?{asked}")
        if found["status"] != "success":
            raise ValueError(f"{expression}: {found}")
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Recording and alerting rules, each with its expression and health."""
        groups = _json(f"{self._url}/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self, alert: str) -> list[Mapping[str, str]]:
        """Labels of what fires here."""
        alerts = _json(f"{self._url}/api/v1/alerts")["data"]["alerts"]
        return [
            found["labels"]
            for found in alerts
            if found["labels"]["alertname"] == alert and found["state"] == "firing"
        ]

    def delivered(self, alert: str) -> list[Mapping[str, str]]:
        """Labels of what the Alertmanager has been told and still holds."""
        alerts = _json(f"{self._alertmanager}/api/v2/alerts")
        return [found["labels"] for found in alerts if found["labels"]["alertname"] == alert]


@contextmanager
def watching(port: int, folder: Path) -> Iterator[Prometheus]:
    """Scrape the service on ``port`` every second; the shipped rules, evaluated as often."""
    own, alertmanager = free_ports(2)
    configuration = _configured(folder, port, alertmanager)
    found = Prometheus(own, alertmanager)
    with ExitStack() as running:
        running.enter_context(
            _process(
                "prometheus-alertmanager",
                f"--config.file={SHIPPED / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
            )
        )
        running.enter_context(
            _process(
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{own}",
            )
        )
        for url in (f"http://127.0.0.1:{p}/-/ready" for p in (own, alertmanager)):
            wait_until(lambda url=url: _answers(url), f"{url} answers")  # type: ignore[misc]
        # increase() does not see what happened before the first scrape, seconds after the start
        wait_until(lambda: bool(found.query('up{job="oodgate"} == 1')), "the service is scraped")
        yield found


def wait_until(true: Callable[[], bool], what: str, within_s: float = DEADLINE_S) -> None:
    """Poll; only where something is broken the deadline is reached."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain until {what}")
        time.sleep(0.2)


def without_data(prometheus: Prometheus, expressions: Sequence[str]) -> list[str]:
    """Those that have no sample, though some seconds were given them."""
    for expression in expressions:
        with suppress(TimeoutError):
            _wait_for_samples(prometheus, expression)
    return [expression for expression in expressions if not prometheus.query(expression)]


def _wait_for_samples(prometheus: Prometheus, expression: str) -> None:
    wait_until(lambda: bool(prometheus.query(expression)), expression, within_s=5.0)


def _configured(folder: Path, port: int, alertmanager: int) -> Path:
    """The shipped configuration and rules, with other addresses and every interval a second."""
    configuration = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    configuration["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    rules = configuration["rule_files"]
    for name in rules:
        groups = yaml.safe_load((SHIPPED / name).read_text())
        for group in groups["groups"]:
            group.pop("interval", None)
        (folder / name).write_text(yaml.safe_dump(groups))
    (scrape,) = configuration["scrape_configs"]
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    configuration["alerting"]["alertmanagers"][0]["static_configs"] = [
        {"targets": [f"127.0.0.1:{alertmanager}"]}
    ]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    return path


@contextmanager
def _process(*command: str) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def _json(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)
