"""What is normal: the mean of a series in each phase of a season, and how far windows lie around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from peftlab.opinion.series import Values

LEAST_K, USUAL_K, MOST_K = 0.25, 0.5, 2.0
"""Half of the shift that is to be found fast, in standard errors: bounds, and that of series that are no shares."""


@dataclass(frozen=True)
class Normal:
    """The mean and the variance of series in a baseline; arrays may have an axis of simulated streams.

    Attributes:
        mean: shape (phases, ..., series).
        weight: the texts behind each mean, of the same shape.
        variance: for a single text, with what windows vary beyond chance, shape (..., series).
        k: half of the shift that is to be found fast, in standard errors of a usual window, shape (..., series).
    """

    mean: np.ndarray
    weight: np.ndarray
    variance: np.ndarray
    k: np.ndarray

    @classmethod
    def of(cls, values: Values, phases: np.ndarray, season: int, least: np.ndarray, shift: np.ndarray) -> Normal:
        """Return what is normal in a baseline.

        Windows vary by chance, by the variance of texts over their number, and beyond: texts of a window have the same
        occasions. Pearson's statistic over its degrees of freedom, at least 1, multiplies the variance.

        Args:
            values: of the windows of the baseline; x is NaN where a window says nothing.
            phases: of these windows, shape (windows,).
            season: the number of phases.
            least: a floor of the variance for a single text, shape (series,): what never occurred may yet occur.
            shift: that is to be found fast, shape (series,); NaN: of no share.
        """
        usable = ~np.isnan(values.x)
        n, x = np.where(usable, values.n, 0.0), np.where(usable, values.x, 0.0)
        weight = np.stack([n[phases == phase].sum(0) for phase in range(season)])
        sums = np.stack([(n * x)[phases == phase].sum(0) for phase in range(season)])
        mean = np.divide(sums, weight, out=np.full(sums.shape, np.nan), where=weight > 0)
        total = np.maximum(weight.sum(0), 1.0)
        variance = np.maximum((n * np.where(usable, values.u, 0.0)).sum(0) / total, least)
        squares = (n * (x - np.nan_to_num(mean)[phases]) ** 2).sum(0) / np.maximum(variance, 1e-12)
        freedom = np.maximum(usable.sum(0) - (weight > 0).sum(0), 1)
        variance = variance * np.maximum(1.0, squares / freedom)
        usual = np.maximum(total / np.maximum(usable.sum(0), 1), 1.0)
        k = np.clip(shift / np.sqrt(np.maximum(variance, 1e-12) / usual) / 2, LEAST_K, MOST_K)
        return cls(mean, weight, variance, np.where(np.isnan(k), USUAL_K, k))

    def standardised(self, values: Values, phase: int) -> np.ndarray:
        """Return the values of a window as distances from normal, in standard errors of the difference.

        Args:
            values: of one window, shape (..., series).
            phase: its phase.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.sqrt(self.variance * (1 / values.n + 1 / self.weight[phase]))
            z: np.ndarray = (values.x - self.mean[phase]) / error
        return np.where(np.isfinite(z), z, np.nan)
