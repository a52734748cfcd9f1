// What pages do beyond forms and links: copy a text, draw a table as a chart, ask anew when something has moved, and
// show an answer while it comes.
// Every page works without it. No text of anybody's is ever made into markup here.
"use strict";
(() => {
  const copied = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    const said = button.nextElementSibling;
    try {
      await navigator.clipboard.writeText(source.textContent);
      said.textContent = "Copied.";
    } catch {  // without TLS, a browser has no clipboard for pages from elsewhere
      getSelection().selectAllChildren(source);
      said.textContent = document.execCommand("copy") ? "Copied." : "Selected: press Ctrl+C.";
    }
  };

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const draw = (figure) => {
    const place = figure.querySelector(".chart");
    const rows = [...figure.querySelectorAll("tbody tr")];
    if (!window.uPlot || rows.length < 2) return;
    const times = rows.map((row) => Number(row.dataset.at));
    const values = rows.map((row) => Number(row.dataset.value));
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 } };
    const named = (_, ticks) => ticks.map((at) => new Date(at * 1000).toISOString().slice(5, 16).replace("T", " "));
    const counted = (_, ticks) => ticks.map((value) => value.toLocaleString("en", { maximumSignificantDigits: 4 }));
    const options = {
      width: Math.max(280, figure.clientWidth), height: 220, legend: { show: false }, padding: [null, 40, null, null],
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [{ ...axis, values: named, space: 90 }, { ...axis, values: counted, size: 80 }],
      series: [{}, { label: figure.dataset.label, stroke: colour("--chart"), width: 2,
        fill: colour("--note"), points: { show: rows.length < 40 } }],
    };
    place.replaceChildren();
    new uPlot(options, [times, values], place);
  };

  const drawAll = () => document.querySelectorAll("figure[data-label]").forEach(draw);

  // Figures that move are replaced as a whole: the focus, what is unfolded and how far a table is scrolled stay.
  const name = (element) =>
    `${element.tagName} ${element.getAttribute("href") || element.getAttribute("aria-label") || element.textContent}`;
  let left = null;

  const leave = (event) => {
    const figures = event.detail.target;
    const at = document.activeElement;
    left = {
      focused: figures.contains(at) ? name(at) : "",
      unfolded: [...figures.querySelectorAll("details[open] > summary")].map(name),
      scrolled: [...figures.querySelectorAll(".scroll")].map((table) => table.scrollLeft),
    };
  };

  const comeBack = () => {
    const figures = document.getElementById("figures");
    if (!left || !figures) return;
    for (const summary of figures.querySelectorAll("summary")) {
      if (left.unfolded.includes(name(summary))) summary.parentElement.open = true;
    }
    figures.querySelectorAll(".scroll").forEach((table, at) => { table.scrollLeft = left.scrolled[at] || 0; });
    const focused = left.focused &&
      [...figures.querySelectorAll("a, button, summary, [tabindex]")].find((element) => name(element) === left.focused);
    if (focused) focused.focus({ preventScroll: true });
    left = null;
  };

  const listen = () => {
    if (!document.querySelector("[data-live]") || !window.EventSource) return;
    const source = new EventSource("/live");
    source.addEventListener("moved", () => htmx.trigger(document.body, "moved"));
    addEventListener("pagehide", () => source.close());
  };

  // The playground: every line of the answer is a JSON object whose texts belong behind what is there already.
  const show = (place, told) => {
    for (const [name, value] of Object.entries(told)) {
      const link = place.querySelector(`a[data-link="${name}"]`);
      if (link) { link.href = value; link.hidden = false; continue; }
      const at = place.querySelector(`[data-told="${name}"]`);
      at.append(String(value));
      at.hidden = false;
      const part = at.closest("[data-part]");
      if (part) part.hidden = false;
      if (at.tagName === "PRE") at.scrollTop = at.scrollHeight;
    }
  };

  const play = async (form) => {
    const place = document.getElementById("played");
    const [send, stop] = form.querySelectorAll("button");
    const stopping = new AbortController();
    const ended = () => stopping.abort();
    place.querySelectorAll("[data-told]").forEach((at) => { at.textContent = ""; });
    place.querySelectorAll("[data-part], a[data-link], .wrong").forEach((at) => { at.hidden = true; });
    place.hidden = stop.hidden = false;
    send.disabled = true;
    stop.addEventListener("click", ended);
    try {
      const body = new URLSearchParams(new FormData(form));
      const answer = await fetch(form.dataset.play, { method: "POST", body, signal: stopping.signal });
      if (answer.status === 413) { show(place, { wrong: "That is too much text for this page: say it in less." }); return; }
      if (answer.redirected || !answer.headers.get("Content-Type").includes("ndjson")) { location.reload(); return; }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let begun = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const lines = (begun + value).split("\n");
        begun = lines.pop();
        lines.forEach((line) => show(place, JSON.parse(line)));
      }
    } catch (error) {
      const gone = "The connection to this gateway ended: see whether it runs, then send it again.";
      show(place, stopping.signal.aborted ? { words: "stopped; its row in the ledger says what it cost" } : { wrong: gone });
    } finally {
      stop.removeEventListener("click", ended);
      send.disabled = false;
      stop.hidden = true;
    }
  };

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-play]")) return;
    event.preventDefault();
    play(event.target);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy]");
    if (button) copied(button);
  });
  document.addEventListener("htmx:beforeSwap", leave);
  document.addEventListener("htmx:afterSettle", () => { drawAll(); comeBack(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let resized;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(drawAll, 150); });
  document.querySelectorAll("button[data-copy]").forEach((button) => { button.hidden = false; });
  drawAll();
  listen();
})();
