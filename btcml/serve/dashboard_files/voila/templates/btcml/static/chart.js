// The chart: draws the series that the kernel describes, with crosshair, zoom and CSV. It computes no figure.

import {
  CandlestickSeries, ColorType, CrosshairMode, HistogramSeries, LineSeries, LineStyle, createChart, createSeriesMarkers, createTextWatermark,
} from "./lightweight-charts.js";
import { Band, Fan, Shade } from "./layers.js";

const NAMES = ["ink", "muted", "rule", "paper", "panel", "good", "bad", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
const QUIET = { lastValueVisible: false, priceLineVisible: false, crosshairMarkerVisible: false };
const KINDS = { candles: CandlestickSeries, boxes: CandlestickSeries, line: LineSeries, dots: LineSeries, bars: HistogramSeries };
const AREAS = { band: Band, fan: Fan };
const ICONS = { in: "M11 5v12M5 11h12M21 21l-4.3-4.3", out: "M5 11h12M21 21l-4.3-4.3", reset: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5", csv: "M12 3v12m0 0 5-5m-5 5-5-5M4 20h16" };
const PAN = 0.15;
const charts = (globalThis.btcmlCharts ||= new Set());

const faint = (colour, alpha) => {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
};
const element = (tag, name, parent) => {
  const made = document.createElement(tag);
  made.className = name;
  return parent.appendChild(made);
};

async function unpacked(view) {
  if (!view?.byteLength) return { series: {} };
  return new Response(new Blob([view]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

/** Rows of a series, from its columns. */
function rowsOf(columns) {
  const names = Object.keys(columns || {});
  return (columns?.time || []).map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
}

class Chart {
  constructor(model, el) {
    this.model = model;
    this.frame(el);
    this.count = 0;
    this.touched = false;
    this.series = new Map();
    this.made = "";
    this.ending = new AbortController();
    document.addEventListener("btcml-theme", () => this.theme(), { signal: this.ending.signal });
    model.on("change:look", () => this.draw());
    model.on("change:data", () => this.draw());
    model.on("change:title", () => this.words());
    model.on("change:say", () => this.words());
    charts.add(this);
    this.words();
    this.draw();
  }

  destroy() {
    charts.delete(this);
    this.ending.abort();
    this.chart?.remove();
  }

  frame(el) {
    this.box = element("section", "btcml-chart", el);
    const head = element("header", "", this.box);
    this.heading = element("h2", "", head);
    this.tools = element("div", "btcml-tools", head);
    this.buttons = Object.fromEntries(Object.entries(ICONS).map(([name, path]) => {
      const button = element("button", `btcml-${name}`, this.tools);
      button.type = "button";
      button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true">${name === "in" || name === "out" ? '<circle cx="11" cy="11" r="7.5"/>' : ""}<path d="${path}"/></svg>`;
      button.addEventListener("click", () => (name === "csv" ? this.csv() : this.zoom(name)));
      return [name, button];
    }));
    this.said = element("p", "btcml-say", this.box);
    this.keys = element("div", "btcml-keys", this.box);
    this.stage = element("div", "btcml-stage", this.box);
    this.legend = element("div", "btcml-legend", this.stage);
    this.plot = element("div", "btcml-plot", this.stage);
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "img");
    this.plot.addEventListener("keydown", (event) => this.key(event));
    for (const event of ["wheel", "pointerdown"]) this.plot.addEventListener(event, () => { this.touched = true; }, { passive: true });
  }

  words() {
    const { words = {}, name } = this.model.get("look"), say = this.model.get("say");
    this.box.id = `btcml-${name}`;
    this.heading.textContent = this.model.get("title");
    this.said.textContent = say;
    this.plot.setAttribute("aria-label", `${this.model.get("title")}. ${say} ${words.keys || ""}`);
    for (const [key, button] of Object.entries(this.buttons)) {
      button.title = words[key] || "";
      button.setAttribute("aria-label", words[key] || key);
    }
  }

  /** New series where the description has changed, and the newest rows in any case. */
  async draw() {
    const look = this.model.get("look"), turn = (this.turn = (this.turn || 0) + 1), data = await unpacked(this.model.get("data"));
    if (turn !== this.turn) return;
    const rows = Object.fromEntries(Object.entries(data.series).map(([name, columns]) => [name, rowsOf(columns)]));
    const times = [...new Set(Object.values(rows).flatMap((list) => list.map((row) => row.time)))].sort((a, b) => a - b);
    this.stage.hidden = this.keys.hidden = this.tools.hidden = !times.length;
    this.words();
    if (!times.length) return;
    Object.assign(this, { look, data, rows, byTime: new Map() });
    if (this.made !== JSON.stringify([look.series, look.panes])) this.build(look);
    if (this.view !== look.view) { this.touched = false; this.count = 0; this.view = look.view; }
    const scale = this.chart.timeScale(), logical = scale.getVisibleLogicalRange(), range = scale.getVisibleRange();
    this.formats();
    this.theme();
    this.keep(times, logical, range);
    this.box.dataset.rows = times.length;
    if (look.name === "candles" && !performance.getEntriesByName("btcml-first").length) performance.mark("btcml-first");
  }

  build(look) {
    this.chart?.remove();
    this.made = JSON.stringify([look.series, look.panes]);
    this.count = 0;
    this.chart = createChart(this.plot, {
      autoSize: true, layout: { attributionLogo: false, fontSize: 11 }, crosshair: { mode: CrosshairMode.Magnet },
      handleScroll: { mouseWheel: false, vertTouchDrag: false }, handleScale: { mouseWheel: false },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 2, minBarSpacing: 0.02, fixLeftEdge: true },
    });
    this.chart.subscribeCrosshairMove((at) => this.hover(at));
    this.chart.timeScale().subscribeVisibleTimeRangeChange((range) => { this.plot.dataset.view = range ? `${range.from} ${range.to}` : ""; });
    this.series = new Map(look.series.map((about) => [about.name, this.add(about)]));
    this.chart.panes().forEach((pane, i) => pane.setStretchFactor(look.panes[i]?.height || 1));
    this.corners = look.panes.map((about, i) => about.label && createTextWatermark(this.chart.panes()[i], { horzAlign: "left", vertAlign: "top", lines: [] }));
    this.shades = look.panes.map((_, i) => {
      const first = look.series.find((about) => (about.pane || 0) === i), shade = new Shade();
      this.series.get(first.name).made.attachPrimitive(shade);
      return shade;
    });
  }

  add(about) {
    const options = { ...QUIET, lineWidth: about.width || 1, lineStyle: about.dashed ? LineStyle.Dashed : LineStyle.Solid };
    if (about.kind === "dots") Object.assign(options, { lineVisible: false, pointMarkersVisible: true, pointMarkersRadius: 4 });
    const Area = AREAS[about.kind];
    const made = Area ? this.chart.addCustomSeries(new Area(), options, about.pane || 0) : this.chart.addSeries(KINDS[about.kind], options, about.pane || 0);
    const line = about.at === undefined ? null : made.createPriceLine({ price: about.at, lineWidth: 1, lineStyle: LineStyle.Dashed, axisLabelVisible: false });
    return { about, made, line, marks: Area ? null : createSeriesMarkers(made, []) };
  }

  /** Numbers and times as the kernel chose for the viewer. */
  formats() {
    const { locale, zone } = this.look, number = (digits) => new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits });
    const made = {}, time = (options) => { const format = new Intl.DateTimeFormat(locale, { timeZone: zone, ...options }); return (at) => format.format(new Date(at * 1000)); };
    this.number = (value, digits = 2) => (Number.isFinite(value) ? (made[digits] ||= number(digits)).format(value) : "–");
    const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }, day = time({ day: "numeric", month: "short" });
    const hour = time(clock), month = time({ month: "short", year: "numeric" }), utc = time({ ...clock, timeZone: "UTC" });
    this.moment = (at) => `${day(at)} ${hour(at)}${zone === "UTC" ? "" : ` (${utc(at)} UTC)`}`;
    this.chart.applyOptions({
      timeScale: { tickMarkFormatter: (at, kind) => [month, month, day, hour, hour][kind](at) },
      localization: { locale, timeFormatter: (at) => this.moment(at), priceFormatter: (value) => this.number(value, Math.abs(value) >= 1000 ? 0 : this.look.digits ?? 2) },
    });
  }

  tone(text) {
    const [name, alpha] = text.split(":");
    return alpha ? faint(this.colours[name], alpha) : this.colours[name];
  }

  theme() {
    const style = getComputedStyle(this.box), c = (this.colours = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])));
    if (!this.chart) return;
    this.chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: c.paper }, textColor: c.muted, fontFamily: style.fontFamily, panes: { separatorColor: c.rule } },
      grid: { vertLines: { color: faint(c.rule, 0.45) }, horzLines: { color: faint(c.rule, 0.6) } }, rightPriceScale: { borderColor: c.rule }, timeScale: { borderColor: c.rule },
      crosshair: { vertLine: { color: c.muted, labelBackgroundColor: c.ink }, horzLine: { color: c.muted, labelBackgroundColor: c.ink } },
    });
    for (const { about, made, line } of this.series.values()) {
      const colour = this.tone(about.tone || "s1"), up = this.tone(about.up || "s3"), down = this.tone(about.down || "s4");
      const options = { color: colour, visible: !this.look.hidden?.includes(about.name) };
      if (about.kind === "candles") Object.assign(options, { upColor: up, downColor: down, wickUpColor: up, wickDownColor: down, borderVisible: false });
      if (about.kind === "boxes") Object.assign(options, { upColor: faint(colour, 0.12), downColor: faint(colour, 0.45), borderUpColor: colour, borderDownColor: colour, wickUpColor: colour, wickDownColor: colour });
      if (AREAS[about.kind]) Object.assign(options, { fill: colour });
      made.applyOptions(options);
      line?.applyOptions({ color: c.muted });
    }
    this.corners.forEach((corner, i) => corner && corner.applyOptions({ lines: [{ text: this.look.panes[i].label, color: c.muted, fontSize: 11 }] }));
    this.fill();
  }

  fill() {
    for (const [name, { about, made, marks }] of this.series) {
      const rows = this.rows[name] || [], gap = this.look.step;
      made.setData(rows.map((row, i) => {
        if (row.tone) return { ...row, color: this.tone(row.tone) };
        return about.kind === "line" && gap && rows[i + 1]?.time > row.time + gap ? { ...row, color: "transparent" } : row;  // a gap stays a gap
      }));
      marks?.setMarkers((this.data.marks?.[name] || []).map(([time, position, tone, text]) => ({ time, position, shape: text ? "arrowDown" : "circle", size: text ? 1 : 0.5, color: this.colours[tone], text })));
      for (const row of rows) this.byTime.set(row.time, { ...this.byTime.get(row.time), [name]: row });
    }
    for (const shade of this.shades) shade.set((this.data.spans || []).map(([from, to, tone]) => [from, to, this.tone(tone)]));
    this.keys.innerHTML = "";
    for (const about of this.look.keys) {
      const key = element("span", `btcml-key ${about.shape}`, this.keys);
      const [name, alpha] = about.tone.split(":");
      key.style.setProperty("--c", `var(--${name})`);
      if (alpha) key.style.setProperty("--a", alpha);
      key.textContent = about.label;
    }
  }

  /** The chosen span opens; what the viewer has zoomed to stays, and the right edge follows the newest candle. */
  keep(times, logical, range) {
    const scale = this.chart.timeScale();
    const followed = logical && this.count && logical.to >= this.count - 1.5, added = times.length - this.count;
    if (!this.touched || !this.count) scale.fitContent();
    else if (followed) scale.setVisibleLogicalRange({ from: logical.from + added, to: logical.to + added });
    else if (range) scale.setVisibleRange(range);
    this.count = times.length;
    this.times = times;
  }

  zoom(name) {
    const scale = this.chart.timeScale(), range = scale.getVisibleLogicalRange();
    if (name === "reset") { this.touched = false; scale.fitContent(); return; }
    const width = (range.to - range.from) * (name === "in" ? 0.6 : 1 / 0.6), edge = range.to >= this.count - 1.5, middle = (range.from + range.to) / 2;
    this.touched = true;
    scale.setVisibleLogicalRange(edge ? { from: range.to - width, to: range.to } : { from: middle - width / 2, to: middle + width / 2 });
  }

  key(event) {
    const scale = this.chart?.timeScale(), range = scale?.getVisibleLogicalRange(), width = range ? range.to - range.from : 0;
    const move = (by) => { this.touched = true; scale.setVisibleLogicalRange({ from: range.from + by, to: range.to + by }); };
    const acts = { ArrowLeft: () => move(-PAN * width), ArrowRight: () => move(PAN * width), "+": () => this.zoom("in"), "=": () => this.zoom("in"), "-": () => this.zoom("out"), 0: () => this.zoom("reset") };
    if (!range || !acts[event.key]) return;
    acts[event.key]();
    event.preventDefault();
  }

  /** The crosshair of one chart stands in all of them. */
  hover(at) {
    const time = at.time === undefined || !at.point ? null : at.time;
    this.tell(time);
    if (this.following || (time !== null && !at.sourceEvent)) return;
    for (const other of charts) if (other !== this && other.chart) other.follow(time);
  }

  follow(time) {
    this.following = true;
    const found = time === null ? null : this.byTime.get(time), name = found && Object.keys(found)[0], row = name && found[name];
    const price = row?.close ?? row?.value ?? row?.hi;
    if (price !== undefined) this.chart.setCrosshairPosition(price, time, this.series.get(name).made);
    else this.chart.clearCrosshairPosition();
    this.following = false;
    this.tell(row ? time : null);
  }

  tell(time) {
    const found = time === null ? null : this.byTime.get(time), parts = [];
    for (const { about } of found ? this.series.values() : []) {
      const row = found[about.name], say = (value) => `${this.number(value, about.digits)}${about.unit ? ` ${about.unit}` : ""}`;
      if (!row || !about.label || this.look.hidden?.includes(about.name)) continue;
      if (AREAS[about.kind]) parts.push(`${about.label} ${say(row.lo)} – ${say(row.hi)}`);
      else if (row.open !== undefined) parts.push(`${about.label} ${["open", "high", "low", "close"].map((part) => `${this.look.words[part]} ${say(row[part])}`).join(" ")}`);
      else parts.push(`${about.label} ${say(row.value)}`);
    }
    this.legend.textContent = found ? [this.moment(time), ...parts].join(" · ") : "";
  }

  /** The rows in view as a file: times in UTC, one column for each value. */
  csv() {
    const range = this.chart.timeScale().getVisibleLogicalRange(), columns = [];
    for (const [name, rows] of Object.entries(this.rows)) for (const part of Object.keys(rows[0] || {})) if (!["time", "tone", "color"].includes(part)) columns.push([name, part]);
    const seen = this.times.slice(Math.max(0, Math.ceil(range.from)), Math.floor(range.to) + 1);
    const lines = seen.map((time) => [new Date(time * 1000).toISOString(), ...columns.map(([name, part]) => this.byTime.get(time)?.[name]?.[part] ?? "")].join(","));
    const text = [["time", ...columns.map(([name, part]) => (part === "value" ? name : `${name}_${part}`))].join(","), ...lines, ""].join("\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = `${this.look.view.replaceAll(" ", "-")}-${this.look.name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}

export default {
  render({ model, el }) {
    const chart = new Chart(model, el);
    return () => chart.destroy();
  },
};
