// The connection to the kernel: a model of Jupyter's where there is one, else a socket of our own; and requests with responses.

const SLOW_MS = 1500;
const PROBE_MS = 250;
const [LONG_MS, PATIENT_MS] = [45_000, 620_000];

function token() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const PROTOCOL = "v1.kernel.websocket.jupyter.org";

/** Jupyter's framing, version 1: the number of offsets, the offsets, the parts; 64-bit little-endian. */
function pack(parts) {
  const bytes = parts.map((part) => new TextEncoder().encode(part)), first = 8 * (bytes.length + 2);
  const whole = new Uint8Array(bytes.reduce((sum, part) => sum + part.length, first)), view = new DataView(whole.buffer);
  view.setBigUint64(0, BigInt(bytes.length + 1), true);
  let at = first;
  bytes.forEach((part, i) => {
    view.setBigUint64(8 * (i + 1), BigInt(at), true);
    whole.set(part, at);
    at += part.length;
  });
  view.setBigUint64(8 * (bytes.length + 1), BigInt(at), true);
  return whole;
}

function unpack(data) {
  const view = new DataView(data), count = Number(view.getBigUint64(0, true));
  const offset = (i) => Number(view.getBigUint64(8 * (i + 1), true));
  const part = (i) => new DataView(data, offset(i), offset(i + 1) - offset(i));
  const json = (i) => JSON.parse(new TextDecoder().decode(part(i)));
  const channel = new TextDecoder().decode(part(0));
  return { channel, header: json(1), content: json(4), buffers: Array.from({ length: Math.max(count - 6, 0) }, (_, i) => part(i + 5)) };
}

/** The part of a model that anywidget needs, over the kernel's own socket: Jupyter's front end weighs a hundred times more. */
export function pageModel({ kernel, model, base }) {
  const listeners = new Set(), waiting = [], session = token();
  let socket = null, failures = 0, left = false, heard = false, probe = null;
  const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${base}api/kernels/${kernel}/channels?session_id=${session}`;

  function open() {
    socket = new WebSocket(address, [PROTOCOL]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      heard = false;
      clearInterval(probe);
      probe = setInterval(requestInfo, PROBE_MS);
      requestInfo();
    };
    socket.onmessage = (event) => {
      const { channel, header, content, buffers } = unpack(event.data), { comm_id: comm, data } = content || {};
      if (channel === "iopub" && !heard) {
        heard = true;
        failures = 0;
        clearInterval(probe);
        waiting.splice(0).forEach((bytes) => socket.send(bytes));
      }
      if (header.msg_type !== "comm_msg" || comm !== model || data?.method !== "custom") return;
      listeners.forEach((listener) => listener(data.content, buffers));
    };
    socket.onclose = () => {
      clearInterval(probe);
      if (left) return;
      if (heard) result.onbroken?.();
      heard = false;
      failures += 1;
      if (failures > 2) result.onlost?.();
      else setTimeout(open, 400 * failures);
    };
  }
  /** Responses are lost until the server subscribes to the kernel's broadcasts: request one until it arrives. */
  function requestInfo() {
    if (socket.readyState === WebSocket.OPEN) socket.send(message("kernel_info_request", {}));
  }
  function message(type, content) {
    const header = { msg_id: token(), msg_type: type, username: "", session, date: new Date().toISOString(), version: "5.3" };
    return pack(["shell", JSON.stringify(header), "{}", "{}", JSON.stringify(content)]);
  }
  function leave() {
    if (left) return;
    left = true;
    navigator.sendBeacon(`${base}leave/${kernel}`);
    socket?.close();
  }
  const result = {
    onlost: null,
    onbroken: null,
    leave,
    on: (_, listener) => listeners.add(listener),
    off: (_, listener) => listeners.delete(listener),
    send(content) {
      const bytes = message("comm_msg", { comm_id: model, data: { method: "custom", content } });
      if (heard && socket.readyState === WebSocket.OPEN) socket.send(bytes);
      else waiting.push(bytes);
    },
  };
  open();
  return result;
}

async function body(facts, buffers) {
  if (!buffers?.length) return null;
  const view = buffers[0], bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  if (!facts.packed) return JSON.parse(new TextDecoder().decode(bytes));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

/** Requests to the kernel. `onslow(ms)` is called with the age of the oldest open one, 0 when none is slow. */
export function asker(model, onslow) {
  const open = new Map();
  let last = 0, told = false;
  const hear = async (facts, buffers) => {
    const question = open.get(facts?.id);
    if (!question) return;
    open.delete(facts.id);
    try {
      question.resolve({ ...facts, data: await body(facts, buffers) });
    } catch {
      question.resolve({ code: "foreign", status: facts.status });
    }
  };
  const give = (id, answer) => { const question = open.get(id); open.delete(id); question?.resolve(answer); };
  model.onbroken = () => [...open.keys()].forEach((id) => give(id, { code: "slow", status: 0 }));
  model.on("msg:custom", hear);
  const timer = setInterval(() => {
    const now = performance.now();
    const longest = Math.max(0, ...[...open.values()].filter((question) => !question.patient).map((question) => now - question.begun));
    if (longest > SLOW_MS || told) onslow(longest > SLOW_MS ? longest : 0);
    told = longest > SLOW_MS;
    for (const [id, question] of open) if (now - question.begun > (question.patient ? PATIENT_MS : LONG_MS)) give(id, { code: "slow", status: 0 });
  }, 500);
  return {
    ask(name, query = {}, { etag = "", patient = false } = {}) {
      last += 1;
      const id = last;
      return new Promise((resolve) => {
        open.set(id, { resolve, begun: performance.now(), patient });
        model.send({ id, ask: name, query, etag });
      });
    },
    stop() { clearInterval(timer); model.off("msg:custom", hear); },
  };
}
