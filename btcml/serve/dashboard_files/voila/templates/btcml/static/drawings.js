// Everything without a time axis: the reliability diagram and the tables, as SVG and HTML.

const SIZE = { width: 420, height: 300, left: 64, right: 30, top: 10, bottom: 40 };
const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/** Text that came from outside, safe in HTML. */
export const safe = (text) => String(text ?? "").replace(/[&<>"]/g, (sign) => escapes[sign]);

/** Forecast probability against observed share, each bin with Wilson's interval; the diagonal is a calibrated forecast. */
export function reliabilityDrawing(bins, { t, f }) {
  const said = bins.flatMap((bin) => [bin.probability, bin.low, bin.high]);
  const low = Math.max(0, Math.min(0.45, ...said) - 0.01), high = Math.min(1, Math.max(0.55, ...said) + 0.01);
  const x = (value) => SIZE.left + ((value - low) / (high - low)) * (SIZE.width - SIZE.left - SIZE.right);
  const y = (value) => SIZE.height - SIZE.bottom - ((value - low) / (high - low)) * (SIZE.height - SIZE.top - SIZE.bottom);
  const ticks = ticksOf(low, high), most = Math.max(...bins.map((bin) => bin.rows), 1);
  const grid = ticks.map((at) => `<path class="net" d="M${x(at)} ${y(low)}V${y(high)}M${x(low)} ${y(at)}H${x(high)}"/><text x="${x(at)}" y="${y(low) + 15}" text-anchor="middle">${f.percent(at)}</text><text x="${SIZE.left - 5}" y="${y(at) + 4}" text-anchor="end">${f.percent(at)}</text>`).join("");
  const dots = bins.map((bin) => `<g class="dot"><title>${t("predicted")} ${f.percent(bin.probability)} · ${t("observed")} ${f.percent(bin.frequency)} (${f.percent(bin.low)}–${f.percent(bin.high)}) · ${t("count", { n: f.whole(bin.rows) })}</title><path d="M${x(bin.probability)} ${y(bin.low)}V${y(bin.high)}"/><circle cx="${x(bin.probability)}" cy="${y(bin.frequency)}" r="${2.5 + 5 * Math.sqrt(bin.rows / most)}"/></g>`).join("");
  return `<svg viewBox="0 0 ${SIZE.width} ${SIZE.height}" role="img" aria-label="${t("c_reliability")}">${grid}<path class="diagonal" d="M${x(low)} ${y(low)}L${x(high)} ${y(high)}"/>${dots}<text class="axis" x="${(x(low) + x(high)) / 2}" y="${SIZE.height - 6}" text-anchor="middle">${t("predicted")}</text><text class="axis" x="12" y="${(y(low) + y(high)) / 2}" text-anchor="middle" transform="rotate(-90 12 ${(y(low) + y(high)) / 2})">${t("observed")}</text></svg>`;
}

function ticksOf(low, high) {
  const step = [0.02, 0.05, 0.1, 0.2].find((size) => (high - low) / size <= 6) || 0.25;
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9; i += 1) out.push(i * step + 0);
  return out;
}

/** A table from a head and rows of cells; the first cell of a row is its name. */
export function table(head, rows, strong = -1) {
  const cells = (row) => row.map((cell, i) => (i ? `<td class="num">${safe(cell)}</td>` : `<th scope="row">${safe(cell)}</th>`)).join("");
  const body = rows.map((row, i) => `<tr${i === strong ? ' class="strong"' : ""}>${cells(row)}</tr>`).join("");
  return `<table><thead><tr>${head.map((name, i) => `<th scope="col"${i ? ' class="num"' : ""}>${safe(name)}</th>`).join("")}</tr></thead><tbody>${body}</tbody></table>`;
}
