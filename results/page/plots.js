// Figures, drawn as SVG at the width they have, and the numbers behind each as a table.

const MARGIN = { left: 46, right: 14, top: 8, bottom: 34 };

/** Round ticks, about `count` of them, from `low` to `high`. */
function ticks(low, high, count = 5) {
  const raw = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push(k * step);
  return found;
}

const tickWords = (value, step) => (Math.abs(value) >= 10000 ? `${number(value / 1000, step < 1000 ? 1 : 0)}k` : number(value, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))));

/** Axes of a drawing `width` wide: the SVG and where values lie in it; `right` is kept free for words. */
function axes(width, height, [x0, x1], [y0, y1], labels, describedAs, right = MARGIN.right) {
  const x = (value) => MARGIN.left + ((value - x0) / (x1 - x0 || 1)) * (width - MARGIN.left - right);
  const y = (value) => height - MARGIN.bottom - ((value - y0) / (y1 - y0 || 1)) * (height - MARGIN.top - MARGIN.bottom);
  const across = ticks(x0, x1, Math.max(3, Math.min(6, width / 90)));
  const up = ticks(y0, y1, 5);
  const drawing = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": describedAs },
    up.map((value) => [
      s("line", { class: "grid", x1: MARGIN.left, x2: width - right, y1: y(value), y2: y(value) }),
      s("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, tickWords(value, up[1] - up[0])),
    ]),
    s("line", { class: "axis", x1: MARGIN.left, x2: width - right, y1: height - MARGIN.bottom, y2: height - MARGIN.bottom }),
    across.map((value) => s("text", { x: x(value), y: height - MARGIN.bottom + 15, "text-anchor": "middle" }, tickWords(value, across[1] - across[0]))),
    s("text", { x: width - right, y: height - 3, "text-anchor": "end" }, labels[0]),
  );
  return { drawing, x, y };
}

/** A polyline with its band; the points are [x], [mean], [low], [high]. */
function line({ drawing, x, y }, agent, { colour, dash }, xs, mean, low, high) {
  const path = (values) => xs.map((one, i) => (values[i] === null ? "" : `${x(one).toFixed(1)},${y(values[i]).toFixed(1)}`)).filter(Boolean);
  if (low && high) {
    const band = [...path(high), ...path(low).reverse()].join(" ");
    drawing.append(s("polygon", { class: "band", points: band, fill: colour, "data-agent": agent }));
  }
  drawing.append(s("polyline", { class: "series", points: path(mean).join(" "), stroke: colour, "stroke-dasharray": dash, "data-agent": agent }));
}

/** A point's mark around [x, y]. */
function point(mark, x, y, colour) {
  if (mark === "square") return s("rect", { x: x - 4, y: y - 4, width: 8, height: 8, fill: colour });
  if (mark === "triangle") return s("path", { d: `M${x - 5} ${y + 4.2}h10l-5 -9z`, fill: colour });
  return s("circle", { cx: x, cy: y, r: 4.5, fill: colour });
}

const extent = (values) => {
  const there = values.flat(3).filter((value) => Number.isFinite(value));
  return there.length ? [Math.min(...there), Math.max(...there)] : [0, 1];
};
const padded = ([low, high]) => [low - 0.05 * (high - low || 1), high + 0.05 * (high - low || 1)];

/** With more agents than this, bands would cover one another: only that of the agent at hand is shown. */
const BANDS = 8;
const BAND_WORDS = (agents) => (agents.length > BANDS ? ", shown of the agent whose name is pointed at" : "");

/** A figure: caption, controls, what `draw(width)` gives at every width, a legend (of lines, or of marks), and its numbers. */
function figure(title, words, { draw, controls = [], agents = [], inked = null, marked = false, wide = false, numbers = null }) {
  const holder = h("div", { class: agents.length > BANDS ? "holder many" : "holder" });
  const table = numbers ? numbersOf(title, numbers) : null;
  const hidden = new Set();
  let atHand = null;
  const emphasise = (agent) => {
    atHand = agent;
    for (const mark of holder.querySelectorAll("[data-agent]")) {
      mark.classList.toggle("dim", agent !== null && mark.dataset.agent !== agent);
      mark.classList.toggle("at-hand", mark.dataset.agent === agent);
    }
  };
  let width = 0;
  const redraw = () => {
    if (!width) return;
    holder.replaceChildren(draw(width));
    for (const mark of holder.querySelectorAll("[data-agent]")) if (hidden.has(mark.dataset.agent)) mark.remove();
    emphasise(atHand);
    table?.refresh();
  };
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 1) return;
    width = Math.floor(entry.contentRect.width);
    redraw();
  }).observe(holder);
  const legend = agents.map((agent) => {
    const { colour, dash, mark } = inked.get(agent);
    return h("button", { type: "button", "aria-pressed": "true", onmouseenter: () => emphasise(agent), onmouseleave: () => emphasise(null),
      onfocus: () => emphasise(agent), onblur: () => emphasise(null),
      onclick: (event) => {
        if (!hidden.delete(agent)) hidden.add(agent);
        event.currentTarget.setAttribute("aria-pressed", String(!hidden.has(agent)));
        redraw();
      } },
      marked ? s("svg", { width: 12, height: 12, "aria-hidden": "true" }, point(mark, 6, 6, colour))
        : s("svg", { width: 22, height: 10, "aria-hidden": "true" }, s("line", { x1: 0, x2: 22, y1: 5, y2: 5, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash })), agent);
  });
  const made = h("figure", { class: wide ? "wide" : null }, h("figcaption", {}, h("b", {}, `${title}. `), h("span", {}, words)),
    controls.length ? h("div", { class: "bar" }, controls) : null, holder,
    legend.length ? h("div", { class: "legend", role: "group", "aria-label": "Agents shown" }, legend) : null,
    table?.details);
  return { made, redraw };
}

/** The numbers of a figure, made when they are asked for; `refresh` makes them again if they are shown. */
function numbersOf(title, numbers) {
  const details = h("details", { class: "numbers" }, h("summary", {}, "The numbers"));
  const refresh = () => {
    if (!details.open) return;
    const [head, rows] = numbers();
    const table = h("table", {}, h("caption", { class: "unseen" }, title), h("thead", {}, h("tr", {}, head.map((words) => h("th", { scope: "col" }, words)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => (i ? h("td", {}, cell) : h("th", { scope: "row" }, cell)))))));
    details.replaceChildren(details.firstChild, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}: the numbers` }, table));
  };
  details.addEventListener("toggle", refresh);
  return { details, refresh };
}

/** Falling heights (in pixels, the lowest words first) moved up until each is `gap` above the one before. */
function apart(heights, gap) {
  let last = Infinity;
  return heights.map((height) => (last = Math.min(height, last - gap)));
}

// ---- the figures of a section ----

function curvesFigure(part) {
  const agents = part.curves.map((curve) => part.rows[curve.row].agent);
  const returns = part.columns.find((column) => column.key === "return").values;
  const fixed = part.rows.map((row, i) => [row, returns[i]]).filter(([row, value]) => value && !agents.includes(row.agent));
  const inked = inks(part.rows);
  const draw = (width) => {
    const last = Math.max(...part.curves.map((curve) => curve.x.at(-1)));
    const heights = padded(extent([part.curves.map((curve) => [curve.low, curve.high]), fixed.map(([, value]) => value[0])]));
    const roomy = width > 440;
    const plot = axes(width, 280, [0, last], heights, ["conversations while learning"], `Learning curves of ${agents.join(", ")}`, roomy && fixed.length ? 104 : MARGIN.right);
    const levels = fixed.map(([row, value]) => ({ at: plot.y(value[0]), row })).sort((a, b) => b.at - a.at);
    for (const { at } of levels) plot.drawing.append(s("line", { class: "level", x1: plot.x(0), x2: plot.x(last), y1: at, y2: at }));
    for (const curve of part.curves) line(plot, part.rows[curve.row].agent, inked.get(part.rows[curve.row].agent), curve.x, curve.mean, curve.low, curve.high);
    const named = roomy ? levels : levels.filter(({ row }) => row.roles.length); // a narrow figure names the references alone
    apart(named.map(({ at }) => at + (roomy ? 4 : -4)), 12).forEach((at, i) => // after the curves, which would cover them
      plot.drawing.append(s("text", { class: "name", x: roomy ? plot.x(last) + 6 : plot.x(0) + 4, y: at }, named[i].row.agent)));
    return plot.drawing;
  };
  const numbers = () => [["Agent", "Conversations", "Mean return", "Lowest seed", "Highest seed"],
    part.curves.flatMap((curve) => curve.x.map((x, i) => [part.rows[curve.row].agent, grouped(x), number(curve.mean[i]), number(curve.low[i]), number(curve.high[i])]))
      .concat(fixed.map(([row, value]) => [row.agent, "a level", number(value[0]), "–", "–"]))];
  return figure("Learning curves", `Mean return with ${part.user} against conversations spent, on scenarios of the curves’ own. Line: mean over training seeds; band: lowest to highest seed${BAND_WORDS(agents)}. Thin grey levels: agents that hold no conversations while learning, on the final scenarios, which are others: what the table says is not where a curve ends. What was learnt from logged conversations beforehand is in a curve’s first point.`,
    { draw, agents, inked, numbers }).made;
}

function profileFigure(part) {
  const agents = part.rows.map((row) => row.agent);
  const { tau, series } = part.profiles;
  const inked = inks(part.rows);
  const draw = (width) => {
    const plot = axes(width, 280, extent(tau), [0, 1], ["return τ"], `Performance profiles of ${agents.join(", ")}`);
    const stepped = (values) => values.flatMap((value, i) => (i ? [values[i - 1], value] : [value]));
    const xs = tau.flatMap((value, i) => (i ? [value, value] : [value]));
    series.forEach((one, row) => line(plot, agents[row], inked.get(agents[row]), xs, stepped(one.share), stepped(one.low), stepped(one.high)));
    return plot.drawing;
  };
  const numbers = () => {
    const picked = tau.map((_, i) => i).filter((i) => i % 10 === 0);
    return [["Agent", ...picked.map((i) => `τ = ${number(tau[i], 2)}`)], series.map((one, row) => [agents[row], ...picked.map((i) => percent(one.share[i]))])];
  };
  return figure("Performance profiles", `Share of conversations with ${part.user} on ${part.splits[0]} that return more than τ. Higher is better everywhere; bands are pointwise 95% intervals${BAND_WORDS(agents)}.`,
    { draw, agents, inked, numbers }).made;
}

/** Cells washed with a colour as far as `weight` (0 to 1) says, never so dark that ink can't be read on it. */
const wash = (colour, weight) => `background: color-mix(in srgb, ${colour} ${Math.round(Math.min(1, weight) * 52)}%, var(--paper))`;

/** A matrix as a table whose cells are washed; `cell(i, j)` gives {words, style, title, certain} or null. */
function matrix(title, rows, columns, cell, corner) {
  const turned = columns.length > 5;
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
    h("table", { class: "matrix" }, h("caption", { class: "unseen" }, title),
      h("thead", {}, h("tr", {}, h("td", {}, corner), columns.map((words) => h("th", { scope: "col", class: turned ? "turned" : null }, turned ? h("span", {}, words) : words.split("\n").flatMap((one, i) => (i ? [h("br"), breakable(one)] : breakable(one))))))),
      h("tbody", {}, rows.map((words, i) => h("tr", {}, h("th", { scope: "row" }, breakable(words)), columns.map((_, j) => {
        const one = cell(i, j);
        return one ? h("td", { style: one.style, class: one.certain ? "certain" : null }, one.words) : h("td", {}, "·");
      }))))));
}

/** A matrix with more columns than this takes the whole width. */
const WIDE = 9;

function winsFigure(part) {
  const agents = part.rows.map((row) => row.agent);
  const state = { condition: 0 };
  const draw = () => {
    const { table, low, high } = part.wins[state.condition];
    return matrix("Win rates", agents, agents, (i, j) => {
      const rate = table[i][j];
      if (i === j || rate === null) return null;
      return { words: number(rate, 2), style: wash(rate > 0.5 ? "var(--win)" : "var(--lose)", Math.abs(rate - 0.5) * 2), certain: low[i][j] > 0.5 || high[i][j] < 0.5 };
    }, "row over column");
  };
  const numbers = () => {
    const { table, low, high } = part.wins[state.condition];
    const pairs = agents.flatMap((_, i) => agents.map((__, j) => [i, j])).filter(([i, j]) => i !== j && table[i][j] !== null);
    return [["Row", "Column", "Win rate", "95% interval"], pairs.map(([i, j]) => [agents[i], agents[j], number(table[i][j]), `[${number(low[i][j])}, ${number(high[i][j])}]`])];
  };
  const controls = [choice("Where", part.wins.map((one, i) => [String(i), one.condition]), "0", (value) => {
    state.condition = Number(value);
    made.redraw();
  })];
  const made = figure("Win rates", `How often the row’s conversation returns more than the column’s on the same ${grouped(part.wins[0].scenarios)} scenarios, over all pairs of training seeds; a tie is one half. Bold: the 95% interval leaves out one half.`,
    { draw, controls, numbers, wide: agents.length > WIDE });
  return made.made;
}

function transferFigure(part) {
  const agents = part.rows.map((row) => row.agent);
  const { columns } = part.transfer;
  const kinds = ["score", "return", "success"].filter((kind) => part.transfer[kind]);
  const state = { kind: kinds[0] };
  const show = (value) => (state.kind === "success" ? percent(value) : number(value, 2));
  // Where start and optimum are close together a score may be anything; with an interval longer than from one to the other it says nothing.
  const blurred = (one) => state.kind === "score" && one[1] !== null && one[2] - one[1] > 1;
  const draw = () => {
    const table = part.transfer[state.kind];
    const [low, high] = extent(table.map((row) => row.map((one) => (one && !blurred(one) ? one[0] : null))));
    return matrix("Transfer", agents, columns.map((one) => `${one.user}\n${one.split}`), (i, j) => {
      const one = table[i][j];
      return one && { words: show(one[0]), style: blurred(one) ? "color: var(--soft)" : wash("var(--heat)", (one[0] - low) / (high - low || 1)) };
    }, "agent \\ user");
  };
  const numbers = () => [["Agent", ...columns.map((one) => `${one.user}, ${one.split}`)],
    part.transfer[state.kind].map((row, i) => [agents[i], ...row.map((one) => (one ? one[1] === null ? show(one[0]) : `${show(one[0])} [${show(one[1])}, ${show(one[2])}]` : "–"))])];
  const controls = choices("Show", kinds.map((kind) => [kind, kind]), state.kind, (kind) => {
    state.kind = kind;
    made.redraw();
  });
  const made = figure("Transfer", `Agents that learnt with ${part.user}, with every user and split they were evaluated on, all on the same scenarios. The stronger the colour, the higher; grey and without colour: scores whose interval is longer than the way from start to optimum.`,
    { draw, controls, numbers });
  return made.made;
}

const COSTS = ["conversations", "exchanges", "agent_tokens", "user_tokens", "learning", "cpu"];

function costFigure(part) {
  const column = (key) => part.columns.find((one) => one.key === key);
  const outcome = column(part.scored ? "score" : "return");
  const learners = part.rows.map((_, row) => row).filter((row) => part.rows[row].learns && outcome.values[row]);
  const agents = learners.map((row) => part.rows[row].agent);
  const costs = COSTS.map(column).filter((one) => learners.some((row) => one.values[row] > 0));
  const state = { cost: column("learning") };
  const inked = inks(part.rows);
  const draw = (width) => {
    const spent = learners.map((row) => state.cost.values[row]);
    const reached = learners.map((row) => outcome.values[row]);
    const plot = axes(width, 280, [0, Math.max(...spent) * 1.06], padded(extent(reached)), [`${state.cost.label.toLowerCase()}${state.cost.kind === "seconds" ? ", seconds" : ""}`], `${outcome.label} against ${state.cost.label} of ${agents.join(", ")}`);
    learners.forEach((row, i) => {
      const { colour, mark } = inked.get(agents[i]);
      const [x, y] = [plot.x(spent[i]), plot.y(reached[i][0])];
      plot.drawing.append(s("g", { "data-agent": agents[i] }, s("title", {}, agents[i]),
        reached[i][1] === null ? "" : s("line", { x1: x, x2: x, y1: plot.y(reached[i][1]), y2: plot.y(reached[i][2]), stroke: colour, "stroke-width": 1.5 }),
        point(mark, x, y, colour)));
    });
    return plot.drawing;
  };
  const numbers = () => [["Agent", outcome.label, ...costs.map((one) => one.label)],
    learners.map((row, i) => [agents[i], number(outcome.values[row][0]), ...costs.map((one) => KINDS[one.kind].show(one.values[row]))])];
  const controls = [choice("Cost", costs.map((one) => [one.key, one.label]), state.cost.key, (key) => {
    state.cost = column(key);
    made.redraw();
  })];
  const made = figure("Cost", `${outcome.label} against what learning consumed, mean over training seeds; bars are 95% intervals of the ${outcome.label.toLowerCase()}.`, { draw, controls, agents, inked, marked: true, numbers });
  return made.made;
}
