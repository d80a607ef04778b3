"""Changing what is served while it is served: who may, and what each wish means.

The order of things is in ``rollout.py``; this hands wishes to the holder of the plan and words what
comes of them for people and programs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.exceptions import RayTaskError

from service.bundle import BundleError, version_of
from service.catalog import find_bundle
from service.errors import (
    BadParameterError,
    DeployError,
    ForbiddenError,
    NotReadyError,
    UnauthenticatedError,
)
from service.keys import Keys
from service.rollout import Plan, Target


class Admin:
    """``central`` is the handle of the Monitor deployment."""

    def __init__(self, central: Any, keys: Keys) -> None:
        self._central = central
        self._keys = keys

    def check(self, key: str) -> None:
        """Raises unless this is an admin key; where none is configured nobody has one."""
        if not key:
            raise UnauthenticatedError
        if not self._keys.accepts(key):
            raise ForbiddenError

    async def deploy(self, bundle: str, shadow: bool, share: float) -> dict[str, Any]:
        """Swap or shadow; raises ``DeployError`` where the bundle is refused."""
        if not 0 < share <= 1:
            raise BadParameterError(f"share is {share:g}: expected a number in (0, 1]")
        try:
            target = target_of(find_bundle(bundle))
        except (BundleError, OSError) as error:  # a path may be one that no system takes
            raise DeployError(str(error)) from error
        outcome = await self._ask("deploy", target, share if shadow else None)
        return {
            "model": {"name": outcome.name, "version": outcome.version},
            "previous": outcome.previous,
            "shadow": shadow,
            "replicas": outcome.replicas,
            "behind": outcome.behind,
            "seconds": round(outcome.seconds, 3),
        }

    async def end_shadow(self, name: str) -> dict[str, Any]:
        """Raises ``DeployError`` where there is none."""
        await self._ask("end_shadow", name)
        return await self.state()

    async def state(self) -> dict[str, Any]:
        """What is served, by how many replicas, and how shadows compare."""
        plan, replicas, decided = await self._ask("state")
        return {
            "replicas": replicas,
            "models": [_described(target) for target in plan.serving],
            "staged": None if plan.staged is None else _described(plan.staged),
            "shadows": _shadows(plan, decided),
        }

    async def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return await getattr(self._central, method).remote(*arguments)
        except RayTaskError as error:
            cause = getattr(error, "cause", error)
            raise cause if isinstance(cause, DeployError) else error from None
        except DeployError:
            raise
        except Exception as error:
            raise NotReadyError("the monitor is not reachable; try again") from error


def target_of(path: Path) -> Target:
    """A bundle's name and version as they are on this node; raises ``BundleError``."""
    manifest, version = version_of(path)
    return Target(manifest.name, version, str(path.resolve()))


def _described(target: Target) -> dict[str, str]:
    return {"name": target.name, "version": target.version, "path": target.path}


def _shadows(plan: Plan, decided: dict[tuple[str, ...], int]) -> list[dict[str, Any]]:
    return [
        {
            **_described(target),
            "share": share,
            "images": sum(n for labels, n in decided.items() if labels[:2] == _key(target)),
            "decisions": [
                {"live": live, "shadow": shadow, "same_class": same == "true", "images": images}
                for (name, version, live, shadow, same), images in sorted(decided.items())
                if (name, version) == _key(target)
            ],
        }
        for target, share in plan.shadows
    ]


def _key(target: Target) -> tuple[str, str]:
    return target.name, target.version
