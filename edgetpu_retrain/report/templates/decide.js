"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const bar = document.getElementById("bar");
  const STORE = "corrections " + data.key;
  // Identity of a photo -> what was decided on this page: {label, path, note}.
  let decided = {};

  function quote(field) {
    return /[\t"\r\n]/.test(field) ? '"' + field.replaceAll('"', '""') + '"' : field;
  }

  function remember() {
    try { localStorage.setItem(STORE, JSON.stringify(decided)); } catch { /* a private window */ }
  }

  function recall() {
    try { return JSON.parse(localStorage.getItem(STORE)) || {}; } catch { return {}; }
  }

  function show() {
    for (const box of document.querySelectorAll(".decide")) {
      const one = decided[box.dataset.sha256];
      box.closest(".card").classList.toggle("decided", Boolean(one));
      let pressed = false;
      for (const button of box.querySelectorAll("button")) {
        const is = Boolean(one) && button.value === one.label;
        pressed ||= is;
        button.setAttribute("aria-pressed", is);
      }
      const select = box.querySelector("select");
      if (select) {
        const other = Boolean(one) && !pressed;
        select.value = other ? one.label : "";
        select.classList.toggle("chosen", other);
      }
    }
    const number = Object.keys(decided).length;
    bar.hidden = number === 0;
    document.getElementById("number").textContent =
      number === 1 ? "1 photo decided." : number + " photos decided.";
  }

  function decide(box, label) {
    const { sha256, path, given } = box.dataset;
    if (label === null || decided[sha256]?.label === label) {
      delete decided[sha256];
    } else {
      const note = label === given ? "confirmed" : "was " + given;
      decided[sha256] = { label, path, note };
    }
    remember();
    show();
  }

  function save() {
    const all = { ...data.corrections, ...decided };
    const lines = Object.entries(all).map(([sha256, one]) =>
      [sha256, one.label, one.path, one.note].map(quote).join("\t"));
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
      select.add(new Option("another class", ""));
      for (const name of others) select.add(new Option(name, name));
      select.addEventListener("change", () => decide(box, select.value || null));
      box.append(select);
    }
  }
  document.getElementById("save").addEventListener("click", save);

  const known = new Set([...document.querySelectorAll(".decide")].map((b) => b.dataset.sha256));
  for (const [sha256, one] of Object.entries(recall())) {
    const valid = one.label === "" || data.classes.includes(one.label);
    const earlier = data.corrections[sha256];
    const isNew = !earlier || earlier.note === "in a group";
    if (known.has(sha256) && valid && isNew) decided[sha256] = one;
  }
  show();
})();
