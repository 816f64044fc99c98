// The page under Voilà: finds its kernel, draws the widget, and releases the kernel when the tab closes.

import { pageModel } from "./link.js";
import widget from "./dashboard.js";

const facts = JSON.parse(document.getElementById("btcml-kernel").textContent);
if (facts.model) {
  const model = pageModel(facts);
  window.addEventListener("pagehide", () => model.leave());
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  widget.render({ model, el: document.getElementById("btcml-page") });
} else {
  document.getElementById("btcml-page").textContent = "The dashboard's notebook did not run: look into the log of btcml dashboard. / O notebook do painel não rodou.";
}
