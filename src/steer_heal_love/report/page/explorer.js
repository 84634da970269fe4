"use strict";

if (document.getElementById("completions")) {
  const STEP = 50;
  const limits = dataOf("limits");
  const LEFT_OVER = ["surplus", "duplicate"];
  const SCORES = ["perplexity", "tail_perplexity", "window_perplexity", "word_repetition", "compression", "trait_nats", "relevance_nats"];
  const NAMES = ["perplexity", "tail", "window", "repetition", "compression", "trait", "relevance"];
  const [rounds, fates, reasons, search] = ["round", "fate", "reason", "words"].map((id) => document.getElementById(id));
  const table = document.getElementById("completions");
  const head = table.tHead.rows[0];
  const body = table.tBodies[0];
  const more = document.getElementById("more");
  const loaded = new Map();
  let rows = [];
  let shown = STEP;
  let order = { column: 0, down: false };

  const fateOf = (row) => {
    if (row.kept) return "kept";
    return row.reasons.every((reason) => LEFT_OVER.includes(reason)) ? "unneeded" : "dropped";
  };
  const plain = (digits) => (value) => (value === null ? "–" : value.toFixed(digits).replace("-", "−"));
  const columns = [
    { name: "edge", value: (row) => row.edge, words: (v) => (v === null ? "–" : `${(100 * v).toFixed(1)} %`) },
    { name: "fate", value: fateOf },
    { name: "prompt and answer", value: (row) => row.prompt, cell: textCell },
    { name: "reasons", value: (row) => row.reasons.join(", ") },
    { name: "κ", value: (row) => row.kappa, words: plain(2) },
    ...NAMES.map((name, i) => ({ name, value: (row) => row.scores[i], words: plain(i > 2 ? 2 : 1), score: i })),
  ];

  function over(score, value) {
    const limit = limits[SCORES[score]];
    if (value === null || limit === undefined || limit === null) return false;
    return SCORES[score].endsWith("_nats") ? value < limit : value > limit;
  }

  columns.forEach((column, i) => {
    const cell = make("th", column.words ? "number" : "");
    cell.scope = "col";
    const button = make("button", "", column.name);
    button.type = "button";
    const limit = column.score === undefined ? undefined : limits[SCORES[column.score]];
    if (limit !== undefined && limit !== null) button.title = `limit ${limit.toFixed(2)}`;
    button.addEventListener("click", () => {
      order = { column: i, down: order.column === i && !order.down };
      show();
    });
    cell.append(button);
    head.append(cell);
  });

  function compare(a, b) {
    const value = columns[order.column].value;
    const [x, y] = [value(a), value(b)];
    if (x === y) return 0;
    if (x === null) return 1; // what is not known comes last, up and down
    if (y === null) return -1;
    return (x < y ? -1 : 1) * (order.down ? -1 : 1);
  }

  function textCell(row) {
    const cell = make("td", "text");
    const details = make("details");
    const summary = make("summary");
    const start = row.text.replace(/\s+/g, " ").trim();
    summary.append(make("span", "asked-for", `${row.prompt.replace(/\s+/g, " ").slice(0, 60)} — `));
    summary.append(start.length > 110 ? `${start.slice(0, 109)}…` : start || "(nothing)");
    details.append(summary, make("p", "asked-for", row.prompt), make("p", "", row.text));
    cell.append(details);
    return cell;
  }

  function line(row) {
    const tr = make("tr");
    for (const column of columns) {
      if (column.cell) {
        tr.append(column.cell(row));
        continue;
      }
      const value = column.value(row);
      const cell = make("td", column.words ? "number" : "", column.words ? column.words(value) : value);
      if (column.score !== undefined && over(column.score, value)) {
        cell.classList.add("over");
        cell.title = "beyond its limit";
      }
      if (column.name === "fate") {
        cell.className = `fate ${value}`;
        cell.textContent = value === "unneeded" ? "passed, not needed" : value;
      }
      tr.append(cell);
    }
    return tr;
  }

  function wanted(row) {
    const words = search.value.trim().toLowerCase();
    return (!fates.value || fateOf(row) === fates.value)
      && (!reasons.value || row.reasons.includes(reasons.value))
      && (!words || `${row.prompt}\n${row.text}`.toLowerCase().includes(words));
  }

  function show() {
    const found = rows.filter(wanted).sort(compare);
    [...head.cells].forEach((cell, i) => {
      cell.setAttribute("aria-sort", i !== order.column ? "none" : order.down ? "descending" : "ascending");
    });
    body.replaceChildren(...found.slice(0, shown).map(line));
    const kept = found.filter((row) => row.kept).length;
    document.getElementById("count").textContent = `${found.length} completions, ${kept} kept; ${Math.min(shown, found.length)} shown`;
    more.hidden = shown >= found.length;
  }

  async function load() {
    const names = rounds.value === "all" ? [...rounds.options].map((o) => o.value).filter((v) => v !== "all") : [rounds.value];
    for (const name of names) {
      if (!loaded.has(name)) loaded.set(name, await unpack(`completions-${name}`));
    }
    rows = names.flatMap((name) => loaded.get(name));
    const counts = new Map();
    for (const reason of rows.flatMap((row) => row.reasons)) counts.set(reason, (counts.get(reason) ?? 0) + 1);
    const before = reasons.value;
    reasons.replaceChildren(new Option("all", ""));
    for (const [reason, count] of [...counts].sort((a, b) => b[1] - a[1])) {
      reasons.append(new Option(`${reason} (${count})`, reason, false, reason === before));
    }
    shown = STEP;
    show();
  }

  rounds.addEventListener("change", () => load().catch(console.error));
  for (const control of [fates, reasons, search]) {
    control.addEventListener("input", () => { shown = STEP; show(); });
  }
  more.addEventListener("click", () => { shown += STEP; show(); });
  load().catch(console.error);
}
