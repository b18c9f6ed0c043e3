// The curves: each is drawn when it comes into view, and drawn again when smoothing, theme or width change.
(() => {
  const HEIGHT = 150, FONT = "11px system-ui, sans-serif";
  const charts = [], visible = new Set();
  let smoothing = 0;

  function color(name) {
    // A custom property that follows the theme has its value only where an element uses it.
    const probe = element("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }
  let colors = {};
  function readColors() {
    colors = { grid: color("--line"), text: color("--dim"), runs: DATA.runs.map((_, run) => color(`--run-${run % NUM_COLORS}`)) };
  }
  const faint = (rgb) => rgb.replace(/^rgb\((.*)\)$/, "rgba($1, 0.28)");

  // An exponential average without the bias of its start. It forgets by steps, so that a number written every 50th step is
  // smoothed as much as one of every step.
  function smoothed(steps, values, gap) {
    let sum = 0, weight = 0, last = null;
    return values.map((value, index) => {
      if (value === null) return null;
      const kept = last === null ? 0 : smoothing ** ((steps[index] - last) / gap);
      last = steps[index];
      sum = sum * kept + value * (1 - smoothing);
      weight = weight * kept + (1 - smoothing);
      return sum / weight;
    });
  }

  function tableOf(number) {
    const tables = [], series = [{}];
    number.curves.forEach((curve, run) => {
      if (!curve) return;
      const stroke = colors.runs[run], dash = run >= NUM_COLORS ? [6, 3] : undefined;
      const points = { show: curve.x.length < 3 };
      const line = { width: 1.5, points, spanGaps: tables.length > 0 || number.curves.length > 1, dash, run };
      tables.push([curve.x, curve.y]);
      series.push({ ...line, stroke: smoothing ? faint(stroke) : stroke, width: smoothing ? 1 : 1.5 });
      if (smoothing) {
        const steps = curve.mx ?? curve.x;
        tables.push([steps, smoothed(steps, curve.my ?? curve.y, curve.gap)]);
        series.push({ ...line, stroke, width: 2, spanGaps: true, isAverage: true });
      }
    });
    return { data: tables.length > 1 ? uPlot.join(tables) : tables[0], series };
  }

  // A curve that is flat has its line in the middle.
  function rangeOf(_, least, most) {
    if (least === null) return [0, 1];
    const room = Math.abs(least) / 2 || 1;
    return least === most ? [least - room, most + room] : uPlot.rangeNum(least, most, 0.1, true);
  }

  function readOut(chart, index) {
    const { plot, readout, number } = chart;
    const parts = [];
    const isOver = index !== null && index !== undefined;
    if (isOver) parts.push(element("span", {}, `step ${numberText(plot.data[0][index])}`));
    plot.series.forEach((line, at) => {
      if (at === 0) return;
      let place = isOver ? index : plot.data[at].length - 1;
      while (place > 0 && plot.data[at][place] == null) place -= 1;
      const found = numberText(plot.data[at][place] ?? null);
      if (line.isAverage) { parts.push(element("span", { title: "smoothed" }, `≈ ${found}`)); return; }
      const value = element("b", {}, found);
      const several = number.curves.length > 1;
      parts.push(element("span", { title: DATA.runs[line.run] }, ...(several ? [dotOf(line.run)] : []), value));
    });
    readout.replaceChildren(...parts);
  }

  function draw(chart) {
    chart.plot?.destroy();
    const { data, series } = tableOf(chart.number);
    const axis = { stroke: colors.text, font: FONT, grid: { stroke: colors.grid, width: 1 }, ticks: { show: false } };
    const shown = (_, splits) => distinctTexts(splits);
    chart.plot = new uPlot({
      width: chart.place.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { sync: { key: "steps" }, points: { size: 6 }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { range: rangeOf } },
      padding: [8, 18, 0, 0],
      axes: [{ ...axis, size: 24, space: 60, values: shown }, { ...axis, size: 52, space: 32, values: shown }],
      series,
      hooks: { setCursor: [(plot) => chart.plot && readOut(chart, plot.cursor.idx)] },
    }, data, chart.place);
    chart.place.dataset.drawn = "yes";
    readOut(chart, null);
  }

  const watching = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const chart = entry.target.chart;
      if (entry.isIntersecting) visible.add(chart); else visible.delete(chart);
      if (entry.isIntersecting && chart.isOld) { chart.isOld = false; draw(chart); }
    }
  }, { rootMargin: "200px" });

  function drawAgain() {
    for (const chart of charts) chart.isOld = true;
    for (const chart of visible) { chart.isOld = false; draw(chart); }
  }

  function chartOf(number) {
    const place = element("div", { class: "plot", role: "img", "aria-label": `Curve of ${number.name}` });
    const readout = element("div", { class: "readout" });
    const caption = number.caption ? [element("p", {}, ...coded(number.caption))] : [];
    const card = element("div", { class: "chart", "data-number": number.name }, element("h4", {}, number.name), ...caption, readout, place);
    const chart = { number, place, readout, card, isOld: true };
    card.chart = chart;
    charts.push(chart);
    watching.observe(card);
    return card;
  }

  // On a phone, groups after the first three wait until they are opened: the page would be endless.
  function groupOf(group, index) {
    const whose = [group.kind, group.package].filter(Boolean).join(" · ");
    const summary = element("summary", {}, element("h3", {}, group.title), element("span", { class: "of" }, whose), element("span", { class: "of" }, ...coded(group.summary)));
    const grid = element("div", { class: "grid" }, ...group.numbers.map(chartOf));
    const open = innerWidth > 640 || index < 3 ? { open: "" } : {};
    return element("details", { class: "group", ...open, id: `group-${group.title}` }, summary, grid);
  }

  function find() {
    const wanted = byId("find-number").value.trim().toLowerCase();
    for (const chart of charts) chart.card.hidden = !chart.number.name.toLowerCase().includes(wanted);
    for (const group of byId("groups").children) group.hidden = !group.querySelector(".chart:not([hidden])");
  }

  readColors();
  byId("groups").append(...DATA.groups.map(groupOf));
  if (!DATA.groups.length) byId("groups").append(element("p", { class: "card empty" }, "No numbers were written yet."));
  byId("find-number").addEventListener("input", find);
  byId("smoothing").addEventListener("input", (event) => {
    smoothing = Number(event.target.value);
    byId("smoothing-shown").textContent = String(smoothing);
    drawAgain();
  });
  themeChanged.add(() => { readColors(); drawAgain(); });
  let width = byId("groups").clientWidth;
  new ResizeObserver(() => {
    if (byId("groups").clientWidth === width) return;
    width = byId("groups").clientWidth;
    for (const chart of charts) chart.plot?.setSize({ width: chart.place.clientWidth || 300, height: HEIGHT });
  }).observe(byId("groups"));
})();
