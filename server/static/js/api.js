/** The JSON API: its URLs, and requests that fail with an ApiError whose message is fit for display. */

import { termParams } from "./page_state.js";
import { text } from "./texts.js";

/** Images per page of a list; longer lists are fetched in the larger pages. */
export const PAGE_SIZE = 60;
export const MAX_PAGE_SIZE = 200;

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }

  /** Return whether the same request may succeed later: the server was unreachable, restarting or busy. */
  get isOutage() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** The URL of the list that a page state shows, from its start or from a cursor. */
export function listUrl(state, { limit = PAGE_SIZE, cursor } = {}) {
  const { bucket, q, terms, similar, sort, month, filters } = state;
  const params = new URLSearchParams({ bucket, limit });
  for (const [name, value] of filters) params.append(name, value);
  if (sort) params.set("sort", sort);
  if (cursor) params.set("cursor", cursor);
  else if (month) params.set("month", month);
  if (similar) return `/api/images/${encodeURIComponent(similar)}/similar?${params}`;
  if (!q && !terms.length) return `/api/images?${params}`;
  for (const [name, value] of queryParams(state)) params.append(name, value);
  return `/api/search?${params}`;
}

/** The parameters of a search: the API does not parse words unless it is asked to. */
const queryParams = ({ q, literal, parse, terms }) => [
  ...termParams(q, terms),
  ["parse", parse || "1"],
  ...literal.map((phrase) => ["literal", phrase]),
];

export const imageUrl = (bucket, id) => `/api/images/${encodeURIComponent(id)}?${new URLSearchParams({ bucket })}`;

/** The URL of the images with these ids. */
export const imagesUrl = (bucket, ids) =>
  `/api/images?${new URLSearchParams({ bucket, ids: ids.join(","), limit: MAX_PAGE_SIZE })}`;

/** The URL of the page of the recent images that has an image in its middle. */
export const imagesAroundUrl = (state, id) => `${listUrl(state, { limit: MAX_PAGE_SIZE })}&around=${encodeURIComponent(id)}`;

/** The URL of the numbers of images by month, for a list by date taken. */
export function timelineUrl({ bucket, sort, filters }) {
  return `/api/timeline?${new URLSearchParams([["bucket", bucket], ["sort", sort], ...filters])}`;
}

/** The URL of the filter options for a list; of folders, the direct children of the selected one. */
export function facetsUrl(state) {
  const { bucket, similar, filters } = state;
  const chosen = similar ? [["similar", similar]] : queryParams(state);
  return `/api/facets?${new URLSearchParams([["bucket", bucket], ...chosen, ...filters])}`;
}

/** The URL that adds an image under a `key`, or under one made from its `filename`. */
export const addImageUrl = (bucket, name) => `/api/images?${new URLSearchParams({ bucket, ...name })}`;

/** The URL of completions of the words typed so far. */
export const suggestUrl = (bucket, q) => `/api/suggest?${new URLSearchParams({ bucket, q })}`;

export const queryImagesUrl = (bucket) => `/api/query-images?${new URLSearchParams({ bucket })}`;

/** Fetch the rows of an export, for a query with the parameters of a page's URL. */
export async function exportRows(query) {
  query.set("format", "json");
  return (await getJson("/api/export", { method: "POST", body: query })).images;
}

/** Delete an image; one that is deleted already is no error. */
export async function deleteImage(bucket, id) {
  const response = await fetch(imageUrl(bucket, id), { method: "DELETE" }).catch(() => {
    throw new ApiError(text("error.unreachable"));
  });
  if (response.status === 204 || response.status === 404) return;
  checkResponse(response.status, await response.json().catch(() => null));
}

/** Fetch JSON with the options of `fetch`. Rejects with an ApiError, or with an AbortError once `signal` is aborted. */
export async function getJson(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, headers: { accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(text("error.unreachable"));
  }
  const body = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  return checkResponse(response.status, body);
}

/**
 * POST a file, or an object as JSON, and return the JSON response. `onProgress(share)` is called with the share sent so
 * far, from 0 to 1. Rejects like `getJson`.
 */
export function postJson(url, content, { signal, onProgress }) {
  return new Promise((resolve, reject) => {
    // fetch() does not report upload progress.
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.responseType = "json";
    request.setRequestHeader("accept", "application/json");
    const isFile = content instanceof Blob;
    request.setRequestHeader("content-type", isFile ? content.type || "application/octet-stream" : "application/json");
    request.upload.addEventListener("progress", (event) => onProgress(event.total ? event.loaded / event.total : 0));
    request.addEventListener("error", () => reject(new ApiError(text("error.unreachable"))));
    request.addEventListener("abort", () => reject(new DOMException("Aborted", "AbortError")));
    request.addEventListener("load", () => {
      try {
        resolve(checkResponse(request.status, request.response));
      } catch (error) {
        reject(error);
      }
    });
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(isFile ? content : JSON.stringify(content));
  });
}

function checkResponse(status, body) {
  if (status < 200 || status > 299) {
    throw new ApiError(body?.detail ?? body?.title ?? text("error.status", { status }), status);
  }
  if (body === null) throw new ApiError(text("error.not_json"), status);
  return body;
}
