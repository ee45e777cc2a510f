/* Search: words that a row has to hold; a table without any row left is hidden. */
(() => {
  "use strict";
  const search = document.querySelector("#harness-search");
  const count = document.querySelector("#harness-count");
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const table of document.querySelectorAll(".harness-table")) {
      let left = 0;
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        left += !row.hidden;
      }
      table.closest(".harness-scroll").hidden = words.length > 0 && left === 0;
      shown += left;
    }
    for (const part of document.querySelectorAll("details")) {
      if (words.length) part.open = part.querySelector("tbody tr:not([hidden])") !== null;
    }
    count.textContent = words.length ? `${shown} rows` : "";
  };
  search.addEventListener("input", apply);
  apply();  // a page that is loaded anew keeps what was typed
})();
