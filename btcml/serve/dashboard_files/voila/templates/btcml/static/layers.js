// What lightweight-charts does not draw by itself: a band between two prices, and shaded spans of time.

/** A custom series: a filled band between lo and hi. */
export class Band {
  constructor() { this.data = null; this.options = null; }
  update(data, options) { this.data = data; this.options = options; }
  priceValueBuilder(row) { return [row.lo, row.hi, (row.lo + row.hi) / 2]; }
  isWhitespace(row) { return row.lo === undefined; }
  defaultOptions() { return { fill: "rgba(0,0,0,.1)", lastValueVisible: false, priceLineVisible: false }; }
  destroy() {}
  renderer() { return { draw: (target, toY) => target.useBitmapCoordinateSpace((scope) => this.draw(scope, toY)) }; }
  draw({ context, horizontalPixelRatio: rx, verticalPixelRatio: ry }, toY) {
    const range = this.data?.visibleRange;
    if (!range) return;
    const half = this.data.barSpacing / 2;
    context.fillStyle = this.options.fill;
    for (const { x, originalData: row } of this.data.bars.slice(range.from, range.to)) {  // bar by bar: a gap stays a gap
      if (row.lo === undefined) continue;
      const left = Math.round((x - half) * rx), right = Math.round((x + half) * rx), top = toY(row.hi) * ry;
      context.fillRect(left, top, right - left, toY(row.lo) * ry - top);
    }
  }
}

/** A band whose ends are joined by lines: a fan. */
export class Fan extends Band {
  draw({ context, horizontalPixelRatio: rx, verticalPixelRatio: ry }, toY) {
    const range = this.data?.visibleRange, bars = range ? this.data.bars.slice(range.from, range.to) : [];
    context.fillStyle = this.options.fill;
    context.beginPath();
    for (const { x, originalData: row } of bars) context.lineTo(x * rx, toY(row.hi) * ry);
    for (const { x, originalData: row } of bars.reverse()) context.lineTo(x * rx, toY(row.lo) * ry);
    context.fill();
  }
}

/** A primitive: spans [from, to, colour] of times shaded behind a series. */
export class Shade {
  constructor() { this.spans = []; }
  attached({ chart, requestUpdate }) { this.chart = chart; this.refresh = requestUpdate; }
  detached() { this.chart = null; }
  set(spans) { this.spans = spans; this.refresh?.(); }
  updateAllViews() {}
  paneViews() {
    return [{ zOrder: () => "bottom", renderer: () => ({ draw() {}, drawBackground: (target) => target.useBitmapCoordinateSpace((scope) => this.draw(scope)) }) }];
  }
  draw({ context, bitmapSize, horizontalPixelRatio: rx }) {
    const scale = this.chart?.timeScale();
    if (!scale) return;
    const half = (scale.options().barSpacing || 0) / 2;
    for (const [from, to, colour] of this.spans) {
      const left = scale.timeToCoordinate(from), right = scale.timeToCoordinate(to);
      if (left === null || right === null) continue;
      context.fillStyle = colour;
      context.fillRect((left - half) * rx, 0, (right - left + 2 * half) * rx, bitmapSize.height);
    }
  }
}
