"""Results as people read them: figures rounded to what they mean, what belongs together on one line."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

__all__ = ["render"]

_DIGITS = 7


def render(result: Any) -> str:
    """Lines of a result: one a name; deeper values below it, indented.

    Seven significant digits are a price to the cent and more than any error is known to; ``--json``
    has them all.

    Examples
    --------
    >>> print(render({"close": 39029.67619808888, "model": "ridge", "seen": None, "span": ["a", "b"]}))
    close: 39029.68
    model: ridge
    seen: -
    span: a, b
    >>> print(render({"models": {"ridge": {"ratio": 0.99531234567, "skill": 0.0}}, "rows": [{"n": 1}, {"n": 2}]}))
    models:
      ridge: ratio 0.9953123, skill 0
    rows:
      n 1
      n 2
    """
    return "\n".join(_lines(asdict(result) if is_dataclass(result) and not isinstance(result, type) else result))


def _lines(values: dict[str, Any]) -> list[str]:
    found = []
    for name, value in values.items():
        if isinstance(value, (dict, list, tuple)) and any(_is_deep(item) for item in _items(value)):
            below = _lines(value) if isinstance(value, dict) else [_flat(item) for item in value]
            found += [f"{name}:", *(f"  {line}" for line in below)]
        else:
            found.append(f"{name}: {_flat(value)}")
    return found


def _items(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


def _is_deep(value: object) -> bool:
    return isinstance(value, (dict, list, tuple)) or is_dataclass(value)


def _flat(value: Any) -> str:
    """One value, or a few, on one line."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(item)}" for name, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(_flat(item) for item in value) or "-"
    if value is None:
        return "-"
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value)
