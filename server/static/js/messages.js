/** Messages in place of images or between them. Their texts are templates of the page: templates/_messages.html. */

import { isRanked, pageUrl, recentState, withoutFilter } from "./page_state.js";
import { text } from "./texts.js";

/** The message of an empty list. `isFiltered` tells that some of the words became filters. */
export function emptyListMessage({ state, stats, selected, isFiltered }) {
  const reason = emptyReason({ state, stats, selected, isFiltered });
  const [message] = cloneTemplate(`empty-${reason}`);
  const link = message.querySelector("a");
  const count = message.querySelector(".empty-count");
  if (link) link.href = pageUrl(remedy(reason, state));
  if (count) count.textContent = text("empty.indexing_hint", { count: stats.pending });
  return message;
}

/** The state that the link of a message leads to. */
function remedy(reason, state) {
  if (reason === "understood") return { ...state, parse: "0" };
  return reason === "filters" ? { ...state, filters: [] } : withoutFilter(state, "strict");
}

/** Choose the message, in the same order as templates/gallery.html. */
function emptyReason({ state, stats, selected, isFiltered }) {
  const searching = isRanked(state);
  if (state.similar && selected?.status === "pending") return "image-not-indexed";
  if (searching && state.filters.some(([name]) => name === "strict")) return "no-strong-matches";
  if (isFiltered) return "understood";
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
  if (phase === "loading") return [paragraph(text("list.loading"))];
  if (phase === "failed") return [paragraph(text("list.failed")), retryButton(onRetry)];
  if (phase !== "end" || !count) return [];
  const total = paragraph(text("count.images", { count }));
  if (!state.filters.some(([name]) => name === "strict")) return [total];
  return [total, pageLink(text("list.show_less_relevant"), withoutFilter(state, "strict"))];
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
  if (error.status === 404 && state.similar) return errorWithLink("error-image-missing", pageUrl(recentState(state)));
  const content = cloneTemplate(isRanked(state) ? "error-search" : "error-list");
  content.find((element) => element.matches("div")).querySelector(".message-text").textContent = sentence(error.message);
  return [...content.slice(0, -1), retryButton(onRetry)];
}

function errorWithLink(template, href) {
  const content = cloneTemplate(template);
  content.at(-1).href = href;
  return content;
}

/** An error of the server as a sentence. */
const sentence = (detail) => detail.charAt(0).toUpperCase() + detail.slice(1) + (/[.…]$/.test(detail) ? "" : ".");

/** Words of a user in quotation marks, isolated because they may run in the other direction. */
export function quoted(words) {
  const quote = document.createElement("q");
  const isolated = document.createElement("bdi");
  isolated.textContent = words;
  quote.append(isolated);
  return quote;
}

const cloneTemplate = (id) => [...document.getElementById(id).content.cloneNode(true).children];

function pageLink(label, state) {
  const link = document.createElement("a");
  link.href = pageUrl(state);
  link.dataset.nav = "";
  link.textContent = label;
  return link;
}

function retryButton(onClick) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button";
  button.textContent = text("page.try_again");
  button.addEventListener("click", onClick);
  return button;
}

function paragraph(content) {
  const element = document.createElement("p");
  element.textContent = content;
  return element;
}
