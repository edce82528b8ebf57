"use strict";
(() => {
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up === 1 ? "ascending" : "descending");
        const key = (row) => row.cells[head.cellIndex].dataset.value ??
          row.cells[head.cellIndex].textContent.trim();
        const numeric = head.classList.contains("number");
        const rows = [...table.tBodies[0].rows].sort((a, b) => up * (numeric
          ? Number(key(a)) - Number(key(b))
          : key(a).localeCompare(key(b))));
        table.tBodies[0].append(...rows);
      });
    }
  }
})();
