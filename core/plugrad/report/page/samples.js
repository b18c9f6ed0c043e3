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
    const phase = byId("phase").value, run = byId("of-run")?.value ?? "", onlyTruncated = byId("only-truncated").checked;
    const found = DATA.samples.filter((sample) =>
      (!wanted || [sample.prompt, sample.completion, sample.reference].some((text) => text.toLowerCase().includes(wanted)))
      && (!phase || phaseOf(sample) === phase) && (!run || sample.run === Number(run)) && (!onlyTruncated || sample.truncated)
      && ["reward", "step", "length"].every((name) => inRange(sample, name)));
    return found.sort(ORDERS[byId("order").value]);
  }

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

  function cardOf(sample) {
    const fact = (label, value) => element("span", {}, `${label} `, element("b", {}, value));
    const facts = [fact("step", numberText(sample.step)), element("span", { class: "chip" }, phaseOf(sample)), fact("reward", numberText(sample.reward))];
    const components = Object.entries(sample.rewards);
    if (components.length > 1) facts.push(...components.map(([name, value]) => fact(name, numberText(value))));
    if (sample.advantage !== null) facts.push(fact("advantage", numberText(sample.advantage)));
    facts.push(fact("length", numberText(sample.length)));
    if (sample.truncated) facts.push(element("span", { class: "cut" }, "truncated"));
    if (DATA.runs.length > 1) facts.push(element("span", {}, dotOf(sample.run), DATA.runs[sample.run]));
    const said = element("dl", { class: "said" });
    for (const part of ["prompt", "completion", "reference"]) {
      if (sample[part] || part === "completion") said.append(element("dt", {}, part), element("dd", { class: part, tabindex: "0" }, ...marked(sample[part] || "(empty)")));
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
