for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const body = heading.closest("table").tBodies[0];
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    const cell = row => row.cells[heading.cellIndex];
    const compare = "number" in heading.dataset
      ? (a, b) => cell(a).dataset.value - cell(b).dataset.value
      : (a, b) => cell(a).textContent.localeCompare(cell(b).textContent);
    const rows = [...body.rows].sort(ascending ? compare : (a, b) => compare(b, a));
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    body.append(...rows);
  });
}
