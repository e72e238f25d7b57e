// The view of conversations: filters, a list that only holds the rows in sight, and the conversation that is chosen.

const ROW = 52;
const NO_CONVERSATIONS = DATA.conversations.found
  ? `This page carries none of the ${counted(DATA.conversations.found, "conversation")} of its runs: it was made with --conversations 0.`
  : "This page carries no conversations: the runs it was made from have none beside their records. A run writes them while it is "
    + "evaluated (into its folder trajectories); those that are packed for publishing leave them out, to be small.";
const FILTERS = ["world", "agent", "seed", "budget", "user", "split", "outcome", "stop", "attribute", "value", "text"];

function conversationsView(root) {
  const state = Object.fromEntries(FILTERS.map((name) => [name, ""]));
  let shown = [];
  let chosen = -1; // a place in `shown`
  let lost = null; // an id that was asked for and is not here
  let generation = 0;
  const filters = h("div", { class: "filters" });
  const count = h("span", { class: "label", id: "count" });
  const clear = h("button", { type: "button", id: "clear", onclick: () => reset({}) }, "Clear filters");
  const run = h("div", { class: "run", role: "presentation" });
  const list = h("div", { class: "list", id: "list", role: "listbox", tabindex: "0", "aria-label": "Conversations", onscroll: () => paint(), onkeydown: keys });
  const detail = h("article", { class: "detail", id: "detail", tabindex: "-1", "aria-label": "The conversation" });
  list.append(run);

  // ---- filters ----

  const words = { world: (f) => f.run.world, agent: (f) => f.run.agent, seed: (f) => String(f.run.seed), budget: (f) => f.run.budget, user: (f) => f.user, split: (f) => f.split,
    outcome: (f) => OUTCOMES[f.outcome], stop: (f) => f.stop };
  const NAMES = ["world", "agent", "seed", "budget", "user", "split"]; // shown as the tables write them; the other filters are spoken
  const perFile = (name) => FILES.map((file) => ({ run: DATA.runs[file.run], user: file.user, split: file.split }))
    .filter((one) => name === "world" || !state.world || one.run.world === state.world).map(words[name]);
  const natural = (a, b) => a.localeCompare(b, "en", { numeric: true });
  const spokenFilters = { outcome: OUTCOMES.filter((_, i) => FILES.some((file) => file.outcomes.includes(String(i)))), stop: [...STOPS].sort() };
  /** What a filter can be set to: of names those in the chosen world, if one is; and what it is set to, which must stay to be seen. */
  const available = (name) => spokenFilters[name] ?? only([...perFile(name), ...(state[name] ? [state[name]] : [])]).sort(natural);
  const tablesOf = () => TABLES.filter((table) => !state.world || table.world === state.world);
  const attributes = () => only(tablesOf().flatMap((table) => table.attributes.flatMap(Object.keys)));
  const valuesOf = (name) => only(tablesOf().flatMap((table) => table.attributes.map((one) => one[name]).filter((one) => one !== undefined))).sort(natural);

  function drawFilters() {
    const all = { world: "all worlds", agent: "all agents", seed: "all seeds", budget: "all budgets", user: "all users", split: "all splits", outcome: "all outcomes", stop: "all reasons" };
    const labels = { world: "World", agent: "Agent", seed: "Training seed", budget: "Budget", user: "Talks with", split: "Split", outcome: "Outcome", stop: "Ended by" };
    const select = (name) => choice(labels[name], [["", all[name]], ...available(name).map((one) => [one, NAMES.includes(name) ? one : spoken(one)])], state[name], (value) => change(name, value), { id: `filter-${name}` });
    const text = h("input", { type: "search", id: "filter-text", value: state.text, placeholder: "words that were said", oninput: (event) => {
      clearTimeout(text.waiting);
      text.waiting = setTimeout(() => change("text", event.target.value), 250);
    } });
    filters.replaceChildren(...Object.keys(labels).map(select),
      choice("Profile attribute", [["", "any"], ...attributes().map((one) => [one, spoken(one)])], state.attribute, (value) => change("attribute", value), { id: "filter-attribute" }),
      choice("… is", [["", "anything"], ...(state.attribute ? valuesOf(state.attribute) : []).map((one) => [one, spoken(one)])], state.value, (value) => change("value", value), { id: "filter-value" }),
      h("label", { class: "field wide" }, "Text", text));
    byId("filter-value")?.toggleAttribute("disabled", !state.attribute);
  }

  function change(name, value) {
    state[name] = value;
    if (name === "world") for (const other of NAMES) if (!perFile(other).includes(state[other])) state[other] = "";
    if (name === "world" && !attributes().includes(state.attribute)) state.attribute = "";
    if (name === "world" || name === "attribute") state.value = state.attribute && valuesOf(state.attribute).includes(state.value) ? state.value : "";
    if (name === "world" || name === "attribute") {
      drawFilters();
      byId(`filter-${name}`).focus();
    }
    apply(null);
  }

  function reset(wanted) {
    for (const name of FILTERS) state[name] = wanted[name] ?? "";
    drawFilters();
    return apply(wanted.id ?? null);
  }

  const passes = (fact) => Object.keys(words).every((name) => !state[name] || words[name](fact) === state[name])
    && (!state.attribute || !state.value || fact.attributes[state.attribute] === state.value);

  /** The conversations that pass, then the one that is chosen: the one with `id`, or the first. */
  async function apply(id) {
    const mine = (generation += 1);
    const passed = [];
    for (let item = 0; item < COUNT; item += 1) if (passes(facts(item))) passed.push(item);
    const found = state.text.trim() ? await search(passed, state.text.trim().toLowerCase(), () => mine === generation) : passed;
    if (mine !== generation || found === null) return;
    shown = found;
    run.style.height = `${shown.length * ROW}px`;
    list.scrollTop = 0;
    clear.disabled = FILTERS.every((name) => !state[name]);
    count.textContent = shown.length === COUNT ? counted(COUNT, "conversation") : `${grouped(shown.length)} of ${counted(COUNT, "conversation")}`;
    announce(count.textContent);
    const wanted = id === null ? null : find(id);
    lost = id !== null && wanted === null ? id : null;
    choose(shown.length ? Math.max(0, wanted === null ? 0 : shown.indexOf(wanted)) : -1);
  }

  /** Those of `items` in which somebody says `sought`. */
  async function search(items, sought, current) {
    const found = [];
    for (const [i, item] of items.entries()) {
      if (i % 500 === 0) {
        count.textContent = `searching ${grouped(i)} of ${grouped(items.length)} …`;
        await nextFrame();
        if (!current()) return null;
      }
      const { opening, steps } = await read(item);
      const said = [...opening.map(([, text]) => text), ...steps.flatMap(([one, reply]) => [one, reply ?? ""])];
      if (said.some((text) => text.toLowerCase().includes(sought))) found.push(item);
    }
    return found;
  }

  // ---- the list ----

  function paint() {
    const from = Math.max(0, Math.floor(list.scrollTop / ROW) - 5);
    const to = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 5);
    const places = new Set(Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i));
    if (chosen >= 0) places.add(chosen); // what aria-activedescendant names must be there
    run.replaceChildren(...[...places].sort((a, b) => a - b).map(option));
    if (!shown.length) run.replaceChildren(h("p", { class: "empty" }, "No conversation is like that."));
    if (chosen >= 0) list.setAttribute("aria-activedescendant", `option-${chosen}`);
    else list.removeAttribute("aria-activedescendant");
  }

  function option(place) {
    const fact = facts(shown[place]);
    return h("div", { class: "option", id: `option-${place}`, role: "option", "aria-selected": String(place === chosen), "aria-setsize": shown.length, "aria-posinset": place + 1,
      style: `top: ${place * ROW}px`, onclick: () => choose(place) },
      h("div", {}, h("span", { class: "right" }, outcomeWords(fact), ` ${number(fact.returned, 2)}`), `${fact.run.agent} · ${fact.run.world}`),
      h("div", { class: "second" }, h("span", { class: "right" }, `${fact.exchanges} ex.`), `scenario ${fact.scenario} · ${fact.user}, ${fact.split} · seed ${fact.run.seed}`));
  }

  function choose(place) {
    chosen = place;
    const top = place * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    paint();
    showDetail();
  }

  function keys(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -shown.length, End: shown.length };
    if (event.key === "Enter" && chosen >= 0) {
      detail.focus();
      event.preventDefault();
    } else if (event.key in steps && shown.length) {
      choose(Math.min(shown.length - 1, Math.max(0, chosen + steps[event.key])));
      event.preventDefault();
    }
  }

  // ---- the conversation ----

  async function showDetail() {
    const item = chosen < 0 ? null : shown[chosen];
    const query = Object.fromEntries(FILTERS.map((name) => [name, state[name]]));
    if (!byId("view-conversations").hidden) remember("conversations", { ...query, id: item === null ? "" : idOf(item) });
    if (item === null) {
      detail.replaceChildren(h("p", { class: "empty" }, "Nothing to read: loosen the filters."));
      return;
    }
    const fact = facts(item);
    const others = rivals(FILE_OF[item]).map((number) => onScenario(number, fact.scenario)).filter((one) => one !== null && one !== item);
    const beside = others.length ? choice("Beside it", others.map((one) => [idOf(one), runWords(facts(one).run)]), idOf(partner(item, others)), () => {}, { id: "beside" }) : null;
    const compare = beside && h("button", { type: "button", id: "lay", onclick: () => { location.hash = link("compare", { left: idOf(item), right: byId("beside").value }); } }, "Lay side by side");
    const head = [
      lost === null ? null : h("p", { class: "empty", role: "alert" }, `The conversation ${lost} is not on this page.`),
      h("h2", {}, breakable(fact.run.agent)), h("p", { class: "soft small" }, `${fact.run.world} · ${runRest(fact.run)} · `, h("a", { href: link("conversations", { id: idOf(item) }) }, "link to this conversation")),
      factList(fact), h("div", { class: "bar" },
        h("button", { type: "button", id: "previous", disabled: chosen === 0, onclick: () => step(-1) }, "Previous"), h("button", { type: "button", id: "next", disabled: chosen === shown.length - 1, onclick: () => step(1) }, "Next"), beside, compare),
    ].filter(Boolean);
    lost = null;
    try {
      const conversation = await read(item);
      if (item === shown[chosen]) detail.replaceChildren(...head, ...transcript(fact, conversation, { sought: state.text.trim().toLowerCase() }).filter(Boolean));
    } catch (error) {
      detail.replaceChildren(...head, h("p", { class: "empty", role: "alert" }, error.message));
    }
  }

  function step(by) {
    const name = by < 0 ? "previous" : "next";
    choose(chosen + by);
    const wait = new MutationObserver(() => {
      wait.disconnect();
      if (document.activeElement === document.body) byId(byId(name).disabled ? (by < 0 ? "next" : "previous") : name)?.focus();
    });
    wait.observe(detail, { childList: true });
  }

  root.append(h("div", { class: "bar" }, count, clear), filters, h("div", { class: "reader" }, list, detail));
  new ResizeObserver(() => paint()).observe(list);
  let begun = false;
  return {
    /** Goes where the address says, unless it is there already; without parameters all stays as it was left. */
    show() {
      if (!COUNT) {
        root.replaceChildren(h("p", { class: "empty" }, NO_CONVERSATIONS));
        return;
      }
      const query = Object.fromEntries(address()[1]);
      const here = FILTERS.every((name) => (query[name] ?? "") === state[name]) && chosen >= 0 && query.id === idOf(shown[chosen]);
      if (begun && (here || !Object.keys(query).length)) showDetail();
      else reset(query);
      begun = true;
    },
  };
}

/** Whom to lay beside a conversation first: another agent of the same training seed, else another agent, else any. */
function partner(item, others) {
  const { run } = facts(item);
  return others.find((one) => facts(one).run.agent !== run.agent && facts(one).run.seed === run.seed) ?? others.find((one) => facts(one).run.agent !== run.agent) ?? others[0];
}
