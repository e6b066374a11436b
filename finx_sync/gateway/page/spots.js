// A tile for each spot pair: its price, and its last minutes.

import { Chart, axis, colour, rem } from "./charts.js";
import { clock, count, decimalsOf, fixed, percent, signed } from "./format.js";
import { Price, make, setAttribute, setChoices, setText } from "./paint.js";
import * as settings from "./settings.js";

/* global uPlot */

const KIND = "spot:";
const AT_FIRST = 3;
const SHORTEST = 60; // seconds that a chart is wide at least

export class Spots {
  constructor(section, { market, want, say }) {
    Object.assign(this, { section, market, want, say });
    this.tiles = new Map();
    this.place = section.querySelector(".tiles");
    this.choices = section.querySelector(".choices");
  }

  /** Offer the feed's pairs; at first, show some. */
  setKnown(names) {
    this.section.hidden = names.length === 0;
    const chosen = settings.get("pairs", null)?.filter((name) => names.includes(name));
    const shown = chosen?.length ? chosen : atFirst(names);
    setChoices(this.choices, { type: "checkbox" }, names, shown, (picked) => {
      settings.set("pairs", picked);
      this.#show(picked);
    });
    this.#show(shown);
  }

  paint(now) {
    for (const tile of this.tiles.values()) tile.paint(now);
  }

  paintCharts() {
    for (const tile of this.tiles.values()) tile.paintChart();
  }

  #show(names) {
    for (const [name, tile] of this.tiles) {
      if (names.includes(name)) continue;
      tile.remove();
      this.tiles.delete(name);
    }
    for (const name of names) {
      if (!this.tiles.has(name)) this.tiles.set(name, new Tile(this.market.of(KIND + name)));
      this.place.append(this.tiles.get(name).element);
    }
    this.want(names.map((name) => KIND + name));
  }
}

class Tile {
  constructor(pair) {
    this.pair = pair;
    const id = `pair-${pair.name.replace(/\W/g, "-")}`;
    const text = () => document.createTextNode("");
    [this.change, this.span, this.detail] = [text(), text(), text()];
    const figure = make("p", { class: "figure" });
    this.price = new Price(figure);
    this.price.paint("–", pair, 0);
    this.moved = make("span", { class: "change" }, this.change);
    this.canvas = make("div", { class: "chart", role: "img", "aria-label": `Price of ${pair.name}` });
    this.element = make("article", { class: "tile", "aria-labelledby": id },
      make("header", {}, make("h3", { id }, pair.name.replace(":", " / ")), figure),
      make("p", { class: "sub" }, this.moved, make("span", {}, this.span)),
      this.canvas,
      make("p", { class: "sub detail" }, this.detail));
    this.chart = new Chart(this.canvas, () => this.#options());
    this.painted = -1;
    this.cursor = null;
  }

  paint(now) {
    const { pair } = this;
    if (pair.price === null) return;
    this.price.paint(fixed(pair.price, pair.decimals), pair, now);
  }

  paintChart() {
    const { pair } = this;
    if (pair.price === null || pair.version === this.painted) return;
    this.painted = pair.version;
    if (pair.points[0].length > 1) this.chart.set(pair.points);
    const [times, middles, lows, highs] = pair.points;
    const first = middles[0];
    const last = middles.at(-1);
    const low = Math.min(...lows.filter(Number.isFinite));
    const high = Math.max(...highs.filter(Number.isFinite));
    const seconds = times.at(-1) - times[0];
    const change = first ? (100 * (last - first)) / first : 0;
    setText(this.change, `${signed(change, 2)} %`);
    setAttribute(this.moved, "data-move", Math.abs(change) < 0.005 ? "none" : change > 0 ? "up" : "down");
    setText(this.span, seconds < 90 ? `in ${seconds} s` : `in ${Math.round(seconds / 60)} min`);
    const prices = [...pair.exchanges.values()];
    const apart = prices.length > 1 ? `, ${percent((100 * (Math.max(...prices) - Math.min(...prices))) / last)} apart` : "";
    setText(this.detail, `${fixed(low, pair.decimals)} to ${fixed(high, pair.decimals)} · ${count(prices.length, "exchange", "exchanges")}${apart}`);
    this.canvas.setAttribute("aria-label", `${pair.name}: ${fixed(last, pair.decimals)}, ${signed(change, 2)} percent, between ${fixed(low, pair.decimals)} and ${fixed(high, pair.decimals)}.`);
  }

  remove() {
    this.chart.destroy();
    this.element.remove();
  }

  #options() {
    const { pair } = this;
    return {
      padding: [rem() / 2, 0, 0, rem() / 2],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: {
        x: { range: (_, low, high) => [low === null ? 0 : Math.min(low, high - SHORTEST), high ?? 1] },
        y: { range: (_, low, high) => [low - margin(low, high), high + margin(low, high)] },
      },
      axes: [
        axis({ size: 1.375 * rem(), space: 5.5 * rem(), grid: { show: false }, values: (_, times) => times.map((time) => clock(time).slice(0, 5 + 3 * (time % 60 > 0))) }),
        axis({ side: 1, size: this.#axisWidth, space: 2.25 * rem(), values: (_, prices, __, ___, step) => prices.map((price) => fixed(price, Math.min(pair.decimals, decimalsOf(step)))) }),
      ],
      series: [
        {},
        { stroke: colour("--accent"), width: rem() / 10, points: { show: false } },
        { stroke: "transparent", points: { show: false } },
        { stroke: "transparent", points: { show: false } },
      ],
      bands: [{ series: [3, 2], fill: colour("--accent", 16) }],
      hooks: { setCursor: [(plot) => this.#point(plot)] },
    };
  }

  #axisWidth(plot, values) {
    const longest = (values ?? []).reduce((most, text) => Math.max(most, text.length), 4);
    return 14 + longest * parseFloat(plot.axes[1].font[0]) * 0.6 / devicePixelRatio;
  }

  /** What the pointer is over, in place of the chart's summary. */
  #point(plot) {
    const at = plot.cursor.idx;
    const [times, middles] = this.pair.points;
    if (at === null || at === undefined || middles[at] == null) {
      this.painted = -1;
      return;
    }
    setText(this.detail, `${clock(times[at])} UTC · ${fixed(middles[at], this.pair.decimals)}`);
  }
}

/** So that a flat line is flat. */
function margin(low, high) {
  return Math.max(0.1 * (high - low), 0.0002 * high) || 1;
}

/** One pair of each base, then others. */
function atFirst(names) {
  const bases = new Set();
  const firsts = names.filter((name) => !bases.has(name.split(":")[0]) && bases.add(name.split(":")[0]));
  return [...firsts, ...names.filter((name) => !firsts.includes(name))].slice(0, AT_FIRST);
}
