/** The title of the list: words and thumbnails, as in “a dog” + [image] − “people”. */

import { fileName } from "./format.js";
import { quoted } from "./messages.js";
import { isSearch } from "./page_state.js";
import { fillThumbnail } from "./query_chips.js";
import { parts, text } from "./texts.js";
import { describingWords } from "./understood.js";

/** The nodes of the heading of a state, whose words have the parts `understood` if they were parsed. */
export function headingContent(state, labels, understood) {
  if (state.similar) return [text("heading.similar")];
  if (!isSearch(state)) return [text(state.sort ? "heading.all" : "heading.recent")];
  const described = describingWords(state.q, understood);
  if (!described && !state.terms.length) return [text("heading.all")];
  const words = described ? [{ kind: "text", value: described, weight: 1 }] : [];
  const query = [...words, ...state.terms].flatMap((term, index) => summand(term, index, labels.of(term)));
  return parts("heading.results", { query });
}

/** The query as text, for the window title and announcements; "" without a query. */
export function queryText(state, labels, selected) {
  if (state.similar) return selected ? fileName(selected.key) : "";
  const terms = state.terms.map((term) => `${term.weight < 0 ? "−" : "+"} ${labels.of(term).name}`);
  return [state.q, ...terms].filter(Boolean).join(" ").replace(/^\+ /, "");
}

function summand(term, index, label) {
  const sign = term.weight < 0 ? "− " : index ? "+ " : "";
  const operator = index ? ` ${sign}` : sign;
  if (label.thumbnail === null) return [operator, quoted(label.name)];
  const thumbnail = document.getElementById("heading-thumbnail-template").content.firstElementChild.cloneNode(true);
  fillThumbnail(thumbnail, label);
  return [operator, thumbnail];
}
