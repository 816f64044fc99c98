"""Metrics of forecasts: one signature, ``metric(forecasts of one model) -> float``, and a registry.

A new metric is one decorated function in the module of its family; tables and tests find it.
"""

from btcml.forecast.metrics import direction, interval, point
from btcml.forecast.metrics.direction import Calibration, calibration, reliability
from btcml.forecast.metrics.table import (
    FORECAST_COLUMNS,
    GROUPS,
    LOSSES,
    METRICS,
    PERSISTENCE,
    THIRDS,
    Metric,
    evaluate,
    forecast_frame,
    horizon_of,
    loss_of,
    loss_table,
    losses,
    metric_names,
    moves,
    volatility_third,
)

__all__ = [
    "FORECAST_COLUMNS",
    "GROUPS",
    "LOSSES",
    "METRICS",
    "PERSISTENCE",
    "THIRDS",
    "Calibration",
    "Metric",
    "calibration",
    "direction",
    "evaluate",
    "forecast_frame",
    "horizon_of",
    "interval",
    "loss_of",
    "loss_table",
    "losses",
    "metric_names",
    "moves",
    "point",
    "reliability",
    "volatility_third",
]
