"""Prediction intervals with the nominal coverage at low and at high volatility.

A conformal score is the outcome divided by a scale forecast; the interval is a quantile of the
scores times the scale forecast of the candle. The quantile is not looked up but tracked: after
each outcome it moves up by ``gamma * level`` when the outcome fell outside and down by
``gamma * (1 - level)`` when it fell inside. It is a sum of two parts, which share each step: one for the thirds of the
scale forecast, one for the thirds of the volatility that is known before. That is
adaptive conformal inference (Gibbs & Candès 2021) acting on the quantile itself (quantile
tracking: Angelopoulos, Candès & Tibshirani, "Conformal PID control for time series", 2023): the
error rate of each third differs from ``1 - level`` by at most 2 (range of its part) / (gamma n),
whatever the data do. A short memory of recent errors widens the interval while the scale forecast is too low; it
costs 0.2 % of the Winkler score and lifts the worst day by 3 points. The defaults of `gamma`, `memory` and `gain`, and
the equal shares of the two parts, were chosen on real candles of 2021 and 2022 (docs/decisions/14-horizons.md). With
longer candles the memory keeps its eight hours and each error its weight (`AdaptiveInterval.of_candles`): 96 hourly
candles made the Winkler score of BTC and ETH in those years worse by 0.3 % and the coverage of the thirds more uneven.

Libraries were tried first: crepes 0.9 has no adaptive update, and MAPIE 1.6 updates one level for
all rows at 0.8 ms a row (four minutes for 300,000 candles; here half a second).

The state is a dozen numbers, so a served model stores it as JSON and continues from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


_MEMORY, _MEMORY_SPAN, _ERRORS_PER_GAIN = 96, pd.Timedelta(hours=8), 24
_SIDES = ("both", "lower", "upper")
_UNIT_LEVEL = 0.9
_MIN = 10
_EDGE_STEP = 0.0005  # log scale per candle: the thirds follow a doubling of volatility in about a week


@dataclass
class AdaptiveInterval:
    """Adaptive conformal interval of a log return around the last close.

    Parameters
    ----------
    level
        Wanted coverage, between 0 and 1.
    gamma
        Step of the tracked quantile, in units of the 90 % score of the warm-up; each part takes half of it.
    bins
        Number of equally filled classes of the scale forecast and of the known volatility.
    warmup
        Number of known outcomes before the first interval; their quantile is the start.
    side
        ``both`` (symmetric), ``lower`` (``hi`` is inf) or ``upper`` (``lo`` is -inf).
    memory
        Length in candles of the short memory of errors.
    gain
        Units of score that a memory full of errors would add.

    Raises
    ------
    UsageError
        If a parameter is outside its range.

    Notes
    -----
    Rows before the warm-up is over, and rows whose scale is NaN, have NaN bounds. A row whose outcome is NaN
    has bounds and does not change the state. Scale and volatility of a row must be known before its
    outcome; then row t uses only outcomes before t.

    Examples
    --------
    >>> import numpy as np
    >>> returns = np.random.default_rng(7).normal(0, 0.001, 5000)
    >>> interval = AdaptiveInterval(level=0.8, warmup=100)
    >>> bounds = interval.run(returns, np.full(5000, 0.001))
    >>> inside = bounds["lo"].le(returns) & bounds["hi"].ge(returns)
    >>> float(inside[100:].mean().round(2))
    0.8
    """

    level: float = 0.9
    gamma: float = 0.01
    bins: int = 3
    warmup: int = 500
    side: str = "both"
    memory: int = _MEMORY
    gain: float = _MEMORY / _ERRORS_PER_GAIN
    _seen: list[tuple[float, float, float]] = field(default_factory=list, init=False, repr=False)
    _unit: float = field(default=math.nan, init=False, repr=False)
    _recent: float = field(default=0.0, init=False, repr=False)
    _quantiles: list[float] = field(default_factory=list, init=False, repr=False)
    _edges: list[float] = field(default_factory=list, init=False, repr=False)
    _offsets: list[float] = field(default_factory=list, init=False, repr=False)
    _volatility_edges: list[float] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        rules = {
            "level must lie between 0 and 1": 0 < self.level < 1,
            "gamma must be positive and below 1": 0 < self.gamma < 1,
            "bins must be at least 1": self.bins >= 1,
            f"warmup must be at least {_MIN} outcomes": self.warmup >= _MIN,
            f"side must be one of {', '.join(_SIDES)}": self.side in _SIDES,
            "memory must be at least 1 candle": self.memory >= 1,
            "gain must not be negative": self.gain >= 0,
        }
        for sentence, holds in rules.items():
            if not holds:
                msg = f"{sentence}, found {getattr(self, sentence.split()[0])!r}"
                raise UsageError(msg)

    @classmethod
    def of_candles(cls, length: pd.Timedelta, level: float = 0.9) -> AdaptiveInterval:
        """Interval for candles of a length: its memory is eight hours, at most 96 candles; all errors weigh the same.

        Examples
        --------
        >>> hourly = AdaptiveInterval.of_candles(pd.Timedelta(hours=1))
        >>> hourly.memory, round(hourly.gain, 2)
        (8, 0.33)
        """
        memory = max(1, min(_MEMORY, _MEMORY_SPAN // length))
        return cls(level=level, memory=memory, gain=memory / _ERRORS_PER_GAIN)

    @property
    def ready(self) -> bool:
        """Whether the warm-up is over, so that `bounds` returns an interval."""
        return bool(self._quantiles)

    def run(self, y: ArrayLike, scale: ArrayLike, volatility: ArrayLike | None = None) -> pd.DataFrame:
        """Bounds of each candle, each learned from the outcomes before it only.

        Parameters
        ----------
        y
            Log returns of the target candles, array of shape (n,); NaN where unknown.
        scale
            Scale forecasts made before the outcomes, shape (n,), positive; NaN where unknown.
        volatility
            Volatility known before the outcomes, shape (n,), positive where the scale is; the scale if it is left out.

        Returns
        -------
        DataFrame
            Columns ``lo`` and ``hi`` (log returns), n rows. The object has learned all n
            outcomes afterwards: a second call continues where the first one ended.

        Raises
        ------
        UsageError
            If the lengths differ, or a scale or volatility is not positive.
        """
        outcomes, scales = np.asarray(y, dtype=float), np.asarray(scale, dtype=float)
        known = scales if volatility is None else np.asarray(volatility, dtype=float)
        if outcomes.ndim != 1 or not outcomes.shape == scales.shape == known.shape:
            shapes = f"{outcomes.shape}, {scales.shape} and {known.shape}"
            msg = f"y, scale and volatility must be of one length, found shapes {shapes}"
            raise UsageError(msg)
        for name, values in {"scale": scales, "volatility": known}.items():
            if (values <= 0).any():
                msg = f"{name} must be positive or NaN, found {values[values <= 0][0]}"
                raise UsageError(msg)
        rows = zip(
            self._scores(outcomes, scales).tolist(), np.log(scales).tolist(), np.log(known).tolist(), strict=True
        )
        half = np.array([self._step(*row) for row in rows], dtype=float)
        lo, hi = self._sides(half * scales)
        return pd.DataFrame({"lo": lo, "hi": hi})

    def bounds(self, scale: float, volatility: float | None = None) -> tuple[float, float]:
        """Bounds of the next candle, given its scale forecast and the known volatility (if left out, the scale).

        Returns
        -------
        tuple of float
            ``(lo, hi)`` as log returns; both NaN before the warm-up is over or without a scale.
        """
        volatility = scale if volatility is None else volatility
        known = self.ready and scale > 0 and volatility > 0
        half = self._quantile(*self._classes(math.log(scale), math.log(volatility))) * scale if known else math.nan
        lo, hi = self._sides(np.array([half]))
        return float(lo[0]), float(hi[0])

    def state(self) -> dict[str, Any]:
        """Everything that `from_state` needs, as JSON numbers, strings and lists."""
        return {
            "level": self.level,
            "gamma": self.gamma,
            "bins": self.bins,
            "warmup": self.warmup,
            "side": self.side,
            "memory": self.memory,
            "gain": self.gain,
            "unit": self._unit if self.ready else None,
            "recent": self._recent,
            "quantiles": list(self._quantiles),
            "edges": list(self._edges),
            "offsets": list(self._offsets),
            "volatility_edges": list(self._volatility_edges),
            "seen": [list(row) for row in self._seen],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> AdaptiveInterval:
        """Interval restored from `state`, bit for bit; one saved before there were offsets has none.

        Raises
        ------
        UsageError
            If a key is missing or a parameter is outside its range.
        """
        names = ("level", "gamma", "bins", "warmup", "side", "memory", "gain")
        missing = sorted({*names, "unit", "recent", "quantiles", "edges", "seen"} - set(state))
        if missing:
            msg = f"the state of an interval lacks {', '.join(missing)}: train the model again"
            raise UsageError(msg)
        result = cls(**{name: state[name] for name in names})
        result._unit = math.nan if state["unit"] is None else float(state["unit"])
        result._recent = float(state["recent"])
        result._quantiles = [float(value) for value in state["quantiles"]]
        result._edges = [float(value) for value in state["edges"]]
        result._offsets = [float(value) for value in state.get("offsets", [0.0] * result.ready)]
        result._volatility_edges = [float(value) for value in state.get("volatility_edges", [])]
        # A row of an older state has no volatility: its scale stands for it.
        result._seen = [(float(row[0]), float(row[-2]), float(row[-1])) for row in state["seen"]]
        return result

    def _scores(self, y: Floats, scale: Floats) -> Floats:
        signed = y / scale
        if self.side == "both":
            return np.abs(signed)
        return signed if self.side == "upper" else -signed

    def _sides(self, half: Floats) -> tuple[Floats, Floats]:
        open_end = np.where(np.isnan(half), np.nan, np.inf)
        lo = -open_end if self.side == "upper" else -half
        hi = open_end if self.side == "lower" else half
        return lo, hi

    def _step(self, score: float, log_scale: float, log_volatility: float) -> float:
        if math.isnan(log_scale) or math.isnan(log_volatility):
            return math.nan
        if not self.ready:
            self._warm(score, log_scale, log_volatility)
            return math.nan
        classes = self._classes(log_scale, log_volatility)
        quantile = self._quantile(*classes)
        if not math.isnan(score):
            self._learn(classes, (score > quantile) - (1 - self.level))
            _follow(self._edges, log_scale)
            _follow(self._volatility_edges, log_volatility)
        return quantile

    def _classes(self, log_scale: float, log_volatility: float) -> tuple[int, int]:
        """Class of the scale and of the known volatility."""
        return (
            sum([log_scale > edge for edge in self._edges]),
            sum([log_volatility > edge for edge in self._volatility_edges]),
        )

    def _quantile(self, scale_class: int, volatility_class: int) -> float:
        parts = self._quantiles[scale_class] + self._offsets[volatility_class]
        quantile = parts + self.gain * self._unit * self._recent
        return max(quantile, 0.0) if self.side == "both" else quantile

    def _learn(self, classes: tuple[int, int], error: float) -> None:
        step = 0.5 * self.gamma * self._unit * error
        self._quantiles[classes[0]] += step
        self._offsets[classes[1]] += step
        self._recent += (error - self._recent) / self.memory

    def _warm(self, score: float, log_scale: float, log_volatility: float) -> None:
        if math.isnan(score):
            return
        self._seen.append((log_scale, log_volatility, score))
        if len(self._seen) < self.warmup:
            return
        log_scales, log_volatilities, scores = np.array(self._seen).T
        ranks = np.arange(1, self.bins) / self.bins
        self._edges, self._volatility_edges = (
            [float(edge) for edge in np.quantile(values, ranks)] for values in (log_scales, log_volatilities)
        )
        # The conformal rank: one outcome more than were seen must be covered.
        rank = min(1.0, self.level * (self.warmup + 1) / self.warmup)
        self._quantiles = [float(np.quantile(scores, rank, method="higher"))] * self.bins
        self._offsets = [0.0] * self.bins
        # A market that hardly moved has a zero quantile; a zero step would never learn.
        self._unit = float(np.quantile(np.abs(scores), _UNIT_LEVEL)) or float(np.abs(scores).mean()) or 1.0
        self._seen = []


def _follow(edges: list[float], value: float) -> None:
    """Move each edge a little, so that equally many values stay in each class."""
    for index, edge in enumerate(edges):
        above = 1 - (index + 1) / (len(edges) + 1)
        edges[index] = edge + _EDGE_STEP * ((value > edge) - above)
