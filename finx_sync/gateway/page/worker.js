// Reads the feed apart from the page's own thread, and keeps the newest message of each tag until the page asks. So a
// message that a newer one replaces costs the page nothing, and no flood delays a key or a click.

import { Connection } from "./connection.js";
import { readSpot } from "./messages.js";

const SAMPLES = 200;

let newest = new Map();
let count = 0;
let lastAt = null;
let lags = [];

const connection = new Connection({
  record(tag, at, data) {
    lastAt = performance.timeOrigin + performance.now();
    lags[count++ % SAMPLES] = lastAt / 1000 - at;
    // A pair has a state at each exchange.
    newest.set(tag.startsWith("spot:") ? `${tag} ${readSpot(data).exchange}` : tag, [tag, at, data, lastAt]);
  },
  gap: (gap) => postMessage({ gap }),
  state: (state) => postMessage({ state }),
  error: (error) => postMessage({ error }),
  status(status) {
    if (status.state === "open") lags = [];
    postMessage({ status });
  },
});

/** The middle of the last samples: the last values that come first are old, and do not count much. */
function lag() {
  const sorted = [...lags].sort((left, right) => left - right);
  return sorted.length === 0 ? null : sorted[sorted.length >> 1];
}

const commands = {
  start(address) {
    connection.address = address;
    connection.start();
  },
  restart(address) {
    connection.address = address;
    connection.restart();
  },
  stop: () => connection.stop(),
  want: ([owner, tags]) => connection.want(owner, tags),
  more() {
    const records = [...newest.values()];
    newest = new Map();
    postMessage({ batch: { records, count, lastAt, lag: lag() } });
  },
};

onmessage = ({ data }) => {
  for (const [command, value] of Object.entries(data)) commands[command](value);
};
