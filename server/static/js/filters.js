/** The filter panel, and the chips of the active filters: templates/_filter_panel.html and _active_filters.html. */

import { facetsUrl, getJson } from "./api.js";
import { FILTERS, isRanked, pageUrl, withoutFilter } from "./page_state.js";
import { number, text } from "./texts.js";

const ORIENTATIONS = ["landscape", "portrait", "square"];

/** Pause after which a date or number counts as typed, in milliseconds. */
const TYPING_PAUSE = 800;

const $ = (id) => document.getElementById(id);

export class Filters {
  #state;
  #onChange;
  #form = $("filters-form");
  #chips = $("active-filters");
  #optionsUrl = null;
  #applyTimer = 0;
  #fields;

  /** `onChange(filters)` is called with pairs of name and value. */
  constructor({ state, onChange }) {
    this.#state = state;
    this.#onChange = onChange;
    // Hidden fields keep the state on pages without JavaScript.
    for (const field of this.#form.querySelectorAll("[type=hidden]")) field.remove();
    this.#fields = new Set([...this.#form.elements].map(({ name }) => name));
    $("filters").addEventListener("toggle", () => this.#loadOptions());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      $("filters").open = false;
      $("filters").querySelector("summary").focus();
      this.#apply();
    });
    this.#form.addEventListener("change", (event) => this.#applySoon(event.target));
    $("filters-clear").addEventListener("click", (event) => {
      event.preventDefault();
      this.#onChange([]);
    });
  }

  draw(state) {
    this.#state = state;
    this.#fillForm();
    $("filters").classList.toggle("has-active", state.filters.length > 0);
    $("filters-strict").hidden = $("filters-counted").hidden = !isRanked(state);
    this.#drawChips();
    this.#loadOptions();
  }

  #fillForm() {
    const values = Object.fromEntries(this.#state.filters);
    for (const field of this.#form.elements) {
      if (!this.#fields.has(field.name) || field === document.activeElement) continue;
      const value = values[field.name] ?? "";
      if (field.type === "checkbox") field.checked = isChosen(this.#state.filters, field);
      else if (field.type === "radio") field.checked = field.value === value;
      else if (field.tagName === "SELECT") select(field, value);
      else field.value = value;
    }
  }

  #drawChips() {
    const { filters } = this.#state;
    const hadFocus = this.#chips.contains(document.activeElement);
    this.#chips.replaceChildren(...filters.map((filter) => this.#chip(filter)));
    if (hadFocus) (this.#chips.querySelector("a") ?? $("filters").querySelector("summary")).focus();
    if (filters.length > 1) this.#chips.append(this.#clearAll());
  }

  #chip([name, value]) {
    const chip = $("filter-chip-template").content.firstElementChild.cloneNode(true);
    chip.querySelector("a").href = pageUrl(withoutFilter(this.#state, name, value));
    const label = filterLabel(name, value);
    chip.querySelector("a").ariaLabel = text("filters.remove", { filter: label });
    chip.querySelector("bdi").textContent = label;
    return chip;
  }

  #clearAll() {
    const item = $("clear-filters-template").content.firstElementChild.cloneNode(true);
    item.querySelector("a").href = pageUrl({ ...this.#state, view: "", filters: [] });
    return item;
  }

  /** Apply a change once a date or number is typed: browsers report each digit of a date, the year 0002 first. */
  #applySoon(field) {
    clearTimeout(this.#applyTimer);
    const isTyped = ["date", "number"].includes(field.type);
    this.#applyTimer = setTimeout(() => this.#form.checkValidity() && this.#apply(), isTyped ? TYPING_PAUSE : 0);
  }

  #apply() {
    clearTimeout(this.#applyTimer);
    if (this.#form.reportValidity()) this.#onChange(FILTERS.flatMap((name) => this.#chosen(name)));
  }

  /** The values of a filter, as pairs: those in effect unless its field has changed. */
  #chosen(name) {
    const given = this.#state.filters.filter(([other]) => other === name);
    if (!this.#fields.has(name)) return given;
    const values = new FormData(this.#form).getAll(name).map((value) => [name, value.trim()]);
    const boxes = [...this.#form.querySelectorAll(`[type=checkbox][name=${name}]`)];
    if (boxes.length) return [...given.filter(([, value]) => !boxes.some((box) => box.value === value)), ...values];
    if (values[0]?.[1] === given.at(-1)?.[1]) return given;
    return values.filter(([, value]) => value);
  }

  /** Load the options that the list has: of folders, the direct children of the selected one. */
  async #loadOptions() {
    const folder = this.#state.filters.findLast(([name]) => name === "folder")?.[1] ?? "";
    const url = facetsUrl(this.#state);
    if (!$("filters").open || this.#optionsUrl === url) return;
    this.#optionsUrl = url;
    const facets = await getJson(url).catch(() => null);
    if (this.#optionsUrl !== url) return;
    if (!facets) {
      this.#optionsUrl = null;
      return;
    }
    const parts = folder.split("/");
    const ancestors = parts.map((_, index) => ({ folder: parts.slice(0, index + 1).join("/") }));
    this.#countColours(facets.colours);
    this.#fillOptions("camera", facets.cameras);
    this.#fillOptions("type", facets.types);
    this.#fillOptions("place", facets.places);
    this.#fillOptions("folder", folder ? [...ancestors, ...facets.folders] : facets.folders);
  }

  #countColours(colours) {
    const counts = new Map(colours.map(({ colour, count }) => [colour, count]));
    for (const { value, parentElement } of this.#form.querySelectorAll("[name=colour]")) {
      parentElement.title = `${displayValue("colour", value)} (${number(counts.get(value) ?? 0)})`;
    }
  }

  /** Replace the options of a field except "Any", and keep its value. */
  #fillOptions(name, choices) {
    const field = this.#form.elements[name];
    const { value } = field;
    const options = choices.map(({ [name]: choice, count }) => {
      const suffix = count === undefined ? "" : ` (${number(count)})`;
      return new Option(`${displayValue(name, choice)}${suffix}`, choice);
    });
    field.replaceChildren(field.options[0], ...options);
    select(field, value);
  }
}

const isChosen = (filters, { name, value }) => filters.some(([other, given]) => other === name && given === value);

/** Select a value, adding it as an option if necessary. */
function select(field, value) {
  if (![...field.options].some((option) => option.value === value)) {
    field.add(new Option(displayValue(field.name, value), value));
  }
  field.value = value;
}

const filterLabel = (name, value) => text(`filter.${name}`, { value: displayValue(name, value) });

/** The value of a filter for display, as in templates/_active_filters.html. */
function displayValue(name, value) {
  switch (name.replace("not_", "")) {
    case "orientation":
      return ORIENTATIONS.includes(value) ? text(`orientation.${value}`) : value;
    case "colour": {
      const [, mostly, colour] = value.match(/^(mostly-)?(.*)$/);
      if (colour.startsWith("#")) return colour;
      const label = text(`colour.${colour}`);
      return mostly ? text("colour.mostly", { colour: label }) : label;
    }
    case "type":
      return value.replace(/^image\/(x-|vnd\.adobe\.)?/, "").toUpperCase();
    case "min_size":
    case "max_size":
    case "min_pixels":
    case "max_pixels":
      return String(Math.round(value / 1e5) / 10);
    default:
      return value;
  }
}
