"""Metrics of forecasts: one signature, ``metric(forecasts of one model) -> float``, and a register.

A new metric is one decorated function in the module of its family; tables and tests find it.
"""

from btcml.forecast.metrics import direction, interval, point, probability, span
from btcml.forecast.metrics.evaluate import evaluate
from btcml.forecast.metrics.frame import FORECAST_COLUMNS, PERSISTENCE, forecast_frame
from btcml.forecast.metrics.groups import GROUPS, THIRDS, volatility_third
from btcml.forecast.metrics.losses import LOSSES, loss_of, loss_table, losses, moves
from btcml.forecast.metrics.probability import reliability
from btcml.forecast.metrics.registry import METRICS, Metric, metric_names

__all__ = [
    "FORECAST_COLUMNS",
    "GROUPS",
    "LOSSES",
    "METRICS",
    "PERSISTENCE",
    "THIRDS",
    "Metric",
    "direction",
    "evaluate",
    "forecast_frame",
    "interval",
    "loss_of",
    "loss_table",
    "losses",
    "metric_names",
    "moves",
    "point",
    "probability",
    "reliability",
    "span",
    "volatility_third",
]
