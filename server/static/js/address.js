/** A state of the page and its address, in both directions. */

const OWN = ["bucket", "q", "similar", "view"];
/** Filters narrow any list; they are carried along from one to the next as they are. */
const FILTERS = [
  "taken_after",
  "taken_before",
  "camera",
  "folder",
  "orientation",
  "type",
  "min_width",
  "min_height",
  "max_width",
  "max_height",
  "strict",
];
/** How many images a page of a list has. */
export const PAGE_SIZE = 60;
export const LARGEST_PAGE = 200;

/** The state that an address names: `{bucket, q, similar, view, filters}`; absent parts are "". */
export function parse(href, defaultBucket) {
  const params = new URL(href, location.href).searchParams;
  const state = { bucket: params.get("bucket") || defaultBucket, filters: [] };
  for (const name of OWN.slice(1)) state[name] = (params.get(name) ?? "").trim();
  state.filters = [...params].filter(([name]) => FILTERS.includes(name));
  return state;
}

/** The address of a state, for the address bar and for links. */
export function page(state) {
  const params = new URLSearchParams();
  for (const name of OWN) if (state[name]) params.set(name, state[name]);
  for (const [name, value] of state.filters ?? []) params.append(name, value);
  const query = params.toString();
  return query ? `/?${query}` : "/";
}

/** Where the JSON list of a state begins. */
export function list(state, limit = PAGE_SIZE) {
  const params = new URLSearchParams({ bucket: state.bucket, limit });
  for (const [name, value] of state.filters ?? []) params.append(name, value);
  if (state.similar) return `/api/images/${encodeURIComponent(state.similar)}/similar?${params}`;
  if (!state.q) return `/api/images?${params}`;
  params.set("q", state.q);
  return `/api/search?${params}`;
}

/** The same list from a cursor on. */
export function after(listAddress, cursor) {
  const url = new URL(listAddress, location.href);
  url.searchParams.set("cursor", cursor);
  return url.pathname + url.search;
}

export const image = (bucket, id) => `/api/images/${encodeURIComponent(id)}?${new URLSearchParams({ bucket })}`;

/** Some images of the bucket by id, in one request. */
export const some = (bucket, ids) => `/api/images?${new URLSearchParams({ bucket, ids: ids.join(","), limit: LARGEST_PAGE })}`;

/** Two states list the same images when they differ in nothing but what is viewed large. */
export const sameList = (a, b) => list(a) === list(b);
