/** The menu of orders: templates/_sort_menu.html. Its links are followed like all others. */

import { isSearch, pageUrl } from "./page_state.js";

/** Set the targets of the links, mark the current order and close the menu. */
export function drawSortMenu(menu, state) {
  const isRanked = isSearch(state) || state.similar !== "";
  const standard = isRanked ? "relevance" : "-created";
  for (const link of menu.querySelectorAll("a")) {
    const { sort } = link.dataset;
    link.href = pageUrl({ ...state, view: "", month: "", sort: sort === standard ? "" : sort });
    link.parentElement.hidden = sort === "relevance" && !isRanked;
    const isCurrent = sort === (state.sort || standard);
    link.toggleAttribute("aria-current", isCurrent);
    if (isCurrent) {
      link.setAttribute("aria-current", "true");
      menu.querySelector(".sort-current").textContent = link.textContent;
    }
  }
  menu.open = false;
}
