// anywidget gives a widget up after two seconds, and its chart stays empty: a slow machine needs longer.
AbortSignal.timeout = ((timeout) => (ms) => timeout.call(AbortSignal, Math.max(ms, 120_000)))(AbortSignal.timeout);
