/** The parts of the typed words that became filters, as chips: the elements of templates/_understood.html. */

import { pageUrl } from "./page_state.js";
import { text } from "./texts.js";

const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

/** Show a chip for each of `parts` that became a filter, and for each phrase of the state that stays words. */
export function drawUnderstood(container, state, parts = []) {
  const filters = parts.filter(({ kind }) => kind !== "words");
  const hadFocus = container.contains(document.activeElement);
  container.replaceChildren(
    ...filters.map((part) => understoodChip(state, part)),
    ...state.literal.map((phrase) => literalChip(state, phrase)),
  );
  if (hadFocus) container.querySelector("a")?.focus();
}

/** The words that describe the images, without those that became filters; all of them if they were not parsed. */
export const describingWords = (q, parts) => (parts ? (parts.find(({ kind }) => kind === "words")?.text ?? "") : q);

/** The words that images match, exactly or not: typed words that did not become filters, and added terms. */
export function matchingWords({ q, terms }, parts) {
  const typed = parts?.filter(({ kind }) => kind === "words" || kind === "exact").map((part) => part.text) ?? [q];
  const further = terms.filter(({ kind, weight }) => kind === "text" && weight > 0).map(({ value }) => value);
  return [...typed, ...further].join(" ");
}

function understoodChip(state, { text: phrase, meaning }) {
  const chip = clone("understood-chip-template");
  const [words, remove] = chip.querySelectorAll("a");
  const label = meaning ?? phrase;
  words.href = pageUrl({ ...state, view: "", literal: [...state.literal, phrase] });
  words.ariaLabel = text("understood.as_words_label", { phrase, meaning: label });
  words.querySelector("bdi").textContent = phrase;
  const explanation = words.querySelector(".understood-meaning");
  if (label === phrase) explanation.remove();
  else explanation.textContent = label;
  remove.href = pageUrl({ ...state, view: "", q: without(state.q, phrase) });
  remove.ariaLabel = text("term.remove_term", { name: phrase });
  return chip;
}

function literalChip(state, phrase) {
  const chip = clone("literal-chip-template");
  chip.querySelector("a").href = pageUrl({ ...state, view: "", literal: state.literal.filter((other) => other !== phrase) });
  chip.querySelector("bdi").textContent = text("understood.literal", { phrase });
  return chip;
}

/** The words without a phrase and the comma beside it, as in server/query_language/parser.py. */
const without = (q, phrase) =>
  q
    .replace(new RegExp(`(?<![\\p{L}\\p{N}_])${phrase.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")}(?![\\p{L}\\p{N}_])`, "u"), " ")
    .replace(/\s*[,;](\s*[,;])+/g, ",")
    .replace(/^[\s,;]+|[\s,;]+$/g, "")
    .replace(/\s+/g, " ");
