// The token view: the tokens of a sequence, coloured by how far a value is from the one that means nothing.
(() => {
  const NEUTRAL = { ratio: 1 };
  const isGradient = (name) => name.startsWith("gradient");
  const MEANING = {
    advantage: ["worse than its baseline", "better"],
    ratio: ["less likely than when sampled", "more likely"],
    entropy: ["", "unsure"],
    mismatch: ["engine's log-prob is lower", "higher"],
  };
  const PERCENTILE = 0.98, MOST_AT_ONCE = 1500;

  // A ratio of 2 is as far from 1 as a ratio of 1/2.
  function distance(name, value) {
    return name === "ratio" ? Math.log(Math.max(value, 1e-6)) : value - (NEUTRAL[name] ?? 0);
  }

  // One scale for all sequences of a table, and not that of its most extreme token.
  function scaleOf(table, name) {
    const sizes = table.sequences.flatMap((each) => (each.values[name] ?? []).filter((value) => value !== null).map((value) => Math.abs(distance(name, value))));
    sizes.sort((a, b) => a - b);
    return sizes[Math.floor(PERCENTILE * (sizes.length - 1))] || sizes.at(-1) || 0;
  }

  function endsOf(name, scale) {
    const end = numberText(name === "ratio" ? Math.exp(scale) : (NEUTRAL[name] ?? 0) + scale, 2);
    const start = numberText(name === "ratio" ? Math.exp(-scale) : (NEUTRAL[name] ?? 0) - scale, 2);
    const [less, more] = isGradient(name) ? ["raises the token", "lowers it"] : MEANING[name] ?? ["", ""];
    return [[start, less], [end, more]].map(([edge, meaning]) => (meaning ? `${edge} ${meaning}` : edge));
  }

  // Blue is what is made likelier: a positive advantage, and a negative gradient.
  const tones = (name) => (isGradient(name) ? ["--less", "--more"] : ["--more", "--less"]);

  function visibleToken(text) {
    return text === "" ? "∅" : text.replaceAll("\n", "⏎\n").replaceAll("\t", "⇥\t");
  }

  function build(table, number) {
    const view = element("div", { class: "token-view card" });
    const names = [...new Set(table.sequences.flatMap((each) => Object.keys(each.values)))];
    const whole = (each) => `${each.title}${each.reward === null ? "" : ` · reward ${numberText(each.reward)}`}`;
    const options = table.sequences.map((each, at) => element("option", { value: at }, whole(each)));
    const isShort = table.sequences.length > 1 && table.sequences.reduce((sum, each) => sum + each.tokens.length, 0) <= MOST_AT_ONCE;
    if (isShort) options.unshift(element("option", { value: "" }, `all ${table.sequences.length}`));
    const sequences = element("select", { id: `sequence-${number}` }, ...options);
    const values = element("select", { id: `value-${number}` }, ...names.map((name) => element("option", { value: name }, name)));
    const scale = element("div", { class: "scale" }), keys = element("p", { class: "keys" });
    const text = element("div", { class: "text", role: "listbox", tabindex: "0", "aria-label": "Tokens: arrow keys go from one to the next" });
    const numbers = element("div", { class: "numbers", "aria-live": "polite" });
    let spans = [], current = 0;

    // What the environment wrote between the replies: like a prompt, it was not sampled.
    const isGiven = (each, at) => Boolean(each.marks.given?.[at]);
    const marksAt = (each, at) => Object.entries(each.marks).filter(([, marked]) => marked[at]).map(([name]) => name);

    function tell({ each, at }) {
      const shown = (name, value) => element("span", {}, `${name} `, element("b", {}, numberText(value)));
      const facts = names.map((name) => shown(name, each.values[name]?.[at] ?? null));
      const marks = marksAt(each, at);
      if (at < each.prompt_length) marks.push("prompt"); else if (!each.counted[at] && !isGiven(each, at)) marks.push("not counted");
      const place = element("span", { class: "dim" }, `token ${at + 1} of ${each.tokens.length}`);
      const chips = marks.map((mark) => element("span", { class: "chip" }, mark));
      numbers.replaceChildren(element("span", { class: "of-token" }, visibleToken(each.tokens[at])), place, ...chips, ...facts);
    }

    function go(index) {
      for (const [span, isIt] of [[spans[current], false], [spans[index], true]]) {
        span?.classList.toggle("current", isIt);
        span?.setAttribute("aria-selected", String(isIt));
      }
      current = index;
      text.setAttribute("aria-activedescendant", spans[index].id);
      tell(spans[index].token);
    }

    function tokenOf(each, at, name, most) {
      const marks = marksAt(each, at), classes = ["token"];
      if (at < each.prompt_length) classes.push("of-prompt"); else if (isGiven(each, at)) classes.push("given"); else if (!each.counted[at] || marks.includes("masked")) classes.push("uncounted");
      if (marks.some((mark) => mark.startsWith("clipped"))) classes.push("clipped");
      const id = `token-${number}-${spans.length}`;
      const span = element("span", { class: classes.join(" "), id, role: "option", "aria-selected": "false", "data-at": spans.length }, visibleToken(each.tokens[at]));
      span.token = { each, at };
      spans.push(span);
      const value = each.values[name]?.[at] ?? null;
      if (value !== null) {
        const away = distance(name, value);
        span.style.setProperty("--strength", Math.min(1, Math.abs(away) / (most || 1)).toFixed(3));
        span.style.setProperty("--tone", `var(${tones(name)[away < 0 ? 0 : 1]})`);
      }
      return span;
    }

    function showScale(name, most) {
      if (!most) { scale.replaceChildren(`every value is ${NEUTRAL[name] ?? 0}`); return; }
      const isOneSided = table.sequences.every((each) => (each.values[name] ?? []).every((value) => value === null || distance(name, value) >= 0));
      const [less, more] = endsOf(name, most), [left, right] = tones(name);
      const bar = element("span", { class: "bar" });
      bar.style.setProperty("--left", isOneSided ? "var(--card)" : `var(${left})`);
      bar.style.setProperty("--right", `var(${right})`);
      scale.replaceChildren(...(isOneSided ? [bar, more] : [less, bar, more]));
    }

    function showKeys(shown) {
      const key = (kind, told) => element("span", {}, element("span", { class: `token ${kind}` }, "token"), ` ${told}`);
      const has = (is) => shown.some((each) => each.tokens.some((_, at) => is(each, at)));
      const found = [key("of-prompt", "prompt")];
      if (has(isGiven)) found.push(key("given", "given by the environment"));
      if (has((each, at) => marksAt(each, at).some((mark) => mark.startsWith("clipped")))) found.push(key("clipped", "no gradient: clipped, or masked by the loss"));
      if (has((each, at) => at >= each.prompt_length && !isGiven(each, at) && (!each.counted[at] || marksAt(each, at).includes("masked")))) found.push(key("uncounted", "not counted: outside the loss mask"));
      keys.replaceChildren(...found);
    }

    function show() {
      const name = values.value, most = scaleOf(table, name);
      const shown = sequences.value === "" ? table.sequences : [table.sequences[Number(sequences.value)]];
      spans = [];
      const row = (each) => element("div", { class: "row", role: "presentation" }, element("span", { class: "whose" }, whole(each)), element("span", { role: "presentation" }, ...each.tokens.map((_, at) => tokenOf(each, at, name, most))));
      text.replaceChildren(...shown.map(row));
      showScale(name, most);
      showKeys(shown);
      if (spans.length) go(Math.min(current, spans.length - 1));
    }

    const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 };
    text.addEventListener("keydown", (event) => {
      const last = spans.length - 1;
      const goal = event.key === "Home" ? 0 : event.key === "End" ? last : event.key in STEPS ? current + STEPS[event.key] : null;
      if (goal === null) return;
      event.preventDefault();
      go(Math.max(0, Math.min(last, goal)));
      spans[current].scrollIntoView({ block: "nearest" });
    });
    for (const kind of ["mouseover", "click"]) text.addEventListener(kind, (event) => event.target.dataset?.at && go(Number(event.target.dataset.at)));
    sequences.addEventListener("input", () => { current = 0; show(); });
    values.addEventListener("input", show);
    values.value = names.find((name) => isGradient(name) && scaleOf(table, name)) ?? names[0] ?? "";
    current = table.sequences[0]?.prompt_length ?? 0;
    const title = table.title ? [element("h3", {}, table.title)] : [];
    const controls = element("div", { class: "controls" }, element("label", {}, "Sequence ", sequences), element("label", {}, "Colour by ", values), scale);
    const notes = table.notes.map((note) => element("p", { class: "dim" }, note));
    view.append(...title, ...notes, controls, text, numbers, keys);
    if (table.sequences.length) show(); else text.replaceChildren("No sequences.");
    return view;
  }

  const place = document.querySelector(".token-views");
  if (place) place.append(...DATA.tables.map(build));
})();
