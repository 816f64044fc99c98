"""The dashboard: ipywidgets that ask the API, for the notebook ``dashboard.ipynb`` to arrange.

`open_dashboard` makes a `Dashboard`, whose attributes are widgets. Everything happens on the kernel's loop, as
the messages of the browser do; only requests run beside it. A browser changes widgets, and nothing else:
the API's key and the password stay in the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from html import escape
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import ipywidgets as widgets

from btcml import __version__
from btcml.serve.dashboard_client import Client, Outcome, find_report
from btcml.serve.dashboard_text import LANGUAGES, NONE, Text, chosen_language, second, seconds_of
from btcml.serve.dashboard_view import Facts, View, point_rows
from btcml.serve.dashboard_widgets import Chart, Visit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHARTS = ("candles", "fan", "sealed", "direction", "money", "trainings")
"""Charts of the page, by name."""

_INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
_SPANS = (0.25, 1.0, 3.0, 7.0, 30.0, 90.0, 365.0, 1095.0)
_FEW, _MANY, _USUAL = 24, 9900, 600
_ZONES = ("UTC", "America/Sao_Paulo", "America/New_York", "Europe/London", "Europe/Berlin", "Asia/Tokyo")
_CHOICES = (
    "symbol", "interval", "span", "compare", "language", "zone", "theme", "unit", "auto", "boxes", "cost", "threshold",
)  # fmt: skip
_BACK_OFF = (2, 4, 8, 15)
_DAY, _THREADS, _TICK_S, _POLL_S, _AGE_S = 86400, 6, 0.5, 1.0, 15.0
_SLOW_S, _NOTICE_S, _GONE_S, _WRONG_PASSWORD_S, _SLEEP_S = 1.5, 180.0, 60.0, 1.0, 600
_CONFLICT, _ACCEPTED, _FAILED = 409, 202, 500
_OUT_OF_REACH = ("unreachable", "foreign", "slow")
_NAMED = {"unreachable": "p_unreachable", "slow": "p_slow", "foreign": "p_foreign", "locked": "p_locked"}
_KNOWN = (401, 404, 409, 422, 500, 502, 503)
_UNFINISHED = ("queued", "running")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _far(url: str, host: str) -> bool:
    """Whether an address of the server's own machine would lead a viewer elsewhere."""

    def _near(name: str | None) -> bool:
        with contextlib.suppress(ValueError):
            return ip_address(name or "").is_loopback
        return name == "localhost"

    return _near(urlsplit(url).hostname) and not _near(host)


class _Notice(NamedTuple):
    """A line about what was done or went wrong, in whatever language is chosen; a passing one ends with its cause."""

    level: str
    words: Callable[[], str]
    request_id: str = ""
    share: float | None = None
    passing: bool = False
    at: float = 0.0


class Dashboard:
    """Widgets of the page and what they show.

    Parameters
    ----------
    client
        Asks the API.
    environment
        Where the settings of the page come from, as variables.

    Attributes
    ----------
    visit
        The browser: it must be on the page.
    symbol, interval, span, compare, language, zone, theme, unit
        Choices.
    ingest, train, predict, unlock
        Buttons; `password` opens those that change something.
    auto, boxes, cost, threshold
        Options.
    market, notices, cards, ahead, scores, reliability, history, links, footer
        HTML that follows the API's answers.
    board
        A card a symbol, where there are several.
    charts
        `Chart` by the names of `CHARTS`.
    """

    def __init__(self, client: Client, environment: Mapping[str, str]) -> None:
        own_page = environment.get("BTCML_DASHBOARD_PAGE") == "1"
        self.client, self.environment = client, environment
        self.locked = environment.get("BTCML_DASHBOARD_LOCKED") == "1"
        self.symbols = [n.strip() for n in environment.get("BTCML_SYMBOLS", "BTCUSDT").split(",") if n.strip()]
        self.text, self.facts, self.browser_zone, self.host = Text("en", "UTC"), Facts(), "UTC", ""
        self.visit = Visit(own_page=own_page)
        self.charts = {name: Chart(name, own_page=own_page) for name in CHARTS}
        self._problems: dict[str, Outcome | None] = {}
        self._notices: dict[str, _Notice] = {}
        self._cards_of: dict[str, dict[str, Any]] = {}
        self._report: dict[str, Any] = {}
        self._waiting: dict[object, float] = {}
        self._busy: set[str] = set()
        self._dirty: set[str] = set()
        self._turn = self._failures = 0
        self._looked = self._drawn = self._offset = 0.0
        self._requested = ""
        self._ahead: tuple[int | None, int] = (None, 0)
        self._visible, self._filling = True, False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drawing = False
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="btcml-ask")
        self._make_controls()
        self._make_outputs()
        self.visit.on_msg(lambda _, content, __: self._on_message(content))

    # ---- widgets ----

    def _make_controls(self) -> None:
        interval = self.environment.get("BTCML_INTERVAL", "5m")
        self.symbol = widgets.Dropdown(options=self.symbols)
        self.interval = widgets.Dropdown(options=tuple(dict.fromkeys((*_INTERVALS, interval))), value=interval)
        self.span, self.compare, self.zone = widgets.Dropdown(), widgets.Dropdown(), widgets.Dropdown()
        self.language = widgets.Dropdown(options=[(name, code) for code, name in LANGUAGES.items()])
        self.theme, self.unit = widgets.Dropdown(), widgets.Dropdown(options=("bp", "%"))
        self.auto = widgets.Checkbox(value=True, indent=False)
        self.boxes = widgets.Checkbox(value=False, indent=False)
        self.cost = widgets.BoundedFloatText(2.0, min=0, max=50, step=0.5)
        self.threshold = widgets.BoundedFloatText(0.0, min=0, max=50, step=0.5)
        self.ingest, self.train = widgets.Button(), widgets.Button()
        self.predict, self.unlock = widgets.Button(), widgets.Button()
        self.password = widgets.Password(continuous_update=False)  # Enter opens the buttons
        self.password.observe(lambda _: self._do(self._unlock), "value")
        self._chosen = {name: getattr(self, name) for name in _CHOICES}
        for name, control in self._chosen.items():
            control.add_class(f"btcml-{name}")
            control.observe(lambda _, name=name: self._changed(name), "value")
        for name in ("ingest", "train", "predict"):
            button = getattr(self, name).add_class(f"btcml-{name}").add_class("btcml-act")
            button.on_click(lambda _, name=name: self._do(lambda: self._act(name)))
        self.unlock.on_click(lambda _: self._do(self._unlock))
        self._fill_choices()

    def _make_outputs(self) -> None:
        names = ("market", "notices", "cards", "ahead", "scores", "reliability", "history", "links", "footer")
        for name in names:
            setattr(self, name, widgets.HTML().add_class(f"btcml-{name}"))
        self.board = widgets.HBox().add_class("btcml-board")
        self._boards = {symbol: widgets.Button().add_class("btcml-symbol-card") for symbol in self.symbols}
        if len(self.symbols) > 1:
            self.board.children = tuple(self._boards.values())
        for symbol, button in self._boards.items():
            button.on_click(lambda _, symbol=symbol: setattr(self.symbol, "value", symbol))

    if TYPE_CHECKING:
        market: widgets.HTML
        notices: widgets.HTML
        cards: widgets.HTML
        ahead: widgets.HTML
        scores: widgets.HTML
        reliability: widgets.HTML
        history: widgets.HTML
        links: widgets.HTML
        footer: widgets.HTML

    def _fill_choices(self) -> None:
        """Options and labels in the viewer's language; choices stay."""
        t, self._filling = self.text, True
        count = {days: days * _DAY / seconds_of(self.interval.value) for days in _SPANS}
        spans = [days for days in _SPANS if _FEW <= count[days] <= _MANY]
        best = min(spans, key=lambda days: max(count[days] / _USUAL, _USUAL / count[days]))
        self._options(self.span, [(t.span(days), days) for days in spans], best)
        zones = dict.fromkeys((self.browser_zone, *_ZONES))
        self._options(self.zone, [(zone, zone) for zone in zones], self.browser_zone)
        self._options(self.theme, [(t(f"theme{n.title()}"), n) for n in ("auto", "light", "dark")], "auto")
        rivals = [
            model["name"] for model in self.facts.models or [] if model["name"] != (self.facts.own or {}).get("model")
        ]
        if self.facts.models is None and self.compare.value:
            rivals.append(self.compare.value)
        self._options(self.compare, [(t("nobody"), ""), *((name, name) for name in dict.fromkeys(rivals))], "")
        labels = {"boxes": "showCandles"}
        for name, control in self._chosen.items():
            control.description = t(labels.get(name, name))
        self.unlock.description, self.password.placeholder = t("unlock"), t("password")
        self.password.tooltip = t("password")
        for name in ("ingest", "train", "predict"):
            self._label_button(name)
        self._filling = False

    @staticmethod
    def _options(control: widgets.Dropdown, options: list[tuple[str, Any]], usual: Any) -> None:
        if list(control.options) == options:
            return
        value = control.value if control.value in [of for _, of in options] else usual
        control.options = options
        control.value = value

    def _label_button(self, name: str) -> None:
        button, busy = getattr(self, name), name in self._busy
        button.description = self.text(f"busy{name.title()}" if busy else name)
        button.disabled = busy

    # ---- the kernel's loop ----

    def _do(self, task: Callable[[], None]) -> None:
        """Do something on the kernel's loop; any thread may ask for it, once a browser is there."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._run, task)

    def _run(self, task: Callable[[], None]) -> None:
        """Do one thing, and show what it changed after the others that wait; an error is shown on the page."""
        try:
            task()
        except Exception as error:  # noqa: BLE001 - the page goes on
            sentence = f"{type(error).__name__}: {error}"
            self._notice("unexpected", "bad", lambda: sentence)
        if self._loop is not None and self._dirty and not self._drawing:
            self._drawing = True
            self._loop.call_soon(self.draw)

    def _on_message(self, content: Any) -> None:
        """Handle a message of the browser, which is not trusted."""
        if not isinstance(content, dict):
            return
        if isinstance(content.get("hello"), dict):
            first, self._loop = self._loop is None, asyncio.get_running_loop()
            self._do(lambda: self.hello(content["hello"]))
            if first:
                self._do(self._tick)
        elif "visible" in content:
            self._visible = content["visible"] is True
            if self._visible and self.auto.value:
                self._do(self.refresh)

    def hello(self, browser: Mapping[str, Any]) -> None:
        """Begin for a browser: its language and zone, the state in its address or of its last visit."""
        languages = browser.get("languages")
        first, zone = str(languages[0]) if isinstance(languages, list) and languages else "en", browser.get("zone")
        state: dict[str, Any] = {"lang": chosen_language(first), "zone": str(zone or "UTC")}
        for part in (browser.get("saved"), browser.get("query")):
            state |= part if isinstance(part, dict) else {}
        self.browser_zone, self.host = Text("en", str(zone or "UTC")).zone, str(browser.get("host") or "")
        self._restore({name: str(value) for name, value in state.items()})
        self._apply_text()
        self._resume()
        self.refresh()

    def _restore(self, state: Mapping[str, str]) -> None:
        """Choose what a state names; what is not an option is left as it is."""
        self.text = Text(state["lang"], state["zone"])
        self._filling = True
        for name in ("symbol", "interval", "unit"):
            if state.get(name) in getattr(self, name).options:
                getattr(self, name).value = state[name]
        self._fill_choices()
        self._filling = True
        with contextlib.suppress(ValueError, KeyError):
            self.span.value = float(state["span"])
        for name, key in (("language", "lang"), ("zone", "zone"), ("theme", "theme")):
            if state.get(key) in [value for _, value in getattr(self, name).options]:
                getattr(self, name).value = state[key]
        if model := state.get("compare"):
            self.compare.options = [*self.compare.options, (model, model)]
            self.compare.value = model
        self.boxes.value = state.get("boxes") == "1"
        self._filling = False
        self.text = Text(self.language.value, self.zone.value)

    def state(self) -> dict[str, str]:
        """State of the page for its address: enough to show the same again."""
        names = {"symbol": "symbol", "interval": "interval", "span": "span", "lang": "language", "zone": "zone"}
        found = {key: getattr(self, name).value for key, name in names.items()} | {"span": f"{self.span.value:g}"}
        usual = {"theme": "auto", "unit": "bp", "compare": ""}
        more = {name: getattr(self, name).value for name, value in usual.items() if getattr(self, name).value != value}
        return found | more | ({"boxes": "1"} if self.boxes.value else {})

    def _changed(self, name: str) -> None:
        if not self._filling:
            self._do(lambda: self._follow_choice(name))

    def _follow_choice(self, name: str) -> None:
        if name in {"symbol", "interval", "span"}:
            self._begin_series()
        elif name == "compare":
            self.facts.other, self.facts.rival, self._requested = None, [], ""
            for key in ("rival", "evaluation other"):
                self._problems.pop(key, None)
            self._request_figures()
        elif name in {"cost", "threshold"}:
            self._requested = ""
            self._request_figures()
            self._request_forecast()
        self._apply_text()

    def _apply_text(self) -> None:
        """Apply the chosen language, time zone and theme."""
        self.text = Text(self.language.value, self.zone.value)
        self._fill_choices()
        t = self.text
        words = {key: t(key) for key in ("lostKernel", "asleep")} | {"title": f"btcml · {t('title')}"}
        sleep = int(self.environment.get("BTCML_DASHBOARD_SLEEP") or _SLEEP_S)
        self.visit.page = {
            "theme": self.theme.value,
            "lang": t.language,
            "state": self.state(),
            "sleep_s": sleep,
        } | words
        self._dirty |= {"figures", *CHARTS}

    def _begin_series(self) -> None:
        """Begin with another series or span: discard what is known of the last one, and its notices."""
        self._turn += 1
        self.facts = Facts(step=seconds_of(self.interval.value))
        self._problems.clear()
        self._notices.clear()
        self._waiting.clear()
        self._requested, self._report, self._looked, self._ahead = "", {}, 0.0, (None, 0)
        self._fill_choices()
        self.refresh()

    # ---- requests ----

    def _request(
        self, name: str, query: Mapping[str, Any], then: Callable[[Outcome], None], *, any_series: bool = False
    ) -> None:
        """Send a request from a thread; the response to a read is dropped when another series is shown by then."""
        turn, token = self._turn, object()
        if not any_series:
            self._waiting[token] = time.monotonic()

        def _send() -> None:
            try:
                outcome = self.client.request(name, query)
            except Exception as error:  # noqa: BLE001 - the page waits for an answer
                outcome = Outcome("problem", detail=f"unexpected {type(error).__name__} in the dashboard: {error}")
            self._do(lambda: _then(outcome))

        def _then(outcome: Outcome) -> None:
            self._waiting.pop(token, None)
            if any_series or turn == self._turn:
                then(outcome)

        self._pool.submit(_send)

    def _series(self) -> dict[str, Any]:
        return {"symbol": self.symbol.value, "interval": self.interval.value}

    def refresh(self) -> None:
        """Request everything that is shown."""
        if self._waiting:
            return
        self.facts.step = seconds_of(self.interval.value)
        days, key = self.span.value, self._series()
        span = min(int(days * _DAY / self.facts.step) + 2, _MANY)
        self._request("prices", key | {"n": span}, lambda o: self._on_answer("prices", o, self._on_prices))
        self._request_forecast()
        self._request("metrics", key | {"limit": 50}, lambda o: self._on_answer("metrics", o, self._on_metrics))
        self._request("model", key, lambda o: self._on_answer("model", o, self._on_model))
        for symbol in self.symbols if len(self.symbols) > 1 else ():
            self._request("predict", key | {"symbol": symbol}, lambda o, symbol=symbol: self._on_card(symbol, o))  # type: ignore[misc]
        self._dirty.add("figures")

    def _request_forecast(self) -> None:
        """Ask for the forecasts, and for the decisions at the chosen cost."""
        query = self._series() | {"cost_bp": self.cost.value}
        self._request("predict", query, lambda o: self._on_answer("predict", o, self._on_predict))

    def _on_answer(self, name: str, outcome: Outcome, then: Callable[[Any], None]) -> None:
        """Use a response, or keep its problem until the next one."""
        self._looked = time.time()
        good = outcome.code == "ok"
        self._problems[name] = None if good else outcome
        down = outcome.code in _OUT_OF_REACH or outcome.status >= _FAILED
        self._failures = self._failures + 1 if down else 0 if good else self._failures
        self._dirty.add("figures")
        if good:
            self._drop_notices(lambda notice: notice.passing)
            then(outcome.data)
        elif name == "predict":
            self.facts.prediction = None

    def _on_prices(self, data: dict[str, Any]) -> None:
        facts = self.facts
        self._find_report(data["market"])
        facts.candles = data["items"]
        self._dirty |= {"candles", "fan"}
        if facts.newest is not None:
            start = _iso(facts.candles[0]["time"] - facts.step)
            self._request(
                "series", self._series() | {"start": start}, lambda o: self._on_answer("series", o, self._on_series)
            )
            week = self._series() | {"start": _iso(facts.newest - 7 * _DAY), "limit": 20_000}
            self._request("futures", week, lambda o: self._on_answer("futures", o, self._on_futures))
            self._request_figures()
            self._request_ahead()

    def _request_ahead(self) -> None:
        """Ask for what was sealed at the largest horizon for the candles of the last day, once for each candle."""
        facts, ahead = self.facts, self.facts.ahead()
        asked = (facts.newest, ahead[-1]["horizon"] if ahead else 0)
        if facts.newest is None or not ahead or asked == self._ahead:
            return
        self._ahead = asked
        query = self._series() | {"start": _iso(facts.newest - _DAY), "horizon": asked[1]}
        self._request("futures", query, lambda o: self._on_answer("ahead", o, self._on_ahead))

    def _on_ahead(self, data: dict[str, Any]) -> None:
        self.facts.sealed_ahead = [point | {"time": second(point["time"])} for point in data["points"]]
        self._dirty |= {"fan"}

    def _on_series(self, data: dict[str, Any]) -> None:
        self.facts.points = point_rows(data["points"], self.facts.step)
        self._dirty |= {"candles"}

    def _on_rival(self, data: dict[str, Any]) -> None:
        self.facts.rival = point_rows(data["points"], self.facts.step)
        self._dirty |= {"candles"}

    def _on_futures(self, data: dict[str, Any]) -> None:
        self.facts.futures = [point | {"time": second(point["time"])} for point in data["points"]]
        self._dirty |= {"sealed"}

    def _on_predict(self, data: dict[str, Any]) -> None:
        self.facts.prediction = data
        self._find_report(data["market"])
        offset = second(data["trained_at"]) + data["model_age_seconds"] - time.time()
        self._offset = 0.0 if abs(offset) < 3 else offset  # noqa: PLR2004 - a market may have a clock of its own
        self._dirty |= {"candles", "fan"}
        self._request_ahead()

    def _on_metrics(self, data: dict[str, Any]) -> None:
        self.facts.trainings, self.facts.published = data["items"], data.get("published")
        self._dirty |= {"trainings", "sealed"}

    def _on_model(self, data: dict[str, Any]) -> None:
        self.facts.models = data["models"]
        self._fill_choices()
        self._report = {}
        self._find_report(self.facts.market)

    def _find_report(self, market: str) -> None:
        """Find the report of the champion's candles, once both market and models are known: in whatever order."""
        self.facts.market = market
        if self._report or not market or self.facts.models is None:
            return
        window = next((model["window"] for model in self.facts.models if model["champion"]), ["", ""])
        folder = self.environment.get("BTCML_REPORTS_DIR", "")
        about = self._series() | {"market": market, "start": window[0], "end": window[1]}
        self._report = find_report(folder, **about, language=self.language.value)

    def _on_card(self, symbol: str, outcome: Outcome) -> None:
        self._cards_of[symbol] = outcome.data if outcome.code == "ok" else {}
        self._dirty.add("figures")

    def _request_figures(self) -> None:
        """Ask for the figures of the span and of the sealed forecasts, where there is something new."""
        facts = self.facts
        if facts.newest is None:
            return
        trade = {"cost_bp": self.cost.value, "threshold_bp": self.threshold.value}
        span = self._series() | trade | {"start": _iso(facts.candles[0]["time"])}
        asked = repr((span, facts.newest, self.compare.value, (facts.prediction or {}).get("artifact")))
        if asked == self._requested:
            return
        self._requested = asked
        sealed = self._series() | {"origin": "sealed"}
        self._evaluate("own", span)
        self._evaluate("week", sealed | {"start": _iso(facts.newest - 7 * _DAY)})
        self._evaluate("day", sealed | {"start": _iso(facts.newest - _DAY), "curves": False})
        if model := self.compare.value:
            self._evaluate("other", span | {"model": model, "curves": False})
            rival = self._series() | {"start": _iso(facts.candles[0]["time"] - facts.step), "model": model}
            self._request("series", rival, lambda o: self._on_answer("rival", o, self._on_rival))

    def _evaluate(self, name: str, query: Mapping[str, Any]) -> None:
        def _then(data: dict[str, Any]) -> None:
            setattr(self.facts, name, data)
            if name == "own":
                rival = data["champion"] == "persistence" and data["best"] not in {None, data["champion"]}
                if rival:
                    self._evaluate("shown", {**query, "model": data["best"]})
                else:
                    self.facts.shown = data
                self._fill_choices()
            self._dirty.update(CHARTS)

        self._request("evaluation", query, lambda o: self._on_answer(f"evaluation {name}", o, _then))

    def now(self) -> float:
        """Time of the market's clock."""
        return time.time() + self._offset

    def _tick(self) -> None:
        """Look every half second at what is due."""
        if self._loop is not None:
            self._loop.call_later(_TICK_S, self._run, self._tick)
        oldest = min(self._waiting.values(), default=None)
        slow = time.monotonic() - oldest if oldest is not None else 0.0
        if slow > _SLOW_S:
            self._notice("slow", "warn", lambda: self.text("waiting", time=self.text.age(slow)))
        elif self._notices.pop("slow", None):
            self._dirty.add("figures")
        old = time.monotonic() - _NOTICE_S
        self._drop_notices(lambda notice: notice.level in {"good", "bad"} and notice.at < old)
        if self._visible and time.time() - self._drawn > _AGE_S:
            self._dirty.add("figures")  # ages go on
        due = self._due()
        if due is not None and self._looked and self._visible and time.time() - self._looked > due:
            self.refresh()

    def _due(self) -> float | None:
        """Seconds after the last look at which to look again, or None."""
        if self._failures:
            return _BACK_OFF[min(self._failures, len(_BACK_OFF)) - 1]
        if not self.auto.value:
            return None
        if self.facts.newest is None:
            return 10
        over = self.now() - (self.facts.newest + 2 * self.facts.step)
        return max(1 - over, 1.0) if over < 1 else 4 if over < 90 else 20  # noqa: PLR2004 - a candle is there within seconds

    # ---- buttons ----

    def _act(self, name: str) -> None:
        if name in self._busy:
            return
        if self.locked and name != "predict":
            self._refused(name, Outcome("locked", 401))
            return
        self._busy.add(name)
        self._label_button(name)
        self._notices.pop(name, None)
        asked = {"train": {"days": 1095}, "predict": {"cost_bp": self.cost.value}}.get(name, {})
        self._request(name, self._series() | asked, getattr(self, f"_done_{name}"), any_series=True)

    def _done(self, name: str) -> None:
        self._busy.discard(name)
        self._label_button(name)
        self._waiting.clear()
        self._turn += 1
        self._requested = ""
        self.refresh()

    def _done_ingest(self, outcome: Outcome) -> None:
        if outcome.code == "ok":
            counts = ("fetched", "inserted", "revised", "quarantined")
            self._notice(
                "ingest",
                "good",
                lambda: self.text("done_ingest", **{n: self.text.number(outcome.data[n], 0) for n in counts}),
            )
        else:
            self._refused("ingest", outcome)
        self._done("ingest")

    def _done_predict(self, outcome: Outcome) -> None:
        if outcome.code == "ok":
            self._on_answer("predict", outcome, self._on_predict)
            self._notice("predict", "good", self._predicted)
        else:
            self._refused("predict", outcome)
        self._done("predict")

    def _predicted(self) -> str:
        t, p, view = self.text, self.facts.prediction, self.view()
        if p is None:
            return ""
        delta = {"delta": t.number(p["delta"], sign=True), "pct": view.delta_share()}
        return t("done_predict", close=t.number(p["predicted_close"]), seal=f"{view.seal_words()}.", **delta)

    def _done_train(self, outcome: Outcome) -> None:
        if outcome.code != "ok":
            self._refused("train", outcome)
            self._done("train")
        elif outcome.status == _ACCEPTED:
            self._follow(outcome.data, time.time(), time.time())
        else:
            self._trained(outcome.data, None)

    def _resume(self) -> None:
        """Follow a training that was begun before this page came."""

        def _then(outcome: Outcome) -> None:
            for job in (outcome.data or {}).get("items", []):
                if (job["symbol"], job["interval"]) == (
                    self.symbol.value,
                    self.interval.value,
                ) and "train" not in self._busy:
                    self._busy.add("train")
                    self._label_button("train")
                    self._follow(job, time.time(), time.time())

        self._request("jobs", {"kind": "train", "status": "running", "limit": 1}, _then, any_series=True)

    def _follow(self, job: dict[str, Any], begun: float, known: float) -> None:
        """Follow a job to its end; an API that is gone for a minute ends the waiting, not the job."""
        if job["status"] == "ok":
            self._trained(job["result"] or {}, self._lasted(job))
            return
        if job["status"] not in _UNFINISHED:
            facts = {"id": job["id"], "status": self.text(f"st_{job['status']}"), "error": job.get("error") or ""}
            self._notice("train", "bad", lambda: self.text("jobLost", **facts), job.get("request_id") or "")
            self._done("train")
            return
        self._going(job, begun)

        def _then(outcome: Outcome) -> None:
            if outcome.code == "ok":
                self._follow(outcome.data, begun, time.time())
            elif time.time() - known > _GONE_S:
                self._refused("train", outcome)
                self._done("train")
            else:
                self._follow(job, begun, known)

        if self._loop is not None:
            self._loop.call_later(_POLL_S, lambda: self._request("job", {"id": job["id"]}, _then, any_series=True))

    def _lasted(self, job: Mapping[str, Any]) -> float | None:
        times = [job.get(name) for name in ("started_at", "finished_at")]
        return float(second(str(times[1])) - second(str(times[0]))) if all(times) else None

    def _going(self, job: Mapping[str, Any], begun: float) -> None:
        last, past = (
            self._lasted((self.facts.trainings or [{}])[0]) if self.facts.trainings else None,
            time.time() - begun,
        )
        usual = self.text("usual", time=self.text.age(last)) if last else ""
        facts = {
            "id": job["id"],
            "status": self.text(f"st_{job['status']}"),
            "time": self.text.age(past),
            "usual": usual,
        }
        self._notice(
            "train", "busy", lambda: self.text("going_train", **facts), "", min(0.95, past / last) if last else None
        )

    def _trained(self, result: Mapping[str, Any], took: float | None) -> None:
        def _words() -> str:
            t = self.text
            percent = {name: f"{t.number(result.get(name), 4)} %" for name in ("mape", "smape")}
            money = {"mae": t.number(result.get("mae")), "base": t.number(result.get("persistence_mae"))}
            facts = {"samples": t.number(result.get("samples"), 0), "champion": result.get("champion")}
            skill = t.percent(result.get("skill"), 2, sign=True)
            return t(
                "done_train", time=t.age(took) if took is not None else NONE, skill=skill, **percent, **money, **facts
            )

        self._notice("train", "good", _words)
        self._done("train")

    def _refused(self, kind: str, outcome: Outcome) -> None:
        passing = outcome.code in _OUT_OF_REACH
        self._notice(kind, "bad", lambda: self.sentence(outcome), outcome.request_id, passing=passing)

    def _unlock(self) -> None:
        """Open the buttons with the password; a wrong one costs a second."""
        given, wanted = self.password.value, self.environment.get("BTCML_DASHBOARD_PASSWORD", "")
        if wanted and not given:
            return
        self.password.value = ""
        if wanted and hmac.compare_digest(given.encode(), wanted.encode()):
            self.locked = False
            self._drop_notices(lambda notice: notice.level == "bad")
        else:
            time.sleep(_WRONG_PASSWORD_S)
            key = "wrong" if wanted else "noPassword"
            self._notice("unlock", "bad", lambda: self.text(key))
        self._dirty.add("figures")

    # ---- drawing ----

    def sentence(self, problem: Outcome) -> str:
        """A problem in words: what was expected, what to do."""
        named = _NAMED.get(problem.code)
        known = named or (f"p_{problem.status}" if problem.status in _KNOWN else "p_other")
        detail = f" {problem.detail[:1].upper()}{problem.detail[1:]}." if problem.detail and not named else ""
        return self.text(known, api=self._api(), status=problem.status) + detail

    def _api(self) -> str:
        return self.environment.get("BTCML_API_PUBLIC_URL") or self.client.url

    def _state_notice(self) -> tuple[str, str, str] | None:
        """The most informative problem of all reads: level, sentence, request id."""
        found = [problem for problem in self._problems.values() if problem]
        if not found:
            return None
        worst = next((p for p in found if p.code in _OUT_OF_REACH), None) or max(
            found, key=lambda p: p.status >= _FAILED
        )
        empty = {name for name, problem in self._problems.items() if problem and problem.status == _CONFLICT}
        if worst.status != _CONFLICT:
            return "bad", self.sentence(worst), worst.request_id
        if self._waiting and self.facts.models is None:
            return None  # what is missing is known when all have answered
        trained = bool(self.facts.models)
        key = "noCandles" if "prices" in empty else "noModel" if not trained else "staleData"
        return "warn", self.text(key), worst.request_id

    def _notice(
        self,
        kind: str,
        level: str,
        words: Callable[[], str],
        request_id: str = "",
        share: float | None = None,
        *,
        passing: bool = False,
    ) -> None:
        self._notices[kind] = _Notice(level, words, request_id, share, passing, time.monotonic())
        self._dirty.add("figures")

    def _drop_notices(self, which: Callable[[_Notice], bool]) -> None:
        dropped = [kind for kind, notice in self._notices.items() if which(notice)]
        for kind in dropped:
            del self._notices[kind]
            self._dirty.add("figures")

    def _notices_html(self) -> str:
        state = self._state_notice()
        items = [self._notice_html("state", *state)] if state else []
        items += [
            self._notice_html(kind, n.level, n.words(), n.request_id, n.share) for kind, n in self._notices.items()
        ]
        return f'<ul id="btcml-notices" aria-live="polite">{"".join(items)}</ul>'

    def _notice_html(self, kind: str, level: str, words: str, request_id: str, share: float | None = None) -> str:
        wanted = bool(request_id) and level in {"bad", "warn"}
        given = f" <code>{escape(self.text('request', id=request_id))}</code>" if wanted else ""
        value = f' value="{share:.2f}"' if share is not None else ""
        bar = f'<progress max="1"{value} aria-label="{escape(words)}"></progress>' if level == "busy" else ""
        return f'<li class="{level}" data-kind="{kind}"><span>{escape(words)}{given}</span>{bar}</li>'

    def view(self) -> View:
        """What is known, in the viewer's language."""
        named = f"{self.symbol.value} {self.interval.value} {self.span.value:g}d"
        return View(self.facts, self.text, named, boxes=self.boxes.value, unit=self.unit.value, now=self.now())

    def draw(self) -> None:
        """Show what has changed."""
        dirty, self._dirty, self._drawing = self._dirty, set(), False
        view = self.view()
        for name in CHARTS:
            if name in dirty:
                getattr(view, f"draw_{name}")(self.charts[name])
        parts = {name: getattr(view, name) for name in ("cards", "ahead", "scores", "reliability", "history")}
        parts |= {"market": view.market_banner, "notices": self._notices_html, "links": self._links_html}
        for name, html in (parts | {"footer": self._footer_html}).items():
            getattr(self, name).value = html()
        self._drawn = time.time()
        self._draw_board()
        self.visit.countdown = self._countdown(view)
        door = "" if self.locked else "none"
        self.unlock.layout.display = door
        self.password.layout.display = door if self.environment.get("BTCML_DASHBOARD_PASSWORD") else "none"

    def _countdown(self, view: View) -> dict[str, Any]:
        t, newest = self.text, self.facts.newest
        if newest is None or view.frozen:
            still = self.facts.market.startswith("file:")
            return {"until": 0, "fixed": t("frozen") if still else ""}
        words = {"next": t("nextClose", time="{time}"), "closing": t("closing"), "overdue": t("overdue")}
        return {"until": newest + 2 * self.facts.step - self._offset} | words

    def _draw_board(self) -> None:
        t = self.text
        for symbol, facts in self._cards_of.items():
            up = t("probUp") + f" {t.percent(facts['prob_up'])}" if facts.get("prob_up") is not None else ""
            share = View(Facts(prediction=facts), t).delta_share() if facts else ""
            words = {"close": t.number(facts["last_close"]) if facts else t("boardNone"), "pct": share, "up": up}
            self._boards[symbol].description = t("boardCard", symbol=symbol, **words)
            self._boards[symbol].button_style = "primary" if symbol == self.symbol.value else ""

    def _links_html(self) -> str:
        t, env, links = self.text, self.environment, []
        if path := self._report.get("path"):
            until = self._report.get("until")
            key = "reportExact" if self._report["exact"] else "reportUntil" if until else "report"
            links.append((f"reports/{path}", t(key, time=t.utc(second(until)).removesuffix(" UTC") if until else "")))
        links += [(f"{self._api().rstrip('/')}/docs", t("api")), (env.get("BTCML_DOCUMENTS", ""), t("documents")),
                  (env.get("BTCML_ADMINER_URL", ""), t("adminer"))]  # fmt: skip
        shown = [(url, name) for url, name in links if url and not _far(url, self.host)]
        anchors = "".join(
            f'<a href="{escape(url)}" target="_blank" rel="noreferrer noopener">{escape(name)}</a>'
            for url, name in shown
        )
        helps = "".join(f"<p>{escape(t(f'help_{i}'))}</p>" for i in range(1, 7))
        more = f"<details><summary>{escape(t('help'))}</summary>{helps}</details>"
        return f'<nav id="btcml-links" aria-label="btcml">{anchors}</nav>{more}'

    def _footer_html(self) -> str:
        t = self.text
        maker = 'href="https://www.tradingview.com/" rel="noreferrer noopener" target="_blank"'
        charts = f"{escape(t('charts'))} <a {maker}>Lightweight Charts™ © TradingView, Inc.</a>"
        return f"{escape(t('zoneShown', zone=t.zone))} · {charts} · btcml {__version__}"


def open_dashboard(environment: Mapping[str, str] | None = None) -> Dashboard:
    """Make the dashboard of this kernel, from ``API_BASE_URL`` and ``BTCML_API_KEY``."""
    found: Mapping[str, str] = os.environ if environment is None else environment
    url = found.get("API_BASE_URL") or "http://127.0.0.1:8000"
    return Dashboard(Client(url, found.get("BTCML_API_KEY") or None), dict(found))
