// What payloads say: the venues' shapes become one set of numbers. Pure.

const NAME = /^([A-Z0-9]+(?:_[A-Z0-9]+)?)-(?:(PERPETUAL)|(\d{1,2})([A-Z]{3})(\d{2})(?:-(\d+(?:d\d+)?)-([CP]))?)$/;
const MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const EXPIRY_HOUR = 8;

/** What a contract's name says; `market` is "BTC" or "BTC_USDC"; null for a name of another form. */
export function readInstrument(name) {
  const match = NAME.exec(name);
  if (match === null) return null;
  const [, market, perpetual, day, month, year, strike, side] = match;
  if (perpetual) return { market, kind: "perpetual", expiry: null, code: null, strike: null, side: null };
  const number = MONTHS.indexOf(month);
  if (number < 0) return null;
  const expiry = Date.UTC(2000 + Number(year), number, Number(day), EXPIRY_HOUR) / 1000;
  const code = `${Number(day)}${month}${year}`;
  if (!strike) return { market, kind: "future", expiry, code, strike: null, side: null };
  return { market, kind: "option", expiry, code, strike: Number(strike.replace("d", ".")), side };
}

/** The kind and the name of a tag; a kind has no colon, a name may. */
export function splitTag(tag) {
  const colon = tag.indexOf(":");
  return [tag.slice(0, colon), tag.slice(colon + 1)];
}

/** A number of the wire, which may be text, empty, or absent. */
function number(value) {
  if (value === undefined || value === null || value === "") return null;
  const read = Number(value);
  return Number.isFinite(read) ? read : null;
}

function quote(value) {
  const read = number(value);
  return read === 0 ? null : read; // 0 on the wire means that there is no quote.
}

/** The object with the values inside the envelopes that venues put around it. */
function unwrap(data) {
  if (data === null || typeof data !== "object") return {};
  if (data.params?.data) return data.params.data; // Deribit
  if (data.resultData) return data.resultData; // FinX, an older shape
  if (data.data && typeof data.data === "object") return data.data; // IME, FTX
  return data;
}

/** A contract's numbers; null where the wire is silent. */
export function readContract(data) {
  const row = unwrap(data);
  const greeks = row.greeks ?? row; // Deribit nests them
  const best = row.BestLimit?.["1"] ?? {}; // IME
  const bid = quote(row.best_bid_price ?? row.bid ?? best.buy_price);
  const ask = quote(row.best_ask_price ?? row.ask ?? best.sell_price);
  return {
    mark: number(row.mark_price ?? row.last ?? row.Aggregate?.last_price),
    bid,
    ask,
    spread: bid !== null && ask !== null ? (200 * (ask - bid)) / (ask + bid) : null,
    iv: quote(row.mark_iv),
    delta: number(greeks.delta),
    gamma: number(greeks.gamma),
    theta: number(greeks.theta),
    vega: number(greeks.vega),
    forward: quote(row.underlying_price),
  };
}

/** A spot payload's price and exchange. */
export function readSpot(data) {
  const row = unwrap(data);
  return { price: quote(row.price ?? row.index_price), exchange: row.exchange ?? "" };
}
