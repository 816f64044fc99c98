"""Skill and p of each model from a report's forecasts alone: python recompute.py evaluation-forecasts.csv LOOKS."""

import csv
import math
import operator
import sys
from typing import Any


def recompute(rows: list[dict[Any, Any]], looks: int) -> dict[str, tuple[float, float]]:
    """Skill against "next close = this close" and p (Diebold-Mariano, Holm, looks) of each model."""
    names = [name for name in rows[0] if name not in {"open_time", "close"}]
    errors = {name: [abs(math.log(float(row[name]) / float(row["close"]))) for row in rows] for name in names}
    no_change, n, p = errors.pop("base"), len(rows), {}
    lags = int(4 * (n / 100) ** (2 / 9))
    for name, ours in errors.items():
        mean = (sum(ours) - sum(no_change)) / n
        gap = [a - b - mean for a, b in zip(ours, no_change, strict=True)]
        products = [sum(map(operator.mul, gap, gap[lag:])) / n for lag in range(lags + 1)]
        variance = sum((2 - (lag == 0)) * (1 - lag / (lags + 1)) * product for lag, product in enumerate(products))
        t = mean * math.sqrt((n - 1) / variance) if variance > 0 else 0.0
        z = math.copysign(math.sqrt((n - 1.5) * math.log1p(t * t / (n - 1))), t)  # Student's t as a normal z, Hill 1970
        p[name] = math.erfc(-z * (1 + (z * z + 3) / (48 * (n - 1.5) ** 2)) / math.sqrt(2)) / 2
    most, table = 0.0, {}
    for place, name in enumerate(sorted(p, key=lambda name: p[name])):
        most = max(most, p[name] * (len(p) - place))
        table[name] = (1 - sum(errors[name]) / sum(no_change), min(most * looks, 1.0))
    return table


if __name__ == "__main__":
    with open(sys.argv[1], newline="") as file:  # noqa: PTH123 - short enough to be read on the page
        for model, (skill, chance) in recompute([*csv.DictReader(file)], int(sys.argv[2])).items():
            print(f"{model}: skill {100 * skill:.4f} %, p {chance:.4g}")  # noqa: T201 - its answer
