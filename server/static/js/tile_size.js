/** The size of the tiles, which the browser stores. */

const STORAGE_KEY = "tile-size";
const FACTORS = [0.6, 0.78, 1, 1.35, 1.8];
const DEFAULT_STEP = 2;

export class TileSize {
  #buttons;
  #onChange;
  #step = DEFAULT_STEP;

  /** `buttons` are `{smaller, larger}`; `onChange(factor)` gets 1 for the size in the style sheet. */
  constructor(buttons, onChange) {
    this.#buttons = buttons;
    this.#onChange = onChange;
    buttons.smaller.addEventListener("click", () => this.changeBy(-1));
    buttons.larger.addEventListener("click", () => this.changeBy(1));
    this.#set(storedStep());
  }

  changeBy(steps) {
    this.#set(this.#step + steps);
  }

  #set(step) {
    this.#step = Math.min(FACTORS.length - 1, Math.max(0, step));
    storeStep(this.#step);
    this.#buttons.smaller.disabled = this.#step === 0;
    this.#buttons.larger.disabled = this.#step === FACTORS.length - 1;
    this.#onChange(FACTORS[this.#step]);
  }
}

/** The stored size, as a factor of the size in the style sheet. */
export const storedFactor = () => FACTORS[storedStep()] ?? 1;

// Storage may be disabled.

function storedStep() {
  try {
    return Number.parseInt(localStorage.getItem(STORAGE_KEY) ?? DEFAULT_STEP, 10) || 0;
  } catch {
    return DEFAULT_STEP;
  }
}

function storeStep(step) {
  try {
    localStorage.setItem(STORAGE_KEY, step);
  } catch {
    // The next visit starts with the default.
  }
}
