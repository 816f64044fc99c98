"""Statistical baselines: no change, the mean change, and statsmodels on the path of scaled returns.

Autoregression and ARMA choose their order by AIC inside the fold.
"""

from __future__ import annotations

import json
import warnings
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from btcml.forecast.models.interface import Model, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class Persistence(Model):
    """Next close = this close: the scaled move is 0."""

    def fit(self, sample: Sample) -> Self:  # noqa: ARG002 - nothing to learn
        """Learn nothing."""
        return self

    def predict(self, sample: Sample) -> Array:
        """Return zeros."""
        return np.zeros(len(sample.rows))

    def dump(self) -> dict[str, bytes]:
        """Nothing to save."""
        return {}

    def load(self, files: dict[str, bytes]) -> Self:  # noqa: ARG002 - nothing to load
        """Nothing to load."""
        return self


class Drift(Model):
    """The mean scaled move of the training rows."""

    def __init__(self) -> None:
        self.mean = 0.0

    def fit(self, sample: Sample) -> Self:
        """Take the mean outcome."""
        self.mean = float(np.mean(sample.y))
        return self

    def predict(self, sample: Sample) -> Array:
        """Return the mean for every row."""
        return np.full(len(sample.rows), self.mean)

    def dump(self) -> dict[str, bytes]:
        """One number as JSON."""
        return {"drift.json": json.dumps({"mean": self.mean}).encode()}

    def load(self, files: dict[str, bytes]) -> Self:
        """Read the number."""
        self.mean = float(json.loads(files["drift.json"])["mean"])
        return self


LAGS = 48
"""Longest memory: an ARMA's infinite autoregression is cut here."""

CLIP = 3.0
"""Scaled returns are clipped to ±CLIP: crashes would dominate least squares."""


class _LagModel(Model):
    """A constant plus weights on the newest scaled returns, fitted by statsmodels."""

    def __init__(self) -> None:
        self.constant = 0.0
        self.weights = np.zeros(1)
        self.summary: dict[str, Any] = {}

    @abstractmethod
    def _estimate(self, path: Array) -> None:
        """Set constant, weights and summary from a path of clipped scaled returns."""

    def fit(self, sample: Sample) -> Self:
        """Fit on the path from the first training row to the last training outcome."""
        self._estimate(_training_path(sample))
        return self

    def predict(self, sample: Sample) -> Array:
        """Sum of the forecasts of the candles up to the horizon, over the root of their number."""
        path = np.clip(sample.path, -CLIP, CLIP)
        constant, *weights = self._ahead(sample.horizon)
        return constant + np.convolve(path, weights)[: len(path)][sample.rows]

    def _ahead(self, horizon: int) -> Array:
        """Constant and weights of the forecast over a horizon: one step is repeated on its own forecasts."""
        order = len(self.weights)
        newest, total = np.eye(order + 1)[1:], np.zeros(order + 1)
        for _ in range(horizon):
            following = self.weights @ newest
            following[0] += self.constant
            newest = np.vstack([following, newest[:-1]])
            total += following
        return np.asarray(total / np.sqrt(horizon))

    def dump(self) -> dict[str, bytes]:
        """Numbers as JSON."""
        numbers = {"constant": self.constant, "weights": self.weights.tolist(), "summary": self.summary}
        return {"lags.json": json.dumps(numbers, sort_keys=True).encode()}

    def load(self, files: dict[str, bytes]) -> Self:
        """Read the numbers."""
        numbers = json.loads(files["lags.json"])
        self.constant, self.summary = float(numbers["constant"]), dict(numbers["summary"])
        self.weights = np.array(numbers["weights"], dtype="float64")
        return self


def _training_path(sample: Sample) -> Array:
    """Clipped scaled returns from the first training row to the last training outcome."""
    return np.clip(sample.path[sample.rows[0] : sample.rows[-1] + 2], -CLIP, CLIP)


class AutoRegression(_LagModel):
    """AutoReg by least squares on the last `window` scaled returns, order 1 to `most` by AIC.

    Attributes
    ----------
    aic
        Akaike's criterion by order, from the one selection of `fit`; empty in a loaded model.
    coefficients
        ``lag, coefficient, error, p`` of the fit, lag 0 being the constant; empty in a loaded model.
    """

    def __init__(self, window: int = 300_000, most: int = 12) -> None:
        super().__init__()
        self.window, self.most = window, most
        self.aic, self.coefficients = pd.Series(dtype=float), pd.DataFrame()

    def _estimate(self, path: Array) -> None:
        from statsmodels.tsa.ar_model import AutoReg, ar_select_order  # noqa: PLC0415 - serving needs no statsmodels

        path = path[-self.window :]
        if not np.ptp(path):  # no return varies, so that nothing can be estimated
            self.constant, self.summary = float(path[0]), {"order": 0, "observations": len(path)}
            return
        selection = ar_select_order(path, self.most, ic="aic")
        order = int(max(selection.ar_lags or [1]))
        fitted = AutoReg(path, lags=order).fit()
        self.constant, self.weights = float(fitted.params[0]), np.asarray(fitted.params[1:])
        self.summary = {"order": order, "aic": float(fitted.aic), "observations": int(fitted.nobs)}
        self.aic = pd.Series({max(lags): aic for lags, aic in selection.aic.items() if lags}, name="aic").sort_index()
        found = {"coefficient": fitted.params, "error": fitted.bse, "p": fitted.pvalues}
        self.coefficients = pd.DataFrame({"lag": range(order + 1), **found})

    @property
    def roots(self) -> NDArray[np.complexfloating[Any, Any]]:
        """Roots of the lag polynomial: shocks die out where all lie outside the unit circle."""
        return np.roots([*-self.weights[::-1], 1.0]).astype(complex)

    def regressors(self, sample: Sample) -> Array:
        """Ones and the lagged returns behind each training outcome, shape (n, 1 + order)."""
        past = sliding_window_view(_training_path(sample)[-self.window : -1], len(self.weights))[:, ::-1]
        return np.column_stack([np.ones(len(past)), past])

    def residuals(self, sample: Sample) -> Array:
        """Residuals of the training outcomes, shape (n,)."""
        path = _training_path(sample)[-self.window :]
        return path[len(self.weights) :] - self.regressors(sample) @ [self.constant, *self.weights]


class Arma(_LagModel):
    """ARMA by innovations maximum likelihood on the last `window` scaled returns, order by AIC."""

    def __init__(self, window: int = 25_920, orders: tuple[tuple[int, int], ...] = ((1, 0), (0, 1), (1, 1))) -> None:
        super().__init__()
        self.window, self.orders = window, orders

    def _estimate(self, path: Array) -> None:
        from statsmodels.tsa.arima.model import ARIMA  # noqa: PLC0415 - serving needs no statsmodels

        if not np.ptp(path[-self.window :]):
            self.constant, self.summary = float(path[-1]), {"order": [0, 0]}
            return
        fits: list[Any] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for p, q in self.orders:
                fits.append(ARIMA(path[-self.window :], order=(p, 0, q)).fit(method="innovations_mle"))
        best = min(fits, key=lambda fit: fit.aic)
        self.weights = -_infinite_ar(best.polynomial_ar, best.polynomial_ma)[1:]
        self.constant = float(best.params[0]) * (1 - float(self.weights.sum()))
        order = [len(best.polynomial_ar) - 1, len(best.polynomial_ma) - 1]
        self.summary = {"order": order, "aic": float(best.aic), "warnings": [str(w.message) for w in caught]}


def _infinite_ar(ar: Array, ma: Array) -> Array:
    """Coefficients of ar(L) / ma(L) up to `LAGS`."""
    out = np.zeros(LAGS + 1)
    padded = np.pad(ar, (0, LAGS + 1 - len(ar)))
    for k in range(LAGS + 1):
        reach = min(k, len(ma) - 1)
        out[k] = padded[k] - ma[1 : reach + 1] @ out[k - reach : k][::-1]
    return out


MODELS: dict[str, Callable[[], Model]] = {
    "persistence": Persistence,
    "drift": Drift,
    "autoreg": AutoRegression,
    "arma": Arma,
}
