/** Texts in the language of the page, from the catalogue that the page contains: server/texts/. */

const TEXTS = JSON.parse(document.getElementById("texts").textContent);
const PLACEHOLDER = /\{(\w+)\}/;

export const LANGUAGE = document.documentElement.lang;

const plurals = new Intl.PluralRules(LANGUAGE);
const numbers = new Intl.NumberFormat(LANGUAGE);

/** A whole number as the language of the page writes it. */
export const number = (value) => numbers.format(value);

/** The text of a key with `values` for its placeholders. A text with plural forms is chosen by `values.count`. */
export const text = (key, values = {}) => parts(key, values).join("");

/** The same as a list of strings and values, which may be nodes; the value of a placeholder may be a list. */
export function parts(key, values) {
  const found = TEXTS[key] ?? key;
  const pattern = typeof found === "string" ? found : (found[plurals.select(values.count)] ?? found.other);
  // Splitting by a group puts the names of the placeholders at the odd indices.
  return pattern.split(PLACEHOLDER).flatMap((part, index) => (index % 2 ? shown(values[part]) : part || []));
}

const shown = (value) => (typeof value === "number" ? number(value) : value);
