// The last value of everything that is subscribed. A message costs a few assignments here; it is read when it is
// painted, so that a value that a newer one replaces meanwhile costs nothing more.

import { decimalsOf } from "./format.js";
import { readContract, readInstrument, readSpot, splitTag } from "./messages.js";

/** One contract: its last payload, and the numbers of the payload that was painted last. */
export class Contract {
  constructor(tag) {
    this.tag = tag;
    this.name = splitTag(tag)[1];
    this.instrument = readInstrument(this.name);
    this.data = null;
    this.receivedAt = null; // performance.now()
    this.isRead = true;
    this.values = null;
    this.decimals = 0;
    this.direction = 0;
    this.movedAt = -Infinity;
  }

  put(data, now) {
    this.data = data;
    this.receivedAt = now;
    this.isRead = false;
  }

  /** The newest numbers; null before the first message. */
  read(now) {
    if (this.isRead) return this.values;
    this.isRead = true;
    const before = this.values?.mark ?? null;
    const values = readContract(this.data);
    this.values = values;
    for (const price of [values.mark, values.bid, values.ask]) this.decimals = Math.max(this.decimals, decimalsOf(price));
    if (before !== null && values.mark !== null && values.mark !== before) {
      this.direction = values.mark > before ? 1 : -1;
      this.movedAt = now;
    }
    return values;
  }
}

const WINDOW = 900; // seconds that a chart shows
const BUCKET = 1; // seconds that one of its points stands for

/** One pair: the last price at each exchange, and a point a second for the chart. */
export class Pair {
  constructor(tag) {
    this.tag = tag;
    this.name = splitTag(tag)[1];
    this.exchanges = new Map();
    this.receivedAt = null;
    this.price = null;
    this.direction = 0;
    this.movedAt = -Infinity;
    this.decimals = 0;
    this.points = [[], [], [], []]; // time, middle, low, high
    this.version = 0;
  }

  put(data, now, at) {
    const { price, exchange } = readSpot(data);
    if (price === null) return;
    if (this.price !== null && price !== this.price) {
      this.direction = price > this.price ? 1 : -1;
      this.movedAt = now;
    }
    this.price = price;
    this.receivedAt = now;
    this.exchanges.set(exchange, price);
    if (this.decimals < 6) this.decimals = Math.max(this.decimals, decimalsOf(price));
    this.#point(Math.floor(at / BUCKET) * BUCKET);
    this.version++;
  }

  /** Leave a break in the line: what came between is not known. */
  cut() {
    const [times, ...lines] = this.points;
    if (times.length === 0 || lines[0].at(-1) === null) return;
    times.push(times.at(-1) + BUCKET / 2);
    for (const line of lines) line.push(null);
  }

  #point(time) {
    const prices = [...this.exchanges.values()].sort((left, right) => left - right);
    const middle = (prices[(prices.length - 1) >> 1] + prices[prices.length >> 1]) / 2;
    const [times, middles, lows, highs] = this.points;
    if (times.length > 0 && times.at(-1) >= time) {
      const last = times.length - 1;
      [middles[last], lows[last], highs[last]] = [middle, prices[0], prices.at(-1)];
      return;
    }
    times.push(time);
    middles.push(middle);
    lows.push(prices[0]);
    highs.push(prices.at(-1));
    let old = 0;
    while (times[old] < time - WINDOW) old++;
    if (old > 0) for (const line of this.points) line.splice(0, old);
  }
}

const KINDS = { contract: Contract, spot: Pair };

export class Market {
  constructor() {
    this.records = new Map();
  }

  /** The record of a tag, made when it is first asked for. */
  of(tag) {
    let record = this.records.get(tag);
    if (record === undefined) {
      const kind = KINDS[splitTag(tag)[0]] ?? Contract;
      record = new kind(tag);
      this.records.set(tag, record);
    }
    return record;
  }

  put(tag, at, data, now) {
    this.of(tag).put(data, now, at ?? Date.now() / 1000);
  }

  cut() {
    for (const record of this.records.values()) record.cut?.();
  }
}
