// A page that is served asks whether its run has grown. It reloads itself then, and stays where it was.
(() => {
  if (!DATA.version) return;
  const EVERY_MS = 2000, KEY = "plugrad-place";
  const kept = () => [...document.querySelectorAll("input[id], select[id]")];

  function keep() {
    const values = kept().map((control) => [control.id, control.type === "checkbox" ? control.checked : control.value]);
    const details = [...document.querySelectorAll("details[id]")].map((each) => [each.id, each.open]);
    sessionStorage.setItem(KEY, JSON.stringify({ values, details, top: scrollY }));
  }

  function restore() {
    const place = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    if (!place) return;
    sessionStorage.removeItem(KEY);
    for (const [id, open] of place.details) if (byId(id)) byId(id).open = open;
    for (const [id, value] of place.values) {
      const control = byId(id);
      if (!control) continue;
      if (control.type === "checkbox") control.checked = value; else control.value = value;
      control.dispatchEvent(new Event("input"));
    }
    scrollTo(0, place.top);
  }

  async function look() {
    // A page that nobody sees, or in which somebody writes, stays as it is.
    const isBusy = document.hidden || document.activeElement?.matches("input[type=search], input[type=number]");
    try {
      const answer = await fetch("version", { cache: "no-store" });
      const version = answer.ok ? await answer.text() : DATA.version;
      document.querySelector(".live")?.classList.remove("lost");
      if (version !== DATA.version && !isBusy) { keep(); location.reload(); return; }
    } catch {
      const live = document.querySelector(".live");
      if (live) { live.textContent = "server ended"; live.style.color = "var(--dim)"; }
    }
    setTimeout(look, EVERY_MS);
  }

  history.scrollRestoration = "manual";
  restore();
  setTimeout(look, EVERY_MS);
})();
