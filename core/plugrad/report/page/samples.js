// The samples: searched, filtered, ordered, and shown a page at a time. What they say is text and never markup.
(() => {
  const list = byId("sample-list");
  if (!list) return;
  const AT_ONCE = 20;
  const ORDERS = {
    newest: (a, b) => b.step - a.step, oldest: (a, b) => a.step - b.step,
    best: (a, b) => b.reward - a.reward, worst: (a, b) => a.reward - b.reward,
    longest: (a, b) => b.length - a.length, shortest: (a, b) => a.length - b.length,
  };
  let shown = AT_ONCE;

  function matches() {
    const wanted = byId("find-sample").value.toLowerCase();
    const inRange = (sample, name) => {
      const [least, most] = [`least-${name}`, `most-${name}`].map((id) => byId(id).value);
      const value = sample[name];
      return (least === "" || (value !== null && value >= Number(least))) && (most === "" || (value !== null && value <= Number(most)));
    };
    const phase = byId("phase").value, run = byId("of-run")?.value ?? "", onlyTruncated = byId("only-truncated").checked, onlyFailed = byId("only-failed")?.checked;
    const found = DATA.samples.filter((sample) =>
      (!wanted || textsOf(sample).some((text) => text.toLowerCase().includes(wanted)))
      && (!phase || phaseOf(sample) === phase) && (!run || sample.run === Number(run)) && (!onlyTruncated || sample.truncated) && (!onlyFailed || sample.failed)
      && ["reward", "step", "length"].every((name) => inRange(sample, name)));
    return found.sort(ORDERS[byId("order").value]);
  }

  const textsOf = (sample) => [sample.prompt, sample.completion, sample.reference, sample.failed, ...sample.rows, ...sample.turns.map((turn) => turn.text)];
  const phaseOf = (sample) => (sample.set ? `${sample.phase}: ${sample.set}` : sample.phase);

  function marked(text) {
    const wanted = byId("find-sample").value.toLowerCase();
    if (!wanted) return [text];
    const parts = [], small = text.toLowerCase();
    let start = 0;
    for (let at = small.indexOf(wanted); at >= 0; at = small.indexOf(wanted, start)) {
      parts.push(text.slice(start, at), element("mark", {}, text.slice(at, at + wanted.length)));
      start = at + wanted.length;
    }
    return [...parts, text.slice(start)];
  }

  const signed = (value) => `${value > 0 ? "+" : ""}${numberText(value)}`;
  const plural = (number, noun) => `${numberText(number)} ${noun}${number === 1 ? "" : "s"}`;

  // The policy's replies are what was sampled and trained on; everything else is what the environment said.
  function turnOf(sample, turn, begun) {
    const isReply = turn.role === "assistant";
    const head = element("div", { class: "facts" }, element("b", { class: "role" }, ...marked(turn.role)));
    if (turn.length) head.append(element("span", {}, plural(turn.length, "token") + (sample.phase === "training" ? ", trained on" : "")));
    if (turn.segment !== null && sample.rows.length > 1) head.append(element("span", { class: "chip" }, `segment ${turn.segment + 1} of ${sample.rows.length}`));
    if (turn.reward !== null) head.append(element("span", { class: `earned ${turn.reward > 0 ? "gain" : turn.reward < 0 ? "loss" : ""}` }, `reward ${signed(turn.reward)}`));
    const made = element("li", { class: isReply ? "turn reply" : "turn" }, head);
    // Later rows begin with a prompt of their own: what the policy read there is not what stands above.
    if (turn.segment > 0 && !begun.has(turn.segment)) made.append(element("details", { class: "row-prompt" }, element("summary", {}, "read after a prompt of its own"), element("pre", {}, ...marked(sample.rows[turn.segment] ?? ""))));
    begun.add(turn.segment);
    made.append(element("div", { class: "words" }, ...marked(turn.text || "(empty)")));
    for (const { call, error } of turn.calls) {
      const which = call ? [element("span", { class: "dim" }, "calls "), element("code", {}, ...marked(call))] : [element("span", { class: "bad" }, "a call that cannot be read")];
      made.append(element("div", { class: "call" }, ...which, error ? element("span", { class: "bad" }, `: ${error}`) : ""));
    }
    return made;
  }

  function conversationOf(sample) {
    const begun = new Set();
    return element("ol", { class: "talk" }, ...sample.turns.map((turn) => turnOf(sample, turn, begun)));
  }

  function cardOf(sample) {
    const fact = (label, value) => element("span", {}, `${label} `, element("b", {}, value));
    const facts = [fact("step", numberText(sample.step)), element("span", { class: "chip" }, phaseOf(sample)), fact("reward", numberText(sample.reward))];
    const components = Object.entries(sample.rewards);
    if (components.length > 1) facts.push(...components.map(([name, value]) => fact(name, numberText(value))));
    if (sample.advantage !== null) facts.push(fact("advantage", numberText(sample.advantage)));
    facts.push(fact("length", numberText(sample.length)));
    if (sample.turns.length) facts.push(fact("replies", numberText(sample.turns.filter((turn) => turn.role === "assistant").length)));
    const earned = sample.turns.map((turn) => turn.reward).filter((reward) => reward !== null);
    if (earned.length && !("turns" in sample.rewards && components.length > 1)) facts.push(fact("of replies", signed(earned.reduce((sum, reward) => sum + reward, 0))));
    if (sample.failed) facts.push(element("span", { class: "bad" }, "failed: not trained on"));
    if (sample.truncated) facts.push(element("span", { class: "cut" }, "truncated"));
    if (DATA.runs.length > 1) facts.push(element("span", {}, dotOf(sample.run), DATA.runs[sample.run]));
    const said = element("dl", { class: "said" });
    const isPlay = sample.turns.length || sample.failed;
    for (const part of ["prompt", "completion", "reference"]) {
      if (part === "completion" && isPlay) {
        if (sample.turns.length) said.append(element("dt", { class: "turns" }, "turns"), element("dd", { class: "turns", tabindex: "0" }, conversationOf(sample)));
        if (sample.failed) said.append(element("dt", {}, "failed"), element("dd", { class: "failed", tabindex: "0" }, ...marked(sample.failed)));
      } else if (sample[part] || part === "completion") said.append(element("dt", {}, part), element("dd", { class: part, tabindex: "0" }, ...marked(sample[part] || "(empty)")));
    }
    return element("article", { class: "card sample" }, element("div", { class: "facts" }, ...facts), said);
  }

  function show() {
    const found = matches();
    list.replaceChildren(...found.slice(0, shown).map(cardOf));
    const kept = DATA.samples.length < DATA.total ? ` (of ${numberText(DATA.total)} that were saved, evenly chosen)` : "";
    byId("num-shown").textContent = `${numberText(found.length)} of ${numberText(DATA.samples.length)} samples${kept}`;
    byId("more-samples").hidden = found.length <= shown;
  }

  const controls = [...document.querySelectorAll("#samples .controls :is(input, select)")];
  for (const phase of [...new Set(DATA.samples.map(phaseOf))].sort()) byId("phase").append(element("option", { value: phase }, phase));
  for (const control of controls) control.addEventListener("input", () => { shown = AT_ONCE; show(); });
  byId("more-samples").addEventListener("click", () => { shown += AT_ONCE; show(); });
  byId("clear-filters").addEventListener("click", () => {
    for (const control of controls) {
      if (control.type === "checkbox") control.checked = false; else if (control.id !== "order") control.value = "";
    }
    show();
  });
  show();
})();
