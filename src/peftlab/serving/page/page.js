"use strict";
// All text from a server or a person goes through textContent: nothing of it can become markup.
(() => {
  const $ = id => document.getElementById(id);
  const COLOURS = 8;
  const state = { cards: [], card: null, key: "", busy: null };

  function make(tag, options = {}, ...children) {
    const { class: name, ...rest } = options;
    const element = document.createElement(tag);
    if (name) element.className = name;
    for (const [key, value] of Object.entries(rest)) element[key] = value;
    element.append(...children.filter(child => child !== null && child !== undefined));
    return element;
  }

  const percent = value => `${(100 * value).toFixed(value > 0.9995 || value < 0.0005 ? 2 : 1)} %`;
  const shown = value => typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(4)
    : value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value);
  const typeOf = label => label.replace(/^[BIES]-/, "");
  const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

  // --- The server -----------------------------------------------------------------------------------------------

  class Refusal extends Error {}

  const WORDS = {
    401: "This server asks for a key: enter yours above.",
    403: "Your key is not for this model.",
    404: "This server has no such model any more: reload the page.",
    413: "That is too much for one request.",
    503: "The server is ending or not ready yet: try again soon.",
    504: "The server took too long: try a shorter text, or again.",
  };

  async function call(path, options = {}) {
    const headers = { ...options.headers };
    if (state.key) headers.Authorization = `Bearer ${state.key}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      setState("bad", "not reachable");
      throw new Refusal("The server cannot be reached: is it still running?");
    }
    if (response.ok) return response;
    if (response.status === 401) showKey(true);
    const body = await response.json().catch(() => null);
    throw new Refusal(inWords(response.status, response.headers.get("Retry-After"), body && body.error));
  }

  function inWords(status, after, error) {
    if (status === 429) return `The server has too much to do. Try again ${after ? `in ${count(Number(after), "second", "seconds")}` : "soon"}.`;
    const said = error && typeof error.message === "string" ? error.message : "";
    if (status === 401 || !said) return WORDS[status] || `The server refuses this (status ${status}).`;
    return status >= 500 && WORDS[status] ? WORDS[status] : said;
  }

  function setState(kind, text) {
    document.querySelector("#state .dot").className = `dot ${kind}`;
    $("state-text").textContent = text;
  }

  async function loadModels() {
    try {
      const { models } = await (await call("v1/models")).json();
      state.cards = models;
      $("model").replaceChildren(...models.map(card => make("option", { value: card.name, textContent: card.name })));
      $("model").disabled = models.length < 2;
      setState("good", count(models.length, "model", "models"));
      if (models.length) choose(models[0].name);
      else problem("Your key is for none of this server's models.");
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      $("ask").disabled = true;
      $("model").replaceChildren(make("option", { textContent: "–" }));
      if (!$("key-field").hidden) setState("", "asks for a key");
      problem(error.message);
    }
  }

  // --- The form -------------------------------------------------------------------------------------------------

  function choose(name) {
    const before = state.card && state.card.name !== name ? null : readFields();
    const card = state.card = state.cards.find(one => one.name === name);
    $("model").value = name;
    const facts = { task: card.task, method: card.method, backbone: card.backbone };
    const labels = [...new Set((card.labels || []).map(typeOf).filter(label => label !== "O"))];
    if (labels.length) facts.labels = labels.length > 9 ? `${labels.slice(0, 8).join(", ")} and ${labels.length - 8} more` : labels.join(", ");
    $("card").replaceChildren(...Object.entries(facts).filter(([, value]) => value).map(([key, value]) =>
      make("div", {}, make("dt", { textContent: key }), make("dd", { textContent: value }))));
    $("notice").textContent = card.notice || "";
    $("notice").hidden = !card.notice;
    $("run").textContent = card.run ? `run ${card.run}` : "";
    drawFields(card.example);
    $("lines-field").hidden = !isText(card.example) || card.generates;
    $("ask").disabled = false;
    if (before) fill(before);
    clearAnswers();
  }

  const isMessages = value => Array.isArray(value) && value.length > 0 && value.every(one => one && typeof one === "object");
  const isText = value => typeof value === "string" || (Array.isArray(value) && !isMessages(value)) || isMessages(value) || value === null || value === undefined;
  const asText = value => Array.isArray(value) ? (isMessages(value) ? value[value.length - 1].content : value.join(" ")) : value || "";
  const NAMES = { text: "Text", text_pair: "Second text", question: "Question", context: "Context", choices: "Choices, one a line" };

  function drawFields(example) {
    const fields = isText(example) ? { text: asText(example) } : example;
    $("fields").replaceChildren(...Object.entries(fields).map(([key, value], place) => {
      const id = `field-${place}`;
      const area = make("textarea", { id, name: key, spellcheck: false, rows: Array.isArray(value) ? 4 : 3, placeholder: Array.isArray(value) ? value.join("\n") : asText(value) });
      if (key === "text" || key === "context") area.classList.add("tall");
      area.dataset.kind = typeof value === "string" ? "text" : Array.isArray(value) && value.every(one => typeof one === "string") ? "lines" : "json";
      if (area.dataset.kind === "json") area.placeholder = JSON.stringify(value);
      return make("p", { class: "field" }, make("label", { htmlFor: id, textContent: NAMES[key] || key }), area);
    }));
  }

  const areas = () => [...$("fields").querySelectorAll("textarea")];
  const readFields = () => Object.fromEntries(areas().map(area => [area.name, area.value]));

  function fill(values) {
    for (const area of areas()) if (area.name in values) area.value = values[area.name];
  }

  function inputs() {
    const filled = areas().filter(area => area.value.trim());
    if (!filled.length) throw new Refusal("Write something first, or take the example.");
    if (isText(state.card.example)) {
      const text = filled[0].value;
      return $("lines").checked && !$("lines-field").hidden ? text.split("\n").filter(line => line.trim()) : [text];
    }
    return [Object.fromEntries(filled.map(area => [area.name, valueOf(area)]))];
  }

  function valueOf(area) {
    if (area.dataset.kind === "lines") return area.value.split("\n").filter(line => line.trim());
    if (area.dataset.kind === "text") return area.value;
    try { return JSON.parse(area.value); } catch { throw new Refusal(`“${area.name}” must be JSON, such as ${area.placeholder}`); }
  }

  function showKey(wanted) {
    $("key-field").hidden = !wanted;
    $("show-key").hidden = wanted;
    if (wanted) $("key").focus();
  }

  // --- Asking ---------------------------------------------------------------------------------------------------

  async function ask() {
    if (state.busy || !state.card) return;
    clearAnswers();
    const stopping = state.busy = new AbortController();
    setBusy(true);
    const begun = performance.now();
    try {
      const asked = { model: state.card.name, inputs: inputs() };
      showCommand(asked);
      if (state.card.generates && asked.inputs.length === 1) await stream(asked, stopping.signal, begun);
      else await predict(asked, stopping.signal, begun);
    } catch (error) {
      if (error.name === "AbortError") $("status").textContent = "stopped";
      else if (error instanceof Refusal) problem(error.message);
      else { problem("The answer could not be read."); throw error; }
    } finally {
      state.busy = null;
      setBusy(false);
    }
  }

  function post(asked, signal) {
    return call("v1/predict", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked), signal });
  }

  async function predict(asked, signal, begun) {
    const body = await (await post(asked, signal)).json();
    $("results").replaceChildren(...body.answers.map((answer, place) => draw(answer, asked.inputs[place])));
    drawLegend(body.answers);
    const refused = body.answers.filter(answer => "error" in answer).length;
    done(begun, `${count(body.answers.length, "answer", "answers")}${refused ? `, ${refused} refused,` : ""}`, body.run);
  }

  async function stream(asked, signal, begun) {
    const response = await post({ ...asked, stream: true }, signal);
    const text = make("p", { class: "written going" });
    text.setAttribute("aria-busy", "true");
    const article = make("article", { class: "answer" }, text);
    $("results").replaceChildren(article);
    let first = 0, run = "";
    const take = line => {
      const piece = JSON.parse(line);
      if (piece.error) throw new Refusal(piece.error.message || "The server ended the answer.");
      if (typeof piece.text === "string") {
        first = first || performance.now();
        text.append(piece.text);
      }
      if (piece.done) article.append(...notes(piece));
      if (piece.stopped === false) article.append(goesOn());
      run = piece.run || run;
    };
    try {
      await eachLine(response.body, take);
    } finally {
      text.classList.remove("going");
      text.removeAttribute("aria-busy");
    }
    if (!text.textContent) text.replaceWith(make("p", { class: "note", textContent: "The model wrote nothing." }));
    done(begun, first ? `first words after ${Math.round(first - begun)} ms, all` : "answer", run);
  }

  async function eachLine(body, take) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done: ended } = await reader.read();
      if (ended) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      lines.filter(line => line.trim()).forEach(take);
    }
    if (rest.trim()) take(rest);
  }

  function done(begun, what, run) {
    $("status").textContent = `${what} in ${Math.round(performance.now() - begun)} ms`;
    if (run) $("run").textContent = `run ${run}`;
    setState("good", count(state.cards.length, "model", "models"));
  }

  function setBusy(busy) {
    $("ask").disabled = busy;
    $("stop").hidden = !busy;
    if (busy) $("status").textContent = "asking …";
    $("answers").setAttribute("aria-busy", String(busy));
  }

  function problem(text) {
    $("status").textContent = "";
    $("results").append(make("p", { class: "problem", role: "alert", textContent: text }));
    const empty = $("results").querySelector(".empty");
    if (empty) empty.remove();
  }

  function clearAnswers() {
    $("results").replaceChildren(make("p", { class: "empty", textContent: "Answers appear here." }));
    $("legend").hidden = true;
    $("status").textContent = "";
    $("command").hidden = true;
  }

  function showCommand(asked) {
    const url = new URL("v1/predict", document.baseURI);
    const body = JSON.stringify(asked).replaceAll("'", "'\\''");
    const key = state.key ? " -H \"Authorization: Bearer $KEY\"" : "";
    $("curl").textContent = `curl ${url}${key} -H 'Content-Type: application/json' \\\n  -d '${body}'`;
    $("command").hidden = false;
  }

  // --- Answers --------------------------------------------------------------------------------------------------

  const colours = new Map();
  function colourOf(label) {
    const known = (state.card.labels || []).map(typeOf).filter(one => one !== "O");
    const order = [...new Set([...known, ...colours.keys(), label])];
    colours.set(label, order.indexOf(label) % COLOURS);
    return `c${colours.get(label)}`;
  }

  const KNOWN = new Set(["text", "words", "messages", "text_pair", "question", "context", "choices", "entities", "slots", "intent", "intents",
    "predicted", "probability", "probabilities", "answer", "n_best", "start", "end", "choice", "written", "stopped", "written_tokens", "fills",
    "truncated", "lost_tokens", "lost_words", "error", "masked", "empty"]);

  function draw(answer, input) {
    const article = make("article", { class: "answer" });
    if ("error" in answer) {
      article.append(make("p", { class: "asked", textContent: asText(typeof input === "object" && !Array.isArray(input) ? JSON.stringify(input) : input) }));
      article.append(make("p", { class: "problem", textContent: answer.error }));
      return article;
    }
    const found = answer.entities || answer.slots;
    if (found) {
      article.append(highlighted(answer, found.map(one => ({ ...one, label: one.type }))));
      if (answer.intent) article.append(verdict(answer.intent, answer.probability), bars(answer.intents, [answer.intent]));
      article.append(found.length ? foundTable(found) : make("p", { class: "asked", textContent: "Nothing was found." }));
    } else if ("n_best" in answer) {
      const text = answer.context || answer.text || "";
      article.append(make("p", { class: "asked", textContent: answer.question || "" }), verdict(answer.answer || "no answer", answer.probability));
      article.append(highlighted({ text }, Number.isInteger(answer.start) ? [{ start: answer.start, end: answer.end, label: "answer" }] : []));
      article.append(listed(answer.n_best, "Other answers"));
    } else if ("choice" in answer) {
      const choices = answer.choices || [];
      article.append(verdict(answer.choice, answer.probability), bars(Object.fromEntries(choices.map((one, place) => [`${place + 1}. ${one}`, answer.probabilities[place]])), [`${answer.predicted + 1}. ${answer.choice}`]));
    } else if ("written" in answer) {
      article.append(make("p", { class: "written", textContent: answer.written || "–" }));
      if (answer.stopped === false) article.append(goesOn());
    } else if ("fills" in answer) {
      article.append(make("p", { class: "text", textContent: answer.text || "" }));
      answer.fills.forEach((fills, place) => article.append(listed(Array.isArray(fills) ? fills : [fills], `Mask ${place + 1}`)));
    } else if ("predicted" in answer) {
      article.append(make("p", { class: "asked", textContent: [answer.text, answer.text_pair].filter(Boolean).join("\n") }));
      const labels = Array.isArray(answer.predicted) ? answer.predicted : [answer.predicted];
      article.append(verdict(labels.length ? labels.map(shown).join(", ") : "no label", Array.isArray(answer.predicted) ? null : answer.probability));
      if (answer.probabilities && !Array.isArray(answer.probabilities)) article.append(bars(answer.probabilities, labels));
    }
    article.append(...notes(answer), ...rest(answer));
    article.append(make("details", {}, make("summary", { textContent: "JSON" }), make("pre", { tabIndex: 0, textContent: JSON.stringify(answer, null, 2) })));
    return article;
  }

  function goesOn() {
    return make("p", { class: "note", textContent: "The model would go on." });
  }

  // Positions count characters as Python does, code points, and in a list of words they count words.
  function highlighted(answer, spans) {
    const words = !("text" in answer) && answer.words;
    const parts = words || Array.from(answer.text || "");
    const join = piece => piece.join(words ? " " : "");
    const line = make("p", { class: "text" });
    let place = 0;
    for (const span of [...spans].sort((a, b) => a.start - b.start)) {
      if (span.start < place) continue;
      line.append(join(parts.slice(place, span.start)), words && place < span.start ? " " : "");
      line.append(make("mark", { class: colourOf(span.label), title: span.probability === undefined ? "" : percent(span.probability) },
        join(parts.slice(span.start, span.end)), make("b", { textContent: span.label })), words ? " " : "");
      place = span.end;
    }
    line.append(join(parts.slice(place)));
    return line;
  }

  function verdict(text, probability) {
    return make("p", { class: "verdict" }, make("span", { textContent: shown(text) }),
      typeof probability === "number" ? make("small", { textContent: percent(probability) }) : null);
  }

  function bars(probabilities, chosen) {
    const all = Object.entries(probabilities || {}).sort((a, b) => b[1] - a[1]);
    const grid = rows => make("div", { class: "bars" }, ...rows.flatMap(([label, share]) => {
      const fill = make("span", { class: "fill" });
      fill.style.width = `${Math.max(0.5, 100 * share)}%`;
      return [make("span", { class: chosen.includes(label) ? "chosen" : "", textContent: label }),
        make("span", { class: "track", ariaHidden: "true" }, fill), make("span", { class: "share", textContent: percent(share) })];
    }));
    if (all.length <= 8) return grid(all);
    return make("div", {}, grid(all.slice(0, 6)), make("details", {}, make("summary", { textContent: `${all.length - 6} more labels` }), grid(all.slice(6))));
  }

  function table(caption, columns, rows) {
    const cell = (value, column, tag = "td") => make(tag, { class: column.number ? "number" : "", textContent: value });
    return make("div", { class: "scroll" }, make("table", { ariaLabel: caption },
      make("thead", {}, make("tr", {}, ...columns.map(column => cell(column.name, column, "th")))),
      make("tbody", {}, ...rows.map(row => make("tr", {}, ...row.map((value, place) => cell(value, columns[place])))))));
  }

  function foundTable(found) {
    return table("What was found", [{ name: "Text" }, { name: "Label" }, { name: "Position", number: true }, { name: "Probability", number: true }],
      found.map(one => [one.text, one.type, `${one.start}–${one.end}`, typeof one.probability === "number" ? percent(one.probability) : "–"]));
  }

  function listed(objects, caption) {
    const keys = [...new Set(objects.flatMap(one => Object.keys(one || {})))];
    return table(caption, keys.map(name => ({ name, number: objects.every(one => typeof one[name] === "number") })),
      objects.map(one => keys.map(key => key === "probability" ? percent(one[key]) : shown(one[key] === undefined ? null : one[key]))));
  }

  function notes(answer) {
    const said = [];
    if (answer.truncated) said.push(`The text is longer than the model reads: ${answer.lost_tokens ?? "some"} tokens were not seen.`);
    if (answer.lost_words) said.push(`${count(answer.lost_words, "word was", "words were")} not seen.`);
    if (answer.empty) said.push("The model saw no token of it.");
    if (answer.masked && Object.keys(answer.masked).length) said.push(`Masked before the model saw it: ${Object.entries(answer.masked).map(([kind, number]) => `${number} ${kind}`).join(", ")}.`);
    return said.map(textContent => make("p", { class: "note", textContent }));
  }

  function rest(answer) {
    const others = Object.entries(answer).filter(([key]) => !KNOWN.has(key));
    return others.length ? [table("More of the answer", [{ name: "Entry" }, { name: "Value" }], others.map(([key, value]) => [key, shown(value)]))] : [];
  }

  function drawLegend(answers) {
    const counts = new Map();
    for (const answer of answers) for (const one of answer.entities || answer.slots || []) counts.set(one.type, (counts.get(one.type) || 0) + 1);
    $("legend").hidden = !counts.size;
    $("legend").replaceChildren(...[...counts].map(([label, number]) => make("span", { class: colourOf(label), textContent: `${label} ${number}` })));
  }

  // --- What a person does ---------------------------------------------------------------------------------------

  $("form").addEventListener("submit", event => { event.preventDefault(); ask(); });
  $("form").addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
  });
  $("model").addEventListener("change", () => choose($("model").value));
  $("stop").addEventListener("click", () => state.busy && state.busy.abort());
  $("clear").addEventListener("click", () => { areas().forEach(area => { area.value = ""; }); clearAnswers(); if (areas().length) areas()[0].focus(); });
  $("example").addEventListener("click", () => {
    if (!state.card) return;
    const example = state.card.example;
    const fields = isText(example) ? { text: asText(example) } : example;
    fill(Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, Array.isArray(value) && value.every(one => typeof one === "string") ? value.join("\n") : typeof value === "string" ? value : JSON.stringify(value)])));
    $("ask").focus();
  });
  $("show-key").addEventListener("click", () => showKey(true));
  $("key").addEventListener("change", () => {
    state.key = $("key").value.trim();
    clearAnswers();
    loadModels();
  });
  $("key").addEventListener("keydown", event => { if (event.key === "Enter") { event.preventDefault(); $("key").blur(); } });
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("curl").textContent).then(() => { $("copy").textContent = "Copied"; }, () => { $("copy").textContent = "Select and copy it"; });
    setTimeout(() => { $("copy").textContent = "Copy"; }, 2000);
  });
  const THEMES = [["", "◐", "as the system has them"], ["light", "☀", "light"], ["dark", "☾", "dark"]];
  let theme = 0;
  $("theme").addEventListener("click", () => {
    theme = (theme + 1) % THEMES.length;
    const [name, sign, words] = THEMES[theme];
    if (name) document.documentElement.dataset.theme = name; else delete document.documentElement.dataset.theme;
    $("theme").textContent = sign;
    $("theme").setAttribute("aria-label", `Colours: ${words}`);
  });
  loadModels();
})();
