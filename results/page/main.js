// Which view is shown. Views are made when they are first asked for.

const VIEWS = { results: resultsView, conversations: conversationsView, compare: compareView, notes: notesView };
const made = {};

function show() {
  const [view] = address();
  if (!(view in VIEWS)) {
    if (view === "main") byId("main").focus();
    else location.replace(link("results"));
    return;
  }
  for (const name of Object.keys(VIEWS)) byId(`view-${name}`).hidden = name !== view;
  for (const anchor of document.querySelectorAll("nav a")) {
    if (anchor.dataset.view === view) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  made[view] ??= VIEWS[view](byId(`view-${view}`));
  made[view].show?.();
}

function notesView(root) {
  const { notes, held, found } = DATA.conversations;
  const schema = [
    ["prompt", "Messages before the agent’s first turn: the brief as system, the opening as user."],
    ["chosen, rejected", "The messages of the preferred conversation and of the other, the agent as assistant."],
    ["schema_version", "1."],
    ["world, user, split, scenario", "Which scenario both are on, and with whom they talk."],
    ["chosen_id, rejected_id", "run folder | user-split | scenario: what #conversations?id=… opens."],
    ["chosen_agent, rejected_agent", "The agents, with what was set for them."],
    ["chosen_return, rejected_return", "What each returned; null if unscored."],
    ["note, blind, labelled_at", "What was noted; whether agents and outcomes were hidden; when (UTC)."],
  ];
  root.append(h("div", { class: "prose" },
    h("h2", {}, "What this page is"),
    h("p", {}, `Made ${DATA.made.slice(0, 16).replace("T", " ")} UTC from ${counted(DATA.runs.length, "run")} by `, h("code", {}, DATA.command), ". It is one file and asks no server for anything; labels stay in this browser until you download them."),
    h("p", {}, `It carries ${grouped(held)} of ${counted(found, "conversation")}.`, DATA.apart ? ` They lie in the folder ${DATA.apart}, which must stay beside this file.` : ""),
    notes.length ? h("ul", { class: "remarks" }, notes.map((note) => h("li", {}, note))) : null,
    h("h2", {}, "How the numbers are made"),
    h("p", {}, "A section compares agents of one environment, one training user and one budget on the same scenarios. Intervals are 95% intervals over training seeds and clusters of scenarios with equal facts (Student’s t, two components of variance); with one seed they speak of scenarios only. Bands of profiles and intervals of win rates are percentile bootstrap intervals. Scores are 0 at the start and 1 at the optimum that the environment names. Conversations that ended unscored, because the user, the agent or the judge failed, are in no mean and are counted."),
    h("h2", {}, "Labels"),
    h("p", {}, "Under Side by side two conversations on one scenario are judged: left, right, tie or skip. “Preferences” are the pairs with a winner, as JSON Lines with TRL’s columns and these:"),
    h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Column"), h("th", { scope: "col" }, "What it holds"))), h("tbody", {}, schema.map(([name, words]) => h("tr", {}, h("td", {}, h("code", {}, name)), h("td", {}, words))))),
    h("p", {}, "“All labels” are one line per pair: left, right (ids), label (left, right, tie, skip), note, blind, labelled_at."),
    h("h2", {}, "Keys"),
    h("p", {}, "In the list of conversations: ↑ ↓ or j k, Page Up and Down, Home, End; Enter goes to the conversation. Side by side: 1 left, 2 right, 3 tie, 4 skip, n the next scenario, p the one before.")));
  return {};
}

const commits = only(DATA.runs.map((run) => run.commit));
byId("about").textContent = `${counted(DATA.runs.length, "run")}, ${counted(DATA.conversations.held, "conversation")} to read; ${commits.length === 1 ? `commit ${commits[0]}` : `${commits.length} commits`}; ${DATA.made.slice(0, 10)}`;
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
addEventListener("hashchange", show);
show();
