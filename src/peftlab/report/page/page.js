"use strict";

// Tables sort by a click or a key on a heading: numbers by their value, unknown ones last; texts as a reader would.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const title = heading.querySelector(".title");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...title.childNodes);
    title.append(button);
    button.addEventListener("click", () => {
      const numeric = heading.classList.contains("number");
      const now = heading.getAttribute("aria-sort");
      const descending = now ? now === "ascending" : numeric;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [row, key(row.cells[column])]);
      rows.sort(([, a], [, b]) => unknown(a) - unknown(b) || (descending ? compare(b, a) : compare(a, b)));
      body.append(...rows.map(([row]) => row));
    });
  });
}

function key(cell) {
  const value = cell.dataset.value;
  if (value !== undefined) return Number(value);
  return cell.classList.contains("number") ? null : cell.textContent.trim();
}

function unknown(value) {
  return value === null || value === "" ? 1 : 0;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });
}

// What scrolls within its box can be scrolled by the keyboard.
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
document.querySelectorAll(".scroll, pre").forEach((box) => sizes.observe(box));

// The mark nearest to the pointer shows its value, so that small marks are easy to hit, by finger too.
const tip = document.getElementById("tip");
const REACH = 28;
for (const svg of document.querySelectorAll(".picture svg")) {
  const marks = [...svg.querySelectorAll(".mark")].map((mark) => {
    const title = mark.querySelector(":scope > title");
    const text = title.textContent;
    title.remove(); // the browser's own tip would lie over this one
    return { mark, text };
  });
  let near = null;
  const show = (next, x, y) => {
    if (near !== next) {
      near?.mark.classList.remove("near");
      next?.mark.classList.add("near");
      near = next;
    }
    tip.hidden = !next;
    if (!next) return;
    tip.textContent = next.text;
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.max(6, Math.min(x - width / 2, document.documentElement.clientWidth - width - 6));
    const top = y - height - 14 < 0 ? y + 20 : y - height - 14;
    tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  };
  const find = (event) => {
    let best = null;
    let least = REACH;
    for (const each of marks) {
      const box = each.mark.getBoundingClientRect();
      const beyond = (low, high, at) => Math.max(low - at, at - high, 0);
      const away = Math.hypot(beyond(box.left, box.right, event.clientX), beyond(box.top, box.bottom, event.clientY));
      const middle = Math.hypot((box.left + box.right) / 2 - event.clientX, (box.top + box.bottom) / 2 - event.clientY);
      const distance = away + middle / 1000;
      if (distance < least) [best, least] = [each, distance];
    }
    show(best, event.clientX, event.clientY);
  };
  svg.addEventListener("pointermove", find);
  svg.addEventListener("pointerdown", find);
  svg.addEventListener("pointerleave", () => show(null));
  window.addEventListener("scroll", () => near && show(null), { passive: true });
}

// Light, dark, or as the system has it.
const THEMES = ["auto", "light", "dark"];
const button = document.createElement("button");
button.id = "theme";
button.type = "button";
function choose(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.textContent = `Theme: ${theme}`;
  button.dataset.choice = theme;
}
function remembered() {
  try {
    return localStorage.getItem("peftlab-theme");
  } catch {
    return null; // a browser may forbid it to files
  }
}
choose(THEMES.includes(remembered()) ? remembered() : "auto");
button.addEventListener("click", () => {
  choose(THEMES[(THEMES.indexOf(button.dataset.choice) + 1) % THEMES.length]);
  try {
    localStorage.setItem("peftlab-theme", button.dataset.choice);
  } catch {
    // the choice holds for this visit
  }
});
document.body.prepend(button);

// The contents say where the reader is; on a small screen they are folded.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
if (!window.matchMedia("(min-width: 72rem)").matches) document.querySelector("nav details").open = false;
const visible = new Set();
const watch = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) visible[isIntersecting ? "add" : "delete"](target.id);
    const current = [...links.keys()].findLast((id) => visible.has(id));
    if (!current) return;
    links.forEach((link, id) => (id === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
  },
  { rootMargin: "0px 0px -75% 0px" },
);
document.querySelectorAll("main section").forEach((section) => watch.observe(section));

// What is folded on the screen is open on paper.
let folded = [];
window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("main details:not([open], .values)")];
  folded.forEach((details) => (details.open = true));
});
window.addEventListener("afterprint", () => folded.forEach((details) => (details.open = false)));

// A link into what is folded opens it.
function unfold() {
  document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
}
window.addEventListener("hashchange", unfold);
unfold();
