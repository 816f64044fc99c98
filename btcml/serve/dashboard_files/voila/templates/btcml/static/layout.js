// The page's skeleton: landmarks, controls, cards and boxes; words come later, by data-t.

const CARDS = ["lastClose", "nextCloseCard", "delta", "probUp", "model", "skill", "live", "age"];
const icon = { ingest: "M12 3v12m0 0 5-5m-5 5-5-5M4 20h16", train: "M4 18l5-6 4 3 7-9M15 6h5v5", predict: "M4 12h11m0 0-4-4m4 4-4 4M20 5v14" };

const button = (name) => `<button type="button" class="act" id="btcml-${name}" data-act="${name}"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="${icon[name]}"/></svg><span data-t="${name}"></span></button>`;
const select = (name) => `<label class="pick"><span data-t="${name}"></span><select id="btcml-${name}"></select></label>`;
const card = (name) => `<li id="btcml-card-${name}"><span class="label" data-t="${name}"></span><span class="value">–</span><span class="note"></span></li>`;
const key = (shape, name) => `<span class="key ${shape}" data-t="${name}"></span>`;

function box(name, { keys = "", tools = "", extra = "" } = {}) {
  return `<section class="box" id="btcml-${name}" aria-labelledby="btcml-${name}-t"><header><h2 id="btcml-${name}-t" data-t="c_${name}"></h2><div class="tools">${tools}</div></header><p class="say"></p><div class="keys">${keys}</div><div class="stage"><div class="legend" aria-hidden="true"></div><div class="plot"></div></div>${extra}</section>`;
}

const MAIN = box("main", {
  keys: key("up", "s_real") + key("line s2", "s_pred") + key("fill s2", "s_band") + key("fill s1", "s_oos") + key("fill s5", "s_sealedZone"),
  tools: '<label class="check"><input type="checkbox" id="btcml-boxes"><span data-t="showCandles"></span></label><label class="pick"><span data-t="unit"></span><select id="btcml-unit"><option>bp</option><option>%</option></select></label>',
});
const NUMBER = (name, value) => `<label class="pick"><span data-t="${name}"></span><input type="number" id="btcml-${name}" min="0" max="50" step="0.5" value="${value}"></label>`;

/** HTML of the page. */
export function pageHtml() {
  return `<a class="skip" href="#btcml-main" data-t="c_main"></a>
<div class="screen"><header class="top"><h1>btcml<span class="sr" data-t="title"></span></h1>
<div class="controls">${["symbol", "interval", "span"].map(select).join("")}</div>
<div class="acts">${["ingest", "train", "predict"].map(button).join("")}<button type="button" class="quiet" id="btcml-unlock" data-t="unlock" hidden></button></div>
<div class="right"><span id="btcml-countdown" role="timer" aria-live="off"></span><label class="check"><input type="checkbox" id="btcml-auto" checked><span data-t="auto"></span></label>
<details class="menu"><summary aria-label="menu">⋯</summary><div><nav id="btcml-links"></nav><label class="pick"><span data-t="language"></span><select id="btcml-language"><option value="en">English</option><option value="pt-BR">Português (BR)</option></select></label>
<label class="pick"><span data-t="theme"></span><select id="btcml-theme"><option value="auto" data-t="themeAuto"></option><option value="light" data-t="themeLight"></option><option value="dark" data-t="themeDark"></option></select></label></div></details></div></header>
<div id="btcml-market" class="banner" hidden></div>
<main id="btcml-essentials"><ul id="btcml-notices" aria-live="polite"></ul><ul class="cards" id="btcml-cards">${CARDS.map(card).join("")}</ul>
<div class="first">${MAIN}<aside class="box" id="btcml-score" aria-labelledby="btcml-score-t"><h2 id="btcml-score-t" data-t="c_score"></h2><div class="scroll" tabindex="0" role="group" aria-labelledby="btcml-score-t"></div><p class="say"></p></aside><section class="box" id="btcml-reliability" aria-labelledby="btcml-reliability-t"><h2 id="btcml-reliability-t" data-t="c_reliability"></h2><p class="say"></p><div class="drawing"></div></section></div></main></div>
<div class="grid">${box("sealed", { keys: key("line s3", "s_real") + key("line s2", "s_pred") + key("fill s2", "s_band") + key("dot", "s_missed") })}
${box("direction", { keys: key("line s1", "s_accuracy") + key("line s5", "s_wda") + key("line s7", "s_repeat") + key("fill s7", "s_half") + key("up1", "s_right") + key("up2", "s_wrong") })}
${box("money", { keys: key("line s1", "s_net") + key("line s6", "s_gross") + key("line s4", "s_repeatNet") + key("line s7", "s_hold"), tools: NUMBER("cost", 2) + NUMBER("threshold", 0) })}
${box("trainings", { extra: '<div class="scroll history" tabindex="0" role="group" aria-labelledby="btcml-trainings-t"></div>' })}</div>
<footer><span id="btcml-zone"></span> · <span><span data-t="charts"></span> <a href="https://www.tradingview.com/" rel="noreferrer noopener" target="_blank">Lightweight Charts™ © TradingView, Inc.</a></span> · <span id="btcml-version"></span></footer>
<dialog id="btcml-help" aria-labelledby="btcml-help-t"><h2 id="btcml-help-t" data-t="help"></h2>${[1, 2, 3, 4, 5].map((i) => `<p data-t="help_${i}"></p>`).join("")}<form method="dialog"><button data-t="close_"></button></form></dialog>
<dialog id="btcml-door" aria-labelledby="btcml-door-t"><form method="dialog"><h2 id="btcml-door-t" data-t="unlock"></h2><p class="say"></p><label class="pick"><span data-t="password"></span><input type="password" autocomplete="current-password"></label><div class="row"><button value="" data-t="cancel"></button><button value="open" class="act" data-t="unlock"></button></div></form></dialog>`;
}
