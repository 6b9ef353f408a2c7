/** Messages in place of images or between them. Their texts are templates of the page: templates/_messages.html. */

import { images as imageCount } from "./format.js";
import { isSearch, pageUrl, withoutFilter } from "./page_state.js";

/** The message of an empty list. */
export function emptyListMessage({ state, stats, selected }) {
  const reason = emptyReason({ state, stats, selected });
  const [message] = cloneTemplate(`empty-${reason}`);
  const link = message.querySelector("a");
  const count = message.querySelector(".image-count");
  if (link) link.href = pageUrl(reason === "filters" ? { ...state, filters: [] } : withoutFilter(state, "strict"));
  if (count) count.textContent = imageCount(stats.pending);
  return message;
}

/** Choose the message, in the same order as templates/gallery.html. */
function emptyReason({ state, stats, selected }) {
  const searching = isSearch(state) || state.similar !== "";
  if (state.similar && selected?.status === "pending") return "image-not-indexed";
  if (searching && state.filters.some(([name]) => name === "strict")) return "no-strong-matches";
  if (state.filters.length) return "filters";
  if (searching && stats?.pending) return "indexing";
  if (state.similar) return "no-other-images";
  return searching && stats?.total ? "not-indexed" : "no-images";
}

/** The content of the band above the less relevant matches; `onlyWeak` if there are no others. */
export function dividerContent(state, { onlyWeak }) {
  const [divider] = cloneTemplate(onlyWeak ? "divider-no-strong-matches" : "divider-less-relevant");
  const link = divider.querySelector("a");
  if (link) link.href = pageUrl({ ...state, view: "", filters: [...state.filters, ["strict", "1"]] });
  return [...divider.childNodes];
}

/** The content below the last tile; `phase` is "idle", "loading", "failed" or "end". */
export function endOfListContent(phase, { state, count, onRetry }) {
  if (phase === "loading") return [paragraph("Loading more…")];
  if (phase === "failed") return [paragraph("Could not load more images."), retryButton(onRetry)];
  if (phase !== "end" || !count) return [];
  const total = paragraph(imageCount(count));
  if (!state.filters.some(([name]) => name === "strict")) return [total];
  return [total, pageLink("Show less relevant images", withoutFilter(state, "strict"))];
}

/** The content of an error message, with what can be done about it. */
export function errorContent(error, { state, onRetry }) {
  const remaining = state.terms.filter(({ kind }) => kind !== "query_image");
  if (error.status === 401) {
    const next = encodeURIComponent(location.pathname + location.search);
    return errorWithLink("error-signed-out", `/sign-in?next=${next}`);
  }
  if (remaining.length < state.terms.length && /query_image/.test(error.message)) {
    const content = errorWithLink("error-image-expired", pageUrl({ ...state, view: "", terms: remaining }));
    content.at(-1).dataset.nav = "";
    return content;
  }
  const content = cloneTemplate(isSearch(state) || state.similar ? "error-search" : "error-list");
  content.find((element) => element.matches("div")).querySelector(".message-text").textContent = sentence(error.message);
  return [...content.slice(0, -1), retryButton(onRetry)];
}

function errorWithLink(template, href) {
  const content = cloneTemplate(template);
  content.at(-1).href = href;
  return content;
}

/** An error of the server as a sentence. */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.…]$/.test(text) ? "" : ".");

/** Words of a user in quotation marks, isolated because they may run in the other direction. */
export function quoted(text) {
  const quote = document.createElement("q");
  const isolated = document.createElement("bdi");
  isolated.textContent = text;
  quote.append(isolated);
  return quote;
}

const cloneTemplate = (id) => [...document.getElementById(id).content.cloneNode(true).children];

function pageLink(text, state) {
  const link = document.createElement("a");
  link.href = pageUrl(state);
  link.dataset.nav = "";
  link.textContent = text;
  return link;
}

function retryButton(onClick) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button";
  button.textContent = "Try again";
  button.addEventListener("click", onClick);
  return button;
}

function paragraph(text) {
  const element = document.createElement("p");
  element.textContent = text;
  return element;
}
