/** The indexing progress: a server-sent stream of statistics, drawn as a ring and a table of figures. */

import { dollars, duration, number, rate } from "./format.js";

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 30000;

export class Progress {
  #element;
  #onStats;
  #source = null;
  #pause = FIRST_PAUSE;
  #timer = 0;

  /** `onStats(stats)` is called with the figures of the page, then with every change. */
  constructor(element, onStats) {
    this.#element = element;
    this.#onStats = onStats;
    this.#take(JSON.parse(element.dataset.stats));
    // A browser gives one host few connections: a hidden tab must not hold one.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#stop() : this.#listen()));
    addEventListener("pagehide", () => this.#stop());
    addEventListener("pageshow", () => this.#listen());
    this.#listen();
  }

  #listen() {
    if (this.#source || document.hidden || !this.#element.dataset.stream) return;
    clearTimeout(this.#timer);
    this.#source = new EventSource(this.#element.dataset.stream);
    this.#source.addEventListener("stats", (event) => {
      this.#pause = FIRST_PAUSE;
      this.#online(true);
      this.#take(JSON.parse(event.data));
    });
    this.#source.addEventListener("error", () => {
      this.#online(false);
      // The browser connects again by itself after a lost connection, but not after an answer such as 503.
      if (this.#source?.readyState !== EventSource.CLOSED) return;
      this.#stop();
      this.#timer = setTimeout(() => this.#listen(), this.#pause);
      this.#pause = Math.min(LONGEST_PAUSE, this.#pause * 2);
    });
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #online(connected) {
    this.#element.querySelector(".progress-offline").hidden = connected;
    this.#element.classList.toggle("is-offline", !connected);
  }

  #take(stats) {
    this.#draw(stats);
    this.#onStats(stats);
  }

  #draw(stats) {
    const { total, embedded, pending, failed } = stats;
    const element = this.#element;
    const share = total ? (100 * (embedded + failed)) / total : 100;
    element.classList.toggle("is-done", pending === 0);
    element.classList.toggle("has-failed", failed > 0);
    element.querySelector(".ring-done").setAttribute("stroke-dasharray", `${share.toFixed(1)} 100`);
    // 100 % would be said too early by rounding.
    element.querySelector(".progress-share").textContent = pending ? `${Math.floor(share)}%` : "";
    element.querySelector(".progress-title").textContent = title(stats);
    const figures = {
      total: number(total),
      embedded: number(embedded),
      pending: number(pending),
      failed: number(failed),
      rate: stats.rate_per_minute ? rate(stats.rate_per_minute) : "–",
      eta: pending && stats.eta_seconds !== null && stats.eta_seconds !== undefined ? duration(stats.eta_seconds) : "–",
    };
    figures.cost = dollars(stats.cost_so_far) + (pending ? `, ${dollars(stats.cost_to_go)} to go` : "");
    for (const row of element.querySelectorAll(".progress-cost")) {
      row.hidden = !(stats.cost_so_far || stats.cost_to_go);
    }
    for (const [name, text] of Object.entries(figures)) {
      element.querySelector(`[data-stat="${name}"]`).textContent = text;
    }
    element.querySelector("summary").title = `${title(stats)}: ${figures.embedded} of ${figures.total}`;
    this.#drawReasons(stats);
  }

  #drawReasons({ failed, reasons = {} }) {
    const box = this.#element.querySelector(".reasons");
    box.hidden = failed === 0;
    const rows = Object.entries(reasons).sort(([, a], [, b]) => b - a);
    box.querySelector("ul").replaceChildren(
      ...rows.map(([reason, count]) => {
        const row = document.createElement("li");
        const text = document.createElement("bdi");
        const figure = document.createElement("span");
        text.textContent = reason;
        figure.textContent = number(count);
        row.append(text, figure);
        return row;
      }),
    );
  }
}

function title({ total, embedded, pending, failed }) {
  if (pending) return "Making images searchable";
  if (!total) return "No images yet";
  return failed ? `${number(embedded)} images are searchable` : "All images are searchable";
}
