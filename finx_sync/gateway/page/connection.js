// The WebSocket to the gateway: what is subscribed, where it was, and how it comes back.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
const HEALTHY_AFTER = 5_000;
const TAGS_A_MESSAGE = 200;
const POLICY_VIOLATION = 1008;

export class Connection {
  /**
   * @param makeUrl (position or null) -> URL of the WebSocket
   * @param handlers record(tag, at, data), gap(gap), state(state), error(text), status(status)
   *   A status is {state: "connecting" | "open" | "waiting" | "refused" | "paused", retryAt, reason}.
   */
  constructor(makeUrl, handlers) {
    this.makeUrl = makeUrl;
    this.handlers = handlers;
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
    const socket = new WebSocket(this.makeUrl(this.position));
    this.socket = socket;
    this.subscribed = new Set();
    let openedAt = null;
    socket.onopen = () => {
      openedAt = performance.now();
      this.handlers.status({ state: "open" });
      this.#tell();
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (openedAt !== null && performance.now() - openedAt > HEALTHY_AFTER) this.pause = FIRST_PAUSE;
      if (event.code === POLICY_VIOLATION) {
        this.handlers.status({ state: "refused", reason: event.reason });
        return;
      }
      this.#wait(event.reason);
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
    this.owners.set(owner, new Set(tags));
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
    this.handlers.status({ state: "waiting", retryAt: performance.now() + pause, reason });
  }

  #tell() {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const wanted = new Set();
    for (const tags of this.owners.values()) for (const tag of tags) wanted.add(tag);
    this.#send("unsubscribe", [...this.subscribed].filter((tag) => !wanted.has(tag)));
    this.#send("subscribe", [...wanted].filter((tag) => !this.subscribed.has(tag)));
    this.subscribed = wanted;
  }

  #send(verb, tags) {
    for (let at = 0; at < tags.length; at += TAGS_A_MESSAGE) {
      this.socket.send(JSON.stringify({ [verb]: tags.slice(at, at + TAGS_A_MESSAGE) }));
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
    } else if (message.gap !== undefined) this.handlers.gap(message.gap);
    else if (message.state !== undefined) this.handlers.state(message.state);
    else if (message.error !== undefined) this.handlers.error(words(message.error));
  }
}

function words(error) {
  return typeof error === "string" ? error : error?.text ?? error?.message ?? JSON.stringify(error);
}
