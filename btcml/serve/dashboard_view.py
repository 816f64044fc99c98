"""What the dashboard shows of the API's answers: HTML, sentences, and the rows of the charts.

Figures come from the API; nothing is computed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from btcml.rounding import decimals_apart
from btcml.serve.dashboard_text import NONE, Text, reliability_svg, second, table
from btcml.serve.dashboard_widgets import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from btcml.serve.dashboard_widgets import Chart

Row = dict[str, Any]
_SMALL_P, _SAME = 1e-4, 5e-6
_RULE_P = 0.01  # ALPHA of the verdict, whose module a kernel does not import
_HALF = 0.5
_TRAININGS = 8
_DAY = 86400
_FAN = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass
class Facts:
    """What is known of a series: the API's answers, with times in seconds of the epoch.

    Attributes
    ----------
    sealed_ahead
        Sealed forecasts of the largest horizon for the candles of the last day.
    published
        What time stamps prove of the published record; None where there is none.
    own, shown, other, week, day
        Answers of ``/evaluation``: the served model's; the one shown (the best challenger's while
        persistence serves); the one compared with; and of the sealed forecasts of a week and a day.
    """

    step: int = 300
    market: str = ""
    candles: list[Row] = field(default_factory=list)
    prediction: Row | None = None
    points: list[Row] = field(default_factory=list)
    rival: list[Row] = field(default_factory=list)
    futures: list[Row] | None = None
    sealed_ahead: list[Row] = field(default_factory=list)
    trainings: list[Row] | None = None
    published: Row | None = None
    models: list[Row] | None = None
    own: Row | None = None
    shown: Row | None = None
    other: Row | None = None
    week: Row | None = None
    day: Row | None = None

    @property
    def newest(self) -> int | None:
        """Open time of the newest candle."""
        return self.candles[-1]["time"] if self.candles else None

    @property
    def challenger(self) -> str:
        """Model whose figures are shown because persistence serves, or empty."""
        return str(self.shown["model"]) if self.shown and self.shown is not self.own else ""

    def forecast(self) -> Row | None:
        """The forecast of the open candle as a row of the charts, or None."""
        found = self.prediction
        if found is None or second(found["time"]) <= (self.newest or 0):
            return None
        names = ("open", "high", "low", "close")
        return {name: found[f"predicted_{name}"] for name in names} | {
            "time": second(found["time"]), "value": found["predicted_close"], "lo": found["lo"], "hi": found["hi"],
        }  # fmt: skip

    def ahead(self) -> list[Row]:
        """Forecasts at all horizons, the next candle first, with the decision at each; none that has closed already."""
        found = self.prediction or {}
        decided = {row["horizon"]: row for row in found.get("decisions", [])}
        rows = [
            row | {"at": second(row["time"]), "decision": decided.get(row["horizon"])}
            for row in found.get("horizons", [])
        ]
        return rows if rows and self.forecast() else []


def point_rows(points: Iterable[Row | None], step: int) -> list[Row]:
    """Forecasts of ``/series``, each at the time of the candle that it is about: the next one."""
    return [point | {"time": point["time"] + step} for point in points if point]


def _rows(facts: Row | None, part: str) -> list[Row]:
    found = (facts or {}).get(part) or {}
    names = [name for name in found if name != "time"]
    times = [second(time) for time in found.get("time", [])]
    return [{"time": time} | {name: found[name][i] for name in names} for i, time in enumerate(times)]


def _score(facts: Row | None, name: str | None = None) -> Row:
    wanted = name or (facts or {}).get("model")
    return next((row for row in (facts or {}).get("scores", []) if row["model"] == wanted), {"rows": 0})


def _line(rows: Iterable[Row], name: str, factor: float = 1) -> Row:
    found = columns(rows, "time", name)
    return {"time": found["time"], "value": [factor * value for value in found[name]]}


def _spans(rows: Sequence[Row]) -> list[tuple[int, int, str]]:
    """Shaded spans: walk-forward, and sealed live."""
    spans: list[list[Any]] = []
    for row in rows:
        tone = "s5:.12" if row.get("origin") == "sealed" else "s1:.06"
        if spans and spans[-1][2] == tone:
            spans[-1][1] = row["time"]
        else:
            spans.append([row["time"], row["time"], tone])
    return [(start, end, tone) for start, end, tone in spans]


def _series(name: str, kind: str, tone: str, label: str = "", **more: Any) -> Row:
    return {"name": name, "kind": kind, "tone": tone, "label": label} | more


@dataclass
class View:
    """Facts in a language.

    Attributes
    ----------
    facts, text
        What is shown, and how its viewer writes it.
    view
        Name of what is shown: a new one makes the charts show all of it again.
    boxes
        Whether forecasts are drawn as candles.
    unit
        Of the errors: ``bp`` or ``%``.
    now
        Time of the market's clock.
    """

    facts: Facts
    text: Text
    view: str = ""
    boxes: bool = False
    unit: str = "bp"
    now: float = 0.0

    # ---- charts ----

    def _look(self, chart: Chart, name: str, series: list[Row], keys: list[tuple[str, str, str]], **more: Any) -> None:
        t = self.text
        words = {key: t(key) for key in ("open", "high", "low", "close", "keys", "in", "out", "reset", "csv")}
        shapes = [{"shape": shape, "tone": tone, "label": t(label)} for shape, tone, label in keys]
        chart.look = {
            "name": name, "view": self.view, "locale": t.language, "zone": t.zone, "words": words,
            "series": series, "keys": shapes, "panes": [{"height": 1}],
        } | more  # fmt: skip
        chart.title = t(f"c_{name}")

    def draw_candles(self, chart: Chart) -> None:
        """Candles real and forecast, the interval as a band, another model, error and volume below."""
        facts, t = self.facts, self.text
        keys = [("up", "s3", "s_real"), ("line", "s2", "s_pred"), ("fill", "s2", "s_band")]
        if facts.rival:
            keys.append(("line", "s6", self._other()))
        keys += [("fill", "s1", "s_oos"), ("fill", "s5", "s_sealedZone")]
        error = {"height": 1.3, "label": f"{t('s_error')} ({self.unit})"}
        panes = [{"height": 6}, error, {"height": 1, "label": t("s_volume")}]
        hidden = ["forecast"] if self.boxes else ["candle"]
        self._look(chart, "candles", self._candle_series(), keys, panes=panes, hidden=hidden, step=facts.step)
        oldest = facts.candles[0]["time"] if facts.candles else 0
        rows = [row for row in facts.points if row["time"] >= oldest]
        chart.put(self._candle_rows(rows, oldest) if facts.candles else {}, spans=_spans(rows))
        chart.say = self.main_words()

    def _other(self) -> str:
        return str((self.facts.other or {}).get("model") or "")

    def _candle_series(self) -> list[Row]:
        t, digits = self.text, 1 if self.unit == "bp" else 3
        other = [_series("other", "line", "s6", self._other(), dashed=True)] if self.facts.rival else []
        return [
            _series("interval", "band", "s2:.16", t("s_band")),
            _series("real", "candles", "s3", t("s_real")),
            _series("forecast", "line", "s2", t("s_pred")),
            _series("candle", "boxes", "s2", t("s_pred")),
            *other,
            _series("error", "bars", "s2", t("s_error"), pane=1, unit=self.unit, digits=digits),
            _series("volume", "bars", "s3", t("s_volume"), pane=2, digits=1),
        ]

    def _candle_rows(self, rows: list[Row], oldest: int) -> dict[str, Row]:
        facts, forecast, error = self.facts, self.facts.forecast(), "error_bp" if self.unit == "bp" else "error_pct"
        newest = facts.newest or 0
        shown = [row for row in rows if row["time"] <= newest] + ([forecast] if forecast else [])
        errors = [row for row in _rows(facts.own, "candles") if row[error] is not None]
        tones = ["s3:.55" if row["close"] >= row["open"] else "s4:.55" for row in facts.candles]
        return {
            "real": columns(facts.candles, "time", "open", "high", "low", "close"),
            "forecast": _line(shown, "value"),
            "candle": columns(shown, "time", "open", "high", "low", "close"),
            "interval": columns(shown, "time", "lo", "hi"),
            "other": _line([row for row in facts.rival if oldest <= row["time"] <= newest], "value"),
            "error": _line(errors, error) | {"tone": ["s2:.55" if row["inside"] else "s2" for row in errors]},
            "volume": _line(facts.candles, "volume") | {"tone": tones},
        }

    def draw_fan(self, chart: Chart) -> None:
        """The last day of candles, then median and intervals until the largest horizon; between the horizons, lines."""
        facts, t = self.facts, self.text
        series = [
            _series("past", "band", "s7:.22", t("s_past")),
            _series("interval", "fan", "s2:.16", t("s_band")),
            _series("half", "fan", "s2:.28", t("s_half50")),
            _series("real", "candles", "s3", t("s_real")),
            _series("median", "line", "s2", t("s_median"), width=2),
            _series("axis", "line", "s2"),
        ]
        keys = [("up", "s3", "s_real"), ("line", "s2", "s_median"), ("fill", "s2:.4", "s_half50")]
        keys += [("fill", "s2:.16", "s_band"), ("fill", "s7", "s_past")]
        self._look(chart, "fan", series, keys)
        known = bool(facts.prediction and facts.candles)
        ahead = [row for row in facts.ahead() if row["levels"]] if known else []
        chart.put(self._fan_rows(ahead) if ahead else {})
        chart.say = self._fan_words(ahead[-1]) if ahead else t("h_fanNone") if known else ""

    def _past(self) -> list[Row]:
        """Intervals that were sealed at the largest horizon for candles that have closed since."""
        return [row for row in self.facts.sealed_ahead if row["real_close"] is not None and row["lo"] is not None]

    def _fan_rows(self, ahead: list[Row]) -> dict[str, Row]:
        """Every candle until the largest horizon has its place on the axis."""
        facts, newest = self.facts, self.facts.candles[-1]["time"]
        base = (facts.prediction or {})["last_close"]
        ends = [dict(zip(row["levels"], row["quantiles"], strict=True)) | {"time": row["at"]} for row in ahead]
        ends = [dict.fromkeys(_FAN, base) | {"time": newest}, *ends]
        times, values = [end["time"] for end in ends], {level: [end[level] for end in ends] for level in _FAN}
        candles = [row for row in facts.candles if row["time"] > newest - _DAY]
        return {
            "past": columns(self._past(), "time", "lo", "hi"),
            "interval": {"time": times, "lo": values[0.05], "hi": values[0.95]},
            "half": {"time": times, "lo": values[0.25], "hi": values[0.75]},
            "real": columns(candles, "time", "open", "high", "low", "close"),
            "median": {"time": times, "value": values[0.5]},
            "axis": {"time": list(range(newest, times[-1] + 1, facts.step))},
        }

    def _fan_words(self, row: Row) -> str:
        t, prices = self.text, dict(zip(row["levels"], row["quantiles"], strict=True))
        named = {"lo": 0.05, "low": 0.25, "high": 0.75, "hi": 0.95}
        ends = {name: t.number(prices[level]) for name, level in named.items()}
        words, past = t("h_fan", time=t.moment(row["at"] + self.facts.step), **ends), self._past()
        if not past:
            return words
        held = sum(point["lo"] <= point["real_close"] <= point["hi"] for point in past)
        counts = {"held": t.number(held, 0), "all": t.number(len(past), 0)}
        return f"{words} {t('h_fanPast', ahead=t.age(row['horizon'] * self.facts.step), **counts)}"

    def draw_sealed(self, chart: Chart) -> None:
        """Sealed forecasts against reality; outcomes outside the interval are marked."""
        facts, t = self.facts, self.text
        series = [
            _series("interval", "band", "s2:.16", t("s_band")),
            _series("candle", "boxes", "s2", t("s_seal")),
            _series("real", "line", "s3", t("s_real"), width=2),
            _series("forecast", "line", "s2", t("s_pred")),
        ]
        keys = [
            ("line", "s3", "s_real"),
            ("line", "s2", "s_pred"),
            ("fill", "s2", "s_band"),
            ("dot", "bad", "s_missed"),
        ]
        hidden = ["forecast", "interval"] if self.boxes else ["candle"]
        self._look(chart, "sealed", series, keys, hidden=hidden, step=facts.step)
        rows = [row for row in facts.futures or [] if row["status"] == "sealed" and row["real_close"] is not None]
        inside = {row["time"]: row["inside"] for row in _rows(facts.week, "candles")}
        missed = [row for row in rows if inside.get(row["time"]) == 0]
        marks = [
            (row["time"], "aboveBar" if row["real_close"] > row["hi"] else "belowBar", "bad", "") for row in missed
        ]
        chart.put(self._sealed_rows(rows) if rows else {}, marks={"real": marks})
        live = _score(facts.week)
        n, share = t.number(live["rows"], 0), t.percent(live.get("coverage"))
        chart.say = t("h_sealed", n=n, inside=share) if live["rows"] else t("h_sealedNone") if facts.week else ""
        if lag := (facts.day or {}).get("seal_lag"):
            chart.say += " " + t("h_sealLag", half=t.number(lag["p50"], 1), most=t.number(lag["p99"], 1))
        if proof := facts.published:
            words = t("h_proven", n=t.number(proof["proven"], 0), all=t.number(proof["forecasts"], 0))
            chart.say = f"{chart.say} {words}".strip()

    @staticmethod
    def _sealed_rows(rows: list[Row]) -> dict[str, Row]:
        parts = {"open": "base", "high": "hi", "low": "lo", "close": "pred_close"}
        boxes = [{"time": row["time"]} | {part: row[name] for part, name in parts.items()} for row in rows]
        return {
            "real": _line(rows, "real_close"),
            "forecast": _line(rows, "pred_close"),
            "interval": columns(rows, "time", "lo", "hi"),
            "candle": columns(boxes, "time", *parts),
        }

    def draw_direction(self, chart: Chart) -> None:
        """Rolling right signs beside a coin and the repeating baseline; below, each candle's move."""
        t, rows, rolling = self.text, _rows(self.facts.shown, "candles"), _rows(self.facts.shown, "rolling")
        series = [
            _series("coin", "band", "s7:.22", t("s_half"), digits=1, unit="%"),
            _series("repeat", "line", "s7", t("s_repeat"), dashed=True, digits=1, unit="%"),
            _series("wda", "line", "s5", "WDA", digits=1, unit="%"),
            _series("direction", "line", "s1", t("s_accuracy"), width=2, digits=1, unit="%", at=50),
            _series("move", "bars", "s1", t("s_move"), pane=1, digits=1, unit="bp"),
        ]
        keys = [("line", "s1", "s_accuracy"), ("line", "s5", "s_wda"), ("line", "s7", "s_repeat")]
        keys += [("fill", "s7", "s_half"), ("bar", "s1", "s_right"), ("bar", "s2", "s_wrong")]
        panes = [{"height": 3, "label": self._whose_label("%")}, {"height": 1, "label": f"{t('s_move')} (bp)"}]
        self._look(chart, "direction", series, keys, panes=panes)
        percent = {name: _line(rolling, name, 100) for name in ("direction", "wda", "repeat")}
        coin = columns(rolling, "time", "low", "high")
        band = {"time": coin["time"]} | {to: [100 * v for v in coin[of]] for to, of in (("lo", "low"), ("hi", "high"))}
        tones = {None: "rule", 1: "s1:.8", 0: "s2:.8"}
        moves = _line(rows, "move_bp") | {"tone": [tones[row["right"]] for row in rows if row["move_bp"] is not None]}
        chart.put(percent | {"coin": band, "move": moves} if rows else {}, spans=_spans(rows))
        chart.say = self.direction_words()

    def draw_money(self, chart: Chart) -> None:
        """Cumulative result of the rule in bp, before and after costs, beside holding and repeating."""
        facts, t = self.facts, self.text
        rows = _rows(facts.shown, "candles")
        lines = {"hold": ("s7", "s_hold"), "repeat": ("s4", "s_repeatNet"), "gross": ("s6", "s_gross")}
        lines |= {"net": ("s1", "s_net")}
        more: dict[str, Row] = {"repeat": {"dashed": True}, "net": {"width": 2, "at": 0}}
        series = [
            _series(name, "line", tone, t(label), unit="bp", digits=1, **more.get(name, {}))
            for name, (tone, label) in lines.items()
        ]
        keys = [("line", tone, label) for tone, label in reversed(lines.values())]
        self._look(chart, "money", series, keys, panes=[{"height": 1, "label": self._whose_label("bp")}])
        chart.put({name: _line(rows, f"{name}_bp") for name in lines} if rows else {}, spans=_spans(rows))
        made = (facts.shown or {}).get("money") or {}
        chart.say = self._money_words(made) if made.get("trips") else t("h_moneyNone") if facts.shown else ""

    def _money_words(self, made: Row) -> str:
        t = self.text
        bp = {name: t.number(made[f"{name}_bp"], 1, sign=name != "cost") for name in ("cost", "net", "gross")}
        words = self._whose("h_rival") + t("h_money", trades=t.number(made["trips"], 0), **bp)
        return words if made["net_bp"] > 0 else f"{words} {t('h_moneyNot')}"

    def draw_trainings(self, chart: Chart) -> None:
        """Error of each training beside persistence's by the market's time, and the model served since then."""
        t, items = self.text, self.trainings()
        changes = [b for a, b in pairwise(items) if a["champion"] != b["champion"]]
        series = [_series("ratio", "dots", "s1", t("t_ratio"), digits=4, at=1)]
        self._look(chart, "trainings", series, [("dot", "s1", "t_ratio")], digits=4)
        shown = {"ratio": _line(items, "ratio")} if len(items) > 1 else {}
        chart.put(shown, marks={"ratio": [(row["time"], "aboveBar", "s5", row["champion"]) for row in changes]})
        newest = items[-1]["ratio"] if items else 1.0
        ratio = t.number(newest, decimals_apart(newest, 1.0, 4))
        words = t("h_trainings", n=t.number(len(items), 0), ratio=ratio) if items else ""
        chart.say = words or (t("h_trainingsNone") if self.facts.trainings is not None else "")

    def trainings(self) -> list[Row]:
        """Trainings with a ratio, each at the time of its newest candle, oldest first; one a time."""
        found = {}
        for item in reversed(self.facts.trainings or []):
            if (item.get("ratio") or 0) > 0:
                at = second(item.get("train_end_ts") or (item.get("window") or [None, None])[1] or item["finished_at"])
                found[at] = item | {"time": at}
        return [found[at] for at in sorted(found)]

    # ---- sentences ----

    def _whose_label(self, unit: str) -> str:
        return " · ".join(filter(None, [unit, self.facts.challenger]))

    def _whose(self, key: str) -> str:
        return f"{self.text(key, model=self.facts.challenger)} " if self.facts.challenger else ""

    def main_words(self) -> str:
        """How good the forecasts of the span were."""
        own, t = self.facts.own, self.text
        score, none = _score(own), _score(own, "persistence")
        if not own or not score["rows"]:
            return t("h_none") if own else ""
        n, base = t.number(score["rows"], 0), t.number(none.get("mae_bp"))
        if own["model"] == "persistence":
            return t("h_plain", n=n, base=base)
        skill = score["skill"] or 0.0
        what = (
            t("w_same")
            if abs(skill) < _SAME
            else t("w_better" if skill > 0 else "w_worse", skill=t.percent(abs(skill), 2))
        )
        return t("h_main", n=n, mae=t.number(score["mae_bp"]), base=base, what=what)

    def _coin(self, score: Row) -> str:
        key = "h_notCoin" if (score["direction_low"] or 0) > _HALF else "h_coin"
        return self.text("h_coinWorse" if (score["direction_high"] or 1) < _HALF else key)

    def _none(self) -> str:
        own = self.facts.own
        return self.text("h_directionNone" if _score(own)["rows"] else "h_none") if own else ""

    def direction_words(self) -> str:
        """How often the sign was right."""
        shown, t = self.facts.shown, self.text
        if not shown or not shown["direction"]["rows"]:
            return self._none()
        score, signs = _score(shown), {name: t.number(shown["direction"][name], 0) for name in ("right", "rows")}
        shares = {"share": "direction", "lo": "direction_low", "hi": "direction_high", "wda": "wda"}
        values = {name: t.percent(score[of]) for name, of in shares.items()}
        repeat = t.percent(_score(shown, "repeat").get("direction"))
        words = t("h_direction", right=signs["right"], n=signs["rows"], repeat=repeat, **values)
        return f"{self._whose('h_rival')}{words} {self._coin(score)}"

    # ---- HTML ----

    def scores(self) -> str:
        """Table of scores beside the baselines, and of the model compared with."""
        facts, t = self.facts, self.text
        if not facts.shown:
            return ""
        score = _score(facts.shown)
        head = f"{facts.challenger} {t('r_rival')}" if facts.challenger else t("r_this")
        named = [(head, score)]
        if facts.other:
            named.append((facts.other["model"], _score(facts.other)))
        named += [
            (t("s_persistence"), _score(facts.shown, "persistence")),
            (t("s_repeat"), _score(facts.shown, "repeat")),
        ]
        count, percent = partial(t.number, digits=0), partial(t.percent, digits=2, sign=True)
        rows: list[tuple[str, str, Callable[..., str]]] = [
            ("r_n", "rows", count), ("r_mae", "mae_bp", t.number), ("r_mae_usd", "mae_usd", t.number),
            ("r_rmse", "rmse_usd", t.number), ("r_skill", "skill", percent), ("r_signs", "direction", t.percent),
            ("r_wda", "wda", t.percent), ("r_cover", "coverage", t.percent),
        ]  # fmt: skip
        body = [[t(name), *[show(column.get(metric)) for _, column in named]] for name, metric, show in rows]
        words = self._coin(score) if facts.shown["direction"]["rows"] else self._none()
        made = table(["", *(name for name, _ in named)], body, t("c_score"))
        return f'<section id="btcml-score"><h2>{escape(t("c_score"))}</h2>{made}<p>{escape(words)}</p></section>'

    def reliability(self) -> str:
        """Whether the forecast probability is calibrated."""
        facts, t = self.facts, self.text
        bins = (facts.shown or {}).get("reliability") or []
        words, drawing = t("h_reliabilityNone") if facts.shown else "", ""
        if bins:
            high, low = bins[-1], bins[0]
            shares = {"p": high["probability"], "f": high["frequency"], "q": low["probability"], "g": low["frequency"]}
            brier = t.number(_score(facts.shown).get("brier"), 3)
            said = t("h_reliability", brier=brier, **{name: t.percent(share) for name, share in shares.items()})
            words, drawing = self._whose("h_rivalShort") + said, reliability_svg(bins, t)
        head = f"<h2>{escape(t('c_reliability'))}</h2>"
        body = f'<p>{escape(words)}</p><div class="drawing">{drawing}</div>'
        return f'<section id="btcml-reliability">{head}{body}</section>'

    def ahead(self) -> str:
        """Table of the forecasts by horizon, with what is proven and the decision at the chosen cost."""
        t, rows = self.text, self.facts.ahead()
        names = ("a_close", "a_interval", "a_range", "probUp", "a_model", "a_beyond", "a_decision")
        made = table([t("a_ahead"), *(t(name) for name in names)], [self._ahead(row) for row in rows], t("c_ahead"))
        head = f"<h2>{escape(t('c_ahead'))}</h2>"
        return f'<section id="btcml-ahead">{head}{made if rows else ""}<p>{escape(self._rule_words())}</p></section>'

    def _ahead(self, row: Row) -> list[str]:
        t, plain = self.text, row["model"] == "persistence"
        decision = row["decision"] or {}
        return [
            t.age(row["horizon"] * self.facts.step),
            f"{t.number(row['predicted_close'])} ({t.number(row['delta_bp'], 1, sign=True)} bp)",
            f"{t.number(row['lo'])} {NONE} {t.number(row['hi'])}" if row["lo"] is not None else NONE,
            f"{t.number(row['predicted_low'])} {NONE} {t.number(row['predicted_high'])}",
            t.percent(row["prob_up"]),
            t("a_unproven") if plain else t("a_proven", model=row["model"], skill=t.percent(row["skill"], 2)),
            t.percent(decision.get("probability")),
            self._decision(decision) if decision else NONE,
        ]

    def _decision(self, decision: Row) -> str:
        t, expected, needed = self.text, decision["expected_bp"], decision["needed_bp"]
        if not decision["proven"] or expected is None:
            return t("d_unknown" if decision["proven"] else "d_unproven")
        moves = {"expected": t.number(expected, decimals_apart(abs(expected), needed, 1), sign=True)}
        return t(f"d_{decision['action'].replace(' ', '')}", needed=t.number(needed, 1), **moves)

    def _rule_words(self) -> str:
        """What the decisions of the served model would have earned in the span."""
        t, rule = self.text, (self.facts.own or {}).get("decision")
        if not rule:
            return ""
        facts = {"cost": t.number(rule["cost_bp"], 1), "silent": t.percent(rule["silent"])}
        if not rule["trips"]:
            return t("h_silent", **facts)
        net, deflated = t.number(1e4 * rule["total"], 1, sign=True), t.percent(rule["deflated"])
        return t("h_rule", net=net, trades=t.number(rule["trips"], 0), deflated=deflated, **facts)

    def history(self) -> str:
        """Table of the newest trainings."""
        t, items = self.text, self.trainings()[-_TRAININGS:][::-1]
        names = ("t_until", "t_samples", "t_mae", "t_base", "t_rmse", "t_r2", "t_mape", "t_skill", "t_p", "t_champion")
        made = table([t(name) for name in names], [self._training(item) for item in items], t("c_trainings"))
        return f'<div id="btcml-history">{made if items else ""}</div>'

    def _training(self, item: Row) -> list[str]:
        t, judged = self.text, item if item.get("judged") is not False else {}
        return [
            t.moment(item["time"]),
            t.number(item.get("samples"), 0),
            *(t.number(item.get(name)) for name in ("mae", "persistence_mae", "rmse")),
            t.number(item.get("r2"), 4),
            self._share(item.get("mape")),
            t.percent(judged.get("skill"), 2, sign=True),
            self.chance(judged.get("dm_p")).removeprefix("p ").removeprefix("= "),
            item.get("champion") or "",
        ]

    def _share(self, value: float | None) -> str:
        shown = self.text.number(value, 4)
        return shown if value is None else f"{shown} %"

    def chance(self, p: float | None) -> str:
        """A p-value in words."""
        if p is None:
            return NONE
        shown = self.text.number(p, decimals_apart(p, _RULE_P, 4))
        return self.text("pBelow") if p < _SMALL_P else self.text("pValue", p=shown)

    def cards(self) -> str:
        """The figures above the charts."""
        cards = [*self._price_cards(), *self._model_cards(), self._live_card(), self._age_card()]
        return f'<ul id="btcml-cards">{"".join(cards)}</ul>'

    def _card(self, name: str, value: str, note: str = "", *, title: str = "", more: str = "", html: str = "") -> str:
        label, shown = escape(self.text(name)), f'<span class="value">{escape(value)}</span>' if value else ""
        body = f'<span class="label">{label}</span>{shown}<span class="note">{html or escape(note)}</span>'
        return f'<li id="btcml-card-{name}" title="{escape(title)}"{more}>{body}</li>'

    def _price_cards(self) -> list[str]:
        facts, t, p = self.facts, self.text, self.facts.prediction
        last = p["last_close"] if p else facts.candles[-1]["close"] if facts.candles else None
        closed = (second(p["last_time"]) if p else facts.newest or 0) + facts.step
        first = self._card("lastClose", t.number(last), t("candleOf", time=t.hour(closed)) if last else "")
        if not p:
            return [first, *(self._card(name, NONE) for name in ("nextCloseCard", "delta", "probUp"))]
        lo, hi = t.number(p["lo"]), t.number(p["hi"])
        about = f"{t('forCandle', time=t.moment(second(p['time']) + facts.step))} · {self.seal_words()}"
        note = t("interval90", lo=lo, hi=hi) if p["lo"] is not None else t("noInterval")
        way = "up" if p["delta"] > 0 else "down" if p["delta"] < 0 else ""
        share = self.delta_share() if p["model"] != "persistence" else t("persistenceShort")
        none = p["prob_up"] is None
        up = t("upNone") if none else t("upLine", down=t.percent(p["prob_down"]))
        return [
            first,
            self._card("nextCloseCard", t.number(p["predicted_close"]), note, title=about),
            self._card("delta", t.number(p["delta"], sign=True), share, more=f' data-way="{way}"'),
            self._card("probUp", t.percent(p["prob_up"]), up, more=f' style="--share:{p["prob_up"] or 0}"'),
        ]

    def delta_share(self) -> str:
        """The forecast move as a share of the last close."""
        p = self.facts.prediction or {}
        share = p["delta_bp"] / 1e4 if "delta_bp" in p else p["delta_pct"] / 100
        return self.text.percent(share, 3, sign=True)

    def seal_words(self) -> str:
        """Whether the forecast of the open candle is sealed."""
        p, t = self.facts.prediction or {}, self.text
        if p.get("sealed") and p.get("seal_status") != "late":
            return t("sealedYes", time=t.hour(second(p["sealed_at"])) if p.get("sealed_at") else NONE)
        return t({"late": "sealedLate", "other": "sealedOther"}.get(p.get("seal_status") or "", "sealedNo"))

    def _model_cards(self) -> list[str]:
        facts, t, p = self.facts, self.text, self.facts.prediction or {}
        served: Row = next((model for model in facts.models or [] if model["champion"]), {})
        name = p.get("model") or served.get("name")
        age = p.get("model_age_seconds") if p else self.now - second(served["trained_at"]) if served else None
        note = (
            t("persistenceCard") if name == "persistence" else t("trained", age=t.age(age)) if age is not None else ""
        )
        return [self._card("model", name or NONE, note), self._skill_card()]

    def _skill_card(self) -> str:
        facts, t, p = self.facts, self.text, self.facts.prediction or {}
        judged: Row = next((item for item in facts.trainings or [] if item.get("skill") is not None), {})
        plain = "persistence" in (p.get("model"), judged.get("champion"))
        known = bool(p or judged)
        verdict = (
            t("verdictNo" if plain else "verdictYes") if known else t("verdictNone") if facts.trainings == [] else ""
        )
        words = [self.chance(judged["dm_p"])] if judged.get("dm_p") is not None else []
        if str(p.get("model", judged.get("champion"))).startswith("others_"):
            words, verdict = [], t("verdictPool")
        mark = f' data-verdict="{"no" if plain else "yes"}"' if known else ""
        skill = t.percent(judged.get("skill", p.get("skill")), 2, sign=True)
        note = " · ".join(filter(None, [*words, verdict]))
        return self._card("skill", skill, note, title=p.get("verdict") or "", more=mark)

    def _live_card(self) -> str:
        facts, t = self.facts, self.text
        if not _score(facts.week)["rows"]:
            return self._card("live", "", t("noSealed") if facts.week else "")
        lines = "".join(
            f'<tr><th scope="row">{t(name)} ({t.number(score["rows"], 0)})</th>'
            f"<td>{t.percent(score.get('coverage'))}</td><td>{t.percent(score.get('direction'))}</td></tr>"
            for name, score in (("day", _score(facts.day)), ("week", _score(facts.week)))
        )
        head = f'<thead><tr><td></td><th scope="col">{t("cover")}</th><th scope="col">{t("signs")}</th></tr></thead>'
        return self._card("live", "", html=f'<table class="mini">{head}<tbody>{lines}</tbody></table>')

    @property
    def frozen(self) -> bool:
        """Whether the market has no clock that is known: a file, or a replay before its first forecast."""
        market = self.facts.market
        return market.startswith("file:") or (market.startswith("replay:") and self.facts.prediction is None)

    def _age_card(self) -> str:
        facts, t, newest = self.facts, self.text, self.facts.newest
        if newest is None:
            return self._card("age", NONE)
        closed = newest + facts.step
        late = not self.frozen and self.now > closed + 2 * facts.step
        value = NONE if self.frozen else t.age(self.now - closed)
        note = f"{facts.market.split(':')[0]} · {t.moment(closed)}"
        return self._card("age", value, note, title=t.utc(closed), more=' data-verdict="no"' if late else "")

    def market_banner(self) -> str:
        """What kind of market this is, where it is not the live exchange."""
        kind = self.facts.market.split(":", maxsplit=1)[0]
        if kind in {"", "binance"}:
            return ""
        return f'<div id="btcml-market">{escape(self.text(f"market_{kind}", market=self.facts.market))}</div>'
