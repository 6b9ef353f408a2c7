/** The scrubber of lists by date taken: a slider with a step for each month. templates/_timeline.html has its elements. */

import { getJson, timelineUrl } from "./api.js";
import { monthName } from "./format.js";
import { text } from "./texts.js";

/** Delay before the list follows the slider, in milliseconds. */
const JUMP_DELAY = 250;
/** Minimum distance of two years' labels, as a share of the slider's length. */
const LABEL_DISTANCE = 0.04;

export class Timeline {
  #element;
  #slider;
  #label;
  #years;
  #onJump;
  #url = null;
  #months = [];
  #timer = 0;

  /** `onJump(month)` is called with a month such as "2024-05", or "undated". */
  constructor(element, { onJump }) {
    this.#element = element;
    this.#slider = element.querySelector("input");
    this.#label = element.querySelector(".timeline-label");
    this.#years = element.querySelector(".timeline-years");
    this.#onJump = onJump;
    this.#slider.addEventListener("input", () => this.#jumpSoon());
    this.#slider.addEventListener("blur", () => (this.#label.hidden = true));
    addEventListener("wheel", () => this.#slider.blur(), { passive: true });
    this.#slider.addEventListener("pointerup", () => this.#slider.blur());
  }

  /** The number of images in the list; 0 while it is unknown. */
  get total() {
    return this.#element.hidden ? 0 : this.#months.reduce((sum, { count }) => sum + count, 0);
  }

  /** Show the months of a list; `state` is null for a list without a timeline. */
  async show(state) {
    const url = state && timelineUrl(state);
    if (url === this.#url) return;
    this.#url = url;
    this.#element.hidden = true;
    const answer = url ? await getJson(url).catch(() => null) : null;
    if (url !== this.#url) return;
    if (url && !answer) this.#url = null;
    this.#months = answer?.months ?? [];
    this.#slider.max = Math.max(0, this.#months.length - 1);
    this.#drawYears();
    this.#element.hidden = this.#months.length < 2;
  }

  /** Return whether the reader moves the slider. */
  get isInUse() {
    return document.activeElement === this.#slider;
  }

  /** Move the slider to the month that is in view. */
  follow(month) {
    const index = this.#months.findIndex((each) => (each.month ?? "undated") === month);
    if (index < 0) return;
    this.#slider.value = index;
    this.#describe();
  }

  #jumpSoon() {
    this.#describe();
    this.#label.hidden = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#label.hidden = true;
      this.#onJump(this.#months[this.#slider.value].month ?? "undated");
    }, JUMP_DELAY);
  }

  #describe() {
    const { month, count } = this.#months[this.#slider.value];
    const name = monthName(month ?? "");
    this.#slider.setAttribute("aria-valuetext", `${name}, ${text("count.images", { count })}`);
    this.#label.textContent = name;
    // A transform, unlike a position, does not count as a layout shift.
    this.#label.style.transform = `translateY(${this.#share(this.#slider.value) * this.#slider.clientHeight}px)`;
  }

  /** Label the first month of each year, as far as there is room. */
  #drawYears() {
    this.#years.replaceChildren();
    let last = -1;
    for (const [index, { month }] of this.#months.entries()) {
      const year = month?.slice(0, 4);
      const share = this.#share(index);
      if (!year || year === this.#months[index - 1]?.month?.slice(0, 4) || share - last < LABEL_DISTANCE) continue;
      last = share;
      const label = document.createElement("span");
      label.textContent = year;
      label.style.top = `${share * 100}%`;
      this.#years.append(label);
    }
  }

  #share(index) {
    return this.#months.length > 1 ? index / (this.#months.length - 1) : 0;
  }
}
