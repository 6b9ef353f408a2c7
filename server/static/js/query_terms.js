/**
 * The terms of a query beside the words in the field: `{kind, value, weight}`. `kind` is "text" (words), "image" (the id
 * of an image of the collection) or "query_image" (the handle of an uploaded image). A negative weight excludes. In URLs
 * a term is written as server/search reads it: `-text:people`, `image:12`, `0.5*text:at night`.
 */

const TERM = /^(-?)(?:(\d+(?:\.\d+)?)\*)?(text|image|query_image):(.+)$/s;
/** A sign at the start of a word begins a term that extends to the next sign. */
const SIGN = /(?:^|\s)([-+−])(?=[\p{L}\p{N}"“„«])/gu;
const QUOTES = /^["“„«]+|["”“»]+$/g;

/** Parse a term as written in URLs; null if it is malformed. */
export function parseTerm(text) {
  const [, sign, factor = "1", kind, value] = TERM.exec(text) ?? [];
  const weight = Number(factor) * (sign ? -1 : 1);
  return value && weight ? { kind, value, weight } : null;
}

export function formatTerm({ kind, value, weight }) {
  const factor = Math.abs(weight) === 1 ? "" : `${Math.abs(weight)}*`;
  return `${weight < 0 ? "-" : ""}${factor}${kind}:${value}`;
}

const isSameTerm = (a, b) => a.kind === b.kind && a.value === b.value;

/** `terms` with `term` added, or replacing the same term with another weight. */
export const withTerm = (terms, term) =>
  terms.some((other) => isSameTerm(other, term))
    ? terms.map((other) => (isSameTerm(other, term) ? term : other))
    : [...terms, term];

export const withoutTerm = (terms, term) => terms.filter((other) => !isSameTerm(other, term));

/** The term with its weight negated: included becomes excluded, and the reverse. */
export const flipped = (term) => ({ ...term, weight: -term.weight });

/** Parse typed words: "a dog −people +at night" becomes `{q: "a dog", terms}`. */
export function parseWords(typed) {
  const signs = [...typed.matchAll(SIGN)];
  const ends = [...signs.map((sign) => sign.index), typed.length];
  const terms = signs.map((sign, index) => ({
    kind: "text",
    value: typed.slice(sign.index + sign[0].length, ends[index + 1]).trim().replace(QUOTES, ""),
    weight: sign[1] === "+" ? 1 : -1,
  }));
  return { q: typed.slice(0, ends[0]).trim(), terms: terms.filter((term) => term.value) };
}
