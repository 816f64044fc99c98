// The charts over time: each is made once, keeps zoom and pan when new rows come, and shows values under the cursor.

import {
  CandlestickSeries, ColorType, CrosshairMode, HistogramSeries, LineSeries, LineStyle, LineType, createChart, createSeriesMarkers, createTextWatermark,
} from "./lightweight-charts.js";
import { Band, Shade } from "./layers.js";
import { rowsOf } from "./format.js";

const NAMES = ["ink", "muted", "rule", "paper", "panel", "good", "bad", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
const QUIET = { lastValueVisible: false, priceLineVisible: false };
const PAN = 0.15;
const READABLE = 180; // candles that can still be distinguished

/** Colours of the theme that the element has now. */
function palette(element) {
  const style = getComputedStyle(element);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** A colour of the palette with an alpha. */
export function faint(colour, alpha) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

/** A chart in a box: theme, words, keys and what stays in view. */
class Frame {
  constructor(box, page, { wheel = false, panes = 1 } = {}) {
    this.page = page;
    this.box = box;
    this.plot = box.querySelector(".plot");
    this.legend = box.querySelector(".legend");
    this.touched = false;
    this.count = 0;
    this.panes = panes;
    this.chart = createChart(this.plot, {
      autoSize: true, layout: { attributionLogo: false, fontSize: 11 }, crosshair: { mode: CrosshairMode.Magnet },
      handleScroll: { mouseWheel: wheel, vertTouchDrag: false }, handleScale: { mouseWheel: wheel },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 2, minBarSpacing: 0.05, fixLeftEdge: true },
    });
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "img");
    const touch = () => { this.touched = true; };
    for (const event of ["wheel", "pointerdown"]) this.plot.addEventListener(event, touch, { passive: true });
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.chart.subscribeCrosshairMove((at) => this.hover(at));
    this.chart.timeScale().subscribeVisibleTimeRangeChange((range) => { this.plot.dataset.view = range ? `${range.from} ${range.to}` : ""; });
    this.series = [];
  }

  add(kind, options, pane = 0) {
    const made = kind === Band ? this.chart.addCustomSeries(new Band(), { ...QUIET, ...options }, pane) : this.chart.addSeries(kind, { ...QUIET, ...options }, pane);
    this.series.push(made);
    return made;
  }

  shade(series) {
    const made = new Shade();
    series.attachPrimitive(made);
    return made;
  }

  /** Update the texts in the corners. */
  mark() {
    const color = this.colours.muted;
    for (const [mark, words] of this.corners || []) mark.applyOptions({ lines: [{ text: words(), color, fontSize: 11 }] });
  }

  /** Words in the corner of a pane. */
  corner(pane, words) {
    this.corners ||= [];
    this.corners.push([createTextWatermark(this.chart.panes()[pane], { horzAlign: "left", vertAlign: "top", lines: [] }), words]);
  }

  key(event) {
    const scale = this.chart.timeScale(), range = scale.getVisibleLogicalRange();
    if (!range) return;
    const width = range.to - range.from, edge = range.to >= this.count - 1.5;
    const zoom = (factor) => (edge ? [range.to - width * factor, range.to] : [range.from + (width * (1 - factor)) / 2, range.to - (width * (1 - factor)) / 2]);
    const moves = {
      ArrowLeft: () => [range.from - PAN * width, range.to - PAN * width], ArrowRight: () => [range.from + PAN * width, range.to + PAN * width],
      "+": () => zoom(0.75), "=": () => zoom(0.75), "-": () => zoom(4 / 3),
    };
    if (event.key === "0") { this.touched = false; scale.fitContent(); } else if (moves[event.key]) {
      const [from, to] = moves[event.key]();
      this.touched = true;
      scale.setVisibleLogicalRange({ from, to });
    } else return;
    event.preventDefault();
  }

  /** Add new rows; the current view stays, and the right edge follows the newest candle. */
  keep(times, put) {
    const scale = this.chart.timeScale(), logical = scale.getVisibleLogicalRange(), range = scale.getVisibleRange();
    const followed = logical && this.count && logical.to >= this.count - 1.5;
    put();
    const added = times.length - this.count;  // what left on the left has moved the rest already
    if (this.touched && followed) scale.setVisibleLogicalRange({ from: logical.from + added, to: logical.to + added });
    else if (this.touched && range) scale.setVisibleRange(range);
    else this.begin(times.length);
    this.count = times.length;
  }

  /** The initial view, before any zoom. */
  begin() { this.chart.timeScale().fitContent(); }

  /** Forget zoom and pan: another series or span is shown. */
  fresh() { this.touched = false; this.count = 0; }

  /** Apply theme and language. */
  applyTheme() {
    const { f } = this.page, c = palette(this.box);
    this.colours = c;
    this.chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: c.paper }, textColor: c.muted, fontFamily: getComputedStyle(this.box).fontFamily, panes: { separatorColor: c.rule } },
      grid: { vertLines: { color: faint(c.rule, 0.45) }, horzLines: { color: faint(c.rule, 0.6) } },
      rightPriceScale: { borderColor: c.rule }, crosshair: { vertLine: { color: c.muted, labelBackgroundColor: c.ink }, horzLine: { color: c.muted, labelBackgroundColor: c.ink } },
      timeScale: { borderColor: c.rule, tickMarkFormatter: (time, kind) => [f.month, f.month, f.day, f.hour, f.hour][kind](time) },
      localization: { locale: f.locale, priceFormatter: (value) => (Math.abs(value) >= 1000 ? f.whole(value) : f.two(value)), timeFormatter: (time) => `${f.moment(time)} (${f.utc(time)} UTC)` },
    });
    this.mark();
    this.colour(c);
    this.speak();
  }

  hover(at) {
    const text = at.time === undefined || !at.point ? this.rest?.() : this.under?.(at.time);
    this.legend.textContent = text || "";
  }

  speak() { this.legend.textContent = this.rest?.() || ""; }
  label(text) { this.plot.setAttribute("aria-label", `${text} ${this.page.t("keys")}`); }
  errorWords(error, figures) {
    const { t, f } = this.page;
    return `${t("s_error")} ${f.signed(error)} (${f.signedOne(figures?.error_bp)} bp, ${f.signedThree(figures?.error_pct)} %)`;
  }
  when(time) { return `${this.page.f.moment(time)} (${this.page.t("utc", { time: this.page.f.utcMoment(time) })})`; }
  destroy() { this.chart.remove(); }
}

/** Values of a line that is not drawn across missing candles. */
function broken(rows, name, step) {
  const made = line(rows, name);
  made.forEach((point, i) => { if (i + 1 < made.length && made[i + 1].time > point.time + step) point.color = "transparent"; });
  return made;
}

const line = (rows, name) => rows.filter((row) => Number.isFinite(row[name])).map((row) => ({ time: row.time, value: row[name] }));

/** Candles real and forecast, the interval as a band, error and volume below. */
export class MainChart extends Frame {
  constructor(box, page) {
    super(box, page, { wheel: true });
    this.band = this.add(Band, {});
    this.candles = this.add(CandlestickSeries, { borderVisible: false });
    this.guess = this.add(LineSeries, { lineWidth: 1, lineType: LineType.WithSteps, crosshairMarkerVisible: false });
    this.boxes = this.add(CandlestickSeries, { visible: false });
    this.next = this.add(CandlestickSeries, {});
    this.error = this.add(HistogramSeries, {}, 1);
    this.volume = this.add(HistogramSeries, { priceFormat: { type: "volume" } }, 2);
    this.shades = [this.candles, this.error, this.volume].map((series) => this.shade(series));
    this.chart.panes().forEach((pane, i) => pane.setStretchFactor([6, 1.3, 1][i]));
    this.rows = new Map();
    this.unit = "bp";
    this.corner(1, () => `${this.page.t("s_error")} (${this.unit})`);
    this.corner(2, () => this.page.t("s_volume"));
    this.applyTheme();
  }

  colour(c) {
    this.candles.applyOptions({ upColor: c.s3, downColor: c.s4, wickUpColor: c.s3, wickDownColor: c.s4 });
    this.guess.applyOptions({ color: c.s2 });
    const hollow = faint(c.s2, 0.15);
    for (const series of [this.boxes, this.next]) series.applyOptions({ upColor: hollow, downColor: faint(c.s2, 0.45), borderColor: c.s2, wickColor: c.s2 });
    this.band.applyOptions({ fill: faint(c.s2, 0.16) });
    if (this.data) this.update(this.data);
  }

  update(data) {
    this.data = data;
    const { candles, rows, forecast, figures } = data, c = this.colours;
    this.rows = new Map(candles.map((candle) => [candle.time, { candle }]));
    for (const row of rows) this.rows.set(row.time, { ...(this.rows.get(row.time) || {}), row });
    this.figures = new Map(figures.map((row) => [row.time, row]));
    if (forecast) this.rows.set(forecast.time, { forecast });
    this.keep([...candles.map((candle) => candle.time), ...(forecast ? [forecast.time] : [])], () => this.put(data, c));
    this.speak();
  }

  put({ candles, rows, forecast, figures }, c) {
    const range = [...rows, ...(forecast ? [forecast] : [])].filter((row) => Number.isFinite(row.lo) && Number.isFinite(row.hi));
    this.candles.setData(candles);
    this.band.setData(range.map((row) => ({ time: row.time, lo: row.lo, hi: row.hi })));
    this.guess.setData(broken([...rows, ...(forecast ? [forecast] : [])], "forecast", this.page.step));
    this.boxes.setData(rows.filter((row) => Number.isFinite(row.pred.open_next)).map((row) => ({ time: row.time, open: row.pred.open_next, high: row.pred.high_next, low: row.pred.low_next, close: row.pred.close_next })));
    this.next.setData(forecast ? [{ time: forecast.time, open: forecast.open, high: forecast.high, low: forecast.low, close: forecast.forecast }] : []);
    const name = this.unit === "bp" ? "error_bp" : "error_pct";
    this.error.setData(figures.map((row) => ({ time: row.time, value: row[name], color: faint(c.s2, row.inside ? 0.55 : 1) })));
    this.volume.setData(candles.map((candle) => ({ time: candle.time, value: candle.volume, color: faint(candle.close >= candle.open ? c.s3 : c.s4, 0.55) })));
    const spans = spansOf(rows, c);
    this.shades.forEach((shade) => shade.set(spans));
  }

  shape({ boxes, unit }) {
    this.unit = unit;
    this.guess.applyOptions({ visible: !boxes });
    this.boxes.applyOptions({ visible: boxes });
    this.applyTheme();
  }

  under(time) {
    const found = this.rows.get(time), { t, f } = this.page;
    if (!found) return this.when(time);
    const { candle, row, forecast } = found, parts = [this.when(time)];
    if (candle) parts.push(`${t("s_real")} ${t("open")} ${f.price(candle.open)} ${t("high")} ${f.price(candle.high)} ${t("low")} ${f.price(candle.low)} ${t("close")} ${f.price(candle.close)} · ${t("s_volume")} ${f.compact(candle.volume)}`);
    const said = row || forecast;
    if (said) parts.push(`${t("s_pred")} ${f.price(said.forecast)}`);
    if (said && Number.isFinite(said.lo)) parts.push(t("interval90", { lo: f.price(said.lo), hi: f.price(said.hi) }));
    if (row) parts.push(this.errorWords(row.error, this.figures.get(time)));
    return parts.join(" · ");
  }

  begin(count) {
    const readable = Math.min(READABLE, Math.max(60, Math.floor(this.plot.clientWidth / 5)));
    if (count > readable) this.chart.timeScale().setVisibleLogicalRange({ from: count - readable, to: count + 2 });
    else super.begin();
  }
}

/** Shaded spans: the walk-forward part, and the part that was sealed live. */
function spansOf(rows, c) {
  const spans = [];
  for (const row of rows) {
    const now = spans[spans.length - 1];
    if (now && now.origin === row.origin) now.to = row.time;
    else spans.push({ origin: row.origin, from: row.time, to: row.time });
  }
  return spans.map(({ origin, from, to }) => [from, to, faint(origin === "sealed" ? c.s5 : c.s1, origin === "sealed" ? 0.12 : 0.06)]);
}

/** Sealed forecasts against reality, with the interval; outcomes outside it are marked. */
export class SealedChart extends Frame {
  constructor(box, page) {
    super(box, page);
    this.band = this.add(Band, {});
    this.real = this.add(LineSeries, { lineWidth: 2 });
    this.guess = this.add(LineSeries, { lineWidth: 1, lineStyle: LineStyle.Solid });
    this.marks = createSeriesMarkers(this.real, []);
    this.zone = this.shade(this.real);
    this.applyTheme();
  }

  colour(c) {
    this.real.applyOptions({ color: c.s3 });
    this.guess.applyOptions({ color: c.s2 });
    this.band.applyOptions({ fill: faint(c.s2, 0.16) });
    if (this.rows) this.update(this.rows);
  }

  update(rows) {
    this.rows = rows;
    this.byTime = new Map(rows.map((row) => [row.time, row]));
    const missed = rows.filter((row) => row.inside === 0);
    this.keep(rows.map((row) => row.time), () => {
      this.real.setData(broken(rows, "close", this.page.step));
      this.guess.setData(broken(rows, "forecast", this.page.step));
      this.band.setData(rows.filter((row) => Number.isFinite(row.lo)).map((row) => ({ time: row.time, lo: row.lo, hi: row.hi })));
      this.marks.setMarkers(missed.map((row) => ({ time: row.time, position: row.close > row.hi ? "aboveBar" : "belowBar", shape: "circle", size: 0.5, color: this.colours.bad })));
      this.zone.set(rows.length ? [[rows[0].time, rows[rows.length - 1].time, faint(this.colours.s5, 0.08)]] : []);
    });
    this.speak();
  }

  under(time) {
    const row = this.byTime?.get(time), { t, f } = this.page;
    if (!row) return this.when(time);
    return [this.when(time), `${t("s_real")} ${f.price(row.close)}`, `${t("s_pred")} ${f.price(row.forecast)}`, this.errorWords(row.error, row)].join(" · ");
  }
}

/** Rolling right signs beside a coin and the repeating baseline; below, each candle's move. */
export class DirectionChart extends Frame {
  constructor(box, page) {
    super(box, page);
    this.coin = this.add(Band, {});
    this.repeat = this.add(LineSeries, { lineWidth: 1, lineStyle: LineStyle.Dashed, crosshairMarkerVisible: false });
    this.wda = this.add(LineSeries, { lineWidth: 1, crosshairMarkerVisible: false });
    this.share = this.add(LineSeries, { lineWidth: 2, crosshairMarkerVisible: false });
    this.moves = this.add(HistogramSeries, {}, 1);
    this.half = this.share.createPriceLine({ price: 50, lineWidth: 1, lineStyle: LineStyle.Solid, axisLabelVisible: false });
    this.zones = [this.share, this.moves].map((series) => this.shade(series));
    this.chart.panes().forEach((pane, i) => pane.setStretchFactor([3, 1][i]));
    this.corner(0, () => ["%", this.page.challenger].filter(Boolean).join(" · "));
    this.corner(1, () => `${this.page.t("s_move")} (bp)`);
    this.applyTheme();
  }

  colour(c) {
    this.share.applyOptions({ color: c.s1 });
    this.wda.applyOptions({ color: c.s5 });
    this.repeat.applyOptions({ color: c.s7 });
    this.coin.applyOptions({ fill: faint(c.s7, 0.22) });
    this.half.applyOptions({ color: c.muted });
    if (this.rows) this.draw();
  }

  update({ candles, rolling }) {
    this.rows = rowsOf(candles);
    this.rolling = rowsOf(rolling);
    this.draw();
  }

  draw() {
    const { rows, rolling, colours: c } = this;
    this.byTime = new Map(rows.map((row) => [row.time, row]));
    this.rollingByTime = new Map(rolling.map((point) => [point.time, point]));
    this.mark();
    const share = (name) => rolling.map((point) => ({ time: point.time, value: 100 * point[name] }));
    this.keep(rows.map((row) => row.time), () => {
      this.share.setData(share("direction"));
      this.wda.setData(share("wda"));
      this.repeat.setData(share("repeat"));
      this.coin.setData(rolling.map((point) => ({ time: point.time, lo: 100 * point.low, hi: 100 * point.high })));
      this.moves.setData(rows.map((row) => ({ time: row.time, value: row.move_bp, color: row.right === null ? c.rule : faint(row.right ? c.s1 : c.s2, 0.8) })));
      this.zones.forEach((zone) => zone.set(spansOf(rows, c)));
    });
    this.speak();
  }

  under(time) {
    const row = this.byTime?.get(time), point = this.rollingByTime?.get(time), { t, f } = this.page, parts = [this.when(time)];
    const way = (value) => (value > 0 ? t("up") : value < 0 ? t("down") : "–");
    if (row) parts.push(`${t("s_pred")} ${way(row.forecast_bp)}`, `${t("s_real")} ${way(row.move_bp)} ${f.signedOne(row.move_bp)} bp`);
    if (point) parts.push(`${t("s_accuracy")} ${f.percent(point.direction)}`, `WDA ${f.percent(point.wda)}`, `${t("s_repeat")} ${f.percent(point.repeat)}`);
    return parts.join(" · ");
  }
}

/** Error of each training beside persistence's, and the model served since then. */
export class TrainingsChart extends Frame {
  constructor(box, page) {
    super(box, page);
    this.ratio = this.add(LineSeries, { lineVisible: false, pointMarkersVisible: true, pointMarkersRadius: 4 });  // spans differ: no line
    this.one = this.ratio.createPriceLine({ price: 1, lineWidth: 1, lineStyle: LineStyle.Dashed, axisLabelVisible: true });
    this.marks = createSeriesMarkers(this.ratio, []);
    this.applyTheme();
  }

  colour(c) {
    this.ratio.applyOptions({ color: c.s1, priceFormat: { type: "price", precision: 4, minMove: 0.0001 } });
    this.one.applyOptions({ color: c.muted, title: this.page.t("s_persistence") });
    this.chart.applyOptions({ localization: { priceFormatter: (value) => this.page.f.four(value) } });
    if (this.items) this.update(this.items);
  }

  update(items) {
    this.items = items;
    const points = items.map((item) => ({ time: item.time, value: item.ratio }));
    const changes = items.filter((item, i) => i > 0 && item.champion !== items[i - 1].champion);
    this.byTime = new Map(items.map((item) => [item.time, item]));
    this.keep(points.map((point) => point.time), () => {
      this.ratio.setData(points);
      this.marks.setMarkers(changes.map((item) => ({ time: item.time, position: "aboveBar", shape: "arrowDown", color: this.colours.s5, text: item.champion })));
    });
    this.speak();
  }

  under(time) {
    const item = this.byTime?.get(time), { t, f } = this.page;
    if (!item) return this.when(time);
    return [this.when(time), `${t("t_mae")} ${f.two(item.mae)}`, `${t("t_base")} ${f.two(item.persistence_mae)}`, item.champion].join(" · ");
  }
}

/** Cumulative result of the rule in bp, before and after costs, beside holding and repeating. */
export class MoneyChart extends Frame {
  constructor(box, page) {
    super(box, page);
    this.lines = {
      hold: this.add(LineSeries, { lineWidth: 1, crosshairMarkerVisible: false }),
      repeat: this.add(LineSeries, { lineWidth: 1, lineStyle: LineStyle.Dashed, crosshairMarkerVisible: false }),
      gross: this.add(LineSeries, { lineWidth: 1, crosshairMarkerVisible: false }), net: this.add(LineSeries, { lineWidth: 2, crosshairMarkerVisible: false }),
    };
    this.zero = this.lines.net.createPriceLine({ price: 0, lineWidth: 1, lineStyle: LineStyle.Solid, axisLabelVisible: false });
    this.zone = this.shade(this.lines.net);
    this.corner(0, () => ["bp", this.page.challenger].filter(Boolean).join(" · "));
    this.applyTheme();
  }

  colour(c) {
    Object.entries({ hold: c.s7, repeat: c.s4, gross: c.s6, net: c.s1 }).forEach(([name, color]) => this.lines[name].applyOptions({ color }));
    this.zero.applyOptions({ color: c.muted });
    if (this.rows) this.draw();
  }

  update({ candles }) {
    this.rows = rowsOf(candles);
    this.draw();
  }

  draw() {
    const { rows, colours: c } = this;
    this.mark();
    this.byTime = new Map(rows.map((row) => [row.time, row]));
    this.keep(rows.map((row) => row.time), () => {
      for (const [name, made] of Object.entries(this.lines)) made.setData(line(rows, `${name}_bp`));
      this.zone.set(spansOf(rows, c));
    });
    this.speak();
  }

  under(time) {
    const row = this.byTime?.get(time), { t, f } = this.page;
    if (!row) return this.when(time);
    return [this.when(time), ...["net", "gross", "hold"].map((name) => `${t(`s_${name}`)} ${f.signedOne(row[`${name}_bp`])} bp`)].join(" · ");
  }
}
