/** How large the tiles are; the browser remembers it. */

const STEPS = [0.6, 0.78, 1, 1.35, 1.8];
const MIDDLE = 2;

export class Zoom {
  #buttons;
  #apply;
  #step = MIDDLE;

  /** `buttons` are `{smaller, larger}`; `apply(factor)` gets 1 for the size that the style sheet says. */
  constructor(buttons, apply) {
    this.#buttons = buttons;
    this.#apply = apply;
    buttons.smaller.addEventListener("click", () => this.by(-1));
    buttons.larger.addEventListener("click", () => this.by(1));
    this.#to(remembered());
  }

  by(steps) {
    this.#to(this.#step + steps);
  }

  #to(step) {
    this.#step = Math.min(STEPS.length - 1, Math.max(0, step));
    remember(this.#step);
    this.#buttons.smaller.disabled = this.#step === 0;
    this.#buttons.larger.disabled = this.#step === STEPS.length - 1;
    this.#apply(STEPS[this.#step]);
  }
}

// A browser may refuse to remember anything.

function remembered() {
  try {
    return Number.parseInt(localStorage.getItem("zoom") ?? MIDDLE, 10) || 0;
  } catch {
    return MIDDLE;
  }
}

function remember(step) {
  try {
    localStorage.setItem("zoom", step);
  } catch {
    // The next visit begins with the middle one.
  }
}
