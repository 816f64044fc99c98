"""Words, numbers and times of the dashboard as its viewer writes them; HTML of its tables and drawings."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from btcml.rounding import MONTHS, number_text

if TYPE_CHECKING:
    from collections.abc import Sequence

LANGUAGES = {"en": "English", "pt-BR": "Português (BR)"}
"""Languages of the page, each by its own name."""

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
NONE = "\u2013"
"""A dash, where there is no value."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@cache
def _words(language: str) -> dict[str, str]:
    file = Path(__file__).parent / "dashboard_files" / "words.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))[language])


def chosen_language(wanted: str) -> str:
    """The viewer's language among ours.

    Examples
    --------
    >>> chosen_language("pt"), chosen_language("de-DE")
    ('pt-BR', 'en')
    """
    return "pt-BR" if wanted.lower().startswith("pt") else "en"


def seconds_of(interval: str) -> int:
    """Seconds of an interval such as ``5m``.

    Examples
    --------
    >>> seconds_of("4h")
    14400
    """
    return int(interval[:-1]) * _UNITS[interval[-1]]


def second(text: str) -> int:
    """Seconds of the epoch of an ISO time.

    Examples
    --------
    >>> second("1970-01-02T00:00:00Z")
    86400
    """
    return round(datetime.fromisoformat(text).timestamp())


class Text:
    """Words and formats of a language and a time zone.

    Parameters
    ----------
    language
        One of `LANGUAGES`.
    zone
        IANA name; UTC where it is not known.

    Examples
    --------
    >>> text = Text("en", "UTC")
    >>> text.number(1234.5), text.number(0.26, 1, sign=True), text.percent(0.0523)
    ('1,234.50', '+0.3', '5.2%')
    """

    def __init__(self, language: str, zone: str) -> None:
        self.language = language if language in LANGUAGES else "en"
        try:
            self._zone, self.zone = ZoneInfo(zone), zone
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self._zone, self.zone = ZoneInfo("UTC"), "UTC"

    def __call__(self, key: str, **values: Any) -> str:
        """Words by their key; ``{name}`` is replaced."""
        found = _words(self.language).get(key, key)
        return found.format(**values) if values else found

    def number(self, value: float | None, digits: int = 2, *, sign: bool = False) -> str:
        """A number; a dash where there is none."""
        if value is None or not math.isfinite(value):
            return NONE
        return number_text(value, digits, self.language, sign=sign)

    def percent(self, share: float | None, digits: int = 1, *, sign: bool = False) -> str:
        """A share in percent."""
        shown = self.number(None if share is None else 100 * share, digits, sign=sign)
        return shown if shown == NONE else f"{shown}%"

    def hour(self, at: float) -> str:
        """Time of day."""
        return f"{datetime.fromtimestamp(at, self._zone):%H:%M}"

    def moment(self, at: float) -> str:
        """Day and time of day."""
        local = datetime.fromtimestamp(at, self._zone)
        return f"{local.day} {MONTHS[self.language][local.month - 1]} {local:%H:%M}"

    def utc(self, at: float) -> str:
        """The same with the year, in UTC."""
        time = datetime.fromtimestamp(at, UTC)
        return f"{time.day} {MONTHS[self.language][time.month - 1]} {time:%Y %H:%M} UTC"

    def age(self, value: float) -> str:
        """A duration in its largest unit.

        Examples
        --------
        >>> Text("en", "UTC").age(3700)
        '62 min'
        """
        s = max(round(value), 0)
        for limit, unit, name in ((90, 1, "s"), (90 * _MINUTE, _MINUTE, "min"), (48 * _HOUR, _HOUR, "h")):
            if s < limit:
                return f"{round(s / unit)} {name}"
        return f"{round(s / _DAY)} d"

    def span(self, days: float) -> str:
        """A span of hours or days."""
        count = round(24 * days) if days < 1 else round(days)
        key = ("hours" if count != 1 else "hour") if days < 1 else ("days" if count != 1 else "one_day")
        return self(key, n=self.number(count, 0))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """HTML of a table; the first cell of a row is its name."""
    first = "".join(f'<th scope="col"{_right(i)}>{escape(name)}</th>' for i, name in enumerate(head))
    names = [escape(name) for name in head[1:]]
    cells = [
        "".join(
            f'<td class="num" data-label="{name}">{escape(cell)}</td>'
            for name, cell in zip(names, row[1:], strict=True)
        )
        for row in rows
    ]
    body = "".join(f'<tr><th scope="row">{escape(row[0])}</th>{own}</tr>' for row, own in zip(rows, cells, strict=True))
    label = f' aria-label="{escape(caption)}"' if caption else ""
    made = f"<table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="group"{label}>{made}</div>'


def _right(place: int) -> str:
    return ' class="num"' if place else ""


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 300, 64, 30, 10, 40
_STEPS = (0.02, 0.05, 0.1, 0.2, 0.25)
_TICKS = 6


class _Plane:
    """Where shares between two bounds stand in the drawing."""

    def __init__(self, bins: Sequence[dict[str, float]]) -> None:
        bounds = [bin_[name] for bin_ in bins for name in ("probability", "low", "high")]
        self.low, self.high = max(0.0, min(0.45, *bounds) - 0.01), min(1.0, max(0.55, *bounds) + 0.01)

    def x(self, value: float) -> float:
        """From the left."""
        return round(_LEFT + (value - self.low) / (self.high - self.low) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        """From the top."""
        return round(_HEIGHT - _BOTTOM - (value - self.low) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    def ticks(self) -> list[float]:
        """Round shares, at most seven."""
        step = next((size for size in _STEPS if (self.high - self.low) / size <= _TICKS), _STEPS[-1])
        return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def reliability_svg(bins: Sequence[dict[str, float]], text: Text) -> str:
    """Forecast probability against observed share, each bin with its interval; the diagonal is calibrated."""
    plane = _Plane(bins)
    x, y, low, high = plane.x, plane.y, plane.low, plane.high
    parts = [
        f'<path class="net" d="M{x(at)} {y(low)}V{y(high)}M{x(low)} {y(at)}H{x(high)}"/>'
        f'<text x="{x(at)}" y="{y(low) + 15}" text-anchor="middle">{text.percent(at, 0)}</text>'
        f'<text x="{_LEFT - 5}" y="{y(at) + 4}" text-anchor="end">{text.percent(at, 0)}</text>'
        for at in plane.ticks()
    ]
    parts.append(f'<path class="diagonal" d="M{x(low)} {y(low)}L{x(high)} {y(high)}"/>')
    most = max(bin_["rows"] for bin_ in bins)
    parts += [_dot(bin_, plane, most, text) for bin_ in bins]
    middle_x, middle_y = (x(low) + x(high)) / 2, (y(low) + y(high)) / 2
    parts.append(
        f'<text x="{middle_x}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(text("predicted"))}</text>'
        f'<text x="12" y="{middle_y}" text-anchor="middle" transform="rotate(-90 12 {middle_y})">'
        f"{escape(text('observed'))}</text>"
    )
    title = escape(text("c_reliability"))
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def _dot(bin_: dict[str, float], plane: _Plane, most: float, text: Text) -> str:
    at, radius = plane.x(bin_["probability"]), 2.5 + 5 * math.sqrt(bin_["rows"] / most)
    return (
        f'<g class="dot"><title>{escape(_bin_words(bin_, text))}</title>'
        f'<path d="M{at} {plane.y(bin_["low"])}V{plane.y(bin_["high"])}"/>'
        f'<circle cx="{at}" cy="{plane.y(bin_["frequency"])}" r="{radius:.1f}"/></g>'
    )


def _bin_words(bin_: dict[str, float], text: Text) -> str:
    share = f"{text.percent(bin_['frequency'])} ({text.percent(bin_['low'])}{NONE}{text.percent(bin_['high'])})"
    count = text("count", n=text.number(bin_["rows"], 0))
    return f"{text('predicted')} {text.percent(bin_['probability'])} · {text('observed')} {share} · {count}"
