// What a slow machine or network needs before the first widget is there.

// anywidget abandons a widget after two seconds, and its chart stays empty.
AbortSignal.timeout = ((timeout) => (ms) => timeout.call(AbortSignal, Math.max(ms, 120_000)))(AbortSignal.timeout);

/** Open the page again, later each time. */
function reopen() {
  const times = Number(sessionStorage.getItem("btcml-reopened") || 0);
  sessionStorage.setItem("btcml-reopened", times + 1);
  setTimeout(() => location.reload(), Math.min(400 * 2 ** times, 15_000));
}

// A kernel to which no socket was opened in time has ended; from the first widget on, visit.js watches it.
const waiting = setInterval(async () => {
  if (document.querySelector(".btcml-lost")) return clearInterval(waiting);
  const { baseUrl, kernelId } = JSON.parse(document.getElementById("jupyter-config-data").textContent);
  const answer = await fetch(`${baseUrl}api/kernels/${kernelId}`, { cache: "no-store" }).catch(() => null);
  if (answer?.status !== 404) return;
  clearInterval(waiting);
  reopen();
}, 5000);
