// What a reader can try: each part is built from the JSON in its element, without a library.
document.addEventListener("DOMContentLoaded", () => {
  const digits = (value, places = 1) => `${value < 0 ? "\u2212" : ""}${Math.abs(value).toFixed(places){% if language != "en" %}.replace(".", ","){% endif %}}`;
  const make = (name, parent, text = "", facts = {}) => {
    const found = Object.assign(document.createElement(name), facts);
    found.textContent = text;
    parent.append(found);
    return found;
  };
  const drawing = (box, label) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 600 200");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    box.append(svg);
    return svg;
  };
  const line = (x1, y1, x2, y2, role) => `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="var(--${role})" stroke-width="1.5"/>`;

  const kinds = {
    /** Twenty candles, up or down; then the score beside the model and a coin. */
    guess(box, { past, moves, came, said, coin }) {
      const told = make("p", box, "", { className: "told" }), svg = drawing(box, "{% trans %}The closes before the hidden candle{% endtrans %}"), row = make("p", box, "", { className: "buttons" });
      const after = make("p", box), score = { {% trans %}You{% endtrans %}: 0, "{% trans %}The model{% endtrans %}": 0, "{% trans %}A coin{% endtrans %}": 0 };
      told.setAttribute("aria-live", "polite");
      after.setAttribute("aria-live", "polite");
      let place = 0;
      const draw = (open) => {
        const shown = [...past[place], 0, ...(open ? [moves[place]] : [])], top = Math.max(...shown), low = Math.min(...shown);
        const y = (move) => 185 - 170 * ((move - low) / (top - low || 1)), x = (i) => 10 + (530 * i) / past[place].length;
        const points = [...past[place], 0].map((move, i) => `${x(i).toFixed(1)},${y(move).toFixed(1)}`).join(" "), end = x(past[place].length);
        svg.innerHTML = line(10, y(0), 590, y(0), "rule") + `<polyline points="${points}" fill="none" stroke="var(--ink)" stroke-width="1.5"/>`
          + (open ? line(end, y(0), end + 40, y(moves[place]), "s1") + `<circle cx="${end + 40}" cy="${y(moves[place])}" r="5" fill="var(--s1)"/>`
            : `<text x="${end + 16}" y="${y(0) - 8}" fill="var(--muted)" font-size="34">?</text>`);
      };
      const ask = () => {
        told.textContent = `{% trans %}Candle ${place + 1} of ${past.length}: does the next one close above the last close, or below?{% endtrans %}`;
        after.textContent = "";
        draw(false);
        row.replaceChildren();
        for (const [words, up] of [["{% trans %}Up{% endtrans %}", true], ["{% trans %}Down{% endtrans %}", false]]) make("button", row, words, { type: "button", onclick: () => answer(up) });
      };
      const answer = (up) => {
        const rose = came[place];
        score.{% trans %}You{% endtrans %} += up === rose;
        score["{% trans %}The model{% endtrans %}"] += said[place] === rose;
        score["{% trans %}A coin{% endtrans %}"] += coin[place] === rose;
        draw(true);
        after.textContent = `{% trans %}It went ${rose ? "up" : "down"} by ${digits(Math.abs(moves[place]))} bp: you were ${up === rose ? "right" : "wrong"}, the model said ${said[place] ? "up" : "down"}.{% endtrans %}`;
        row.replaceChildren();
        place += 1;
        make("button", row, place < past.length ? "{% trans %}Next{% endtrans %}" : "{% trans %}The score{% endtrans %}", { type: "button", onclick: place < past.length ? ask : end }).focus();
      };
      const end = () => {
        told.textContent = Object.entries(score).map(([who, hits]) => `{% trans %}${who}: ${hits} of ${past.length} right.{% endtrans %}`).join(" ");
        after.textContent = `{% trans %}So few candles show next to nothing: see the whole test.{% endtrans %}`;
        svg.replaceChildren();
        row.replaceChildren();
        place = 0;
        for (const who of Object.keys(score)) score[who] = 0;
        make("button", row, "{% trans %}Again{% endtrans %}", { type: "button", onclick: ask });
      };
      ask();
    },

    /** What is left of a round trip at the fee that the reader pays. */
    fee(box, { gross, low, high, most, proven }) {
      const label = make("label", box, "{% trans %}Fee of a round trip{% endtrans %} "), slide = make("input", label, "", { type: "range", min: 0, max: most, step: 0.5, value: 0 });
      const told = make("output", box, "", { className: "told" }), svg = drawing(box, "{% trans %}Net result of a round trip against the fee{% endtrans %}");
      const y = (bp) => 100 - (85 * bp) / Math.max(high, most - low), x = (fee) => 10 + (580 * fee) / most;
      const show = () => {
        const fee = Number(slide.value), net = gross - fee, ends = [low - fee, high - fee];
        const sure = ends[0] > 0 && proven ? "{% trans %}a gain that is significant{% endtrans %}" : ends[1] < 0 ? "{% trans %}a loss that is significant{% endtrans %}" : "{% trans %}which may be chance{% endtrans %}";
        told.textContent = `{% trans %}At ${digits(fee)} bp a round trip ${net < 0 ? "loses" : "earns"} ${digits(Math.abs(net), 2)} bp on average (95 % interval ${digits(ends[0], 2)} to ${digits(ends[1], 2)}), ${sure}.{% endtrans %}`;
        svg.innerHTML = line(10, y(0), 590, y(0), "muted") + line(x(0), y(gross), x(most), y(gross - most), "s1")
          + line(x(fee), y(ends[0]), x(fee), y(ends[1]), "s2") + `<circle cx="${x(fee)}" cy="${y(net)}" r="5" fill="var(--s2)"/>`;
      };
      make("p", box, `{% trans %}Blue: what a round trip leaves at each fee from 0 to ${most} bp. Orange: your fee, with its interval. Grey: nothing gained, nothing lost.{% endtrans %}`);
      slide.addEventListener("input", show);
      show();
    },

    /** Skill by month under the loss that the reader chooses. */
    loss(box, { months, absolute, squared }) {
      const row = make("p", box, "", { className: "buttons" }), told = make("p", box, "", { className: "told" }), svg = drawing(box, "{% trans %}Skill by month{% endtrans %}");
      told.setAttribute("aria-live", "polite");
      make("p", box, `{% trans %}A bar for each month from ${months[0]} to ${months[months.length - 1]}: the share of the error of “no change” that the model takes away, or adds.{% endtrans %}`);
      const all = [...absolute, ...squared].map(Math.abs), width = 580 / months.length;
      const show = (name, values) => {
        for (const button of row.children) button.setAttribute("aria-pressed", button.textContent === name);
        told.textContent = `{% trans %}${name}: smaller than that of “no change” in ${values.filter((value) => value > 0).length} of ${months.length} months.{% endtrans %}`;
        svg.innerHTML = values.map((value, i) => {
          const tall = (90 * Math.abs(value)) / Math.max(...all, 1e-9);
          return `<rect x="${10 + i * width + 1}" y="${value > 0 ? 100 - tall : 100}" width="${Math.max(width - 2, 1)}" height="${tall}" fill="var(--${value > 0 ? "s1" : "s2"})"><title>${months[i]}: ${digits(100 * value, 2)} %</title></rect>`;
        }).join("") + line(10, 100, 590, 100, "muted");
      };
      const kindsOfLoss = { "{% trans %}Absolute error{% endtrans %}": absolute, "{% trans %}Squared error{% endtrans %}": squared };
      for (const [name, values] of Object.entries(kindsOfLoss)) make("button", row, name, { type: "button", onclick: () => show(name, values) });
      show("{% trans %}Absolute error{% endtrans %}", absolute);
    },
  };
  for (const box of document.querySelectorAll(".tryout")) kinds[box.dataset.kind](box, JSON.parse(box.querySelector("script").textContent));
});
