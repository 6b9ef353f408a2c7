/** The menu of orders: templates/_sort_menu.html. Its links are followed like all others. */

import { isRanked, pageUrl } from "./page_state.js";

/** Set the targets of the links, mark the current order and close the menu. */
export function drawSortMenu(menu, state) {
  const standard = isRanked(state) ? "relevance" : "-created";
  for (const link of menu.querySelectorAll("a")) {
    const { sort } = link.dataset;
    link.href = pageUrl({ ...state, view: "", month: "", sort: sort === standard ? "" : sort });
    link.parentElement.hidden = sort === "relevance" && !isRanked(state);
    const isCurrent = sort === (state.sort || standard);
    link.ariaCurrent = isCurrent ? "true" : null;
    if (isCurrent) menu.querySelector(".sort-current").textContent = link.textContent;
  }
  menu.open = false;
}
