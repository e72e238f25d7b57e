// The view of results: which sections are shown, under which headings, and the figures of each.

const GROUPINGS = [["env", "environment"], ["user", "training user"], ["budget", "budget"]];

function resultsView(root) {
  const state = { env: "", user: "", budget: "", by: "env" };
  const holder = h("div");
  const drawn = new Map();
  let generation = 0;

  const options = (key, all) => [["", all], ...only(DATA.sections.map((part) => part[key])).sort().map((one) => [one, one])];
  const pick = (key) => (value) => {
    state[key] = value;
    draw();
  };
  const matches = (part) => ["env", "user", "budget"].every((key) => !state[key] || part[key] === state[key]);

  async function draw() {
    const mine = (generation += 1);
    const shown = DATA.sections.filter(matches);
    const parts = [...acrossParts(shown)];
    for (const name of only(shown.map((part) => part[state.by])).sort()) {
      parts.push(h("p", { class: "group" }, `${GROUPINGS.find(([key]) => key === state.by)[1]} ${name}`));
      for (const part of shown.filter((one) => one[state.by] === name)) parts.push(part);
    }
    holder.replaceChildren(shown.length ? "" : h("p", { class: "empty" }, "No section is of these. Choose another environment, user or budget."));
    announce(counted(shown.length, "section"));
    for (const part of parts) {
      if (mine !== generation) return;
      if (part instanceof Element) {
        holder.append(part);
        continue;
      }
      if (!drawn.has(part.name)) drawn.set(part.name, sectionPart(part));
      holder.append(drawn.get(part.name));
      await nextFrame(); // the first section is seen before the others are made
    }
    goTo();
  }

  function goTo() {
    const [view, parameters] = address();
    if (view === "results" && parameters.has("section")) byId(`section-${parameters.get("section")}`)?.scrollIntoView();
  }

  root.append(
    h("div", { class: "bar" },
      choice("Environment", options("env", "all"), "", pick("env"), { id: "pick-env" }),
      choice("Training user", options("user", "all"), "", pick("user"), { id: "pick-user" }),
      choice("Budget", options("budget", "all"), "", pick("budget"), { id: "pick-budget" }),
      choice("Group by", GROUPINGS, "env", pick("by"), { id: "pick-by" })),
    holder);
  draw();
  return { show: goTo };
}

function sectionPart(part) {
  const alone = DATA.sections.filter((one) => one.title === part.title).length === 1;
  const made = h("article", { class: "part", id: `section-${part.name}` },
    h("header", {}, h("h2", {}, part.title), h("p", {}, `${alone ? "" : `${part.name} · `}${grouped(part.scenarios)} scenarios a cell · ${counted(part.rows.length, "agent")} · `, h("a", { href: link("results", { section: part.name }) }, "link"))),
    leaderboard(part),
    part.notes.length ? h("ul", { class: "remarks" }, part.notes.map((note) => h("li", {}, coded(note)))) : null);
  const figures = h("div", { class: "figures" });
  if (part.curves.length) figures.append(curvesFigure(part));
  if (part.profiles.tau) figures.append(profileFigure(part)); // without it returns have two values, and success says all
  if (part.wins.length) figures.append(winsFigure(part));
  if (part.transfer.columns.length > 1) figures.append(transferFigure(part));
  if (part.rows.some((row) => row.learns)) figures.append(costFigure(part));
  made.append(figures);
  return made;
}

/** What several environments say together, where all of their sections are shown. */
function acrossParts(shown) {
  const names = new Set(shown.map((part) => part.name));
  return DATA.across.filter((one) => one.sections.every((name) => names.has(name))).map((one) => {
    const agents = one.rows.map((row) => row.agent);
    const kinds = only(one.rows.flatMap((row) => Object.keys(row.estimates)));
    const scales = Object.fromEntries(kinds.map((kind) => [kind, extent(one.rows.map((row) => row.estimates[kind] ?? []))]));
    const table = h("table", { class: "board" }, h("caption", { class: "unseen" }, one.title),
      h("thead", {}, h("tr", {}, ["Agent", "Seeds", ...kinds, ...one.names].map((words) => h("th", { scope: "col" }, words)))),
      h("tbody", {}, one.rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.agent), h("td", {}, String(row.runs)),
        kinds.map((kind) => h("td", {}, row.estimates[kind] ? [estimate(row.estimates[kind], (x) => number(x, 3)), intervalBar(row.estimates[kind], scales[kind])] : "–")), row.scores.map((score) => h("td", {}, number(score, 2)))))));
    const inked = inks(one.rows);
    const profiled = one.rows;
    const draw = (width) => {
      const [low, high] = padded(extent(profiled.map((row) => row.profile)));
      const plot = axes(width, 260, [low, high], [0, 1], ["score τ"], `Performance profiles of ${agents.join(", ")}`);
      for (const row of profiled) {
        const n = row.profile.length;
        const steps = [[low, 1], ...row.profile.flatMap((score, i) => [[score, 1 - i / n], [score, 1 - (i + 1) / n]]), [high, 0]];
        line(plot, row.agent, inked.get(row.agent), steps.map(([x]) => x), steps.map(([, y]) => y));
      }
      return plot.drawing;
    };
    const profile = figure("Performance profiles over environments", "Share of runs (a training seed in an environment) whose score is above τ.", { draw, inked, agents: profiled.map((row) => row.agent) }).made;
    return h("article", { class: "part" }, h("header", {}, h("h2", {}, one.title), h("p", {}, "rliable’s numbers over the scores of all runs: the interquartile mean (IQM), how far runs stay below the optimum (optimality gap), how likely a run is better than the start; then the mean score in each environment.")),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": one.title }, table), h("div", { class: "figures" }, profile));
  });
}
