// The page's parts, put together.

import { Chain } from "./chain.js";
import { redrawCharts } from "./charts.js";
import { Contracts } from "./contracts.js";
import { Gaps } from "./gaps.js";
import { Health } from "./health.js";
import { Market } from "./market.js";
import { splitTag, readInstrument } from "./messages.js";
import { Painter, make } from "./paint.js";
import * as settings from "./settings.js";
import { Spots } from "./spots.js";

const POLL = 5000; // milliseconds
const DEAD_AFTER = 20_000; // milliseconds without a message and without an answer
const LEAVE_AFTER = 300_000; // milliseconds in the background
const AT_FIRST = 6; // contracts beside the options at the money

const find = (selector) => document.querySelector(selector);

settings.readKeyFromAddress();

const announcer = find("#announcer");

function say(text) {
  announcer.append(make("p", {}, text));
  while (announcer.childElementCount > 5) announcer.firstElementChild.remove();
}

const market = new Market();
const painter = new Painter();
const health = new Health(find("body > header"), say);
const gaps = new Gaps(find("#gaps"), say);
const feed = { tags: null, clients: null, answeredAt: null };

function address(path, isSocket = false) {
  const url = new URL(path, location.href);
  if (isSocket) url.protocol = url.protocol.replace("http", "ws");
  if (settings.getKey()) url.searchParams.set("key", settings.getKey());
  return url;
}

// The feed is read in a worker, which hands over the newest values when it is asked for more.
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const tell = (command, value = null) => worker.postMessage({ [command]: value });
const connect = (command = "start") => tell(command, address("/v1/ws", true).href);

const heard = {
  batch(batch) {
    health.take(batch);
    for (const [tag, at, data, receivedAt] of batch.records) market.put(tag, at, data, receivedAt - performance.timeOrigin);
  },
  gap(gap) {
    gaps.add(gap);
    if (gap.reason !== "conflated") market.cut();
  },
  state: (state) => health.setFeed(state),
  error(text) {
    const place = find("#notice");
    place.hidden = false;
    place.querySelector("p").textContent = text;
  },
  status(status) {
    health.setStatus(status);
    if (status.state === "refused") askForKey(status.reason);
    painter.soon();
  },
};

worker.onmessage = ({ data }) => {
  for (const [name, value] of Object.entries(data)) heard[name](value);
};

const want = (owner) => (tags) => tell("want", [owner, tags]);
const contracts = new Contracts(find("#contracts"), { market, want: want("contracts"), say, show: (record) => chain.show(record) });
const chain = new Chain(find("#chain"), find("#smile"), { market, want: want("chain"), contracts, say });
const spots = new Spots(find("#spots"), { market, want: want("spots"), say });

// what the gateway says about the feed

async function poll() {
  let answer;
  try {
    answer = await fetch(address("/v1/feed"), { cache: "no-store", signal: AbortSignal.timeout(POLL) });
  } catch {
    judgeSilence();
    return;
  }
  if (answer.status === 401 || answer.status === 403) {
    askForKey("The gateway wants a key.");
    return;
  }
  if (!answer.ok) return;
  feed.answeredAt = performance.now();
  takeIn(await answer.json());
}

function takeIn(about) {
  find("#feed").textContent = [about.venue, about.feed].filter((name, at, all) => name && all.indexOf(name) === at).join(" · ");
  feed.clients = about.clients;
  for (const gap of about.recent_gaps) gaps.add(gap, { quietly: true });
  health.setFeed(about);
  const { tags } = about;
  const key = tags.join("\n");
  if (key === feed.key) return;
  feed.key = key;
  const named = { contract: [], spot: [] };
  for (const tag of tags) {
    const [kind, name] = splitTag(tag);
    named[kind]?.push(name);
  }
  chain.setKnown(named.contract);
  contracts.setKnown(named.contract);
  spots.setKnown(named.spot);
  if (feed.tags === null) begin(named.contract);
  feed.tags = tags;
  painter.soon();
}

/** Watch what was watched last time; the first time, futures and what is at the money. */
function begin(names) {
  const kept = settings.get("contracts", null);
  if (kept !== null) {
    contracts.begin(kept);
    return;
  }
  const rank = { perpetual: 0, future: 1 };
  const others = names.filter((name) => readInstrument(name)?.kind !== "option");
  others.sort((left, right) => (rank[readInstrument(left)?.kind] ?? 2) - (rank[readInstrument(right)?.kind] ?? 2));
  contracts.add(others.slice(0, AT_FIRST), { quietly: true });
  chain.need(true);
  const timer = setInterval(() => {
    const near = chain.nearTheMoney();
    if (near.length === 0 && !find("#chain").hidden) return;
    clearInterval(timer);
    contracts.begin(near);
    chain.need(false);
  }, 250);
}

/** A socket may be open and dead; a browser cannot ping, but it can ask. */
function judgeSilence() {
  const now = performance.now();
  const isSilent = now - (health.lastAt ?? 0) > DEAD_AFTER && now - (feed.answeredAt ?? 0) > DEAD_AFTER;
  if (health.status.state === "open" && isSilent) connect("restart");
}

function askForKey(reason) {
  const dialog = find("#key-dialog");
  if (dialog.open) return;
  find("#key-reason").textContent = reason || "The gateway refused the connection.";
  dialog.showModal();
}

// controls

find("#key-form").addEventListener("submit", () => {
  settings.setKey(find("#key").value.trim());
  find("#key").value = "";
  connect("restart");
  poll();
});

const themeButton = find("#theme");
const themeWords = { system: "Auto", light: "Light", dark: "Dark" };

function showTheme() {
  themeButton.querySelector("span").textContent = themeWords[settings.getTheme()];
  redrawCharts();
}

themeButton.addEventListener("click", () => {
  say(`Theme: ${themeWords[settings.nextTheme()]}.`);
  showTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCharts);
addEventListener("resize", () => painter.soon());
find("#help-open").addEventListener("click", () => find("#help").showModal());
find("#notice button").addEventListener("click", () => (find("#notice").hidden = true));

const shortcuts = find("#shortcuts");
shortcuts.checked = settings.get("shortcuts", true);
shortcuts.addEventListener("change", () => settings.set("shortcuts", shortcuts.checked));

document.addEventListener("keydown", (event) => {
  if (!shortcuts.checked || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog[open]")) return;
  const act = { "/": () => find("#filter").focus(), a: () => find("#add").focus(), "?": () => find("#help").showModal(), t: () => themeButton.click() }[event.key];
  if (act === undefined) return;
  event.preventDefault();
  act();
});

// background and network

let leaving = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (document.hidden) {
    leaving = setTimeout(() => {
      tell("stop");
    }, LEAVE_AFTER);
  } else {
    market.cut(); // only the newest of what came meanwhile is known
    connect();
    poll();
  }
});
addEventListener("online", () => connect());

painter.add(100, () => tell("more"));
painter.add(100, (now) => health.paint(now));
painter.add(100, (now) => contracts.paint(now));
painter.add(200, (now) => chain.paint(now));
painter.add(100, (now) => spots.paint(now));
painter.add(500, () => spots.paintCharts());
painter.add(1000, (now) => chain.paintSmile(now));
painter.add(1000, (now) => health.paintFigures(now, gaps.count, feed.clients));
painter.add(500, () => gaps.paint());

showTheme();
connect();
poll();
setInterval(() => {
  if (!document.hidden) poll();
}, POLL);
painter.start();
