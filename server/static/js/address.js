/** A state of the page and its address, in both directions. */

import * as terms from "./terms.js";

/** Filters narrow any list; they are carried along from one to the next as they are. */
export const FILTERS = [
  "taken_after",
  "taken_before",
  "camera",
  "folder",
  "orientation",
  "type",
  "min_width",
  "max_width",
  "min_height",
  "max_height",
  "min_size",
  "max_size",
  "strict",
];
/** How many images a page of a list has. */
export const PAGE_SIZE = 60;
export const LARGEST_PAGE = 200;

/**
 * The state that an address names: `{bucket, q, terms, similar, view, filters}`. Texts are "" where they are absent;
 * `terms` are those of terms.js, `filters` pairs of name and value.
 */
export function parse(href, defaultBucket) {
  const params = new URL(href, location.href).searchParams;
  const text = (name) => (params.get(name) ?? "").trim();
  // The short form of a search for one picture.
  const picture = text("query_image");
  const written = [...(picture ? [`query_image:${picture}`] : []), ...params.getAll("term")];
  return {
    bucket: params.get("bucket") || defaultBucket,
    q: text("q"),
    terms: written.map(terms.parse).filter(Boolean),
    similar: text("similar"),
    view: text("view"),
    filters: [...params].filter(([name, value]) => FILTERS.includes(name) && value),
  };
}

/** The recent images of the bucket, narrowed as in `state`. */
export const recent = ({ bucket, filters }) => ({
  bucket,
  q: "",
  terms: [],
  similar: "",
  view: "",
  // What is weak is said of matches only.
  filters: filters.filter(([name]) => name !== "strict"),
});

/** Whether the state shows the recent images and nothing but them. */
export const browsing = (state) => !state.similar && !asks(state) && !state.filters.length;

/** Whether the state asks a question: words, terms, or both. */
export const asks = (state) => Boolean(state.q || state.terms.length);

/** The address of a state, for the address bar and for links. */
export function page({ bucket, q, terms: asked, similar, view, filters }) {
  const params = new URLSearchParams({ bucket });
  if (q) params.set("q", q);
  for (const term of asked) params.append("term", terms.format(term));
  if (similar) params.set("similar", similar);
  for (const [name, value] of filters) params.append(name, value);
  if (view) params.set("view", view);
  return `/?${params}`;
}

/** The JSON list of a state, from its beginning or from a cursor on. */
export function list({ bucket, q, terms: asked, similar, filters }, { limit = PAGE_SIZE, cursor } = {}) {
  const params = new URLSearchParams({ bucket, limit });
  for (const [name, value] of filters) params.append(name, value);
  if (cursor) params.set("cursor", cursor);
  if (similar) return `/api/images/${encodeURIComponent(similar)}/similar?${params}`;
  if (!q && !asked.length) return `/api/images?${params}`;
  if (q) params.set("q", q);
  for (const term of asked) params.append("term", terms.format(term));
  return `/api/search?${params}`;
}

export const image = (bucket, id) => `/api/images/${encodeURIComponent(id)}?${new URLSearchParams({ bucket })}`;

/** Some images of the bucket by id, in one request. */
export const some = (bucket, ids) => `/api/images?${new URLSearchParams({ bucket, ids: ids.join(","), limit: LARGEST_PAGE })}`;

/** What filters have to choose from; of folders, those right below `folder`. */
export const facets = (bucket, folder) => `/api/facets?${new URLSearchParams({ bucket, folder })}`;

export const pictures = (bucket) => `/api/query-images?${new URLSearchParams({ bucket })}`;

/** Two states list the same images when they differ in nothing but what is viewed large. */
export const sameList = (a, b) => page({ ...a, view: "" }) === page({ ...b, view: "" });
