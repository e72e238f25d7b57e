// Two conversations on one scenario side by side, and a label for the pair.

const BLIND_KEY = "parley-blind";

function compareView(root) {
  let left = null;
  let right = null;
  let blind = memory.get(BLIND_KEY) === "on";
  let generation = 0;
  const bar = h("div", { class: "bar", id: "pair-bar" });
  const verdict = h("fieldset", { class: "verdict", id: "verdict" });
  const pair = h("div", { class: "pair", id: "pair" });
  const said = h("span", { class: "soft small", id: "label-said", role: "status" });
  root.append(bar, verdict, pair);

  const scenarios = () => {
    const [a, b] = [FILES[FILE_OF[left]], FILES[FILE_OF[right]]];
    const there = new Set(b.rows);
    return a.rows.filter((row) => there.has(row)).map((row) => TABLES[a.table].seeds[row]);
  };

  /** Whether agents and outcomes are hidden: until the pair is labelled. */
  const hidden = () => blind && !labelOf(idOf(left), idOf(right));
  /** While they are, which of the two stands on the left is drawn from their names. */
  const swapped = () => [...pairKey(idOf(left), idOf(right))].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 65521, 7) % 2 === 1;
  const sides = () => {
    if (!hidden()) return [left, right];
    const ordered = [left, right].sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1)); // whichever way they were chosen
    return swapped() ? ordered.reverse() : ordered;
  };

  function place(newLeft, newRight) {
    [left, right] = [newLeft, newRight];
    said.textContent = "";
    draw();
  }

  /** Goes to the scenario that lies `by` places further; the same two runs. */
  function step(by) {
    const all = scenarios();
    const next = all[all.indexOf(facts(left).scenario) + by];
    if (next === undefined) {
      said.textContent = by > 0 ? "That was the last scenario that both have." : "That was the first scenario that both have.";
      return false;
    }
    place(onScenario(FILE_OF[left], next), onScenario(FILE_OF[right], next));
    return true;
  }

  function label(word) {
    const unseen = hidden();
    [left, right] = sides(); // they stay where they are when their names are shown
    setLabel(idOf(left), idOf(right), word, byId("note").value.trim(), unseen);
    const words = `Labelled ${word}${memory.kept ? "" : " (this browser keeps no labels after the page closes: download them)"}.`;
    if (blind || !step(1)) draw();
    said.textContent = words;
  }

  // ---- drawing ----

  function drawBar() {
    const fact = facts(left);
    const worlds = only(FILES.map((_, number) => number).filter((number) => rivals(number).length > 1).map((number) => `${FILES[number].table}|${FILES[number].user}`));
    const place0 = `${FILES[FILE_OF[left]].table}|${FILES[FILE_OF[left]].user}`;
    const where = (key) => {
      const [table, user] = key.split("|");
      return `${TABLES[table].world} · ${user}, ${TABLES[table].split}`;
    };
    const runs = rivals(FILE_OF[left]).filter((number) => onScenario(number, fact.scenario) !== null);
    const options = runs.map((number) => [String(number), runWords(DATA.runs[FILES[number].run])]);
    const all = scenarios();
    const at = all.indexOf(fact.scenario);
    const side = (words, item, put) => (hidden() ? null : choice(words, options, String(FILE_OF[item]), (number) => {
      put(onScenario(Number(number), fact.scenario));
      byId(`pair-${words.toLowerCase()}`).focus();
    }, { id: `pair-${words.toLowerCase()}` }));
    bar.replaceChildren(...[
      choice("World, user and split", worlds.map((key) => [key, where(key)]), place0, (key) => {
        const numbers = FILES.map((_, number) => number).filter((number) => `${FILES[number].table}|${FILES[number].user}` === key);
        place(...firstPair(numbers[0]));
        byId("pair-world").focus();
      }, { id: "pair-world" }),
      side("Left", left, (item) => place(item, right)),
      side("Right", right, (item) => place(left, item)),
      h("button", { type: "button", id: "pair-previous", disabled: at <= 0, onclick: () => stepAndStay(-1, "pair-previous") }, "Previous scenario"),
      h("button", { type: "button", id: "pair-next", disabled: at === all.length - 1, onclick: () => stepAndStay(1, "pair-next") }, "Next scenario"),
      h("span", { class: "soft small" }, `scenario ${fact.scenario}, ${grouped(at + 1)} of ${grouped(all.length)} that both have`),
    ].filter(Boolean));
  }

  function stepAndStay(by, id) {
    step(by);
    const button = byId(id);
    (button.disabled ? byId(by > 0 ? "pair-previous" : "pair-next") : button).focus();
  }

  function drawVerdict() {
    const [a, b] = sides().map(idOf);
    const mine = labelOf(a, b);
    const words = { left: "Left is better", right: "Right is better", tie: "Tie", skip: "Skip" };
    const button = (word, i) => h("button", { type: "button", id: `label-${word}`, disabled: a === b, "aria-pressed": String(mine?.label === word), "aria-keyshortcuts": String(i + 1), onclick: () => {
      label(word);
      byId(`label-${word}`).focus();
    } }, words[word], h("kbd", { "aria-hidden": "true" }, String(i + 1)));
    const counts = LABELS.map((word) => [word, [...labels.values()].filter((one) => one.label === word).length]).filter(([, n]) => n);
    verdict.replaceChildren(
      h("legend", {}, "Which conversation is better?"),
      h("div", { class: "bar" }, LABELS.map(button), h("label", { class: "field note" }, "Note", h("input", { type: "text", id: "note", value: mine?.note ?? "", placeholder: "optional; kept with the label" })),
        h("label", { class: "small" }, h("input", { type: "checkbox", id: "blind", checked: blind, onchange: (event) => {
          blind = event.target.checked;
          memory.set(BLIND_KEY, blind ? "on" : "off");
          draw();
          byId("blind").focus();
        } }), " hide agents and outcomes, shuffle sides")),
      h("div", { class: "bar" },
        h("span", { class: "label", id: "label-count" }, labels.size ? `${counted(labels.size, "pair")} labelled: ${counts.map(([word, n]) => `${n} ${word}`).join(", ")}` : "No pair is labelled yet."),
        h("button", { type: "button", id: "download-preferences", disabled: !labels.size, onclick: preferences }, "Download preferences"),
        h("button", { type: "button", id: "download-labels", disabled: !labels.size, onclick: () => download("labels.jsonl", labelLines()) }, "Download all labels"),
        h("button", { type: "button", id: "clear-labels", disabled: !labels.size, onclick: () => {
          if (!confirm(`Forget all ${labels.size} labels?`)) return;
          clearLabels();
          draw();
          byId("label-left").focus();
        } }, "Forget labels"), said));
  }

  async function preferences() {
    const [lines, leftOut] = await preferenceLines();
    said.textContent = `${counted(lines.length, "preference")}${leftOut.length ? `; left out: ${leftOut.join(", ")}` : ""}.`;
    if (lines.length) download("preferences.jsonl", lines);
  }

  async function draw() {
    const mine = (generation += 1);
    const open = hidden();
    remember("compare", open ? {} : { left: idOf(left), right: idOf(right) }); // the ids name the agents
    drawBar();
    drawVerdict();
    const panels = await Promise.all(sides().map(async (item, i) => {
      const fact = facts(item);
      const name = open ? `Conversation ${"AB"[i]}` : fact.run.agent;
      const link_ = open ? null : h("p", { class: "soft small" }, `${fact.run.world} · ${runRest(fact.run)} · `, h("a", { href: link("conversations", { id: idOf(item) }) }, "read alone"));
      try {
        return h("article", { class: "detail", "aria-label": `${["Left", "Right"][i]}: ${name}` }, h("h2", {}, breakable(name)), link_, factList(fact, open), transcript(fact, await read(item), { bare: open }));
      } catch (error) {
        return h("article", { class: "detail" }, h("h2", {}, name), h("p", { class: "empty", role: "alert" }, error.message));
      }
    }));
    if (mine === generation) pair.replaceChildren(...panels);
  }

  /** A pair to begin with: the first scenario that file `number` shares with another agent's. */
  function firstPair(number) {
    const item = FIRST[number];
    const others = rivals(number).filter((other) => other !== number).map((other) => onScenario(other, facts(item).scenario)).filter((one) => one !== null);
    return others.length ? [item, partner(item, others)] : [item, item];
  }

  addEventListener("keydown", (event) => {
    if (root.hidden || left === null || event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input:not([type=checkbox]), select, textarea")) return;
    const word = LABELS[Number(event.key) - 1];
    if (word && left !== right) label(word);
    else if (event.key === "n" || event.key === "p") step(event.key === "n" ? 1 : -1);
  });

  return {
    show() {
      if (!COUNT) {
        root.replaceChildren(h("p", { class: "empty" }, NO_CONVERSATIONS));
        return;
      }
      const [, parameters] = address();
      const wanted = [find(parameters.get("left")), find(parameters.get("right"))];
      if (wanted[0] !== null && wanted[1] !== null && rivals(FILE_OF[wanted[0]]).includes(FILE_OF[wanted[1]])) place(...wanted);
      else if (left === null || parameters.size) {
        const from = FILES.findIndex((_, number) => rivals(number).some((other) => DATA.runs[FILES[other].run].agent !== DATA.runs[FILES[number].run].agent));
        place(...firstPair(wanted[0] === null ? Math.max(0, from) : FILE_OF[wanted[0]]));
        if (parameters.size) said.textContent = "That pair is not on this page, or not on one scenario; this one is.";
      } else place(left, right);
    },
  };
}
