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
  const PERCENTILE = 0.98;

  // A ratio of 2 is as far from 1 as a ratio of 1/2.
  function distance(name, value) {
    return name === "ratio" ? Math.log(Math.max(value, 1e-6)) : value - (NEUTRAL[name] ?? 0);
  }

  // One scale for all sequences of a table, and not that of its most extreme token.
  function scaleOf(table, name) {
    const sizes = table.sequences.flatMap((each) => (each.values[name] ?? []).filter((value) => value !== null).map((value) => Math.abs(distance(name, value))));
    sizes.sort((a, b) => a - b);
    const end = sizes[Math.floor(PERCENTILE * (sizes.length - 1))] || sizes.at(-1);
    return end || 1;
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
    const label = (each) => `${each.title}${each.reward === null ? "" : ` · reward ${numberText(each.reward)}`}`;
    const sequences = element("select", { id: `sequence-${number}`, "aria-label": "Sequence" }, ...table.sequences.map((each, at) => element("option", { value: at }, label(each))));
    const values = element("select", { id: `value-${number}`, "aria-label": "Value" }, ...names.map((name) => element("option", { value: name }, name)));
    const scale = element("div", { class: "scale" }), keys = element("p", { class: "keys" });
    const text = element("div", { class: "text", role: "listbox", tabindex: "0", "aria-label": "Tokens: arrow keys go from one to the next" });
    const numbers = element("div", { class: "numbers", "aria-live": "polite" });
    let current = null;

    function sequence() { return table.sequences[Number(sequences.value)]; }

    function tell(at) {
      const each = sequence();
      const shown = (name, value) => element("span", {}, `${name} `, element("b", {}, numberText(value)));
      const facts = names.map((name) => shown(name, each.values[name]?.[at] ?? null));
      const marks = Object.entries(each.marks).filter(([, marked]) => marked[at]).map(([name]) => name);
      if (at < each.prompt_length) marks.push("prompt"); else if (!each.counted[at]) marks.push("not counted");
      numbers.replaceChildren(element("span", { class: "of-token" }, visibleToken(each.tokens[at])), element("span", { class: "dim" }, `token ${at + 1} of ${each.tokens.length}`), ...marks.map((mark) => element("span", { class: "chip" }, mark)), ...facts);
    }

    function go(at) {
      const token = text.children[at];
      if (!token) return;
      text.children[current]?.classList.remove("current");
      text.children[current]?.setAttribute("aria-selected", "false");
      current = at;
      token.classList.add("current");
      token.setAttribute("aria-selected", "true");
      text.setAttribute("aria-activedescendant", token.id);
      tell(at);
    }

    function tokenOf(each, at, name, most) {
      const marks = Object.entries(each.marks).filter(([, marked]) => marked[at]).map(([mark]) => mark);
      const classes = ["token"];
      if (at < each.prompt_length) classes.push("of-prompt"); else if (!each.counted[at] || marks.includes("masked")) classes.push("uncounted");
      if (marks.some((mark) => mark.startsWith("clipped"))) classes.push("clipped");
      const token = element("span", { class: classes.join(" "), id: `token-${number}-${at}`, role: "option", "aria-selected": "false", "data-at": at }, visibleToken(each.tokens[at]));
      const value = each.values[name]?.[at] ?? null;
      if (value !== null) {
        const away = distance(name, value);
        token.style.setProperty("--strength", Math.min(1, Math.abs(away) / most).toFixed(3));
        token.style.setProperty("--tone", `var(${tones(name)[away < 0 ? 0 : 1]})`);
      }
      return token;
    }

    function show() {
      const name = values.value, most = scaleOf(table, name), each = sequence();
      const isOneSided = table.sequences.every((other) => (other.values[name] ?? []).every((value) => value === null || distance(name, value) >= 0));
      const [less, more] = endsOf(name, most), [left, right] = tones(name);
      const bar = element("span", { class: "bar" });
      bar.style.setProperty("--left", isOneSided ? "var(--card)" : `var(${left})`);
      bar.style.setProperty("--right", `var(${right})`);
      scale.replaceChildren(...(isOneSided ? [bar, more] : [less, bar, more]));
      const kinds = Object.keys(each.marks).filter((mark) => each.marks[mark].some(Boolean));
      const key = (kind, told) => element("span", {}, element("span", { class: `token ${kind}` }, "token"), ` ${told}`);
      keys.replaceChildren(key("of-prompt", "prompt"), ...(kinds.some((mark) => mark.startsWith("clipped")) ? [key("clipped", "clipped: no gradient")] : []), ...(each.counted.slice(each.prompt_length).includes(false) || kinds.includes("masked") ? [key("uncounted", "masked or not counted")] : []));
      text.replaceChildren(...each.tokens.map((_, at) => tokenOf(each, at, name, most)));
      const at = Math.min(current ?? each.prompt_length, each.tokens.length - 1);
      current = null;
      go(at);
    }

    const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 };
    text.addEventListener("keydown", (event) => {
      const last = text.children.length - 1;
      const goal = event.key === "Home" ? 0 : event.key === "End" ? last : event.key in STEPS ? current + STEPS[event.key] : null;
      if (goal === null) return;
      event.preventDefault();
      go(Math.max(0, Math.min(last, goal)));
      text.children[current].scrollIntoView({ block: "nearest" });
    });
    for (const kind of ["mouseover", "click"]) text.addEventListener(kind, (event) => event.target.dataset?.at && go(Number(event.target.dataset.at)));
    sequences.addEventListener("input", () => { current = null; show(); });
    values.addEventListener("input", show);
    const preferred = names.find(isGradient) ?? names[0];
    if (preferred) values.value = preferred;
    const title = table.title ? [element("h3", {}, table.title)] : [];
    view.append(...title, element("div", { class: "controls" }, element("label", {}, "Sequence ", sequences), element("label", {}, "Colour by ", values), scale), text, numbers, keys);
    if (table.sequences.length) show(); else text.replaceChildren("No sequences.");
    return view;
  }

  const place = document.querySelector(".token-views");
  if (place) place.append(...DATA.tables.map(build));
})();
