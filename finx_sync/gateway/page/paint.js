// When the page paints: never by message, at most once a frame, ten times a second at most, and not while hidden.

const PAUSE = 100; // milliseconds; faster than this nobody reads numbers

export class Painter {
  constructor() {
    this.tasks = [];
    this.timer = 0;
    document.addEventListener("visibilitychange", () => this.#schedule());
  }

  /** Call `paint(now)` in a frame, at most every `every` milliseconds. */
  add(every, paint) {
    this.tasks.push({ every, paint, next: 0 });
  }

  start() {
    this.#schedule();
  }

  /** Paint everything in the next frame, as after a click. */
  soon() {
    for (const task of this.tasks) task.next = 0;
    clearTimeout(this.timer);
    this.timer = 0;
    this.#schedule(0);
  }

  #schedule(pause = PAUSE) {
    if (document.hidden || this.timer !== 0) return;
    this.timer = setTimeout(() => requestAnimationFrame((now) => this.#run(now)), pause);
  }

  #run(now) {
    this.timer = 0;
    if (document.hidden) return;
    this.#schedule();
    for (const task of this.tasks) {
      if (now < task.next) continue;
      task.next = now + task.every - PAUSE / 2;
      task.paint(now);
    }
  }
}

/** Set a text node, if that changes it: a comparison is cheap, a layout is not. */
export function setText(node, text) {
  if (node.data !== text) node.data = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** A text node for a value that is to come. */
export const dash = () => document.createTextNode("–");

/** Make an element with attributes and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Radio buttons or boxes in a fieldset: tab stops and arrow keys are the browser's own. */
export function setChoices(place, attributes, values, chosen, choose) {
  if (place.dataset.choices !== values.join()) {
    place.dataset.choices = values.join();
    for (const label of place.querySelectorAll("label")) label.remove();
    for (const value of values) {
      const input = make("input", { ...attributes, value });
      input.addEventListener("change", () => choose([...place.querySelectorAll(":checked")].map((one) => one.value)));
      place.append(make("label", { class: "choice" }, input, make("span", {}, value.replace(/[:_]/, " / "))));
    }
  }
  for (const input of place.querySelectorAll("input")) input.checked = chosen.includes(input.value);
}

const ARROWS = { 1: "▲", 0: "", "-1": "▼" };
const WORDS = { 1: "up", 0: "none", "-1": "down" };
const FRESH = 900; // milliseconds that a change stays in colour

/** A price with the arrow of its last change; coloured while the change is fresh. */
export class Price {
  constructor(element) {
    this.arrow = document.createTextNode("");
    this.text = document.createTextNode("");
    this.element = element;
    element.classList.add("price");
    element.append(make("span", { class: "arrow", "aria-hidden": "true" }, this.arrow), this.text);
  }

  paint(text, record, now) {
    setText(this.text, text);
    setText(this.arrow, ARROWS[record.direction]);
    const isFresh = record.direction !== 0 && now - record.movedAt < FRESH;
    setAttribute(this.element, "data-move", isFresh ? WORDS[record.direction] : "none");
  }
}
