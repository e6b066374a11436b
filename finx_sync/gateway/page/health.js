// The header: is what is shown true now? State, age, rate, lag, gaps, clients.

import { duration, fixed, milliseconds, MISSING } from "./format.js";
import { setAttribute, setText } from "./paint.js";

const SILENT_AFTER = 10; // seconds
const LATE_AFTER = 3;
const LAG_HIGH = 1; // seconds

export class Health {
  constructor(place, say) {
    const text = (selector) => place.querySelector(selector).appendChild(document.createTextNode(MISSING));
    this.pill = place.querySelector("#state");
    this.reason = place.querySelector("#reason").appendChild(document.createTextNode(""));
    this.state = this.pill.querySelector("span:last-child").firstChild;
    this.ageCell = place.querySelector("#age");
    this.lagCell = place.querySelector("#lag");
    [this.age, this.rate, this.lag] = [text("#age"), text("#rate"), text("#lag")];
    [this.gaps, this.clients, this.clock] = [text("#gap-count"), text("#clients"), text("#clock")];
    this.say = say;
    this.status = { state: "connecting" };
    this.isLive = true;
    this.why = "";
    this.lastAt = null;
    this.count = 0;
    this.counted = { count: 0, at: performance.now() };
    this.lagged = null;
    this.said = "";
  }

  /** What the worker has counted. */
  take({ count, lastAt, lag }) {
    this.count = count;
    this.lastAt = lastAt === null ? null : lastAt - performance.timeOrigin;
    this.lagged = lag;
  }

  setStatus(status) {
    const now = performance.now();
    this.status = { ...status, retryAt: now + (status.pause ?? 0) };
    if (status.state === "open") this.openedAt = now;
  }

  /** The gateway's own feed. */
  setFeed({ live, why }) {
    this.isLive = live;
    this.why = why;
  }

  paint(now) {
    const age = this.lastAt === null ? null : (now - this.lastAt) / 1000;
    setText(this.age, duration(age));
    setAttribute(this.ageCell, "data-level", age === null ? "none" : age > SILENT_AFTER ? "bad" : age > LATE_AFTER ? "warn" : "good");
    const [level, word, reason] = this.#judge(now, age);
    setText(this.state, word);
    setText(this.reason, reason);
    setAttribute(this.pill, "data-level", level);
    if (word !== this.said) {
      if (this.said !== "") this.say(`${word}. ${this.status.state === "open" ? reason : ""}`);
      this.said = word;
      document.title = level === "bad" ? `${word} · finx_sync` : "finx_sync";
    }
  }

  paintFigures(now, gaps, clients) {
    const seconds = (now - this.counted.at) / 1000;
    if (seconds > 0) setText(this.rate, fixed((this.count - this.counted.count) / seconds, 0));
    this.counted = { count: this.count, at: now };
    const lag = this.lagged;
    setText(this.lag, milliseconds(lag));
    setAttribute(this.lagCell, "data-level", lag !== null && Math.abs(lag) > LAG_HIGH ? "warn" : "good");
    setText(this.gaps, fixed(gaps, 0));
    setAttribute(this.gaps.parentNode, "data-level", gaps > 0 ? "warn" : "good");
    setText(this.clients, fixed(clients, 0));
    setText(this.clock, new Date().toISOString().slice(11, 19));
  }

  /** The level, the word and the reason. */
  #judge(now, age) {
    const { state, retryAt, reason } = this.status;
    if (state === "connecting") return ["wait", "Connecting", ""];
    if (state === "paused") return ["wait", "Paused", "The page was in the background."];
    if (state === "refused") return ["bad", "Refused", reason || "The gateway refused the connection."];
    if (state === "waiting") {
      return ["bad", "Disconnected", `Trying again in ${Math.max(Math.ceil((retryAt - now) / 1000), 0)} s.${reason ? ` ${reason}` : ""}`];
    }
    if (!this.isLive) return ["warn", "Interrupted", `The feed: ${this.why}.`];
    const quiet = age ?? (now - this.openedAt) / 1000;
    if (quiet > SILENT_AFTER) return ["warn", "Silent", "The connection is open, and nothing comes."];
    return ["good", "Live", ""];
  }
}
