"""One Gaussian a group of rows, each shrunk towards what the groups share.

The density of a gate's statistics given the predicted class: a flipped shoe may be a typical image,
but it is no typical *sneaker*. With n_g rows of a group the covariance is

    Sigma_g = (n_g S_g + KAPPA P) / (n_g + KAPPA) + RIDGE I

where S_g is the group's own and P that of all groups together, each row about the mean of its
group; the last group being that of all rows, half of P is within classes and half about the common
mean. P is itself shrunk by Ledoit and Wolf (2004): with few rows a group has the common shape, and
with very few of all nearly a sphere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.arrays import FloatArray, IntArray

#: Rows that the pooled covariance counts for beside a group's own.
KAPPA = 50.0
#: Rows that the mean over all counts for beside a group's own.
MEAN_ROWS = 5.0
#: Rows at once, so that memory does not grow with their number.
ROWS = 256
#: Added to every variance, of statistics that have about unit variance.
RIDGE = 1e-2


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassGaussians:
    """``means`` (G, S); ``whitening`` (G, S, S): (x - mean) W has unit covariance; ``log_det``
    (G,): half the log-determinant of the covariance."""

    means: FloatArray
    whitening: FloatArray
    log_det: FloatArray

    @classmethod
    def fit(cls, parts: list[FloatArray], everything: FloatArray) -> ClassGaussians:
        """A Gaussian for each group's rows (n_g, S); ``everything`` (n, S): all rows there are."""
        centre = everything.mean(axis=0)
        means = [(p.sum(axis=0) + MEAN_ROWS * centre) / (len(p) + MEAN_ROWS) for p in parts]
        residuals = [part - mean for part, mean in zip(parts, means, strict=True)]
        pooled = _shrunk_covariance(np.concatenate(residuals))
        whitening, log_det = [], []
        for own in residuals:
            mixed = (own.T @ own + KAPPA * pooled) / (len(own) + KAPPA)
            root = np.linalg.cholesky(mixed + RIDGE * np.eye(len(mixed)))
            whitening.append(np.linalg.inv(root).T)
            log_det.append(float(np.log(np.diag(root)).sum()))
        return cls(means=np.array(means), whitening=np.array(whitening), log_det=np.array(log_det))

    def surprise(self, x: FloatArray, group: IntArray) -> FloatArray:
        """-log density of rows (N, S) under their group's Gaussian, nats, but for a constant."""
        if len(x) <= ROWS:
            return self._surprise(x, group)
        parts = [slice(start, start + ROWS) for start in range(0, len(x), ROWS)]
        return np.concatenate([self._surprise(x[part], group[part]) for part in parts])

    def parts(self, x: FloatArray, group: IntArray) -> FloatArray:
        """What each statistic adds to half the squared Mahalanobis distance of rows: (N, S).

        d_i (Sigma^-1 d)_i / 2, exact in sum; below 0 where a statistic is what the others expect.
        """
        deviation = x - self.means[group]
        whitening = self.whitening[group]
        white = deviation[:, None] @ whitening
        found: FloatArray = 0.5 * deviation * (white @ whitening.transpose(0, 2, 1))[:, 0]
        return found

    def _surprise(self, x: FloatArray, group: IntArray) -> FloatArray:
        # a product a row, since one over all rows would sum in another order for another batch
        white = (x - self.means[group])[:, None] @ self.whitening[group]
        found: FloatArray = 0.5 * (white * white).sum(axis=(1, 2)) + self.log_det[group]
        return found


def _shrunk_covariance(residuals: FloatArray) -> FloatArray:
    """Ledoit and Wolf's mixture of the second moments and a sphere of the same mean variance.

    The share of the sphere is b^2 / d^2: how far the moments are from their mean over rows, by how
    far they are from the sphere.
    """
    n, size = residuals.shape
    moments = residuals.T @ residuals / n
    sphere = np.trace(moments) / size * np.eye(size)
    distance = ((moments - sphere) ** 2).sum()
    fourth = ((residuals**2).sum(axis=1) ** 2).sum()
    spread = (fourth / n - (moments**2).sum()) / n
    share = min(1.0, max(0.0, spread / distance)) if distance > 0 else 1.0
    shrunk: FloatArray = (1 - share) * moments + share * sphere
    return shrunk
