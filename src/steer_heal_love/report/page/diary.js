"use strict";

if (document.getElementById("spoken")) {
  const LEVELS = [1, 2, 4, 6, 8]; // nats at which the ground gets a shade darker
  const RIVALS = ["sft", "arithmetic"]; // of the first round alone
  const picker = document.getElementById("prompt");
  const answer = document.getElementById("answer");
  const shade = document.getElementById("shade");
  const place = document.getElementById("answers");

  const level = (nats) => LEVELS.filter((least) => nats >= least).length;

  function piece(said, i) {
    const nats = said.nats[i];
    if (nats === undefined) return said.tokens[i];
    const part = make("span", `s${level(nats)}`, said.tokens[i]);
    part.title = `${nats.toFixed(1)} nats`;
    return part;
  }

  function words(said) {
    const text = make("p", "words");
    const pieces = said.tokens.map((_, i) => piece(said, i));
    let at = 0;
    for (const [from, to] of said.again) {
      const looping = make("mark", "again");
      looping.append(...pieces.slice(from, to));
      text.append(...pieces.slice(at, from), looping);
      at = to;
    }
    text.append(...pieces.slice(at));
    if (!said.tokens.join("").trim()) text.replaceChildren(make("em", "quiet", "(nothing)"));
    return text;
  }

  function marks(said) {
    const list = make("ul", "marks");
    if (said.loops) list.append(make("li", "loop", "↻ loops"));
    if (said.reasons.length) list.append(make("li", "", `the filter would drop it: ${said.reasons.join(", ")}`));
    if (!said.ended) list.append(make("li", "", "cut off by the token limit"));
    return list;
  }

  function card(column, said) {
    const box = make("article", `said ${column.condition}${said?.loops ? " loops" : ""}`);
    box.append(make("h4", "", column.label));
    if (!said) box.append(make("p", "note", "No such answer."));
    else {
      box.append(words(said));
      const list = marks(said);
      if (list.children.length) box.append(list);
    }
    return box;
  }

  function day(heading, columns, pick) {
    const box = make("div", "day");
    const pair = make("div", "pair");
    for (const column of columns) pair.append(card(column, pick(column)));
    box.append(make("h3", "", heading), pair);
    return box;
  }

  function start(data) {
    const at = new Map();
    for (const said of data.answers) {
      const key = [said.prompt, said.column, said.round, said.mode].join("/");
      at.set(key, [...(at.get(key) ?? []), said]);
    }
    data.prompts.forEach((prompt, i) => {
      const short = prompt.replace(/\s+/g, " ");
      picker.append(new Option(short.length > 70 ? `${short.slice(0, 69)}…` : short, i));
    });

    /** The kinds of answers that there are to a prompt: greedy, sampled, sampled 2, … */
    function kinds(prompt) {
      const most = new Map();
      for (const [key, list] of at) {
        const [number, , , mode] = key.split("/");
        if (Number(number) === prompt) most.set(mode, Math.max(most.get(mode) ?? 0, list.length));
      }
      return [...most].sort().reverse().flatMap(([mode, count]) => Array.from({ length: count }, (_, i) => ({ mode, i })));
    }

    function fillKinds() {
      const before = answer.selectedOptions[0]?.textContent;
      answer.replaceChildren();
      for (const { mode, i } of kinds(Number(picker.value))) {
        const label = i ? `${mode} ${i + 1}` : mode;
        answer.append(new Option(label, JSON.stringify([mode, i]), false, label === before));
      }
    }

    function show() {
      const prompt = Number(picker.value);
      const [mode, i] = JSON.parse(answer.value || '["sampled", 0]');
      const pick = (round) => (column) => at.get([prompt, column.key, round, mode].join("/"))?.[i];
      document.getElementById("asked").textContent = data.prompts[prompt];
      const rounds = make("div", "rounds");
      for (const { round, label } of data.rounds) {
        const there = data.moving.filter((column) => round === data.rounds[0].round || !RIVALS.includes(column.condition));
        rounds.append(day(label, there, pick(round)));
      }
      place.replaceChildren(day("day 0, before anything", data.fixed, pick(null)), rounds);
      document.getElementById("previous-prompt").disabled = prompt === 0;
      document.getElementById("next-prompt").disabled = prompt === data.prompts.length - 1;
    }

    const turn = (step) => () => { picker.selectedIndex += step; fillKinds(); show(); };
    picker.addEventListener("change", () => { fillKinds(); show(); });
    answer.addEventListener("change", show);
    document.getElementById("previous-prompt").addEventListener("click", turn(-1));
    document.getElementById("next-prompt").addEventListener("click", turn(1));
    shade.addEventListener("change", () => place.classList.toggle("shaded", shade.checked));
    place.classList.toggle("shaded", shade.checked);
    fillKinds();
    show();
  }

  unpack("spoken").then(start).catch(console.error);
}
