// The WebSocket to the gateway: what is subscribed, where it was, and how it comes back. Runs in the worker.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
const HEALTHY_AFTER = 5_000;
const TAGS_A_MESSAGE = 1000;
const POLICY_VIOLATION = 1008;

export class Connection {
  /**
   * @param handlers record(tag, at, data), gap(gap), state(state), error(text), status(status)
   *   A status is {state: "connecting" | "open" | "waiting" | "refused" | "paused", pause, reason}.
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.address = "";
    this.position = null;
    this.owners = new Map(); // owner -> tags it shows
    this.subscribed = new Set(); // what the open socket was told
    this.socket = null;
    this.pause = FIRST_PAUSE;
    this.timer = 0;
  }

  start() {
    clearTimeout(this.timer);
    if (this.socket !== null) return;
    this.handlers.status({ state: "connecting" });
    const socket = new WebSocket(this.address);
    this.socket = socket;
    this.subscribed = new Set();
    let openedAt = null;
    socket.onopen = () => {
      openedAt = performance.now();
      this.handlers.status({ state: "open" });
      this.#tell(this.position);
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (openedAt !== null && performance.now() - openedAt > HEALTHY_AFTER) this.pause = FIRST_PAUSE;
      if (event.code === POLICY_VIOLATION) this.handlers.status({ state: "refused", reason: event.reason });
      else this.#wait(event.reason);
    };
  }

  /** Close now and connect again at once, as when the socket is open but dead. */
  restart() {
    this.#drop();
    this.start();
  }

  /** Close, and stay closed until `start`. What is missed meanwhile is not asked for again. */
  stop() {
    this.#drop();
    this.position = null;
    this.handlers.status({ state: "paused" });
  }

  /** Set what one part of the page shows; what no part shows is unsubscribed. */
  want(owner, tags) {
    this.owners.set(owner, tags);
    this.#tell();
  }

  #drop() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
  }

  #wait(reason) {
    const pause = this.pause * (0.75 + Math.random() / 2);
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    this.timer = setTimeout(() => this.start(), pause);
    this.handlers.status({ state: "waiting", pause, reason });
  }

  /** Tell the gateway what is wanted now; with `since`, to go on from there. */
  #tell(since = null) {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const wanted = new Set([...this.owners.values()].flat());
    this.#send("unsubscribe", [...this.subscribed].filter((tag) => !wanted.has(tag)), null);
    this.#send("subscribe", [...wanted].filter((tag) => !this.subscribed.has(tag)), since);
    this.subscribed = wanted;
  }

  #send(verb, tags, since) {
    for (let at = 0; at < tags.length; at += TAGS_A_MESSAGE) {
      const message = { [verb]: tags.slice(at, at + TAGS_A_MESSAGE) };
      this.socket.send(JSON.stringify(since === null ? message : { ...message, since }));
    }
  }

  #receive(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      this.handlers.error("The gateway sent something that is not JSON.");
      return;
    }
    if (message.position) this.position = message.position;
    if (message.tag !== undefined) {
      if (this.subscribed.has(message.tag)) this.handlers.record(message.tag, message.at, message.data);
    } else if (message.gap !== undefined) this.handlers.gap({ at: message.at, ...message.gap });
    else if (message.state !== undefined) this.handlers.state(message.state);
    else if (message.error !== undefined) this.handlers.error(message.error);
  }
}
