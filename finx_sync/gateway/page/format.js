// Numbers, times and sentences, as the page prints them. Pure.

export const MISSING = "–";
const MINUS = "−";

const formats = new Map();

function formatOf(decimals) {
  let format = formats.get(decimals);
  if (format === undefined) {
    format = new Intl.NumberFormat("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    formats.set(decimals, format);
  }
  return format;
}

export function fixed(value, decimals) {
  if (value === null || !Number.isFinite(value)) return MISSING;
  const text = formatOf(decimals).format(value);
  return text.startsWith("-") ? MINUS + text.slice(1) : text;
}

export function signed(value, decimals) {
  const rounded = Number(value.toFixed(decimals)) + 0; // no minus before a zero
  return rounded > 0 ? "+" + fixed(rounded, decimals) : fixed(rounded, decimals);
}

/** Decimals that a price is printed with: those it came with, within reason for its size. */
export function decimalsOf(value) {
  if (value === null) return 0;
  const size = Math.abs(value);
  const most = size >= 1000 ? 2 : size >= 1 ? 4 : 6;
  const text = String(Number(value.toFixed(most)));
  const point = text.indexOf(".");
  return point < 0 || text.includes("e") ? 0 : text.length - point - 1;
}

/** A share in percent, with the digits that matter at its size. */
export function percent(value) {
  if (value === null || !Number.isFinite(value)) return MISSING;
  return fixed(value, value >= 10 ? 1 : value >= 0.1 ? 2 : 4) + " %";
}

/** A short duration: 0.3 s, 12 s, 4 min, 2 h, 3 d. */
export function duration(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return MISSING;
  if (seconds < 9.95) return `${Math.max(seconds, 0).toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export function milliseconds(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return MISSING;
  return Math.abs(seconds) < 1 ? `${fixed(seconds * 1000, 0)} ms` : `${fixed(seconds, 1)} s`;
}

/** The time of day in UTC of UNIX seconds. */
export function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}

export function count(number, one, many) {
  return `${fixed(number, 0)} ${number === 1 ? one : many}`;
}

const REASONS = {
  "connection lost": "the connection was lost",
  "relay lost": "a relay was lost",
  server: "the server closed the connection",
  stale: "the connection stopped answering",
  trimmed: "the feed no longer keeps them",
  suspend: "the machine was asleep",
  reconnect: "a new connection was asked for",
  rotation: "a new connection was asked for",
  drift: "the feed had fallen behind",
  "slow consumer": "the reader was too slow",
  conflated: "newer states replaced older ones",
};

/** Whose messages a gap lacks, as words. */
export function gapNames(names) {
  if (!names?.length) return "the whole feed";
  if (names.length <= 2) return names.join(" and ");
  return `${names[0]}, ${names[1]} and ${count(names.length - 2, "other", "others")}`;
}

/** A gap in one sentence. */
export function gapSentence(gap) {
  const reason = REASONS[gap.reason] ?? gap.reason ?? "the reason is unknown";
  const of = gapNames(gap.names);
  if (gap.reason === "conflated") return `Some messages of ${of} were skipped: ${reason}. Nothing that still holds is missing.`;
  if (typeof gap.missed === "number") {
    return `${count(gap.missed, "message", "messages")} of ${of} ${gap.missed === 1 ? "is" : "are"} missing: ${reason}.`;
  }
  return `An unknown number of messages of ${of} may be missing: ${reason}.`;
}

/** The known name that begins most like another; undefined if none does. */
export function nearest(name, names) {
  for (let length = name.length - 1; length > 2; length--) {
    const found = names.find((other) => other.startsWith(name.slice(0, length)));
    if (found !== undefined) return found;
  }
  return undefined;
}
