/**
 * What a query asks for beside the words in the field: `{kind, value, weight}`, `kind` being "text" (words), "image"
 * (the id of one of the collection) or "query_image" (the handle of an uploaded picture). A negative weight counts
 * against. In an address a term is written as server/query.py reads it: `-text:people`, `image:12`, `0.5*text:at night`.
 */

const WRITTEN = /^(-?)(?:(\d+(?:\.\d+)?)\*)?(text|image|query_image):(.+)$/s;
/** A sign at the beginning of a word opens a term that goes on to the next such sign. */
const SIGN = /(?:^|\s)([-+−])(?=[\p{L}\p{N}"“„«])/gu;
const QUOTES = /^["“„«]+|["”“»]+$/g;

/** The term that `text` writes; null when it writes none. */
export function parse(text) {
  const [, sign, amount = "1", kind, value] = WRITTEN.exec(text) ?? [];
  const weight = Number(amount) * (sign ? -1 : 1);
  return value && weight ? { kind, value, weight } : null;
}

export function format({ kind, value, weight }) {
  const amount = Math.abs(weight) === 1 ? "" : `${Math.abs(weight)}*`;
  return `${weight < 0 ? "-" : ""}${amount}${kind}:${value}`;
}

export const same = (a, b) => a.kind === b.kind && a.value === b.value;

/** `terms` with `term` in them, in the place of the one that says the same with another weight, or at the end. */
export const adding = (terms, term) =>
  terms.some((other) => same(other, term))
    ? terms.map((other) => (same(other, term) ? term : other))
    : [...terms, term];

export const without = (terms, term) => terms.filter((other) => !same(other, term));

export const turned = (term) => ({ ...term, weight: -term.weight });

/** What somebody has typed, "a dog −people +at night", as `{q: "a dog", terms}`. */
export function fromWords(typed) {
  const signs = [...typed.matchAll(SIGN)];
  const ends = [...signs.map((sign) => sign.index), typed.length];
  const terms = signs.map((sign, at) => ({
    kind: "text",
    value: typed.slice(sign.index + sign[0].length, ends[at + 1]).trim().replace(QUOTES, ""),
    weight: sign[1] === "+" ? 1 : -1,
  }));
  return { q: typed.slice(0, ends[0]).trim(), terms: terms.filter((term) => term.value) };
}
