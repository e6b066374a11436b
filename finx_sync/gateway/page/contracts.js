// The table of contracts that are watched: sorted, filtered, added to and removed from, by keyboard too.

import { count, duration, fixed, nearest, percent } from "./format.js";
import * as settings from "./settings.js";
import { Price, dash, make, setAttribute, setText } from "./paint.js";

const KIND = "contract:";
const OLD = 30; // seconds after which an age is shown as old
const MOST = 400; // rows
const RESORT = 1000; // milliseconds between two looks at the order

const value = (name) => (record) => record.values?.[name] ?? null;
const price = (name) => (record, values) => fixed(values[name], record.decimals);
const number = (name, decimals) => (_, values) => fixed(values[name], decimals);

// What a column sorts by, and what it prints.
const COLUMNS = [
  { key: "name", label: "Contract", by: (record) => order(record) },
  { key: "mark", label: "Mark", by: value("mark") },
  { key: "bid", label: "Bid", by: value("bid"), print: price("bid") },
  { key: "ask", label: "Ask", by: value("ask"), print: price("ask") },
  { key: "spread", label: "Spread", by: value("spread"), title: "In percent of the middle", print: (_, values) => percent(values.spread) },
  { key: "iv", label: "Mark IV", by: value("iv"), title: "In percent a year", print: number("iv", 2) },
  { key: "delta", label: "Delta", by: value("delta"), print: number("delta", 3) },
  { key: "gamma", label: "Gamma", by: value("gamma"), print: number("gamma", 5) },
  { key: "theta", label: "Theta", by: value("theta"), title: "For a day", print: number("theta", 2) },
  { key: "vega", label: "Vega", by: value("vega"), title: "For a percentage point", print: number("vega", 2) },
  { key: "age", label: "Age", by: (record) => (record.receivedAt === null ? null : -record.receivedAt), title: "Since its last message" },
];

/** Sorts names as the market lists them: by market, then expiry, then strike. */
function order(record) {
  const found = record.instrument;
  if (found === null) return `~${record.name}`;
  const kind = { perpetual: 0, future: 1, option: 2 }[found.kind];
  const strike = String(found.strike ?? 0).padStart(12, "0");
  return `${found.market} ${kind} ${String(found.expiry ?? 0).padStart(12, "0")} ${strike} ${found.side}`;
}

function compare(left, right) {
  return left < right ? -1 : left > right ? 1 : 0;
}

export class Contracts {
  constructor(section, { market, want, say, show }) {
    Object.assign(this, { section, market, want, say, show });
    this.rows = new Map(); // name -> row
    this.shown = []; // rows that pass the filter, in order
    this.names = []; // what the feed has
    this.sort = settings.get("sort", { key: "name", falls: false });
    this.nextSort = 0;
    this.words = [];
    const find = (selector) => section.querySelector(selector);
    this.body = find("tbody");
    this.filter = find("#filter");
    this.adding = find("#add");
    this.total = find("#contract-count").appendChild(document.createTextNode(""));
    this.empty = find(".empty");
    this.box = find(".scroll");
    this.seen = new IntersectionObserver((entries) => this.#see(entries), { rootMargin: "60px" });
    this.#makeHead(find("thead tr"));
    this.#listen(find("#add-form"));
  }

  /** Tell which names the feed has. */
  setKnown(names) {
    this.names = names;
    const list = this.section.querySelector("#contract-names");
    list.replaceChildren(...names.map((name) => make("option", { value: name })));
  }

  /** Add what is watched at first; what is watched from now on is kept. */
  begin(names) {
    this.isBegun = true;
    this.add(names, { quietly: true });
  }

  has(name) {
    return this.rows.has(name);
  }

  add(names, { quietly = false } = {}) {
    const fresh = names.filter((name) => !this.rows.has(name)).slice(0, MOST - this.rows.size);
    for (const name of fresh) this.rows.set(name, this.#makeRow(name));
    this.#changed();
    if (!quietly && fresh.length > 0) this.say(`Added ${fresh.join(", ")}.`);
  }

  remove(name) {
    this.#drop(name);
    this.#changed();
    this.say(`Removed ${name}.`);
  }

  toggle(name) {
    if (this.rows.has(name)) this.remove(name);
    else this.add([name]);
  }

  paint(now) {
    if (now >= this.nextSort) {
      this.nextSort = now + RESORT;
      if (!this.#isHeld()) this.#arrange(now);
    }
    for (const row of this.shown) if (row.isVisible) this.#paintRow(row, now);
  }

  // the parts

  #makeHead(head) {
    for (const column of COLUMNS) {
      const button = make("button", { type: "button", class: "sort" }, column.label, make("span", { class: "order", "aria-hidden": "true" }));
      const cell = make("th", { scope: "col", "data-column": column.key, title: column.title ?? null }, button);
      column.cell = cell;
      button.addEventListener("click", () => this.#sortBy(column.key));
      head.append(cell);
    }
    head.append(make("th", { scope: "col" }, make("span", { class: "visually-hidden" }, "Remove")));
    this.#markSort();
  }

  #makeRow(name) {
    const record = this.market.of(KIND + name);
    const link = make("button", { type: "button", class: "name", tabindex: "-1", title: record.instrument?.kind === "option" ? "Show its chain" : null }, ...nameParts(record));
    const row = { name, record, link, isVisible: false, cells: [] };
    const element = make("tr", { "data-name": name }, make("th", { scope: "row" }, link));
    for (const column of COLUMNS.slice(1)) {
      const cell = make("td", { "data-column": column.key });
      if (column.key === "mark") row.price = new Price(cell);
      else if (column.key === "age") [row.age, row.ageCell] = [cell.appendChild(dash()), cell];
      else row.cells.push([cell.appendChild(dash()), column.print]);
      element.append(cell);
    }
    const remove = make("button", { type: "button", class: "remove", "aria-label": `Remove ${name}`, tabindex: "-1" }, "×");
    remove.addEventListener("click", () => this.#removeFrom(row));
    link.addEventListener("click", () => this.show(record));
    element.append(make("td", { class: "tool" }, remove));
    element.row = row;
    row.element = element;
    this.seen.observe(element);
    return row;
  }

  #listen(form) {
    this.filter.addEventListener("input", () => {
      this.words = this.filter.value.toUpperCase().split(/\s+/).filter(Boolean);
      this.#changed({ isFilter: true });
    });
    this.filter.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        this.filter.value = "";
        this.filter.dispatchEvent(new Event("input"));
      } else if (event.key === "ArrowDown") {
        event.preventDefault();
        this.shown[0]?.link.focus();
      }
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#addTyped();
    });
    this.body.addEventListener("keydown", (event) => this.#press(event));
  }

  #addTyped() {
    const message = this.section.querySelector("#add-message");
    const typed = this.adding.value.toUpperCase().split(/[\s,]+/).filter(Boolean);
    const unknown = [];
    const found = [];
    for (const name of typed) {
      const matches = name.includes("*") ? this.#matching(name) : this.names.length > 0 && !this.names.includes(name) ? [] : [name];
      if (matches.length === 0) unknown.push(name);
      found.push(...matches);
    }
    this.add(found);
    const near = unknown.length > 0 ? nearest(unknown[0], this.names) : undefined;
    message.textContent = unknown.length === 0 ? "" : `The feed has no ${unknown[0]}.${near ? ` Did you mean ${near}?` : ""}`;
    setAttribute(this.adding, "aria-invalid", String(unknown.length > 0));
    if (unknown.length === 0) this.adding.value = "";
  }

  #matching(pattern) {
    const expression = new RegExp(`^${pattern.replace(/[^\w*-]/g, "").replaceAll("*", ".*")}$`);
    return this.names.filter((name) => expression.test(name));
  }

  #press(event) {
    const row = event.target.closest("tr")?.row;
    if (row === undefined) return;
    const at = this.shown.indexOf(row);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.shown.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      (this.shown[to]?.link ?? (to < 0 ? this.filter : row.link)).focus();
    } else if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.#removeFrom(row);
    }
  }

  /** Remove a row, and keep the focus where it was. */
  #removeFrom(row) {
    const at = this.shown.indexOf(row);
    const hadFocus = row.element.contains(document.activeElement);
    this.remove(row.name);
    if (hadFocus) (this.shown[Math.min(at, this.shown.length - 1)]?.link ?? this.filter).focus();
  }

  #drop(name) {
    const row = this.rows.get(name);
    if (row === undefined) return;
    this.seen.unobserve(row.element);
    row.element.remove();
    this.rows.delete(name);
  }

  #see(entries) {
    const now = performance.now();
    for (const { target, isIntersecting } of entries) {
      target.row.isVisible = isIntersecting;
      if (isIntersecting) this.#paintRow(target.row, now);
    }
  }

  #changed({ isFilter = false } = {}) {
    if (!isFilter) {
      if (this.isBegun) settings.set("contracts", [...this.rows.keys()]);
      this.want([...this.rows.keys()].map((name) => KIND + name));
    }
    this.#arrange(performance.now());
  }

  // sorting

  #sortBy(key) {
    const falls = this.sort.key === key ? !this.sort.falls : key !== "name";
    this.sort = { key, falls };
    settings.set("sort", this.sort);
    this.#markSort();
    this.#arrange(performance.now());
    this.say(`Sorted by ${COLUMNS.find((column) => column.key === key).label}, ${falls ? "highest" : "lowest"} first.`);
  }

  #markSort() {
    for (const column of COLUMNS) {
      if (column.key === this.sort.key) column.cell.setAttribute("aria-sort", this.sort.falls ? "descending" : "ascending");
      else column.cell.removeAttribute("aria-sort");
    }
  }

  /** Rows do not move under a pointer or a focus. */
  #isHeld() {
    return this.body.matches(":hover") || this.body.contains(document.activeElement);
  }

  #arrange(now) {
    const { by } = COLUMNS.find((column) => column.key === this.sort.key) ?? COLUMNS[0];
    const keyed = [];
    for (const row of this.rows.values()) {
      const passes = this.words.every((word) => row.name.includes(word));
      row.element.hidden = !passes;
      if (!passes) continue;
      row.record.read(now);
      keyed.push([by(row.record), row]);
    }
    const sign = this.sort.falls ? -1 : 1;
    keyed.sort(([left, one], [right, other]) =>
      left === null || right === null
        ? (left === null) - (right === null) || compare(one.name, other.name)
        : sign * compare(left, right) || compare(one.name, other.name));
    this.shown = keyed.map(([, row]) => row);
    this.#place();
    setText(this.total, this.shown.length === this.rows.size ? count(this.rows.size, "contract", "contracts") : `${this.shown.length} of ${this.rows.size}`);
    this.empty.hidden = this.shown.length > 0;
    this.box.hidden = this.shown.length === 0;
    setText(this.empty.firstChild, this.rows.size === 0 ? "No contract is watched. Add one by its name above." : "No watched contract matches the filter.");
  }

  /** Bring the rows into order, moving only those that are out of place; keep one of them in the tab order. */
  #place() {
    let next = this.body.firstElementChild;
    for (const { element } of this.shown) {
      while (next !== null && next.hidden) next = next.nextElementSibling;
      if (element === next) next = next.nextElementSibling;
      else this.body.insertBefore(element, next);
    }
    const focused = document.activeElement?.closest?.("tr")?.row;
    this.shown.forEach((row, at) => setAttribute(row.link, "tabindex", (focused ? row === focused : at === 0) ? "0" : "-1"));
  }

  #paintRow(row, now) {
    const { record } = row;
    const values = record.read(now);
    if (values === null) return;
    row.price.paint(fixed(values.mark, record.decimals), record, now);
    const age = (now - record.receivedAt) / 1000;
    setText(row.age, duration(age));
    setAttribute(row.ageCell, "data-old", String(age > OLD));
    if (row.painted === values) return;
    row.painted = values;
    for (const [text, print] of row.cells) setText(text, print(record, values));
  }
}

/** A name in parts, so that the eye finds strike and side. */
function nameParts(record) {
  const found = record.instrument;
  if (found?.kind !== "option") return [record.name];
  const [market, code, strike, side] = record.name.split("-");
  return [`${market}-${code}-`, make("b", {}, strike), `-${side}`];
}
