"use strict";
(() => {
  const set = JSON.parse(document.getElementById("reading-set").textContent);
  const storageKey = `arra-med-reading-${set.set_id}`;
  const byId = (id) => document.getElementById(id);
  const form = byId("questions");
  const questions = ["real_or_synthetic", "quality", ...(set.asks_finding ? ["shows_finding"] : [])];
  let state = { reader: "", position: 0, answers: {} };

  function restore() {
    try {
      const stored = JSON.parse(localStorage.getItem(storageKey));
      if (stored && stored.answers) state = { ...state, ...stored };
    } catch (error) { /* no storage here: the answers live as long as the page */ }
  }

  function keep() {
    try { localStorage.setItem(storageKey, JSON.stringify(state)); } catch (error) { /* as above */ }
  }

  const answerTo = (image) => state.answers[image.name] || {};
  const isComplete = (image) => questions.every((question) => answerTo(image)[question]);

  function show(position) {
    state.position = Math.min(Math.max(position, 0), set.images.length - 1);
    const image = set.images[state.position];
    byId("picture").src = image.source;
    byId("picture").alt = `Image ${state.position + 1}`;
    byId("place").textContent = `Image ${state.position + 1} of ${set.images.length}`;
    if (set.asks_finding) byId("report").textContent = image.report;
    form.reset();
    const answer = answerTo(image);
    for (const question of questions) {
      for (const input of form.elements[question]) input.checked = input.value === answer[question];
    }
    form.elements.comment.value = answer.comment || "";
    tell();
  }

  function tell() {
    const numAnswered = set.images.filter(isComplete).length;
    byId("answered").textContent = `${numAnswered} of ${set.images.length} answered`;
    byId("bar").style.width = `${(100 * numAnswered) / set.images.length}%`;
    byId("previous").disabled = state.position === 0;
    byId("next").disabled = state.position === set.images.length - 1;
    byId("unanswered").hidden = numAnswered === set.images.length;
    byId("download").classList.toggle("done", numAnswered === set.images.length && state.reader !== "");
    keep();
  }

  function take() {
    const answer = {};
    for (const question of questions) answer[question] = form.elements[question].value;
    answer.comment = form.elements.comment.value;
    state.answers[set.images[state.position].name] = answer;
    tell();
  }

  function choose(question, value) {
    if (!questions.includes(question)) return;
    form.elements[question].value = value;
    take();
  }

  const cell = (text) => `"${String(text || "").replaceAll('"', '""')}"`;

  function download() {
    if (!state.reader) {
      byId("message").textContent = "Please enter your reader name first.";
      byId("reader").focus();
      return;
    }
    byId("message").textContent = "";
    const lines = [set.columns, ...set.images.map((image) => {
      const answer = answerTo(image);
      return [set.set_id, state.reader, image.name, answer.real_or_synthetic, answer.quality, answer.shows_finding,
        answer.comment];
    })];
    const text = lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = `answers_${set.set_id}_${state.reader.replace(/[^\w-]+/g, "_")}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function clear() {
    if (!window.confirm("Forget all answers to this set in this browser?")) return;
    state = { reader: "", position: 0, answers: {} };
    byId("reader").value = "";
    show(0);
  }

  function nextUnanswered() {
    const count = set.images.length;
    for (let step = 1; step <= count; step += 1) {
      const position = (state.position + step) % count;
      if (!isComplete(set.images[position])) { show(position); return; }
    }
  }

  form.addEventListener("input", take);
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("reader").addEventListener("input", (event) => { state.reader = event.target.value.trim(); tell(); });
  byId("previous").addEventListener("click", () => show(state.position - 1));
  byId("next").addEventListener("click", () => show(state.position + 1));
  byId("unanswered").addEventListener("click", nextUnanswered);
  byId("download").addEventListener("click", download);
  byId("clear").addEventListener("click", clear);
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("button, textarea, input[type=text]")) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key.startsWith("arrow") && event.target.matches("input")) return; // arrows move within a row of choices
    if (key === "r") choose("real_or_synthetic", "real");
    else if (key === "s") choose("real_or_synthetic", "synthetic");
    else if (key >= "1" && key <= "5") choose("quality", key);
    else if (key === "y") choose("shows_finding", "yes");
    else if (key === "n") choose("shows_finding", "no");
    else if (key === "u") choose("shows_finding", "unsure");
    else if (key === "arrowright" || key === "enter") show(state.position + 1);
    else if (key === "arrowleft") show(state.position - 1);
    else return;
    event.preventDefault();
  });
  restore();
  byId("reader").value = state.reader;
  show(state.position);
})();
