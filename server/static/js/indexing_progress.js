/** The indexing progress: a stream of server-sent statistics, shown as a ring and as figures in its menu. */

import { dollars, duration, rate } from "./format.js";
import { number, text } from "./texts.js";

const MIN_RETRY_DELAY = 1000;
const MAX_RETRY_DELAY = 30000;
/** How long no syncer must be at work before the indexing counts as paused, in milliseconds. */
const PAUSE_DELAY = 30000;

export class IndexingProgress {
  #element;
  #onStats;
  #source = null;
  #retryDelay = MIN_RETRY_DELAY;
  #retryTimer = 0;
  #pauseTimer = 0;
  #percent = 0;

  /** `onStats(stats)` is called with the statistics that the page contains, then with every change. */
  constructor(element, onStats) {
    this.#element = element;
    this.#onStats = onStats;
    this.#update(JSON.parse(element.dataset.stats));
    // Browsers limit the connections per host: a hidden tab must not hold one.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#disconnect() : this.#connect()));
    addEventListener("pagehide", () => this.#disconnect());
    addEventListener("pageshow", () => this.#connect());
    this.#connect();
  }

  #connect() {
    if (this.#source || document.hidden || !this.#element.dataset.stream) return;
    clearTimeout(this.#retryTimer);
    this.#source = new EventSource(this.#element.dataset.stream);
    this.#source.addEventListener("stats", (event) => {
      this.#retryDelay = MIN_RETRY_DELAY;
      this.#showConnection(true);
      this.#update(JSON.parse(event.data));
    });
    this.#source.addEventListener("error", () => {
      this.#showConnection(false);
      // The browser reconnects after a lost connection, but not after a response such as 503.
      if (this.#source?.readyState !== EventSource.CLOSED) return;
      this.#disconnect();
      this.#retryTimer = setTimeout(() => this.#connect(), this.#retryDelay);
      this.#retryDelay = Math.min(MAX_RETRY_DELAY, this.#retryDelay * 2);
    });
  }

  #disconnect() {
    clearTimeout(this.#retryTimer);
    this.#source?.close();
    this.#source = null;
  }

  #showConnection(connected) {
    this.#element.querySelector(".progress-offline").hidden = connected;
    this.#element.classList.toggle("is-offline", !connected);
  }

  #update(stats) {
    this.#drawTitle(stats, { paused: isPaused(stats) && !stats.rate_per_minute });
    clearTimeout(this.#pauseTimer);
    if (isPaused(stats)) this.#pauseTimer = setTimeout(() => this.#drawTitle(stats, { paused: true }), PAUSE_DELAY);
    this.#drawRing(stats);
    this.#drawFigures(stats);
    this.#drawFailures(stats);
    this.#onStats(stats);
  }

  #drawTitle(stats, { paused }) {
    const { total, embedded, pending } = stats;
    const title = text(paused ? "progress.paused" : pending ? "progress.running" : total ? "progress.done" : "progress.empty");
    this.#element.classList.toggle("is-paused", paused);
    this.#element.querySelector(".progress-title").textContent = title;
    this.#element.querySelector("summary").title = text("progress.summary", { title, embedded, total });
  }

  #drawRing({ embedded, pending, failed }) {
    const element = this.#element;
    // Images that are added meanwhile must not turn the ring back.
    this.#percent = pending ? Math.max(this.#percent, (100 * embedded) / (embedded + pending)) : 0;
    const percent = pending ? this.#percent : 100;
    element.classList.toggle("is-done", pending === 0);
    element.classList.toggle("has-failed", failed > 0);
    element.querySelector(".ring-done").setAttribute("stroke-dasharray", `${percent.toFixed(1)} 100`);
    // Rounded down, so that 100 % appears only at the end.
    element.querySelector(".progress-percent").textContent = pending ? `${Math.floor(percent)}%` : "";
  }

  #drawFigures(stats) {
    const { total, embedded, pending, failed, cost_so_far: cost, cost_to_go: remainingCost } = stats;
    const figures = {
      total: number(total),
      embedded: number(embedded),
      pending: number(pending),
      failed: number(failed),
      rate: stats.rate_per_minute ? rate(stats.rate_per_minute) : "–",
      eta: pending && stats.eta_seconds !== null && stats.eta_seconds !== undefined ? duration(stats.eta_seconds) : "–",
      cost: pending
        ? text("progress.cost_remaining", { cost: dollars(cost), remaining: dollars(remainingCost) })
        : dollars(cost),
    };
    for (const [name, figure] of Object.entries(figures)) {
      this.#element.querySelector(`[data-stat="${name}"]`).textContent = figure;
    }
    for (const row of this.#element.querySelectorAll(".progress-cost")) row.hidden = !(cost || remainingCost);
  }

  #drawFailures({ failed, reasons = {} }) {
    const failures = this.#element.querySelector(".failures");
    failures.hidden = failed === 0;
    const sorted = Object.entries(reasons).sort(([, a], [, b]) => b - a);
    failures.querySelector("ul").replaceChildren(
      ...sorted.map(([reason, count]) => {
        const row = document.createElement("li");
        const label = document.createElement("span");
        const figure = document.createElement("span");
        label.textContent = text(`reason.${reason}`);
        figure.textContent = number(count);
        row.append(label, figure);
        return row;
      }),
    );
  }
}

const isPaused = ({ pending, active }) => pending > 0 && !active;
