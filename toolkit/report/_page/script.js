"use strict";
// The page is whole without this: it adds a choice of theme, sorting, and where one is.
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  // theme: as the system has it, or chosen; remembered where a page from a file may remember
  const root = document.documentElement;
  const themes = ["", "light", "dark"];
  const remembered = { get() { try { return localStorage.getItem("theme") || ""; } catch { return ""; } },
                       set(theme) { try { localStorage.setItem("theme", theme); } catch { /* not kept */ } } };
  const button = document.createElement("button");
  button.type = "button";
  button.className = "theme";
  const choose = (theme) => {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    button.textContent = `Theme: ${theme || "system"}`;
  };
  let theme = themes.includes(remembered.get()) ? remembered.get() : "";
  choose(theme);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    remembered.set(theme);
    choose(theme);
  });
  document.querySelector(".top > div").append(button);

  // tables: a click sorts, the largest first; again, the smallest first; again, as they were. Empty cells stay last
  const compare = (one, other, numeric) => numeric ? one - other : one.localeCompare(other, "en", { numeric: true });
  for (const table of all("table")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    all("thead th", table).forEach((heading, i) => {
      const sort = document.createElement("button");
      sort.type = "button";
      sort.append(...heading.childNodes);
      heading.append(sort);
      const numeric = heading.classList.contains("figure");
      const orders = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      sort.addEventListener("click", () => {
        const next = orders[orders.indexOf(heading.ariaSort) + 1];
        all("thead th", table).forEach((each) => each.removeAttribute("aria-sort"));
        if (!next) { body.append(...rows); return; }
        heading.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const key = (row) => row.cells[i].dataset.order;
        const [known, unknown] = [rows.filter((row) => key(row) !== ""), rows.filter((row) => key(row) === "")];
        known.sort((one, other) => sign * compare(key(one), key(other), numeric));
        body.append(...known, ...unknown);
      });
    });
  }

  // contents: the section that is being read
  const links = new Map(all(".at-side a").map((link) => [link.hash.slice(1), link]));
  const sections = all("main > section");
  const mark = () => {
    const here = sections.findLast((section) => section.getBoundingClientRect().top < innerHeight / 3) || sections[0];
    links.forEach((link, id) => link.classList.toggle("here", here !== undefined && id === here.id));
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true });
  mark();
  const menu = document.querySelector(".on-top");
  all(".on-top a").forEach((link) => link.addEventListener("click", () => { menu.open = false; }));

  // charts: pointing at a series' name lets the others fade
  for (const picture of all(".picture")) {
    for (const name of all(".legend li", picture)) {
      const same = all(`[data-series="${name.dataset.series}"]`, picture);
      const point = (on) => [picture, ...same].forEach((each) => each.classList.toggle("pointed", on));
      name.addEventListener("pointerenter", () => point(true));
      name.addEventListener("pointerleave", () => point(false));
    }
  }

  // on paper nothing is folded
  addEventListener("beforeprint", () => all("details").forEach((each) => { each.open = true; }));
})();
