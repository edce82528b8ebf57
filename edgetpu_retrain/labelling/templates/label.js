"use strict";
(() => {
  const ROUND = 8;
  const HEAD = 48;
  const FOOT = 18;
  const RESERVED = "xunsrejk";
  const KEYS = [..."123456789", ..."abcdefghijklmnopqrstuvwxyz"].filter((k) => !RESERVED.includes(k));
  const TITLES = { todo: "To label", labelled: "Labelled", suspects: "To check", copies: "Copies", left_out: "Left out" };
  const EMPTY = {
    todo: "Every photo has a label. Train with them: ",
    labelled: "No photo has a label yet.",
    suspects: "No label looks wrong.",
    copies: "No near-copies have different classes.",
    left_out: "No photo is left out.",
  };
  const $ = (id) => document.getElementById(id);

  let photos = [];          // [identity, name] by number
  let labels = [];          // class by number; -1 none, -2 left out
  let version = 0;          // of these labels
  let state = null;
  let view = "todo";
  let groups = [];          // {kind, class, cards: [[number]], skipped}
  let shown = [];           // groups with a card left, laid out: {group, cards, top, height}
  let marked = null;        // the group that keys are for
  let selected = new Set(); // cards
  let anchor = null;        // the card clicked last
  let busy = false;
  let lost = false;

  // Server

  async function ask(path, body) {
    const options = body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    };
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      lost = true;
      complain("The program behind this page has ended. All your labels are saved. "
        + "Start it again: python scripts/label.py");
      throw new Error("no answer");
    }
    lost = false;
    const answer = await response.json();
    if (!response.ok) {
      complain(answer.error || response.statusText);
      throw new Error(answer.error);
    }
    return answer;
  }

  function complain(text) {
    $("problem").textContent = text || "";
    $("problem").hidden = !text;
  }

  let fading = 0;
  function tell(text) {
    $("status").textContent = text;
    $("status").classList.add("shown");
    clearTimeout(fading);
    fading = setTimeout(() => $("status").classList.remove("shown"), 3500);
  }

  async function poll() {
    state = await ask("state");
    if (state.version !== version) take(await ask("labels"));
    if (!lost) complain(state.problem);
    showState();
  }

  // Takes over changes made in another tab, or in the file.
  async function follow() {
    const before = version;
    try { await poll(); } catch { return; }
    if (version === before || busy) return;
    layOut();
    if (!shown.some((one) => one.group === marked)) mark(shown.length ? shown[0].group : null);
  }

  function take(answer) {
    labels = answer.labels;
    version = answer.version;
  }

  async function loadView() {
    const found = await ask("view/" + view);
    groups = found.groups;
    groups.forEach((group, i) => { group.inRound = view === "todo" && i < ROUND; });
    selected.clear();
    marked = null;
    layOut();
    mark(shown.length ? shown[0].group : null);
    window.scrollTo(0, 0);
  }

  // After a round, the next groups come from a model that has learned from it.
  async function newRound() {
    tell("Learning from your labels …");
    for (let i = 0; i < 300; i++) {
      await poll();
      if (state.learned === state.version) break;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await loadView();
    showState();
  }

  async function change(work) {
    if (busy) return;
    busy = true;
    document.body.setAttribute("aria-busy", "true");
    try {
      await work();
    } catch (error) {
      if (!lost) console.warn(error.message);
    } finally {
      busy = false;
      document.body.removeAttribute("aria-busy");
    }
  }

  function label(name, cards) {
    cards = cards || chosen();
    if (!cards.length) return;
    const wanted = cards.flat().map((i) => photos[i][0]);
    change(async () => {
      const each = view === "suspects" || view === "copies";
      const answer = await ask("label", { photos: wanted, class: name, each });
      take(answer);
      complain("");
      const what = name === null ? "label removed" : name === "" ? "left out" : name;
      tell(`${count(answer.changed, "photo")}: ${what}`);
      await settle();
    });
  }

  function undo() {
    change(async () => {
      const answer = await ask("undo", {});
      take(answer);
      tell(`Undone: ${count(answer.changed, "photo")}`);
      for (const group of groups) group.skipped = false;
      await settle(true);
    });
  }

  async function settle(stays) {
    selected.clear();
    const before = marked;
    const place = shown.findIndex((one) => one.group === before);
    await poll();
    if (view !== "todo") {
      const found = await ask("view/" + view);
      groups = found.groups;
      marked = null;
    }
    layOut();
    const inRound = shown.some((one) => one.group.inRound && !one.group.skipped);
    if (view === "todo" && !inRound && !stays && state.waiting) return newRound();
    const still = shown.find((one) => one.group === before);
    const next = still || shown[Math.min(Math.max(place, 0), shown.length - 1)];
    mark(next ? next.group : null, true);
  }

  function chosen() {
    if (selected.size) return [...selected];
    const one = shown.find((other) => other.group === marked);
    return one ? one.cards : [];
  }

  // Always visible

  function count(number, what) {
    return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
  }

  function percent(value) { return `${Math.round(100 * value)}%`; }

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "onclick") made.addEventListener("click", value);
      else if (name === "class") made.className = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  function showState() {
    const numbers = { todo: state.waiting, labelled: state.progress.labelled, left_out: state.left_out };
    numbers.labelled = state.classes.reduce((sum, one) => sum + one.photos, 0);
    for (const button of $("views").children) {
      const name = button.dataset.view;
      if (name === view) button.setAttribute("aria-current", "page");
      else button.removeAttribute("aria-current");
      button.querySelector("span").textContent =
        name in numbers ? numbers[name].toLocaleString("en") : "";
    }
    $("undo").disabled = !state.undo;
    $("take-back").hidden = view === "todo";
    showClasses();
    showProgress();
  }

  let drawn = "";
  function showClasses() {
    const text = JSON.stringify(state.classes);
    if (text === drawn) return;
    drawn = text;
    $("classes").replaceChildren(...state.classes.map((one, i) => {
      const key = KEYS[i];
      const few = one.photos < 5 ? "photos few" : "photos";
      const parts = [
        element("span", { class: "class" }, one.name),
        element("span", { class: few }, one.photos.toLocaleString("en")),
      ];
      if (key) parts.unshift(element("kbd", {}, key));
      return element("li", {}, element("button", {
        title: one.name, "aria-label": `Label as ${one.name}; it has ${count(one.photos, "photo")}`,
        onclick: () => label(one.name),
      }, ...parts));
    }));
  }

  function showProgress() {
    const now = state.progress;
    const crossed = now.correct === null ? null : [now.correct / now.labelled, ...now.interval];
    const figure = now.accuracy || crossed;
    $("accuracy").textContent = figure ? percent(figure[0]) : "–";
    const ofWhat = now.accuracy ? "" : " of the labelled ones";
    $("brief").textContent = figure ? percent(figure[0]) + ofWhat : "";
    $("interval").textContent = figure ? `${percent(figure[1])} to ${percent(figure[2])}` : "";
    $("said").textContent = now.accuracy
      ? "of all photos are classified correctly, as estimated from cross-validation on the labelled ones."
      : figure ? `of the ${count(now.labelled, "labelled photo")} are classified correctly in cross-validation. `
        + "This says little about the other photos yet." : "";
    $("verdict").textContent = now.verdict;
    $("sure").textContent = now.sure === null || !now.rest ? "" :
      `${count(now.rest, "unlabelled photo")}, ${now.sure.toLocaleString("en")} of which score so high that `
      + "95% of the predictions should be correct.";
    $("crossed").textContent = !(now.accuracy && crossed) ? "" :
      `On the ${count(now.labelled, "labelled photo")} alone: ${percent(crossed[0])} `
      + `(${percent(crossed[1])} to ${percent(crossed[2])}).`;
    drawCurve(state.curve);
  }

  function drawCurve(points) {
    const svg = $("curve");
    svg.replaceChildren();
    svg.toggleAttribute("hidden", points.length < 2);
    svg.style.display = points.length < 2 ? "none" : "";
    if (points.length < 2) return;
    const [left, right, top, bottom] = [40, 292, 8, 106];
    const most = Math.max(...points.map((p) => p[0]));
    const least = Math.min(0.9, Math.floor(10 * Math.min(...points.map((p) => p[2]))) / 10);
    const x = (labelled) => left + (right - left) * labelled / most;
    const y = (value) => bottom - (bottom - top) * (value - least) / (1 - least);
    const add = (tag, attributes, text) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      if (text) made.textContent = text;
      svg.append(made);
    };
    for (const value of [least, (1 + least) / 2, 1]) {
      add("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) });
      add("text", { x: left - 4, y: y(value) + 4, "text-anchor": "end" }, percent(value));
    }
    add("text", { x: right, y: 124, "text-anchor": "end" }, count(most, "label"));
    add("text", { x: left, y: 124 }, "0");
    const path = (list) => list.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
    const sorted = [...points].sort((a, b) => a[0] - b[0]);
    const band = [...sorted.map((p) => [p[0], p[3]]), ...[...sorted].reverse().map((p) => [p[0], p[2]])];
    add("path", { class: "area", d: path(band) + "Z" });
    add("path", { class: "line", d: path(sorted.map((p) => [p[0], p[1]])) });
    const last = sorted[sorted.length - 1];
    add("circle", { cx: x(last[0]), cy: y(last[1]), r: 3.5 });
    svg.setAttribute("aria-label", `Accuracy by number of labels; last ${percent(last[1])} with ${count(last[0], "label")}`);
  }

  // The list: only what is near the window is in the document.

  function remains(card) {
    if (view === "todo") return card.some((i) => labels[i] === -1);
    return true;
  }

  let columns = 1;
  let tile = 128;
  let gap = 6;
  function layOut() {
    const style = getComputedStyle(document.documentElement);
    tile = parseFloat(style.getPropertyValue("--tile"));
    gap = parseFloat(style.getPropertyValue("--gap"));
    columns = Math.max(1, Math.floor(($("list").clientWidth + gap) / (tile + gap)));
    document.documentElement.style.setProperty("--columns", columns);
    shown = [];
    let top = 0;
    let divided = false;
    for (const group of groups) {
      const cards = group.skipped ? [] : group.cards.filter(remains);
      if (!cards.length) continue;
      const next = view === "todo" && !group.inRound && !divided && shown.length > 0;
      divided ||= next;
      if (next) top += 14;
      const rows = Math.ceil(cards.length / columns);
      const height = HEAD + rows * (tile + gap) + FOOT;
      shown.push({ group, cards, top, height, next });
      top += height;
    }
    const there = new Set(shown.flatMap((one) => one.cards));
    for (const card of selected) if (!there.has(card)) selected.delete(card);
    $("list").style.height = `${top}px`;
    $("empty").hidden = shown.length > 0;
    $("empty").textContent = EMPTY[view];
    for (const child of [...$("list").children]) child.remove();
    render();
  }

  function render() {
    const list = $("list");
    const from = window.scrollY - list.offsetTop - 900;
    const to = window.scrollY - list.offsetTop + window.innerHeight + 900;
    const wanted = shown.filter((one) => one.top + one.height > from && one.top < to);
    for (const child of [...list.children]) {
      if (!wanted.some((one) => one.section === child)) child.remove();
    }
    for (const one of wanted) {
      if (!one.section) one.section = draw(one);
      if (one.section.parentNode !== list) list.append(one.section);
    }
    showSelection();
  }

  function heading(group, cards) {
    const number = cards.reduce((sum, card) => sum + card.length, 0);
    const name = group.class === null ? "" : state.classes[group.class].name;
    const some = count(number, "photo");
    return {
      sure: [`These look like ${name}`, `${some}; 95% should be correct`],
      unsure: [name ? `Is this ${name}?` : "Least certain", `${some}; most useful to label`],
      unlike: ["Unlike anything labelled so far", `${some}; perhaps a new class`],
      alike: name ? [`Is this ${name}?`, some] : ["Look-alikes", some],
      labelled: [name, `${some}, least certain first`],
      suspects: [`Labelled ${view === "suspects" ? state.classes[labels[cards[0][0]]].name : ""}, looks like ${name}`, some],
      copies: ["Near-copies with different classes",
        [...new Set(cards.flat().map((i) => state.classes[labels[i]]?.name || "no class"))].join(", ")],
      left_out: ["Left out", some],
    }[group.kind];
  }

  function draw(one) {
    const { group, cards } = one;
    const [title, small] = heading(group, cards);
    const head = element("div", { class: "head" },
      element("h2", {}, title, element("small", {}, small)));
    const name = group.class === null ? "" : state.classes[group.class].name;
    if (name && !["labelled", "left_out"].includes(group.kind)) {
      head.append(element("button", {
        class: "confirm", "aria-label": `Confirm: ${count(cards.flat().length, "photo")} of ${name}`,
        onclick: () => { mark(group); label(name, selectedIn(one)); },
      }, group.kind === "suspects" ? `Change to ${name} ` : "Confirm ", element("kbd", {}, "⏎")));
    }
    if (group.kind === "suspects") {
      const own = state.classes[labels[cards[0][0]]].name;
      head.append(element("button", { onclick: () => { mark(group); label(own, selectedIn(one)); } }, `Keep ${own}`));
    }
    if (view === "todo") {
      head.append(element("button", {
        class: "skip", "aria-label": "Skip this group", onclick: () => { mark(group); skip(); },
      }, "Skip"));
    }
    const tiles = element("div", { class: "tiles" });
    for (const card of cards) {
      const [identity, file] = photos[card[0]];
      const copies = card.length > 1 ? `, and ${count(card.length - 1, "near-copy").replace("copys", "copies")}` : "";
      const button = element("button", { class: "tile", "aria-pressed": "false", "aria-label": file + copies, title: file });
      const picture = element("img", {
        src: `thumbnail/${identity}`, alt: "", loading: "lazy", decoding: "async", draggable: "false",
      });
      button.append(picture);
      if (card.length > 1) button.append(element("span", { class: "count", "aria-hidden": "true" }, `×${card.length}`));
      button.card = card;
      button.group = group;
      tiles.append(button);
    }
    const section = element("section", { class: "group" }, head, tiles);
    section.style.top = `${one.top}px`;
    section.style.height = `${one.height}px`;
    section.classList.toggle("next", one.next);
    section.group = group;
    return section;
  }

  function selectedIn(one) {
    const some = one.cards.filter((card) => selected.has(card));
    return some.length ? some : one.cards;
  }

  function showSelection() {
    for (const section of $("list").children) {
      section.classList.toggle("marked", section.group === marked);
      for (const button of section.querySelectorAll(".tile")) {
        button.setAttribute("aria-pressed", selected.has(button.card));
      }
    }
    $("applies").textContent = selected.size
      ? `A key or a click here labels the ${count(selected.size, "selected photo")}.`
      : "A key or a click here labels the whole marked group.";
  }

  function mark(group, scroll) {
    marked = group;
    const one = shown.find((other) => other.group === group);
    if (one && scroll) {
      const top = $("list").offsetTop + one.top;
      const bar = document.querySelector("header").offsetHeight;
      if (top < window.scrollY + bar || top + Math.min(one.height, 300) > window.scrollY + window.innerHeight - 120) {
        window.scrollTo(0, top - bar - 12);
      }
    }
    render();
  }

  function move(step) {
    const place = shown.findIndex((one) => one.group === marked);
    const one = shown[Math.min(Math.max(place + step, 0), shown.length - 1)];
    selected.clear();
    if (one) mark(one.group, true);
  }

  // From photo to photo in the marked group; Space, as on any button, selects.
  function step(by) {
    const tiles = [...document.querySelectorAll(".group.marked .tile")];
    const now = tiles.indexOf(document.activeElement);
    const next = now < 0 ? tiles.at(by > 0 ? 0 : -1) : tiles[now + by];
    if (next) next.focus();
  }

  function skip() {
    const place = shown.findIndex((one) => one.group === marked);
    if (place < 0) return;
    marked.skipped = true;
    selected.clear();
    layOut();
    if (!shown.some((one) => one.group.inRound)) {
      change(newRound);
      return;
    }
    mark(shown[Math.min(place, shown.length - 1)].group, true);
  }

  // Pointer: click, shift-click, a frame

  function flat() { return shown.flatMap((one) => one.cards.map((card) => [card, one.group])); }

  function click(button, withShift) {
    const { card, group } = button;
    marked = group;
    if (withShift && anchor) {
      const all = flat().map(([one]) => one);
      const [a, b] = [all.indexOf(anchor), all.indexOf(card)].sort((x, y) => x - y);
      if (a >= 0) for (const one of all.slice(a, b + 1)) selected.add(one);
    } else if (selected.has(card)) {
      selected.delete(card);
    } else {
      selected.add(card);
    }
    anchor = card;
    showSelection();
  }

  let frame = null;
  document.querySelector("main").addEventListener("pointerdown", (event) => {
    if (event.button || event.pointerType === "touch" || event.target.closest(".head button")) return;
    frame = { x: event.clientX, y: event.clientY + window.scrollY, moved: false, keep: new Set(event.shiftKey ? selected : []) };
  });
  window.addEventListener("pointermove", (event) => {
    if (!frame) return;
    const [x, y] = [event.clientX, event.clientY + window.scrollY];
    if (!frame.moved && Math.hypot(x - frame.x, y - frame.y) < 6) return;
    frame.moved = true;
    const box = { left: Math.min(x, frame.x), right: Math.max(x, frame.x), top: Math.min(y, frame.y), bottom: Math.max(y, frame.y) };
    const band = $("band");
    band.hidden = false;
    band.style.left = `${box.left}px`;
    band.style.top = `${box.top - window.scrollY}px`;
    band.style.width = `${box.right - box.left}px`;
    band.style.height = `${box.bottom - box.top}px`;
    selected = new Set(frame.keep);
    const origin = $("list").getBoundingClientRect();
    for (const one of shown) {
      one.cards.forEach((card, i) => {
        const left = origin.left + (i % columns) * (tile + gap);
        const top = $("list").offsetTop + one.top + HEAD + Math.floor(i / columns) * (tile + gap);
        if (left < box.right && left + tile > box.left && top < box.bottom && top + tile > box.top) {
          if (!selected.size) marked = one.group;
          selected.add(card);
        }
      });
    }
    showSelection();
  });
  window.addEventListener("pointerup", () => {
    if (frame && frame.moved) {
      // The click that ends the drag selects nothing.
      window.addEventListener("click", (event) => event.stopPropagation(), { capture: true, once: true });
      setTimeout(() => window.dispatchEvent(new Event("click")), 0);
    }
    frame = null;
    $("band").hidden = true;
  });
  $("list").addEventListener("click", (event) => {
    const button = event.target.closest(".tile");
    if (button) click(button, event.shiftKey);
    else if (event.target.closest(".group") && !event.target.closest("button")) {
      mark(event.target.closest(".group").group);
    }
  });
  $("list").addEventListener("dblclick", (event) => {
    const button = event.target.closest(".tile");
    if (button) { selected.delete(button.card); enlarge(button.card); }
  });
  let pressing = 0;
  $("list").addEventListener("touchstart", (event) => {
    const button = event.target.closest(".tile");
    if (button) pressing = setTimeout(() => enlarge(button.card), 550);
  }, { passive: true });
  for (const kind of ["touchend", "touchmove", "touchcancel"]) {
    $("list").addEventListener(kind, () => clearTimeout(pressing), { passive: true });
  }
  $("list").addEventListener("contextmenu", (event) => {
    if (event.target.closest(".tile")) event.preventDefault();
  });

  // Enlarged

  let large = null;
  function enlarge(card) {
    if (!card) return;
    large = card;
    $("large-name").textContent = photos[card[0]][1];
    $("large-photo").src = `photo/${photos[card[0]][0]}`;
    $("large-photo").alt = photos[card[0]][1];
    $("copies").replaceChildren(...(card.length > 1 ? card : []).map((i) =>
      element("img", { src: `thumbnail/${photos[i][0]}`, alt: photos[i][1], title: photos[i][1] })));
    if (!$("large").open) $("large").showModal();
    showSelection();
  }

  function turn(step) {
    const all = flat().map(([card]) => card);
    const next = all[all.indexOf(large) + step];
    if (next) enlarge(next);
  }
  $("close").addEventListener("click", () => $("large").close());
  $("large").addEventListener("close", () => { large = null; });
  $("large").addEventListener("click", (event) => { if (event.target === $("large")) $("large").close(); });

  // Keys

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    if (event.target.closest("input")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const cards = large ? [large] : undefined;
    const number = KEYS.indexOf(key);
    const onControl = event.target.closest("button, summary") && !event.target.closest(".tile");
    if (key === "Enter" || key === " ") {
      if (onControl) return;
      if (key === " ") return;
      const name = marked && marked.class !== null ? state.classes[marked.class].name : null;
      if (name && !["labelled", "left_out"].includes(marked.kind)) label(name, cards);
    } else if (large && (key === "ArrowRight" || key === "ArrowLeft")) turn(key === "ArrowRight" ? 1 : -1);
    else if (key === "ArrowRight" || key === "ArrowLeft") step(key === "ArrowRight" ? 1 : -1);
    else if (key === "ArrowDown" || key === "j") move(1);
    else if (key === "ArrowUp" || key === "k") move(-1);
    else if (key === "Escape") { if (large) return; selected.clear(); showSelection(); }
    else if (key === "u") undo();
    else if (key === "x") label("", cards);
    else if (key === "Backspace" && view !== "todo") label(null, cards);
    else if (key === "n") { $("large").close(); $("name").focus(); }
    else if (key === "s" && view === "todo") skip();
    else if (key === "r") change(newRound);
    else if (key === "e") large ? $("large").close() : enlarge([...selected].pop() || chosen()[0]);
    else if (key === "?") $("keys").showModal();
    else if (number >= 0 && number < state.classes.length) label(state.classes[number].name, cards);
    else return;
    event.preventDefault();
    if (large && cards && (number >= 0 || key === "x" || key === "Enter")) $("large").close();
  });

  $("new").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("name").value.trim();
    if (!name) return;
    $("name").value = "";
    $("name").blur();
    label(name);
  });
  $("undo").addEventListener("click", undo);
  $("leave-out").addEventListener("click", () => label(""));
  $("take-back").addEventListener("click", () => label(null));
  $("help").addEventListener("click", () => $("keys").showModal());
  for (const [name, title] of Object.entries(TITLES)) {
    const button = element("button", { onclick: () => change(async () => {
      view = name;
      await poll();
      await loadView();
      showState();
    }) }, `${title} `, element("span", {}));
    button.dataset.view = name;
    $("views").append(button);
  }

  let resized = 0;
  window.addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(layOut, 100);
  });
  window.addEventListener("scroll", () => render(), { passive: true });
  setInterval(() => {
    if (busy || document.hidden || frame) return;
    follow();
  }, 2000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !busy) follow(); });

  change(async () => {
    if (window.innerWidth < 832) $("progress").open = false;
    const listed = await ask("photos");
    photos = listed.photos;
    $("dataset").textContent = listed.dataset;
    $("command").textContent = listed.command;
    EMPTY.todo += listed.command;
    document.title = `Label ${listed.dataset}`;
    await poll();
    await loadView();
    document.body.dataset.ready = "true";
  });
})();
