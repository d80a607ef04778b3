"""Full float32 on GPUs: convolutions that would be computed in TF32 move log_prob by whole nats.

Torch's flag is one for the whole process, and several threads may run a model: the first one in
sets it, the last one out puts it back.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

_lock = threading.Lock()
_inside = 0
_before = True


@contextlib.contextmanager
def full_convolutions() -> Iterator[None]:
    """Within, no convolution of this process is computed in TF32."""
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = torch.backends.cudnn.allow_tf32
            torch.backends.cudnn.allow_tf32 = False
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch.backends.cudnn.allow_tf32 = _before
