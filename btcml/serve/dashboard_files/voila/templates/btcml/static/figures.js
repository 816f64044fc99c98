// Every figure of the page that is computed here, from the API's rows. Pure; tested against the library's own metrics.

const BP = 1e4;
const Z95 = 1.959963984540054;
const finite = Number.isFinite;

/** Seconds of the epoch of an ISO time. */
export const second = (text) => Math.round(Date.parse(text) / 1000);

/** One row a candle: real values, forecast and base (the close before), oldest first. */
export function rowsOf(points, closes, step) {
  const known = new Map(closes);
  for (const point of points) known.set(second(point.real.time), point.real.close);
  return points.map((point) => {
    const time = second(point.real.time);
    return {
      time, real: point.real, pred: point.pred, lo: point.lo, hi: point.hi, up: point.cls.prob_up, origin: point.origin,
      close: point.real.close, forecast: point.pred.close_next,
      base: known.get(time - step) ?? null, before: known.get(time - 2 * step) ?? null,
    };
  });
}

/** Rows of sealed forecasts that have an outcome. */
export function sealedRows(points) {
  return points.filter((point) => point.status === "sealed" && finite(point.real_close)).map((point) => ({
    time: second(point.time), close: point.real_close, forecast: point.pred_close, base: point.base, lo: point.lo, hi: point.hi,
    up: point.prob_up, model: point.model,
  }));
}

/** Error of a forecast in bp of log price, signed. */
export const errorBp = (forecast, real) => BP * Math.log(forecast / real);

/** Mean absolute errors in bp beside persistence's; skill is 1 minus their ratio. */
export function skillOf(rows) {
  const used = rows.filter((row) => finite(row.base) && finite(row.forecast) && row.base > 0);
  const mean = (f) => used.reduce((sum, row) => sum + Math.abs(f(row)), 0) / used.length;
  const mae = mean((row) => errorBp(row.forecast, row.close));
  const base = mean((row) => errorBp(row.base, row.close));
  return { n: used.length, mae, base, skill: base > 0 ? 1 - mae / base : NaN };
}

/** Wilson's 95 % interval of a share. */
export function wilson(right, n) {
  if (!n) return [NaN, NaN];
  const p = right / n, z2 = Z95 * Z95, centre = (p + z2 / (2 * n)) / (1 + z2 / n);
  const half = (Z95 / (1 + z2 / n)) * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n));
  return [centre - half, centre + half];
}

const repeats = (row) => row.base - row.before;
const says = (row) => row.forecast - row.base;

/** Right signs and WDA among rows in which forecast and candle moved. */
export function directionOf(rows, opinion = says) {
  let right = 0, n = 0, size = 0, hit = 0;
  for (const row of rows) {
    const move = Math.log(row.close / row.base), view = opinion(row);
    if (!finite(move) || !finite(view) || row.base === null || move === 0 || view === 0) continue;
    n += 1;
    size += Math.abs(move);
    if (Math.sign(move) === Math.sign(view)) { right += 1; hit += Math.abs(move); }
  }
  const [low, high] = wilson(right, n);
  return { right, n, share: n ? right / n : NaN, wda: size ? hit / size : NaN, low, high };
}

/** The baseline that repeats the last direction. */
export const repeatOf = (rows) => directionOf(rows.filter((row) => row.before !== null), repeats);

/** Share of outcomes inside their interval. */
export function coverageOf(rows) {
  const used = rows.filter((row) => finite(row.lo) && finite(row.hi));
  const inside = used.filter((row) => row.lo <= row.close && row.close <= row.hi).length;
  return { n: used.length, share: used.length ? inside / used.length : NaN };
}

/** Rolling right signs of the last `window` rows that moved: forecast, WDA and the repeating baseline. */
export function rollingDirection(rows, window) {
  const moved = rows.filter((row) => row.base !== null && row.before !== null && row.close !== row.base && says(row) !== 0);
  const out = [];
  let right = 0, size = 0, hit = 0, same = 0;
  const add = (row, sign) => {
    const move = Math.log(row.close / row.base), good = Math.sign(says(row)) === Math.sign(move);
    size += sign * Math.abs(move);
    right += sign * (good ? 1 : 0);
    hit += sign * (good ? Math.abs(move) : 0);
    same += sign * (Math.sign(repeats(row)) === Math.sign(move) ? 1 : 0);
  };
  moved.forEach((row, i) => {
    add(row, 1);
    if (i >= window) add(moved[i - window], -1);
    if (i >= window - 1) out.push({ time: row.time, share: right / window, wda: hit / size, repeat: same / window });
  });
  return out;
}

/** Half width of the 95 % binomial range around one half. */
export const coinRange = (n) => (n ? (Z95 * 0.5) / Math.sqrt(n) : NaN);

/** Forecast probability against observed share, in bins of equal count; and the Brier score. */
export function reliabilityOf(rows, most = 8, least = 40) {
  const used = rows.filter((row) => finite(row.up) && row.base !== null && row.close !== row.base).sort((a, b) => a.up - b.up);
  const bins = Math.max(1, Math.min(most, Math.floor(used.length / least)));
  const cells = Array.from({ length: bins }, () => ({ n: 0, said: 0, went: 0 }));
  let brier = 0;
  used.forEach((row, i) => {
    const went = row.close > row.base ? 1 : 0, cell = cells[Math.floor((i * bins) / used.length)];
    cell.n += 1; cell.said += row.up; cell.went += went;
    brier += (row.up - went) ** 2;
  });
  const full = cells.filter((cell) => cell.n).map((cell) => {
    const [from, to] = wilson(cell.went, cell.n);
    return { n: cell.n, said: cell.said / cell.n, went: cell.went / cell.n, from, to };
  });
  return { n: used.length, brier: used.length ? brier / used.length : NaN, bins: full };
}

/** Sum of a rule: long or short for a candle where the forecast move is above the threshold, costs at every change. */
export function ruleOf(rows, costBp, thresholdBp, opinion = says) {
  const out = [];
  let position = 0, net = 0, gross = 0, hold = 0, trades = 0;
  for (const row of rows) {
    if (row.base === null) continue;
    const move = errorBp(row.close, row.base), view = opinion(row);
    const size = opinion === says ? Math.abs(errorBp(row.forecast, row.base)) : Infinity;
    const wanted = finite(view) && size >= thresholdBp ? Math.sign(view) : 0;
    const change = Math.abs(wanted - position);
    trades += change;
    gross += wanted * move;
    net += wanted * move - change * costBp;
    hold += move;
    position = wanted;
    out.push({ time: row.time, net, gross, hold });
  }
  return { points: out, net, gross, hold, trades };
}

/** The same rule for the baseline that repeats the last direction. */
export const repeatRule = (rows, costBp) => ruleOf(rows.filter((row) => row.before !== null), costBp, 0, repeats);
