"""Whether ``torch.compile`` works here: it needs a C++ compiler, and on a GPU Triton with a C one.

Nothing but trying tells, and without a try the failure comes late, as a traceback of torch's.
``python -m model.compiling`` tries on the CPU in a process of its own, whose memory then goes.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

#: What is needed and what to do: on a CPU, on a GPU.
_EXPECTED = (
    "expected a working C++ compiler; install one such as g++ (CXX may name it)",
    "expected Triton and a C compiler; install torch's own triton and one such as gcc (CC)",
)


class CompilerError(RuntimeError):
    """``torch.compile`` was asked for where it does not work."""


def check_compiler(device: torch.device) -> None:
    """Compile an addition, which takes seconds; raises ``CompilerError`` where that fails."""
    try:
        torch.compile(_successor)(torch.ones(1, device=device))
    except Exception as error:  # whatever a compiler's absence becomes inside torch
        cause = getattr(error, "inner_exception", error)
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)
        raise CompilerError(
            f"torch.compile on {device.type} fails ({reason}): {_EXPECTED[device.type == 'cuda']}, "
            "or leave --compile out"
        ) from None


def _successor(x: Tensor) -> Tensor:
    return x + 1


def main() -> None:
    """Try on the CPU; the reason of a failure is the last line of standard error."""
    try:
        check_compiler(torch.device("cpu"))
    except CompilerError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
