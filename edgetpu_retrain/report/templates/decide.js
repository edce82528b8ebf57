"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const bar = document.getElementById("bar");
  const STORE = "corrections " + data.key;
  // Decisions made on this page, by the photo's SHA-256: {label, path, note}.
  let decided = {};
  // What was decided before each decision since the page was opened.
  const earlier = [];

  function quote(field) {
    // A spreadsheet would compute such a cell.
    if (/^'*[=+@-]/.test(field)) field = "'" + field;
    return /[\t"\r\n]/.test(field) ? '"' + field.replaceAll('"', '""') + '"' : field;
  }

  function remember() {
    try { localStorage.setItem(STORE, JSON.stringify(decided)); } catch { /* private window */ }
  }

  function recall() {
    try { return JSON.parse(localStorage.getItem(STORE)) || {}; } catch { return {}; }
  }

  function show() {
    for (const box of document.querySelectorAll(".decide")) {
      const decision = decided[box.dataset.sha256];
      box.closest(".card").classList.toggle("decided", Boolean(decision));
      let anyPressed = false;
      for (const button of box.querySelectorAll("button")) {
        const pressed = Boolean(decision) && button.value === decision.label;
        anyPressed ||= pressed;
        button.setAttribute("aria-pressed", pressed);
      }
      const select = box.querySelector("select");
      if (select) {
        const other = Boolean(decision) && !anyPressed;
        select.value = other ? decision.label : "";
        select.classList.toggle("chosen", other);
      }
    }
    const number = Object.keys(decided).length;
    bar.hidden = number === 0 && earlier.length === 0;
    document.getElementById("undo").hidden = earlier.length === 0;
    document.getElementById("number").textContent =
      number === 1 ? "1 photo reviewed." : number + " photos reviewed.";
  }

  function decide(box, label) {
    const { sha256, path, given } = box.dataset;
    earlier.push({ ...decided });
    if (label === null || decided[sha256]?.label === label) {
      delete decided[sha256];
    } else {
      const note = !given ? "" : label === given ? "confirmed" : "was " + given;
      decided[sha256] = { label, path, note };
    }
    remember();
    show();
  }

  function save() {
    const all = { ...data.corrections, ...decided };
    const lines = Object.entries(all).map(([sha256, decision]) =>
      [sha256, decision.label, decision.path, decision.note].map(quote).join("\t"));
    const text = ["sha256\tclass\tpath\tnote", ...lines].join("\n") + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/tab-separated-values" }));
    link.download = "corrections.tsv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    document.getElementById("saved").hidden = false;
  }

  for (const box of document.querySelectorAll(".decide")) {
    box.hidden = false;
    for (const button of box.querySelectorAll("button")) {
      button.addEventListener("click", () => decide(box, button.value));
    }
    const taken = new Set([...box.querySelectorAll("button")].map((button) => button.value));
    const others = data.classes.filter((name) => !taken.has(name));
    if (others.length) {
      const select = document.createElement("select");
      select.setAttribute("aria-label", "another class");
      select.add(new Option("other", ""));
      for (const name of others) select.add(new Option(name, name));
      select.addEventListener("change", () => decide(box, select.value || null));
      box.append(select);
    }
  }
  document.getElementById("save").addEventListener("click", save);
  document.getElementById("undo").addEventListener("click", () => {
    decided = earlier.pop();
    remember();
    show();
  });

  const known = new Set([...document.querySelectorAll(".decide")].map((b) => b.dataset.sha256));
  for (const [sha256, decision] of Object.entries(recall())) {
    const valid = decision.label === "" || data.classes.includes(decision.label);
    const earlier = data.corrections[sha256];
    const isNew = !earlier || earlier.note === "in a group";
    if (known.has(sha256) && valid && isNew) decided[sha256] = decision;
  }
  show();
})();
