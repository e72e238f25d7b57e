// The leaderboard's table: it knows the kinds of columns and none of the columns.

const KINDS = {
  text: { show: (value) => value ?? "–", order: (value) => value, numeric: false },
  number: { show: (value) => number(value, 2), order: (value) => value, numeric: true },
  small: { show: (value) => number(value, 3), order: (value) => value, numeric: true },
  part: { show: (value) => (value === null ? "–" : `${number(100 * value, 1)}%`), order: (value) => value, numeric: true },
  count: { show: (value) => (value === null ? "–" : grouped(value)), order: (value) => value, numeric: true },
  seconds: { show: duration, order: (value) => value, numeric: true },
  estimate: { show: (value) => estimate(value, (one) => number(one, 3)), order: (value) => value?.[0] ?? null, numeric: false },
  share: { show: (value) => estimate(value, percent), order: (value) => value?.[0] ?? null, numeric: false },
};

/** A number, its interval in words. */
function estimate(value, show) {
  if (!value) return "–";
  if (value[1] === null) return show(value[0]);
  return [show(value[0]), h("span", { class: "range" }, `[${show(value[1])}, ${show(value[2])}]`)];
}

/** Its interval as a bar on the scale of its column. */
function intervalBar(value, [low, high]) {
  const width = 120;
  const at = (one) => 3 + ((one - low) / (high - low || 1)) * (width - 6);
  return s("svg", { class: "interval", width, height: 8, "aria-hidden": "true" },
    s("line", { class: "track", x1: 0, x2: width, y1: 4, y2: 4 }),
    value[1] === null ? null : s("line", { class: "span", x1: at(value[1]), x2: at(value[2]), y1: 4, y2: 4 }),
    s("circle", { class: "dot", cx: at(value[0]), cy: 4, r: 3 }));
}

/** The span of all intervals of a column; an estimate may be without one. */
const scaleOf = (column) => extent(column.values.filter(Boolean));

/** A sorted copy of the rows' numbers; rows without a value come last whichever way. */
function sorted(rows, order, descending) {
  const value = new Map(rows.map((row) => [row, order(row)]));
  return [...rows].sort((a, b) => {
    const [x, y] = [value.get(a), value.get(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    const compared = typeof x === "string" ? x.localeCompare(y) : x - y;
    return (descending ? -compared : compared) || a - b;
  });
}

/** A section's leaderboard: the groups of columns, the table, the explanation of the column at hand. */
function leaderboard(part) {
  const groups = only(part.columns.map((column) => column.group));
  const state = { shown: new Set(groups.filter((group) => SHOWN_AT_FIRST.has(group))), key: null, descending: true, open: new Set() };
  const explain = h("p", { class: "explain", "aria-hidden": "true" });
  const body = h("tbody");
  const head = h("thead");
  const table = h("table", { class: "board" }, h("caption", { class: "unseen" }, `Leaderboard: ${part.title}`), head, body);

  const columns = () => part.columns.filter((column) => state.shown.has(column.group));
  const say = (column) => explain.replaceChildren(...(column ? [h("b", {}, `${column.label}. `), column.explanation] : [HINT]));
  say(null);

  function header(column) {
    const id = `explain-${part.name}-${column.key}`.replace(/[^\w-]/g, "_");
    const direction = state.key === column.key ? (state.descending ? "descending" : "ascending") : "none";
    const button = h("button", { type: "button", class: "sort", "aria-describedby": id, "data-key": column.key,
      onclick: () => sortBy(column), onfocus: () => say(column), onmouseenter: () => say(column) }, column.label);
    return h("th", { scope: "col", class: KINDS[column.kind].numeric ? "number" : null, "aria-sort": direction }, button,
      h("span", { class: "unseen", id }, column.explanation));
  }

  function sortBy(column) {
    const first = column.better !== "low" && column.kind !== "text";
    state.descending = state.key === column.key ? !state.descending : first;
    state.key = column.key;
    draw();
    head.querySelector(`[data-key="${CSS.escape(column.key)}"]`).focus();
    announce(`Sorted by ${column.label}, ${state.descending ? "descending" : "ascending"}`);
  }

  function rowOf(row) {
    const { agent, roles, learns } = part.rows[row];
    const id = `source-${part.name}-${row}`.replace(/[^\w-]/g, "_");
    const source = h("tr", { class: "source", id }, h("td", { colspan: columns().length + 1 }));
    const twist = h("button", { type: "button", class: "twist", "aria-controls": id, "aria-label": `How ${agent} was made`,
      onclick: () => {
        if (!state.open.delete(row)) state.open.add(row);
        unfold();
      } });
    const unfold = () => {
      source.hidden = !state.open.has(row);
      twist.setAttribute("aria-expanded", String(!source.hidden));
      if (!source.hidden) source.firstChild.replaceChildren(sourceOf(part.rows[row]));
    };
    unfold();
    const badges = [...roles.filter((role) => role !== agent), ...(learns ? [] : ["fixed"])];
    const name = h("th", { scope: "row" }, twist, breakable(agent), badges.map((words) => [" ", h("span", { class: "badge" }, words)]));
    const cells = columns().map((column) => {
      const kind = KINDS[column.kind];
      const value = column.values[row];
      const bar = value && Array.isArray(value) ? intervalBar(value, scaleOf(column)) : null;
      return h("td", { class: kind.numeric ? "number" : null }, kind.show(value), bar);
    });
    return [h("tr", { "data-agent": agent }, name, cells), source];
  }

  function draw() {
    const column = part.columns.find((one) => one.key === state.key);
    const rows = part.rows.map((_, row) => row);
    const order = column ? sorted(rows, (row) => KINDS[column.kind].order(column.values[row]), state.descending) : rows;
    head.replaceChildren(h("tr", {}, h("th", { scope: "col" }, "Agent"), columns().map(header)));
    body.replaceChildren(...order.flatMap(rowOf));
  }

  const toggles = groups.map((group) => h("button", { type: "button", "aria-pressed": String(state.shown.has(group)), onclick: (event) => {
    const on = !state.shown.has(group);
    if (on) state.shown.add(group);
    else state.shown.delete(group);
    event.currentTarget.setAttribute("aria-pressed", String(on));
    draw();
  } }, group));
  draw();
  const glossary = h("dl", { class: "glossary" }, part.columns.flatMap((column) => [h("dt", {}, column.label), h("dd", {}, column.explanation)]));
  return h("div", { class: "leaderboard" },
    h("div", { class: "bar" }, h("span", { class: "label" }, "Columns"), h("span", { class: "choices", role: "group", "aria-label": "Columns" }, toggles)),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Leaderboard: ${part.title}` }, table), explain,
    h("details", {}, h("summary", {}, "What the columns mean"), glossary));
}

const SHOWN_AT_FIRST = new Set(["result", "held out"]);
const HINT = "Press a column’s name to sort by it; its meaning is shown here.";

/** Where a row comes from: commands, commits, and the way to its conversations. */
function sourceOf(row) {
  const runs = row.runs.map((number) => DATA.runs[number]);
  const reading = DATA.conversations.files.some((file) => row.runs.includes(file.run));
  return h("div", { class: "source-inner" },
    h("ul", {}, runs.map((run) => h("li", {}, h("code", {}, run.command), h("span", { class: "soft" }, ` · commit ${run.commit} · ${run.date.slice(0, 10)}`)))),
    reading ? h("a", { href: link("conversations", { world: runs[0].world, agent: row.agent }) }, `Read the conversations of ${row.agent}`) : null);
}
