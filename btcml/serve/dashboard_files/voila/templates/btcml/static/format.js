// Numbers, times and durations as the viewer writes them.

const SECONDS = { m: 60, h: 3600, d: 86400, w: 604800 };

/** Seconds of an interval such as 5m. */
export function seconds(interval) {
  return Number(interval.slice(0, -1)) * SECONDS[interval.slice(-1)];
}

/** Seconds of the epoch of an ISO time. */
export const second = (text) => Math.round(Date.parse(text) / 1000);

/** Rows with times in seconds, from the columns of an evaluation. */
export function rowsOf(columns) {
  const names = Object.keys(columns || {});
  return (columns?.time || []).map((time, i) => ({ ...Object.fromEntries(names.map((name) => [name, columns[name][i]])), time: second(time) }));
}

/** Formatters for a language; the zone is the browser's. */
export function formatter(language) {
  const regional = (navigator.languages || []).find((name) => name.toLowerCase().startsWith(language.slice(0, 2)));
  const locale = regional || language;
  const number = (digits, more = {}) => {
    const made = new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits, ...more });
    return (value) => (Number.isFinite(value) ? made.format(value).replace("-", "−") : "–");
  };
  const time = (options) => {
    const made = new Intl.DateTimeFormat(locale, options);
    return (second) => made.format(new Date(second * 1000));
  };
  const sign = { signDisplay: "exceptZero" };
  const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return {
    locale,
    zone: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC",
    price: number(2), signed: number(2, sign), whole: number(0), two: number(2), one: number(1), signedOne: number(1, sign),
    percent: number(1, { style: "percent" }), percent2: number(2, { style: "percent" }),
    signedPercent: number(2, { style: "percent", ...sign }), signedPercent3: number(3, { style: "percent", ...sign }),
    four: number(4), three: number(3), signedThree: number(3, sign),
    compact: (value) => (Number.isFinite(value) ? new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 }).format(value) : "–"),
    hour: time(clock), day: time({ day: "numeric", month: "short" }), month: time({ month: "short", year: "numeric" }),
    moment: time({ day: "numeric", month: "short", ...clock }), utc: time({ ...clock, timeZone: "UTC" }),
    utcMoment: time({ day: "numeric", month: "short", year: "numeric", ...clock, timeZone: "UTC" }),
    age: (value) => age(value), countdown,
  };
}

function age(value) {
  const s = Math.max(Math.round(value), 0);
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

function countdown(value) {
  const s = Math.max(Math.ceil(value), 0);
  const two = (part) => String(part).padStart(2, "0");
  const rest = `${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${rest}` : rest;
}
