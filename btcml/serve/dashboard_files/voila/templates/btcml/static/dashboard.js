// The widget: sends requests to the kernel, keeps the responses, draws them, and shows errors. Figures come from the API; none is computed here.

import { chosenLanguage, translator } from "./words.js";
import { formatter, rowsOf, second, seconds } from "./format.js";
import { asker } from "./link.js";
import { DirectionChart, MainChart, MoneyChart, SealedChart, TrainingsChart } from "./charts.js";
import { reliabilityDrawing, safe, table } from "./drawings.js";
import { pageHtml } from "./layout.js";

const INTERVALS = ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d"];
const SPANS = [0.25, 1, 3, 7, 30, 90, 365, 1095];
const [FEW, MANY, USUAL] = [24, 9900, 600];
const BACK_OFF = [2, 4, 8, 15];
const DAY = 86400;
const GONE_MS = 60_000;
const TYPING_MS = 250;
const FLAT = { candles: {}, rolling: {}, reliability: [], scores: [], direction: { right: 0, rows: 0 } };

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const iso = (time) => new Date(time * 1000).toISOString();
const own = (given) => { try { return JSON.parse(localStorage.getItem("btcml") || "{}")[given]; } catch { return undefined; } };

/** One dashboard in one element. */
class Dashboard {
  constructor(model, element) {
    this.model = model;
    this.root = element;
    this.language = own("language") || chosenLanguage(navigator.language);
    this.theme = own("theme") || "auto";
    this.notices = new Map();
    this.charts = {};
    this.busy = new Set();
    this.alive = true;
    this.offset = 0;
    this.failures = 0;
    this.hello = { symbols: ["BTCUSDT"], interval: "5m", api: "", locked: false };
    this.forget();
  }

  $(name) { return this.root.querySelector(`#btcml-${name}`); }

  /** Forget all data of the series. */
  forget() {
    this.turn = (this.turn || 0) + 1;
    this.problems = {};
    this.candles = new Map();
    this.points = new Map();
    this.figures = { mark: "", own: null, shown: null, week: null, day: null };
    Object.assign(this, { looked: 0, prediction: null, futures: null, trainings: null, models: null, market: "", timed: false, loading: false, report: null });
  }

  async start() {
    this.root.classList.add("btcml");
    this.root.innerHTML = pageHtml();
    this.link = asker(this.model, (ms) => this.slow(ms));
    this.model.onlost = () => this.lost("lostKernel");
    this.words();
    this.charts.main = new MainChart(this.$("main"), this);
    this.listen();
    this.hello = await this.link.ask("hello");
    this.symbol = own("symbol") || this.hello.symbols[0];
    if (!this.hello.symbols.includes(this.symbol)) [this.symbol] = this.hello.symbols;
    this.interval = own("interval") || this.hello.interval;
    this.days = own("days");
    this.choices();
    this.words();
    this.refresh();
    this.resume();
    this.clock = setInterval(() => this.tick(), 500);
  }

  destroy() {
    this.alive = false;
    clearInterval(this.clock);
    clearTimeout(this.nap);
    this.link.stop();
    Object.values(this.charts).forEach((chart) => chart.destroy());
    document.removeEventListener("visibilitychange", this.onvisible);
    this.dark.removeEventListener("change", this.ondark);
  }

  // ---- words, theme, controls ----

  words() {
    this.t = translator(this.language);
    this.f = formatter(this.language);
    this.root.lang = this.language;
    if (this.model.leave) { document.documentElement.lang = this.language; document.title = `btcml · ${this.t("title")}`; }
    this.dark ||= matchMedia("(prefers-color-scheme: dark)");
    this.root.dataset.theme = this.theme === "auto" ? (this.dark.matches ? "dark" : "light") : this.theme;
    this.root.querySelectorAll("[data-t]").forEach((element) => { element.textContent = this.t(element.dataset.t); });
    this.busy.forEach((name) => this.face(name));
    this.$("language").value = this.language;
    this.$("theme").value = this.theme;
    this.$("zone").textContent = this.t(this.f.zone === "UTC" ? "zoneUtc" : "zoneNote", { zone: this.f.zone });
    this.$("version").textContent = this.hello.version ? `btcml ${this.hello.version}` : "";
    if (this.symbol) this.choices();
    Object.values(this.charts).forEach((chart) => chart.applyTheme());
    this.show();
  }

  choices() {
    const fill = (name, values, chosen, label = (value) => value) => {
      this.$(name).innerHTML = values.map((value) => `<option value="${safe(value)}"${value === chosen ? " selected" : ""}>${safe(label(value))}</option>`).join("");
    };
    const count = (days) => (days * DAY) / seconds(this.interval);
    const spans = SPANS.filter((days) => count(days) >= FEW && count(days) <= MANY);
    const distance = (days) => Math.abs(Math.log(count(days) / USUAL));
    if (!spans.includes(this.days)) this.days = spans.reduce((best, days) => (distance(days) < distance(best) ? days : best));
    const long = (days) => new Intl.NumberFormat(this.f.locale, { style: "unit", unit: days < 1 ? "hour" : "day", unitDisplay: "long" }).format(days < 1 ? days * 24 : days);
    fill("symbol", this.hello.symbols, this.symbol);
    fill("interval", INTERVALS.includes(this.interval) ? INTERVALS : [this.interval, ...INTERVALS], this.interval);
    fill("span", spans, this.days, long);
  }

  remember() {
    const { language, theme, symbol, interval, days } = this;
    try { localStorage.setItem("btcml", JSON.stringify({ language, theme, symbol, interval, days })); } catch { /* a private window keeps nothing */ }
  }

  listen() {
    const on = (name, event, handler) => this.$(name).addEventListener(event, handler);
    const another = (change) => { change(); this.remember(); this.forget(); this.choices(); this.notices.clear(); Object.values(this.charts).forEach((chart) => chart.fresh()); this.show(); this.refresh(); };
    on("symbol", "change", (event) => another(() => { this.symbol = event.target.value; }));
    on("interval", "change", (event) => another(() => { this.interval = event.target.value; }));
    on("span", "change", (event) => another(() => { this.days = Number(event.target.value); }));
    on("language", "change", (event) => { this.language = event.target.value; this.remember(); this.words(); });
    on("theme", "change", (event) => { this.theme = event.target.value; this.remember(); this.words(); });
    on("unlock", "click", () => this.door());
    for (const name of ["ingest", "train", "predict"]) on(name, "click", () => this.act(name));
    const shape = () => this.charts.main.shape({ boxes: this.$("boxes").checked, unit: this.$("unit").value });
    on("boxes", "change", shape);
    on("unit", "change", shape);
    for (const name of ["cost", "threshold"]) on(name, "input", () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.askFigures(this.turn), TYPING_MS); });
    on("notices", "click", (event) => { const kind = event.target.dataset?.kind; if (kind) { this.notices.delete(kind); this.showNotices(); } });
    this.ondark = () => this.words();
    this.dark.addEventListener("change", this.ondark);
    this.onvisible = () => this.visible();
    document.addEventListener("visibilitychange", this.onvisible);
    this.root.addEventListener("keydown", (event) => { if (event.key === "Escape") this.root.querySelector(".menu[open]")?.removeAttribute("open"); });
    document.addEventListener("click", (event) => { const menu = this.root.querySelector(".menu[open]"); if (menu && !menu.contains(event.target)) menu.open = false; });
  }

  visible() {
    clearTimeout(this.nap);
    if (document.hidden && this.model.leave) this.nap = setTimeout(() => { this.slept = true; this.model.leave(); }, 1000 * (this.hello.sleep_s || 600));
    else if (this.slept) this.lost("asleep");
    else if (!document.hidden && this.$("auto").checked) this.refresh();
  }

  /** The kernel is gone: say so and open the page again, with pauses that grow. */
  lost(key) {
    if (!this.alive || this.reopening) return;
    this.reopening = true;
    this.notice("kernel", "bad", this.t(key));
    const times = Number(sessionStorage.getItem("btcml-reopened") || 0);
    sessionStorage.setItem("btcml-reopened", times + 1);
    const again = async () => {
      const answer = await fetch("health", { cache: "no-store" }).catch(() => null);
      if (answer?.ok) location.reload();
      else setTimeout(again, 2000);
    };
    setTimeout(again, Math.min(1000 * 2 ** times, 15_000));
  }

  // ---- requests ----

  now() { return Date.now() / 1000 + this.offset; }

  get step() { return seconds(this.interval); }

  get newest() { return this.candles.size ? Math.max(...[...this.candles.keys()].slice(-2)) : null; }

  /** Request everything that may be new, and nothing that is there already. */
  async refresh() {
    if (this.loading || !this.alive || !this.interval) return;
    this.loading = true;
    const turn = this.turn, key = { symbol: this.symbol, interval: this.interval }, known = this.newest;
    const latest = this.points.size ? Math.max(...[...this.points.keys()].slice(-2)) : null;
    const count = Math.ceil((this.days * DAY) / this.step) + 3;
    const since = latest === null ? { fallback_days: Math.ceil(this.days), limit: 30_000 } : { start: iso(latest - FEW * this.step) };
    const asks = [
      ["prices", { ...key, n: known === null ? count : Math.min(count, FEW + Math.ceil(Math.max(this.now() - known, 0) / this.step)) }],
      ["predict", key], ["series", { ...key, ...since }], ["metrics", { ...key, limit: 200 }], ["model", key],
    ];
    const hear = async ([name, query]) => {
      const answer = await this.link.ask(name, query);
      if (turn === this.turn) this.heard(name, answer);
    };
    const [prices, ...others] = asks.map(hear);
    await prices;  // the week before the market's newest candle: its clock need not be the viewer's
    const week = { ...key, start: iso(this.weekStart()), limit: 20_000 };
    await Promise.all([...others, ...(turn === this.turn ? [hear(["futures", week]), this.askFigures(turn)] : [])]);
    if (turn === this.turn) await this.askReport(turn, key);
    if (turn !== this.turn) return;
    this.loading = false;
    this.looked = Date.now();
    this.showNotices();
    if (this.root.dataset.painted !== "all") this.showRest();
    const down = ["unreachable", "slow", "foreign"].includes(this.worst()?.code) || this.worst()?.status >= 500;
    this.failures = down ? this.failures + 1 : 0;
    if (!down) sessionStorage.removeItem("btcml-reopened");
  }

  /** What a trade costs, and above which forecast move one is made. */
  get trade() {
    const number = (name) => Math.max(0, Number(this.$(name).value) || 0);
    return { cost_bp: number("cost"), threshold_bp: number("threshold") };
  }

  /** Figures of what is shown: of the span, and of the sealed forecasts; while persistence serves, also the best challenger's. */
  async askFigures(turn) {
    if (!this.candles.size) return;
    const span = { ...this.series(), ...this.trade, start: iso(Math.min(...this.candles.keys())) }, since = (days) => iso((this.newest ?? 0) - days * DAY);
    const mark = JSON.stringify([span, this.newest, this.prediction?.artifact]);
    if (this.figures.mark === mark) return;
    const ask = async (query) => {
      const answer = await this.link.ask("evaluation", query);
      if (turn === this.turn) this.problems.evaluation = answer.code === "ok" ? null : answer;
      return answer.code === "ok" ? answer.data : null;
    };
    const sealed = { ...this.series(), origin: "sealed" };
    const [own, week, day] = await Promise.all([ask(span), ask({ ...sealed, start: since(7) }), ask({ ...sealed, start: since(1), curves: false })]);
    const other = own && own.champion === "persistence" && own.best !== own.champion;
    const shown = other ? await ask({ ...span, model: own.best }) : own;
    if (turn !== this.turn || !own || !shown || !week || !day) return;
    this.figures = { mark, own, shown, week, day };
    this.show("figures");
  }

  /** Name of the challenger whose figures are shown because persistence serves; empty: those shown are the served model's. */
  get challenger() { const { own, shown } = this.figures; return shown && shown !== own ? shown.model : ""; }

  /** Scores of a model in an evaluation. */
  score(figures, name = figures?.model) { return figures?.scores.find((row) => row.model === name) || { rows: 0 }; }

  weekStart() { return (this.newest ?? this.now()) - 7 * DAY; }

  heard(name, answer) {
    const good = answer.code === "ok" || answer.code === "unchanged";
    this.problems[name] = good ? null : answer;
    if (good && answer.data) this[`heard_${name}`](answer.data);
    if (!good && name === "predict") this.prediction = null;
    this.show(name);
  }

  heard_prices({ items, market }) {
    this.market = market;
    for (const item of items) this.candles.set(second(item.time), item);
    const oldest = this.newest - (this.days * DAY) - 3 * this.step;
    for (const time of this.candles.keys()) if (time < oldest) this.candles.delete(time);
  }

  heard_predict(data) {
    this.prediction = data;
    this.market = data.market;
    const offset = second(data.trained_at) + data.model_age_seconds - Date.now() / 1000;
    this.offset = Math.abs(offset) < 3 ? 0 : offset;  // a market may have a clock of its own
    this.timed = true;
  }

  heard_series({ points }) {
    for (const point of points) this.points.set(second(point.real.time), point);
    this.points = new Map([...this.points].sort(([a], [b]) => a - b));
  }

  heard_futures({ points }) { this.futures = points; }
  heard_metrics({ items }) { this.trainings = items; }

  heard_model({ models }) { this.models = models; }

  /** The report of the served model. */
  async askReport(turn, key) {
    const [start, end] = this.models?.find((model) => model.champion)?.window || [];
    const found = await this.link.ask("report", { ...key, market: this.market, start, end });
    if (turn !== this.turn) return;
    this.report = found.path ? found : null;
    this.showLinks();
  }

  /** The most informative problem, or nothing. */
  worst() {
    const all = Object.values(this.problems).filter(Boolean);
    const order = ["unreachable", "foreign", "slow"];
    return all.find((problem) => order.includes(problem.code)) || all.find((problem) => problem.status >= 500) || all[0] || null;
  }

  slow(ms) {
    this.waited = ms;
    if (ms) this.notice("slow", "warn", this.t("waiting", { time: this.f.age(ms / 1000) }));
    else if (this.notices.delete("slow")) this.showNotices();
  }

  /** Half a second has passed: countdown, ages, and whether it is time to look again. */
  tick() {
    this.showClock();
    const pauseS = this.failures ? BACK_OFF[Math.min(this.failures, BACK_OFF.length) - 1] : this.due();
    if (!this.loading && this.looked && pauseS !== null && Date.now() - this.looked > 1000 * pauseS && !document.hidden) this.refresh();
  }

  /** Seconds after the last look at which to look again, or null. */
  due() {
    if (!this.$("auto").checked) return null;
    if (this.newest === null) return 10;
    const over = this.now() - (this.newest + 2 * this.step);
    if (over < 1) return 60;
    return over < 90 ? 4 : 20;
  }

  // ---- buttons ----

  face(name) {
    const button = this.$(name), busy = this.busy.has(name);
    button.setAttribute("aria-busy", busy);
    button.setAttribute("aria-disabled", busy);
    button.querySelector("span").textContent = this.t(busy ? `busy${name[0].toUpperCase()}${name.slice(1)}` : name);
  }

  async act(name) {
    if (this.busy.has(name)) return;
    if (this.hello.locked && !(await this.door())) return;
    this.busy.add(name);
    this.face(name);
    this.notices.delete(name);
    this.showNotices();
    try {
      await this[`do_${name}`]();
    } finally {
      this.busy.delete(name);
      this.face(name);
    }
    this.loading = false;
    this.turn += 1;
    this.figures.mark = "";
    await this.refresh();
  }

  series() { return { symbol: this.symbol, interval: this.interval }; }

  async do_ingest() {
    const answer = await this.link.ask("ingest", this.series(), { patient: true });
    if (answer.code !== "ok") { this.refused("ingest", answer); return; }
    const f = this.f, data = answer.data;
    const values = Object.fromEntries(["fetched", "inserted", "revised", "quarantined"].map((name) => [name, f.whole(data[name])]));
    this.notice("ingest", "good", this.t("done_ingest", values), answer);
  }

  async do_predict() {
    const answer = await this.link.ask("predict", this.series());
    if (answer.code !== "ok") { this.refused("predict", answer); return; }
    this.heard("predict", answer);
    const { predicted_close: close, delta, delta_pct: percent } = answer.data;
    const values = { close: this.f.price(close), delta: this.f.signed(delta), pct: this.f.signedPercent3(percent), seal: `${this.sealWords()}.` };
    this.notice("predict", "good", this.t("done_predict", values), answer);
  }

  async do_train() {
    const answer = await this.link.ask("train", { ...this.series(), days: 1095 }, { patient: true });
    if (answer.code !== "ok") { this.refused("train", answer); return; }
    if (answer.status === 202) await this.follow(answer.data, answer);
    else this.trained(answer.data, null, answer);
  }

  /** Follow a job to its end; an API that is gone for a minute ends the waiting, not the job. */
  async follow(job, answer) {
    const begun = Date.now(), turn = this.turn;
    let now = job, heard = Date.now();
    while (["queued", "running"].includes(now.status) && this.alive && turn === this.turn) {
      this.going(now, begun);
      await pause(1000);
      const next = await this.link.ask("job", { id: job.id });
      if (next.code === "ok") { now = next.data; heard = Date.now(); } else if (Date.now() - heard > GONE_MS) { this.refused("train", next); return; }
    }
    if (now.status === "ok") this.trained(now.result, this.lasted(now), answer);
    else if (!["queued", "running"].includes(now.status)) this.notice("train", "bad", this.t("jobLost", { id: now.id, status: this.t(`st_${now.status}`), error: now.error || "" }), { request_id: now.request_id });
  }

  lasted(item) { return item?.started_at && item?.finished_at ? (Date.parse(item.finished_at) - Date.parse(item.started_at)) / 1000 : null; }

  going(job, begun) {
    const usual = this.lasted(this.trainings?.[0]);
    const values = { id: job.id, status: this.t(`st_${job.status}`), time: this.f.age((Date.now() - begun) / 1000), usual: usual ? this.t("usual", { time: this.f.age(usual) }) : "" };
    this.notice("train", "busy", this.t("going_train", values), { share: usual ? Math.min(0.95, (Date.now() - begun) / 1000 / usual) : null });
  }

  trained(result, took, answer) {
    const f = this.f, r = result || {}, share = (value) => (Number.isFinite(value) ? `${f.four(value)} %` : "–");
    const values = { time: took === null ? "–" : f.age(took), mae: f.two(r.mae), base: f.two(r.persistence_mae), mape: share(r.mape), smape: share(r.smape), samples: f.whole(r.samples), skill: f.signedPercent(r.skill ?? NaN), champion: r.champion };
    this.notice("train", "good", this.t("done_train", values), answer);
  }

  /** A training that was begun before this page came is followed too. */
  async resume() {
    const answer = await this.link.ask("jobs", { kind: "train", status: "running", limit: 1 });
    const job = answer.data?.items?.find?.((item) => item.symbol === this.symbol && item.interval === this.interval);
    if (!job || this.busy.has("train")) return;
    this.busy.add("train");
    this.face("train");
    await this.follow(job, answer);
    this.busy.delete("train");
    this.face("train");
    this.refresh();
  }

  refused(kind, answer) {
    if (answer.code === "locked") { this.hello.locked = true; this.showLock(); }
    this.notice(kind, "bad", this.sentence(answer), answer);
  }

  /** Ask for the password; true when the buttons are free. */
  door() {
    const door = this.$("door"), input = door.querySelector("input"), say = door.querySelector(".say");
    say.textContent = this.hello.password ? "" : this.t("noPassword");
    input.closest("label").hidden = !this.hello.password;
    return new Promise((resolve) => {
      door.onclose = async () => {
        if (door.returnValue !== "open" || !this.hello.password) { resolve(false); return; }
        const answer = await this.link.ask("unlock", { password: input.value });
        input.value = "";
        this.hello.locked = answer.locked;
        this.showLock();
        if (!answer.locked) { resolve(true); return; }
        say.textContent = this.t("wrong");
        door.returnValue = "";
        door.showModal();
      };
      door.returnValue = "";
      door.showModal();
    });
  }

  // ---- sentences ----

  sentence(problem) {
    const { code, status, detail } = problem, api = this.hello.api || "";
    const named = { unreachable: "p_unreachable", slow: "p_slow", foreign: "p_foreign", locked: "p_locked" }[code];
    const known = named || ([401, 404, 409, 422, 500, 502, 503].includes(status) ? `p_${status}` : "p_other");
    const extra = !named && detail ? ` ${detail[0].toUpperCase()}${detail.slice(1)}.` : "";
    return this.t(known, { api, status }) + extra;
  }

  /** The summary of all reads in one sentence, or nothing. */
  stateSentence() {
    const problem = this.worst();
    if (!problem) return null;
    const plain = problem.status === 409;
    if (plain && this.loading && !this.looked) return null;  // what is missing is known when all have answered
    if (plain && this.problems.prices?.status === 409) return [this.t("noCandles"), "warn", problem];
    if (plain && this.models && !this.models.length) return [this.t("noModel"), "warn", problem];
    if (plain && this.problems.predict?.status === 409 && this.models?.length) return [this.t("staleData"), "warn", problem];
    return [this.sentence(problem), "bad", problem];
  }

  sealWords() {
    const { sealed, sealed_at: at, seal_status: status } = this.prediction;
    if (sealed && status !== "late") return this.t("sealedYes", { time: at ? this.f.hour(second(at)) : "–" });
    return this.t({ late: "sealedLate", other: "sealedOther" }[status] || "sealedNo");
  }

  notice(kind, level, text, more = {}) {
    this.notices.set(kind, { level, text, id: more?.request_id, share: more?.share, detail: more?.detail });
    this.showNotices();
  }

  showNotices() {
    const state = this.stateSentence(), all = [...this.notices];
    if (state && !this.reopening) all.unshift(["state", { text: state[0], level: state[1], id: state[2].request_id, detail: state[2].detail }]);
    const list = this.$("notices"), seen = new Map([...list.children].map((item) => [item.dataset.kind, item]));
    for (const [kind, { text, level, id, share, detail }] of all) {
      const item = seen.get(kind) || list.appendChild(document.createElement("li"));
      const request = id && level !== "good" && level !== "busy" ? ` <code>${safe(this.t("request", { id }))}</code>` : "";
      const bar = level === "busy" ? `<progress max="1"${share === null || share === undefined ? "" : ` value="${share}"`} aria-label="${safe(text)}"></progress>` : "";
      const close = kind === "state" || level === "busy" ? "" : `<button type="button" data-kind="${kind}" aria-label="${this.t("dismiss")}">×</button>`;
      const html = `<span>${safe(text)}${request}</span>${bar}${close}`;
      if (item.innerHTML !== html) item.innerHTML = html;
      item.dataset.kind = kind;
      item.className = level;
      item.title = detail && !text.includes(detail) ? detail : "";
      seen.delete(kind);
    }
    seen.forEach((item) => item.remove());
  }

  // ---- drawing ----

  /** Forecasts with an outcome, each at the candle that it is about: a point has the forecast of the next one. */
  rows() {
    return [...this.points].filter(([, point]) => point.err).map(([time, { pred, lo, hi, err, origin }]) => ({ time: time + this.step, pred, lo, hi, origin, forecast: pred.close_next, error: err.close_signed }));
  }

  /** Sealed forecasts with an outcome, each with its figures. */
  sealed() {
    const figures = new Map(rowsOf(this.figures.week?.candles).map((row) => [row.time, row]));
    return (this.futures || []).filter((point) => point.status === "sealed" && Number.isFinite(point.real_close)).map((point) => {
      const time = second(point.time);
      return { ...figures.get(time), time, close: point.real_close, forecast: point.pred_close, lo: point.lo, hi: point.hi, error: point.err_close };
    });
  }

  show(about = "all") {
    if (!this.symbol) return;
    this.showNotices();
    this.showCards();
    this.showLinks();
    this.showLock();
    if (["all", "prices", "series", "predict", "figures"].includes(about)) this.showMain();
    if (!this.later && ["figures", "futures", "all"].includes(about)) this.later = setTimeout(() => { this.later = null; this.showRest(); }, about === "all" ? 0 : 60);
    if (["all", "metrics"].includes(about) && this.charts.trainings) this.showTrainings();
    if (this.root.dataset.painted !== "all") this.root.dataset.painted = this.candles.size ? "chart" : "page";
    if (!this.first && this.candles.size && (this.prediction || this.problems.predict)) this.first = performance.mark("btcml-first");
  }

  showCards() {
    const { t, f, prediction: p } = this, newest = this.newest, last = newest === null ? null : this.candles.get(newest);
    const plain = p?.model === "persistence";
    const lastClose = p?.last_close ?? last?.close, closed = (p ? second(p.last_time) : newest) + this.step;
    this.card("lastClose", f.price(lastClose), lastClose === undefined ? "" : t("candleOf", { time: f.hour(closed) }));
    this.card("nextCloseCard", p ? f.price(p.predicted_close) : "–", p ? (Number.isFinite(p.lo) ? t("interval90", { lo: f.price(p.lo), hi: f.price(p.hi) }) : t("noInterval")) : "", p ? `${t("forCandle", { time: f.moment(second(p.time) + this.step) })} · ${this.sealWords()}` : "");
    this.card("delta", p ? f.signed(p.delta) : "–", p ? (plain ? t("persistenceShort") : f.signedPercent3(p.delta_pct)) : "");
    const way = p && p.delta !== 0 ? (p.delta > 0 ? "up" : "down") : "";
    this.$("card-delta").dataset.way = way;
    this.card("probUp", p && p.prob_up !== null ? f.percent(p.prob_up) : "–", p ? (p.prob_up === null ? t("upNone") : t("upLine", { down: f.percent(p.prob_down) })) : "");
    this.$("card-probUp").style.setProperty("--share", p?.prob_up ?? 0);
    this.showModel(plain);
    this.showSkill();
    this.showLive();
    this.showClock();
  }

  /** The served model, also while there is no forecast. */
  showModel(plain) {
    const { t, f, prediction: p } = this, served = this.models?.find((model) => model.champion);
    const name = p?.model ?? served?.name, age = p ? p.model_age_seconds : served ? this.now() - second(served.trained_at) : NaN;
    const bare = plain || name === "persistence", note = Number.isFinite(age) ? t("trained", { age: f.age(age) }) : "";
    this.card("model", name ?? "–", bare ? t("persistenceCard") : note, p?.verdict || served?.verdict || "");
  }

  showSkill() {
    const { t, f, prediction: p } = this, judged = this.trainings?.find((item) => Number.isFinite(item.skill)), skill = judged?.skill ?? p?.skill;
    const plain = p?.model === "persistence" || judged?.champion === "persistence";
    const value = Number.isFinite(judged?.dm_p) ? this.chance(judged.dm_p) : "";
    const verdict = !p && !judged ? (this.trainings ? t("verdictNone") : "") : plain ? t("verdictNo") : t("verdictYes");
    this.card("skill", Number.isFinite(skill) ? f.signedPercent(skill) : "–", [value, verdict].filter(Boolean).join(" · "), p?.verdict || judged?.verdict || "");
    this.$("card-skill").dataset.verdict = !p && !judged ? "" : plain ? "no" : "yes";
  }

  chance(p) { return p < 0.0001 ? this.t("pBelow") : this.t("pValue", { p: this.f.four(p) }); }

  showLive() {
    const { t, f } = this, { week, day } = this.figures, item = this.$("card-live");
    const share = (value) => (Number.isFinite(value) ? f.percent(value) : "–");
    const lineOf = (name, score) => `<tr><th scope="row">${t(name)} (${f.whole(score.rows)})</th><td>${share(score.coverage)}</td><td>${share(score.direction)}</td></tr>`;
    item.querySelector(".value").hidden = true;
    item.querySelector(".note").innerHTML = this.score(week).rows ? `<table class="mini"><thead><tr><td></td><th scope="col">${t("cover")}</th><th scope="col">${t("signs")}</th></tr></thead><tbody>${lineOf("day", this.score(day))}${lineOf("week", this.score(week))}</tbody></table>` : week ? t("noSealed") : "";
  }

  card(name, value, note, title = "") {
    const item = this.$(`card-${name}`), put = (part, text) => { const element = item.querySelector(part); if (element.textContent !== text) element.textContent = text; };
    put(".value", value);
    put(".note", note);
    item.title = title || "";
  }

  showClock() {
    const { t, f } = this, newest = this.newest, countdown = this.$("countdown");
    if (newest === null) { countdown.textContent = ""; this.card("age", "–", ""); return; }
    const still = this.market.startsWith("file:"), left = newest + 2 * this.step - this.now();
    const frozen = still || (this.market.startsWith("replay:") && !this.timed);  // a replay's clock is known by its forecasts
    const said = frozen ? (still ? t("frozen") : "") : left > 0 ? t("nextClose", { time: f.countdown(left) }) : left > -20 ? t("closing") : t("overdue");
    if (countdown.textContent !== said) countdown.textContent = said;
    countdown.className = !frozen && left <= -20 ? "late" : "";
    this.card("age", frozen ? "–" : f.age(this.now() - newest - this.step), `${this.market.split(":")[0]} · ${f.moment(newest + this.step)}`, t("utc", { time: f.utcMoment(newest + this.step) }));
    this.$("card-age").dataset.verdict = !frozen && left <= -this.step ? "no" : "";
  }

  showMain() {
    const candles = [...this.candles].sort(([a], [b]) => a - b).map(([time, candle]) => ({ time, open: candle.open, high: candle.high, low: candle.low, close: candle.close, volume: candle.volume }));
    const p = this.prediction, oldest = candles[0]?.time ?? 0, rows = this.rows().filter((row) => row.time >= oldest);
    const time = p ? second(p.time) : null;
    const forecast = p && time > (this.newest ?? 0) ? { time, forecast: p.predicted_close, open: p.predicted_open, high: p.predicted_high, low: p.predicted_low, lo: p.lo, hi: p.hi } : null;
    this.$("main").dataset.candles = candles.length;
    this.charts.main.update({ candles, rows, forecast, figures: rowsOf(this.figures.own?.candles) });
    const market = this.market.split(":")[0], banner = this.$("market");
    banner.hidden = !this.market || market === "binance";
    banner.textContent = banner.hidden ? "" : this.t(`market_${market}`, { market: this.market });
    this.say("main", this.mainWords());
    this.showScore();
  }

  mainWords() {
    const { t, f } = this, { own } = this.figures, score = this.score(own), none = this.score(own, "persistence");
    if (!score.rows) return own ? t("h_none") : "";
    if (own.model === "persistence") return t("h_plain", { n: f.whole(score.rows), base: f.two(score.mae_bp) });
    const what = Math.abs(score.skill) < 5e-6 ? t("w_same") : t(score.skill > 0 ? "w_better" : "w_worse", { skill: f.percent2(Math.abs(score.skill)) });
    return t("h_main", { n: f.whole(score.rows), mae: f.two(score.mae_bp), base: f.two(none.mae_bp), what });
  }

  showScore() {
    const { t, f, challenger } = this, { shown } = this.figures, score = this.score(shown);
    const columns = [score, this.score(shown, "persistence"), this.score(shown, "repeat")];
    const row = (name, metric, format) => [t(name), ...columns.map((column) => format(column[metric]))];
    const body = [row("r_n", "rows", f.whole), row("r_mae", "mae_bp", f.two), row("r_skill", "skill", f.signedPercent), ...["direction", "wda", "coverage"].map((metric) => row({ direction: "r_signs", wda: "r_wda", coverage: "r_cover" }[metric], metric, f.percent))];
    this.$("score").querySelector(".scroll").innerHTML = table(["", challenger ? `${challenger} ${t("r_rival")}` : t("r_this"), t("s_persistence"), t("s_repeat")], body);
    this.$("score").querySelector(".say").textContent = shown?.direction.rows ? t(this.coinWord(score)) : this.noneWord();
  }

  coinWord(score) { return score.direction_low > 0.5 ? "h_notCoin" : score.direction_high < 0.5 ? "h_coinWorse" : "h_coin"; }

  /** Why there is nothing to count; empty before the first response of the API. */
  noneWord() { const { own } = this.figures; return own ? this.t(this.score(own).rows ? "h_directionNone" : "h_none") : ""; }

  /** Name of the model, where it is not the served one. */
  whose(key = "h_rival") { return this.challenger ? `${this.t(key, { model: this.challenger })} ` : ""; }

  directionWords() {
    const { t, f } = this, { shown } = this.figures, score = this.score(shown), repeat = this.score(shown, "repeat");
    if (!shown?.direction.rows) return this.noneWord();
    const { right, rows } = shown.direction;
    return `${this.whose()}${t("h_direction", { right: f.whole(right), n: f.whole(rows), share: f.percent(score.direction), lo: f.percent(score.direction_low), hi: f.percent(score.direction_high), wda: f.percent(score.wda), repeat: f.percent(repeat.direction) })} ${t(this.coinWord(score))}`;
  }

  /** Everything below the essentials: created with its first data, so that it never delays them. */
  showRest() {
    if (!this.alive) return;
    const { t, f } = this, { shown, week } = this.figures, sealed = this.sealed();
    if (!this.charts.sealed) {
      Object.assign(this.charts, { sealed: new SealedChart(this.$("sealed"), this), direction: new DirectionChart(this.$("direction"), this), money: new MoneyChart(this.$("money"), this), trainings: new TrainingsChart(this.$("trainings"), this) });
      this.showTrainings();
    }
    this.charts.sealed.update(sealed);
    this.$("sealed").querySelector(".stage").hidden = this.$("sealed").querySelector(".keys").hidden = !sealed.length;
    const live = this.score(week);
    this.say("sealed", live.rows ? t("h_sealed", { n: f.whole(live.rows), inside: f.percent(live.coverage) }) : week ? t("h_sealedNone") : "");
    this.charts.direction.update(shown || FLAT);
    this.say("direction", this.directionWords());
    const bins = shown?.reliability || [], low = bins[0], high = bins[bins.length - 1];
    this.$("reliability").querySelector(".drawing").innerHTML = bins.length ? reliabilityDrawing(bins, this) : "";
    this.$("reliability").querySelector(".say").textContent = bins.length ? this.whose("h_rivalShort") + t("h_reliability", { p: f.percent(high.probability), f: f.percent(high.frequency), q: f.percent(low.probability), g: f.percent(low.frequency), brier: f.three(this.score(shown).brier) }) : shown ? t("h_reliabilityNone") : "";
    this.showMoney();
    if (this.looked) this.root.dataset.painted = "all";
  }

  showMoney() {
    const { t, f } = this, { shown } = this.figures;
    this.charts.money.update(shown || FLAT);
    const made = shown?.money, words = made && this.whose() + t("h_money", { cost: f.one(made.cost_bp), net: f.signedOne(made.net_bp), trades: f.whole(made.trips), gross: f.signedOne(made.gross_bp) });
    this.say("money", made?.trips ? `${words} ${made.net_bp <= 0 ? t("h_moneyNot") : ""}` : shown ? t("h_moneyNone") : "");
  }

  showTrainings() {
    const { t, f } = this, items = this.trainings || [], seen = new Set();
    const usable = items.map((item) => ({ ...item, time: second(item.finished_at) })).filter((item) => item.ratio > 0).sort((a, b) => a.time - b.time).filter((item) => !seen.has(item.time) && seen.add(item.time));
    this.charts.trainings.update(usable);
    this.$("trainings").querySelector(".stage").hidden = usable.length < 2;
    const newest = usable[usable.length - 1];
    this.say("trainings", newest ? t("h_trainings", { n: f.whole(usable.length), ratio: f.four(newest.ratio) }) : this.trainings ? t("h_trainingsNone") : "");
    const share = (value) => (Number.isFinite(value) ? `${f.four(value)} %` : "–");
    const rows = usable.slice(-8).reverse().map((item) => [f.moment(item.time), f.whole(item.samples), f.two(item.mae), f.two(item.persistence_mae), share(item.mape), f.signedPercent(item.judged === false ? NaN : item.skill ?? NaN), item.judged !== false && Number.isFinite(item.dm_p) ? this.chance(item.dm_p) : "–", item.champion]);
    this.$("trainings").querySelector(".history").innerHTML = newest ? table(["t_time", "t_samples", "t_mae", "t_base", "t_mape", "t_skill", "t_p", "t_champion"].map((name) => t(name)), rows) : "";
  }

  say(name, text) {
    this.$(name).querySelector(".say").textContent = text;
    this.charts[name]?.label(text);
  }

  showLock() { this.$("unlock").hidden = !this.hello.locked; }

  showLinks() {
    const { t, hello, report } = this, links = [];
    const reachable = (url) => { try { const host = new URL(url).hostname, here = location.hostname; return !/^(127\.|localhost$|\[::1\])/.test(host) || /^(127\.|localhost$|\[::1\])/.test(here); } catch { return false; } };
    if (report) links.push([`reports/${report.path}`, t(report.exact ? "reportExact" : report.until ? "reportUntil" : "report", { time: report.until ? this.f.utcMoment(second(report.until)) : "" })]);
    if (hello.api && reachable(hello.api)) links.push([`${hello.api.replace(/\/$/, "")}/docs`, t("api")]);
    if (hello.documents) links.push([hello.documents, t("documents")]);
    if (hello.adminer && reachable(hello.adminer)) links.push([hello.adminer, t("adminer")]);
    const html = links.map(([url, name]) => `<a href="${safe(url)}" target="_blank" rel="noreferrer noopener">${safe(name)}</a>`).join("") + `<button type="button" class="link">${safe(t("help"))}</button>`;
    const nav = this.$("links");
    if (nav.innerHTML === html) return;
    nav.innerHTML = html;
    nav.setAttribute("aria-label", "btcml");
    nav.querySelector("button").onclick = () => { this.root.querySelector(".menu").open = false; this.$("help").showModal(); };
  }
}

/** Entry point for anywidget: draw into an element, and return a function that stops. */
function render({ model, el }) {
  const dashboard = new Dashboard(model, el);
  dashboard.start();
  return () => dashboard.destroy();
}

export default { render };
