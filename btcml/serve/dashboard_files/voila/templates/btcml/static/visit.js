// The browser's side of a visit: what the viewer's browser knows, the address as a link to what is shown, and a kernel that is lost.

const own = document.body.dataset.voila === "voila";  // else a notebook, whose address and kernel are not ours
const kernelId = own ? JSON.parse(document.getElementById("jupyter-config-data").textContent).kernelId : "";
const base = document.body.dataset.base || "";
const two = (part) => String(part).padStart(2, "0");

function saved() {
  try { return JSON.parse(localStorage.getItem("btcml") || "{}"); } catch { return {}; }
}

function clock(left) {
  const s = Math.max(Math.ceil(left), 0), rest = `${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${rest}` : rest;
}

class Visit {
  constructor(model, el) {
    this.model = model;
    this.banner = el.appendChild(document.createElement("div"));
    this.banner.className = "btcml-lost";
    this.banner.setAttribute("role", "status");
    this.timer = el.appendChild(document.createElement("span"));
    this.timer.className = "btcml-countdown";
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.ending = new AbortController();
    const { signal } = this.ending;
    this.dark.addEventListener("change", () => this.look(), { signal });
    document.addEventListener("visibilitychange", () => this.visible(), { signal });
    model.on("change:page", () => this.look());
    model.on("change:countdown", () => this.tick());
    this.clock = setInterval(() => this.tick(), 500);
    if (own) this.watch(signal);
    this.look();
    const { timeZone: zone } = Intl.DateTimeFormat().resolvedOptions();
    const query = own ? Object.fromEntries(new URLSearchParams(location.search)) : {};
    model.send({ hello: { query, saved: saved(), languages: navigator.languages, zone: zone || "UTC", host: location.hostname } });
  }

  destroy() {
    this.ending.abort();
    clearInterval(this.clock);
    clearTimeout(this.nap);
  }

  /** Theme, language, title and address of what is shown. */
  look() {
    const { theme, lang, title, state } = this.model.get("page");
    document.body.dataset.theme = theme === "light" || theme === "dark" ? theme : this.dark.matches ? "dark" : "light";
    document.body.dataset.jpThemeLight = document.body.dataset.theme === "light";
    document.dispatchEvent(new Event("btcml-theme"));
    if (!own || !state) return;
    document.documentElement.lang = lang;
    document.title = title;
    history.replaceState(null, "", `?${new URLSearchParams(state)}`);
    try { localStorage.setItem("btcml", JSON.stringify(state)); } catch { /* a private window keeps nothing */ }
  }

  tick() {
    const { until, next, closing, overdue, fixed } = this.model.get("countdown"), left = until - Date.now() / 1000;
    const said = until ? (left > 0 ? next.replace("{time}", clock(left)) : left > -20 ? closing : overdue) : fixed || "";
    if (this.timer.textContent !== said) this.timer.textContent = said;
    this.timer.classList.toggle("late", Boolean(until) && left <= -20);
  }

  visible() {
    clearTimeout(this.nap);
    if (document.hidden && own) this.nap = setTimeout(() => { this.slept = true; this.leave(); }, 1000 * this.model.get("page").sleep_s);
    else if (this.slept) this.lost("asleep");
    if (!this.slept) this.model.send({ visible: !document.hidden });
  }

  leave() {
    if (!this.left) navigator.sendBeacon(`${base}voila/api/shutdown/${kernelId}`);
    this.left = true;
  }

  /** Notice a kernel that has ended: its socket closes, or Jupyter says that it is dead. */
  watch(signal) {
    window.addEventListener("pagehide", () => this.leave(), { signal });
    window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); }, { signal });
    const kernel = this.model.widget_manager?.kernel;
    kernel?.statusChanged.connect((_, status) => { if (["dead", "restarting", "autorestarting"].includes(status)) this.lost("lostKernel"); });
    kernel?.connectionStatusChanged.connect((_, status) => { if (status !== "connected") this.check(); });
  }

  async check() {
    const answer = await fetch(`${base}api/kernels/${kernelId}`, { cache: "no-store" }).catch(() => null);
    if (answer?.ok || this.left) return;
    this.lost("lostKernel");
  }

  /** Say so, and open the page again as soon as the server answers; the address has the state. */
  async lost(key) {
    if (this.reopening || (this.left && !this.slept)) return;
    this.reopening = true;
    this.banner.textContent = this.model.get("page")[key];
    for (;;) {
      const answer = await fetch(`${base}health`, { cache: "no-store" }).catch(() => null);
      if (answer?.ok) break;
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
    reopen();  // of start.js
  }
}

export default {
  render({ model, el }) {
    const visit = new Visit(model, el);
    return () => visit.destroy();
  },
};
