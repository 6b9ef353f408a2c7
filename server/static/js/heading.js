/** What the list is, in words and thumbnails: “a dog” + a picture − “people”. */

import * as address from "./address.js";
import { fillPicture } from "./chips.js";
import { fileName } from "./format.js";
import { quotation } from "./notices.js";

/** The nodes of the heading of a state. */
export function title(state, subjects) {
  if (state.similar) return ["Looks like this"];
  if (!address.asks(state)) return ["Recent"];
  const words = state.q ? [{ kind: "text", value: state.q, weight: 1 }] : [];
  return ["Closest to ", ...[...words, ...state.terms].flatMap((term, at) => sum(term, at, subjects.of(term)))];
}

/** The same in words, for the window's title and for listeners; "" when nothing is asked. */
export function inWords(state, subjects, chosen) {
  if (state.similar) return chosen ? fileName(chosen.key) : "";
  const terms = state.terms.map((term) => `${term.weight < 0 ? "−" : "+"} ${subjects.of(term).name}`);
  return [state.q, ...terms].filter(Boolean).join(" ").replace(/^\+ /, "");
}

function sum(term, at, subject) {
  const sign = term.weight < 0 ? "− " : at ? "+ " : "";
  const spaced = at ? ` ${sign}` : sign;
  if (subject.picture === null) return [spaced, quotation(subject.name)];
  const picture = document.getElementById("picture-template").content.firstElementChild.cloneNode(true);
  fillPicture(picture, subject);
  return [spaced, picture];
}
