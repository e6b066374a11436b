// Mark volatility against the strike, one line an expiry.

import { Chart, axis, colour, rem } from "./charts.js";
import { fixed } from "./format.js";
import { dash, make, setText } from "./paint.js";

const KIND = "contract:";
const MOST_LINES = 6;
const WIDEST_LOW = 0.5; // of the forward
const WIDEST_HIGH = 1.75;
const HIGHEST = 2; // times the volatility at the money

/* global uPlot */

export class Smile {
  constructor(section, choose) {
    this.choose_ = choose;
    this.place = section.querySelector(".chart");
    this.key = section.querySelector(".key tbody");
    this.lines = [];
    this.strikes = [];
    this.code = null;
    this.range = [0, 1]; // of strikes
    this.highest = Infinity; // volatility
    this.chart = new Chart(this.place, () => this.#options());
  }

  setExpiries(expiries, market, isOther) {
    const now = Date.now() / 1000;
    const sorted = expiries.filter(({ strikes }) => strikes.size > 1).sort((left, right) => left.expiry - right.expiry);
    const coming = sorted.filter(({ expiry }) => expiry > now);
    const kept = (coming.length > 0 ? coming : sorted).slice(0, MOST_LINES);
    const key = kept.map(({ code, strikes }) => `${code} ${strikes.size}`).join();
    if (key === this.madeFor && !isOther) return;
    this.madeFor = key;
    this.lines = kept.map(({ code, expiry, strikes }) => {
      const records = new Map();
      for (const [strike, sides] of strikes) records.set(strike, Object.values(sides).map((name) => market.of(KIND + name)));
      return { code, expiry, records };
    });
    this.strikes = [...new Set(this.lines.flatMap(({ records }) => [...records.keys()]))].sort((left, right) => left - right);
    this.#makeKey();
    this.chart.data = [this.strikes, ...this.lines.map(() => this.strikes.map(() => null))];
    this.chart.rebuild();
  }

  /** Draw one line thicker. */
  choose(code) {
    if (this.code === code) return;
    this.code = code;
    for (const line of this.lines) line.element.setAttribute("data-chosen", String(line.code === code));
    this.chart.rebuild();
  }

  paint(now) {
    if (this.lines.length === 0) return;
    const curves = this.lines.map((line) => this.strikes.map((strike) => volatility(line.records.get(strike), now)));
    const forwards = this.lines.map((line) => forwardOf(line, now));
    const middles = this.lines.map((_, at) => this.#atTheMoney(forwards[at], curves[at]));
    this.#aim(forwards, middles);
    this.chart.set([this.strikes, ...curves]);
    const said = [];
    this.lines.forEach((line, at) => {
      const middle = middles[at];
      const days = (line.expiry - Date.now() / 1000) / 86400;
      setText(line.days, days > 0 ? fixed(days, days < 10 ? 1 : 0) : "–");
      setText(line.middle, fixed(middle, 1));
      if (middle !== null) said.push(`${line.code} ${fixed(middle, 1)} percent`);
    });
    this.place.setAttribute("aria-label", `Mark volatility against the strike. At the money: ${said.join(", ")}.`);
  }

  /** Show what is near the money: far wings are many times as high, and would flatten the rest. */
  #aim(forwards, middles) {
    const known = forwards.filter((forward) => forward !== null);
    const [low, high] = [WIDEST_LOW * Math.min(...known), WIDEST_HIGH * Math.max(...known)];
    const strikes = this.strikes.filter((strike) => strike >= low && strike <= high);
    if (strikes.length > 1) this.range = [strikes[0], strikes.at(-1)];
    this.highest = HIGHEST * Math.max(...middles) || Infinity;
  }

  #atTheMoney(forward, curve) {
    if (forward === null) return null;
    let best = null;
    let least = Infinity;
    this.strikes.forEach((strike, at) => {
      if (curve[at] != null && Math.abs(strike - forward) < least) [best, least] = [curve[at], Math.abs(strike - forward)];
    });
    return best;
  }

  #makeKey() {
    this.key.replaceChildren(...this.lines.map((line, at) => {
      [line.days, line.middle] = [dash(), dash()];
      const button = make("button", { type: "button", class: "name" }, line.code);
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = `var(--line-${at})`;
      button.addEventListener("click", () => this.choose_(line.code));
      line.element = make("tr", { "data-chosen": String(line.code === this.code) },
        make("th", { scope: "row" }, swatch, button),
        make("td", {}, line.days), make("td", {}, line.middle));
      return line.element;
    }));
  }

  #options() {
    const brief = (value) => (value >= 10_000 ? `${fixed(value / 1000, value % 1000 === 0 ? 0 : 1)}k` : fixed(value, value % 1 === 0 ? 0 : 2));
    return {
      padding: [8, rem(), 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { x: { time: false, range: () => this.range }, y: { range: (_, low, high) => uPlot.rangeNum(low ?? 0, Math.min(high ?? 1, this.highest), 0.08, false) } },
      axes: [
        axis({ size: 1.5 * rem(), space: 3.5 * rem(), values: (_, values) => values.map(brief) }),
        axis({ size: 2.875 * rem(), space: 2 * rem(), values: (_, values) => values.map((value) => `${fixed(value, 0)} %`) }),
      ],
      series: [{}, ...this.lines.map((line, at) => ({
        label: line.code,
        stroke: colour(`--line-${at}`),
        width: rem() * (line.code === this.code ? 0.18 : 0.09),
        spanGaps: true,
        points: { show: line.code === this.code, size: 5 },
      }))],
    };
  }
}

function forwardOf(line, now) {
  for (const [record] of line.records.values()) {
    const forward = record.read(now)?.forward ?? null;
    if (forward !== null) return forward;
  }
  return null;
}

function volatility(records, now) {
  if (records === undefined) return undefined; // No such strike: the line goes on.
  for (const record of records) {
    const iv = record.read(now)?.iv ?? null;
    if (iv !== null) return iv;
  }
  return null;
}
