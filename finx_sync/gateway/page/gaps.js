// What is missing, in words, newest first.

import { clock, duration, gapSentence } from "./format.js";
import { make } from "./paint.js";

const KEPT = 100;
const SHOWN = 50;
const QUIET = 2000; // milliseconds between two announcements

export class Gaps {
  constructor(section, say) {
    this.list = section.querySelector("ol");
    this.none = section.querySelector(".empty");
    this.say = say;
    this.gaps = [];
    this.known = new Set();
    this.count = 0;
    this.unsaid = [];
    this.timer = 0;
    this.isPainted = true;
  }

  /** Take in a gap; one that is known is not told twice. */
  add(gap, { quietly = false } = {}) {
    gap.end ??= gap.at;
    const id = JSON.stringify([gap.start, gap.end, gap.reason, gap.missed, gap.names]);
    if (this.known.has(id)) return;
    this.known.add(id);
    this.count++;
    this.gaps.push({ gap, id });
    this.gaps.sort((left, right) => (right.gap.end ?? 0) - (left.gap.end ?? 0));
    for (const { id: old } of this.gaps.splice(KEPT)) this.known.delete(old);
    this.isPainted = false;
    if (!quietly) this.#announce(gap);
  }

  paint() {
    if (this.isPainted) return;
    this.isPainted = true;
    this.none.hidden = this.gaps.length > 0;
    this.list.replaceChildren(...this.gaps.slice(0, SHOWN).map(({ gap }) => entry(gap)));
  }

  #announce(gap) {
    this.unsaid.push(gap);
    if (this.timer !== 0) return;
    this.timer = setTimeout(() => {
      const [first, ...more] = this.unsaid;
      this.unsaid = [];
      this.timer = 0;
      this.say(`Gap: ${gapSentence(first)}${more.length > 0 ? ` And ${more.length} more.` : ""}`);
    }, QUIET / 4);
  }
}

function entry(gap) {
  const item = make("li");
  if (typeof gap.end === "number") {
    const from = typeof gap.start === "number" ? gap.start : gap.end;
    const same = clock(from) === clock(gap.end);
    item.append(
      make("p", { class: "when" },
        make("time", { datetime: new Date(from * 1000).toISOString() }, same ? clock(from) : `${clock(from)} – ${clock(gap.end)}`),
        make("span", {}, duration(gap.end - from))));
  }
  item.append(make("p", {}, gapSentence(gap)));
  if (gap.names?.length > 2) {
    item.append(make("details", {}, make("summary", {}, "Names"), make("p", { class: "names" }, gap.names.join(", "))));
  }
  return item;
}
