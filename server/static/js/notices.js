/** What the page says in words: why it is empty, what went wrong, where the wall ends. */

import * as address from "./address.js";
import { images as countImages } from "./format.js";

/** Why no images are shown, and what to do about it. */
export function emptyNotice({ state, stats, bucket, chosen }) {
  const [title, ...help] = emptyWords({ state, stats, bucket, chosen });
  const box = document.createElement("div");
  const text = document.createElement("p");
  box.id = "empty";
  box.className = "empty";
  text.append(...help);
  box.append(paragraph(title, "empty-title"), text);
  return box;
}

function emptyWords({ state, stats, bucket, chosen }) {
  const { filters } = state;
  if (state.similar && chosen?.status === "pending") {
    return ["This image is not searchable yet", "What looks like it appears here once its turn has come."];
  }
  if (filters.some(([name]) => name === "strict") && (address.asks(state) || state.similar)) {
    return ["Nothing here clearly fits", link("Show the closest matches", loosened(state))];
  }
  if (filters.length) return ["Nothing fits these filters", link("Clear the filters", { ...state, filters: [] })];
  if (stats?.pending && (address.asks(state) || state.similar)) {
    return ["Nothing is searchable yet", `${countImages(stats.pending)} still to go.`];
  }
  if (state.similar) return ["Nothing to compare it with", "There is no other searchable image in this collection."];
  if (address.asks(state) && stats?.total) return ["No image is searchable", "Their vectors are missing."];
  const command = document.createElement("code");
  command.textContent = `syncer sync ~/Pictures --bucket ${bucket || "photos"}`;
  const then = "Photos appear here while they are being uploaded.";
  return ["Nothing here yet", "Run ", command, document.createElement("br"), then];
}

/** What stands above the weak matches; `all` when there are no others. */
export function dividerNotice(state, { all }) {
  const text = document.createElement("p");
  if (!all) {
    text.textContent = "Weaker matches";
    return [text, link("Hide", { ...state, view: "", filters: [...state.filters, ["strict", "1"]] })];
  }
  const asked = state.q && !state.terms.length ? quotation(state.q) : "this";
  text.append("Closest matches: nothing here clearly fits ", asked);
  return [text];
}

/** What stands below the last tile. */
export function endNotice(kind, { state, count, retry }) {
  if (kind === "loading") return [paragraph("Loading more…")];
  if (kind === "failed") return [paragraph("Could not load more."), retryButton(retry)];
  if (kind !== "end" || !count) return [];
  const all = paragraph(count === 1 ? "That is the only one" : `That is all: ${countImages(count)}`);
  const strict = state.filters.some(([name]) => name === "strict");
  return strict ? [all, link("Show weaker matches", loosened(state))] : [all];
}

const loosened = (state) => ({ ...state, view: "", filters: state.filters.filter(([name]) => name !== "strict") });

/** What went wrong with a state, in the server's words where it is not the reader's to mend, and what can be done. */
export function errorNotice(error, { state, again }) {
  const text = document.createElement("div");
  const sign = document.getElementById("warning-template").content.cloneNode(true);
  const kept = state.terms.filter(({ kind }) => kind !== "query_image");
  if (error.status === 401) {
    const target = encodeURIComponent(location.pathname + location.search);
    text.append(paragraph("You are signed out", "message-title"), paragraph("Sign in to see these images."));
    return [sign, text, button("a", "Sign in", { href: `/sign-in?next=${target}` })];
  }
  if (kept.length < state.terms.length && /query_image/.test(error.message)) {
    const title = "Your picture is no longer known here";
    text.append(paragraph(title, "message-title"), paragraph("A picture is kept for some days: give it once more."));
    const rest = address.page({ ...state, view: "", terms: kept });
    const without = button("a", "Search without it", { href: rest });
    without.dataset.nav = "";
    return [sign, text, without];
  }
  text.append(paragraph("This did not work", "message-title"), paragraph(sentence(error.message)));
  return [sign, text, retryButton(again)];
}

/** What the server says, as a sentence. */
const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1) + (/[.…]$/.test(words) ? "" : ".");

/** Somebody's words in quotation marks, whatever direction they run. */
export function quotation(text) {
  const quote = document.createElement("q");
  const isolated = document.createElement("bdi");
  isolated.textContent = text;
  quote.append(isolated);
  return quote;
}

function link(text, state) {
  const element = document.createElement("a");
  element.href = address.page(state);
  element.dataset.nav = "";
  element.textContent = text;
  return element;
}

function button(tag, text, properties) {
  const element = Object.assign(document.createElement(tag), properties);
  element.className = "button";
  element.textContent = text;
  return element;
}

const retryButton = (action) => button("button", "Try again", { type: "button", onclick: action });

function paragraph(text, className = "") {
  const element = document.createElement("p");
  element.className = className;
  element.textContent = text;
  return element;
}
