"""The discrete cosine transform as a matrix, for the flow and for the statistics of its input."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def dct_matrix(n: int) -> npt.NDArray[np.float64]:
    """Orthonormal DCT-II matrix (n, n): row k holds sqrt(2/n) cos(pi (i + 1/2) k / n)."""
    i = np.arange(n)
    matrix: npt.NDArray[np.float64] = np.cos(np.pi / n * (i[None] + 0.5) * i[:, None])
    matrix *= np.sqrt(2 / n)
    matrix[0] /= np.sqrt(2)
    return matrix
