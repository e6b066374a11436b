// The option chain of one expiry, strikes between calls and puts; and the smile of every expiry.

import { Smile } from "./smile.js";
import { duration, fixed } from "./format.js";
import { readInstrument } from "./messages.js";
import { dash, make, setAttribute, setChoices, setText } from "./paint.js";
import * as settings from "./settings.js";

const KIND = "contract:";
const MOST = 1200; // contracts of one market
const LEAVE_AFTER = 15_000; // milliseconds out of sight before the chain is unsubscribed
const NEAR = 3; // strikes

const price = (key, label) => ({ key, label, print: (record, values) => fixed(values[key], record.decimals) });
const number = (key, label, decimals) => ({ key, label, print: (_, values) => fixed(values[key], decimals) });
const [DELTA, IV, MARK] = [number("delta", "Delta", 2), number("iv", "IV", 1), price("mark", "Mark")];
const [BID, ASK] = [price("bid", "Bid"), price("ask", "Ask")];
const CALLS = [DELTA, IV, MARK, BID, ASK];
const PUTS = [BID, ASK, MARK, IV, DELTA];
const NARROW = matchMedia("(max-width: 640px)"); // the style sheet hides two columns of each side there

export class Chain {
  constructor(section, smileSection, { market, want, contracts, say }) {
    Object.assign(this, { section, smileSection, market, want, contracts, say });
    const find = (selector) => section.querySelector(selector);
    this.body = find("tbody");
    this.box = find(".scroll");
    this.markets = find(".markets");
    this.expiries = find(".expiries");
    this.about = find(".about").appendChild(document.createTextNode(""));
    this.smile = new Smile(smileSection, (code) => this.choose(this.chosen, code));
    this.tree = new Map(); // market -> code -> {expiry, strikes: Map(strike -> {C, P})}
    this.chosen = settings.get("market", null);
    this.code = settings.get("expiry", null);
    this.rows = [];
    this.isSeen = false;
    this.isNeeded = false; // even out of sight, as while the watch list is begun with what is at the money
    this.isAimed = false;
    this.#makeHead(find("thead"));
    this.#watchSight();
    this.seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) target.row.isVisible = isIntersecting;
    }, { rootMargin: "60px" });
  }

  /** Tell which names the feed has. */
  setKnown(names) {
    this.tree = treeOf(names);
    const isEmpty = this.tree.size === 0;
    this.section.hidden = this.smileSection.hidden = isEmpty;
    if (isEmpty) return;
    if (!this.tree.has(this.chosen)) this.chosen = [...this.tree.keys()].sort(byImportance(this.tree))[0];
    this.choose(this.chosen, this.code);
  }

  choose(name, code) {
    const expiries = this.tree.get(name);
    if (expiries === undefined) return;
    const isOther = name !== this.chosen;
    this.chosen = name;
    this.code = expiries.has(code) ? code : firstOf(expiries);
    settings.set("market", this.chosen);
    settings.set("expiry", this.code);
    this.#makeChoices();
    this.#makeRows();
    this.smile.setExpiries([...expiries.values()], this.market, isOther);
    this.smile.choose(this.code);
    this.#subscribe();
  }

  /** Show the chain that a contract belongs to. */
  show(record) {
    if (record.instrument?.kind !== "option") return;
    this.choose(record.instrument.market, record.instrument.code);
    this.section.scrollIntoView({ block: "nearest" });
    this.#aim(record.instrument.strike);
  }

  /** Subscribe even while out of sight, or not. */
  need(isNeeded) {
    this.isNeeded = isNeeded;
    this.#subscribe();
  }

  /** The names of the options nearest to the money of the chosen expiry; empty before prices came. */
  nearTheMoney() {
    const forward = this.#forward();
    if (forward === null) return [];
    const near = [...this.rows].sort((left, right) => Math.abs(left.strike - forward) - Math.abs(right.strike - forward));
    return near.slice(0, NEAR).sort((left, right) => left.strike - right.strike)
      .flatMap((row) => row.halves.map((half) => half.record.name));
  }

  paint(now) {
    if (this.section.hidden) return;
    const forward = this.#forward();
    for (const row of this.rows) if (row.isVisible) paintRow(row, now, this.contracts);
    if (forward === null) return;
    this.#mark(forward);
    const expiry = this.tree.get(this.chosen).get(this.code).expiry;
    const left = expiry - Date.now() / 1000;
    setText(this.about, `Forward ${fixed(forward, forward >= 100 ? 2 : 4)} · ${left > 0 ? `expires in ${duration(left)}` : "past its expiry"}`);
    if (!this.isAimed) this.#aim(forward);
  }

  paintSmile(now) {
    if (!this.smileSection.hidden) this.smile.paint(now);
  }

  // the parts

  #makeHead(head) {
    const cells = (columns) => columns.map((column) => make("th", { scope: "col", "data-column": column.key }, column.label));
    const watch = () => make("th", { scope: "col" }, make("span", { class: "visually-hidden" }, "Watch"));
    const sides = ["Calls", "Puts"].map((name) => make("th", { scope: "colgroup" }, name));
    const fit = () => sides.forEach((side) => (side.colSpan = NARROW.matches ? CALLS.length - 1 : CALLS.length + 1));
    NARROW.addEventListener("change", fit);
    fit();
    head.append(
      make("tr", {}, sides[0], make("td"), sides[1]),
      make("tr", {}, watch(), ...cells(CALLS), make("th", { scope: "col", class: "strike" }, "Strike"), ...cells(PUTS), watch()));
  }

  #makeChoices() {
    const names = [...this.tree.keys()].sort(byImportance(this.tree));
    const now = Date.now() / 1000;
    const expiries = [...this.tree.get(this.chosen).values()].sort((left, right) => (left.expiry < now) - (right.expiry < now) || left.expiry - right.expiry);
    setChoices(this.markets, { type: "radio", name: "market" }, names, [this.chosen], ([name]) => this.choose(name, this.code));
    setChoices(this.expiries, { type: "radio", name: "expiry" }, expiries.map(({ code }) => code), [this.code], ([code]) => this.choose(this.chosen, code));
    this.markets.hidden = names.length < 2;
  }

  #makeRows() {
    const key = `${this.chosen} ${this.code} ${this.tree.get(this.chosen).get(this.code).strikes.size}`;
    if (key === this.madeFor) return;
    this.madeFor = key;
    this.isAimed = false;
    this.seen.disconnect();
    const { strikes } = this.tree.get(this.chosen).get(this.code);
    this.rows = [...strikes.entries()].sort(([left], [right]) => left - right).map(([strike, sides]) => this.#makeRow(strike, sides));
    this.body.replaceChildren(...this.rows.map((row) => row.element));
    for (const row of this.rows) this.seen.observe(row.element);
  }

  #makeRow(strike, sides) {
    const row = { strike, halves: [], isVisible: false };
    const middle = make("th", { scope: "row", class: "strike" }, fixed(strike, strike % 1 === 0 ? 0 : 4));
    row.element = make("tr", {}, ...this.#makeHalf(row, sides.C, "C", CALLS), middle, ...this.#makeHalf(row, sides.P, "P", PUTS));
    row.element.row = row;
    return row;
  }

  #makeHalf(row, name, side, columns) {
    if (name === undefined) return Array.from({ length: columns.length + 1 }, () => make("td", { class: side }));
    const record = this.market.of(KIND + name);
    const half = { record, cells: [], painted: null };
    half.watch = make("button", { type: "button", class: "watch", "aria-pressed": "false", "aria-label": `Watch ${name}` });
    half.watch.addEventListener("click", () => this.contracts.toggle(name));
    row.halves.push(half);
    const cells = columns.map((column) => {
      const text = dash();
      half.cells.push([text, column.print]);
      return make("td", { class: side, "data-column": column.key }, text);
    });
    const watch = make("td", { class: `${side} tool` }, half.watch);
    return side === "C" ? [watch, ...cells] : [...cells, watch];
  }

  /** The price of the underlying future, as the newest options of this expiry say. */
  #forward() {
    let newest = null;
    for (const { halves } of this.rows) {
      for (const { record } of halves) {
        if (record.receivedAt !== null && (newest === null || record.receivedAt > newest.receivedAt)) newest = record;
      }
    }
    return newest?.read(performance.now())?.forward ?? null;
  }

  /** Show which strikes are in the money, and which is at it. */
  #mark(forward) {
    const nearest = this.rows.reduce((best, row) => (Math.abs(row.strike - forward) < Math.abs(best.strike - forward) ? row : best));
    for (const row of this.rows) {
      setAttribute(row.element, "data-money", row.strike < forward ? "call" : "put");
      setAttribute(row.element, "data-nearest", String(row === nearest));
    }
  }

  #aim(strike) {
    const row = this.rows.find((one) => one.strike >= strike) ?? this.rows.at(-1);
    if (row === undefined || this.box.clientHeight === 0) return;
    this.isAimed = true;
    this.box.scrollTop = row.element.offsetTop - this.box.clientHeight / 2;
  }

  // what is subscribed: the market's options, while the chain or the smile is on the screen

  #watchSight() {
    const visible = new Set();
    let timer = 0;
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) visible.add(target);
        else visible.delete(target);
      }
      clearTimeout(timer);
      const settle = () => {
        this.isSeen = visible.size > 0;
        this.#subscribe();
      };
      if (visible.size > 0) settle();
      else timer = setTimeout(settle, LEAVE_AFTER);
    }, { rootMargin: "200px" });
    observer.observe(this.section);
    observer.observe(this.smileSection);
  }

  #subscribe() {
    const expiries = this.tree.get(this.chosen);
    if (expiries === undefined) return;
    const chosen = expiries.get(this.code);
    const others = [...expiries.values()].filter((one) => one !== chosen).sort((left, right) => left.expiry - right.expiry);
    const names = [chosen, ...others].flatMap((one) => [...one.strikes.values()].flatMap((sides) => Object.values(sides)));
    this.want(this.isSeen || this.isNeeded ? names.slice(0, MOST).map((name) => KIND + name) : []);
  }
}

function paintRow(row, now, contracts) {
  for (const half of row.halves) {
    const values = half.record.read(now);
    const isWatched = contracts.has(half.record.name);
    if (half.isWatched !== isWatched) {
      half.isWatched = isWatched;
      half.watch.setAttribute("aria-pressed", String(isWatched));
    }
    if (values === null || values === half.painted) continue;
    half.painted = values;
    for (const [text, print] of half.cells) setText(text, print(half.record, values));
  }
}

function treeOf(names) {
  const tree = new Map();
  for (const name of names) {
    const found = readInstrument(name);
    if (found?.kind !== "option") continue;
    if (!tree.has(found.market)) tree.set(found.market, new Map());
    const expiries = tree.get(found.market);
    if (!expiries.has(found.code)) expiries.set(found.code, { code: found.code, expiry: found.expiry, strikes: new Map() });
    const { strikes } = expiries.get(found.code);
    if (!strikes.has(found.strike)) strikes.set(found.strike, {});
    strikes.get(found.strike)[found.side] = name;
  }
  return tree;
}

function byImportance(tree) {
  const size = (name) => [...tree.get(name).values()].reduce((sum, { strikes }) => sum + strikes.size, 0);
  return (left, right) => size(right) - size(left) || (left < right ? -1 : 1);
}

/** The first expiry that is to come and has more than a strike or two. */
function firstOf(expiries) {
  const now = Date.now() / 1000;
  const sorted = [...expiries.values()].sort((left, right) => left.expiry - right.expiry);
  const coming = sorted.filter(({ expiry }) => expiry > now);
  return (coming.find(({ strikes }) => strikes.size > 2) ?? coming[0] ?? sorted.at(-1)).code;
}
