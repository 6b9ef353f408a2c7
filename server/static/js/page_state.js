/**
 * The state of the page and its URL, in both directions:
 * `{bucket, q, literal, parse, terms, similar, sort, month, view, filters}`. Absent texts are "". `literal` are phrases
 * of `q` that stay words, and `parse` is "0" if all of them do. `terms` are those of query_terms.js, `filters` pairs of
 * name and value, and `view` the id of the enlarged image.
 */

import { formatTerm, parseTerm } from "./query_terms.js";

/** Filters narrow any list, and carry over from one list to the next. */
export const FILTERS = [
  "taken_after",
  "taken_before",
  "taken_until",
  "camera",
  "not_camera",
  "folder",
  "not_folder",
  "orientation",
  "not_orientation",
  "type",
  "not_type",
  "colour",
  "not_colour",
  "place",
  "not_place",
  "min_width",
  "max_width",
  "min_height",
  "max_height",
  "min_size",
  "max_size",
  "min_pixels",
  "max_pixels",
  "exact",
  "strict",
];

/** Parse the URL of a page. */
export function parseState(href, defaultBucket) {
  const params = new URL(href, location.href).searchParams;
  const text = (name) => (params.get(name) ?? "").trim();
  // The short form of a search by one uploaded image.
  const queryImage = text("query_image");
  const terms = [...(queryImage ? [`query_image:${queryImage}`] : []), ...params.getAll("term")];
  return {
    bucket: params.get("bucket") || defaultBucket,
    q: text("q"),
    literal: params.getAll("literal").filter(Boolean),
    parse: text("parse") === "0" ? "0" : "",
    terms: terms.map(parseTerm).filter(Boolean),
    similar: text("similar"),
    sort: text("sort"),
    month: text("month"),
    view: text("view"),
    filters: [...params].filter(([name, value]) => FILTERS.includes(name) && value),
  };
}

/** The recent images of the bucket, with the filters of `state`. */
export const recentState = ({ bucket, parse, filters }) => ({
  bucket,
  q: "",
  literal: [],
  parse,
  terms: [],
  similar: "",
  sort: "",
  month: "",
  view: "",
  // Only matches have a relevance.
  filters: filters.filter(([name]) => name !== "strict"),
});

/** `state` without the filter `name`, or without one of its values. */
export const withoutFilter = (state, name, value) => ({
  ...state,
  month: "",
  view: "",
  filters: state.filters.filter(([other, given]) => other !== name || (value !== undefined && given !== value)),
});

/** Return whether the state is a search by words, images, or both. */
export const isSearch = (state) => Boolean(state.q || state.terms.length);

/** Return whether the list consists of matches: of a search, or of images similar to one. */
export const isRanked = (state) => isSearch(state) || state.similar !== "";

/** Return whether the state shows all images, in any order. */
export const isWhole = (state) => !isRanked(state) && !state.filters.length;

/** Return whether the state shows the recent images without filters. */
export const isRecent = (state) => isWhole(state) && !state.sort;

/** Return whether the list is ordered by date taken. */
export const isByDateTaken = ({ sort }) => sort === "-taken" || sort === "taken";

/** Return whether the list has a timeline: searches have none. */
export const hasTimeline = (state) => isByDateTaken(state) && !isRanked(state);

/** The URL parameters of a query. */
export const termParams = (q, terms) => [...(q ? [["q", q]] : []), ...terms.map((term) => ["term", formatTerm(term)])];

/** The URL of a state, for links and the address bar. */
export function pageUrl({ bucket, q, literal = [], parse, terms, similar, sort, month, view, filters }) {
  const params = new URLSearchParams([["bucket", bucket], ...termParams(q, terms)]);
  for (const phrase of literal) params.append("literal", phrase);
  if (parse) params.set("parse", parse);
  if (similar) params.set("similar", similar);
  for (const [name, value] of filters) params.append(name, value);
  if (sort) params.set("sort", sort);
  if (month) params.set("month", month);
  if (view) params.set("view", view);
  return `/?${params}`;
}

/** Return whether two states list the same images: they may differ in the enlarged image. */
export const isSameList = (a, b) => pageUrl({ ...a, view: "" }) === pageUrl({ ...b, view: "" });
