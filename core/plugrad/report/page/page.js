"use strict";
// What every page shares: its data, elements that show text and never markup, numbers, and the theme.
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Docstrings write names between backticks, in pairs or single ones.
const coded = (text) => text.split(/``?([^`]+)``?/).map((part, at) => (at % 2 ? element("code", {}, part) : part));

function numberText(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0"; // and not -0
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(digits - 2).replace("e+", "e").replace(/\.?0+e/, "e");
  return Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 6 });
}

// With as few digits as tell them apart.
function distinctTexts(values) {
  const texts = (digits) => values.map((value) => numberText(value, digits));
  const differ = (found) => new Set(found).size === found.length;
  return texts([3, 4, 5, 6, 7].find((digits) => differ(texts(digits))) ?? 8);
}

// The name of a run's or a part's colour goes into a style here: styles in the markup need the index alone.
const NUM_COLORS = 8;
for (const dot of document.querySelectorAll("[data-run], [data-part]")) {
  const index = Number(dot.dataset.run ?? dot.dataset.part) % NUM_COLORS;
  dot.style.setProperty("--of-run", `var(--run-${index})`);
}

function dotOf(run) {
  const dot = element("i", { class: "dot" });
  dot.style.background = `var(--run-${run % NUM_COLORS})`;
  return dot;
}

const themeChanged = new Set();
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  for (const button of document.querySelectorAll(".theme button")) button.setAttribute("aria-pressed", String(button.dataset.theme === theme));
  try { localStorage.setItem("plugrad-theme", theme); } catch { /* A page from a file may have no storage. */ }
  themeChanged.forEach((redraw) => redraw());
}
function storedTheme() {
  try { return localStorage.getItem("plugrad-theme") ?? "auto"; } catch { return "auto"; }
}
for (const button of document.querySelectorAll(".theme button")) button.addEventListener("click", () => setTheme(button.dataset.theme));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themeChanged.forEach((redraw) => redraw()));
setTheme(storedTheme());
