// uPlot in the page's colours, as wide as its place, redrawn when the theme changes.

/* global uPlot */

const probe = document.createElement("span");
probe.hidden = true;

/** The colour that a custom property stands for now; canvas knows no `light-dark()`. */
export function colour(name, percent = 100) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `color-mix(in srgb, var(${name}) ${percent}%, transparent)`;
  return getComputedStyle(probe).color;
}

const charts = new Set();

/** Pixels of one rem. */
export function rem() {
  return parseFloat(getComputedStyle(document.documentElement).fontSize);
}

/** The options that all axes share. */
export function axis(more = {}) {
  return {
    stroke: () => colour("--muted"),
    font: `${0.6875 * rem()}px ${getComputedStyle(document.body).fontFamily}`,
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false },
    gap: 0.375 * rem(),
    ...more,
  };
}

export class Chart {
  /**
   * @param place the element to fill
   * @param makeOptions () -> uPlot's options, without width and height; called again when the theme or size of type changes
   */
  constructor(place, makeOptions) {
    this.place = place;
    this.makeOptions = makeOptions;
    this.data = [[]];
    this.plot = null;
    this.isSeen = true;
    new ResizeObserver(() => this.#fit()).observe(place);
    new IntersectionObserver(([entry]) => (this.isSeen = entry.isIntersecting), { rootMargin: "100px" }).observe(place);
    charts.add(this);
  }

  set(data) {
    this.data = data;
    if (this.plot === null) this.rebuild();
    else if (this.isSeen) this.plot.setData(data);
  }

  rebuild() {
    const { clientWidth: width, clientHeight: height } = this.place;
    if (width === 0 || height === 0) return;
    this.plot?.destroy();
    this.plot = new uPlot({ ...this.makeOptions(), width, height }, this.data, this.place);
  }

  destroy() {
    this.plot?.destroy();
    charts.delete(this);
  }

  #fit() {
    const { clientWidth: width, clientHeight: height } = this.place;
    if (this.plot === null) this.rebuild();
    else if (width > 0 && (width !== this.plot.width || height !== this.plot.height)) this.plot.setSize({ width, height });
  }
}

addEventListener("resize", () => {
  if (rem() !== drawnAt) redrawCharts();
});

let drawnAt = rem();

export function redrawCharts() {
  drawnAt = rem();
  for (const chart of charts) if (chart.plot !== null) chart.rebuild();
}
