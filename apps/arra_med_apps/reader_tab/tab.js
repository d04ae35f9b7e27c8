// Window and level by an SVG filter, out = (in - (level - window / 2)) / window, and the reader's keys.
const stage = () => {
  const found = document.getElementById("am-read");
  return found && found.offsetParent ? found : null;
};
const setWindow = (width, level) => {
  const w = Math.min(255, Math.max(1, Math.round(width)));
  const l = Math.min(255, Math.max(0, Math.round(level)));
  const sliders = [["am-read-window", w], ["am-read-level", l]];
  for (const [id, value] of sliders) {
    const slider = document.getElementById(id);
    slider.value = value;
    slider.parentElement.querySelector("output").textContent = value;
  }
  const whole = w === 255 && l === 128;
  for (const part of document.querySelectorAll("#am-read-window-filter feComponentTransfer > *")) {
    part.setAttribute("slope", whole ? 1 : 255 / w);
    part.setAttribute("intercept", whole ? 0 : 0.5 - l / w);
  }
};
const value = (id) => Number(document.getElementById(id).value);
document.addEventListener("input", (event) => {
  if (event.target.id === "am-read-window" || event.target.id === "am-read-level") setWindow(value("am-read-window"), value("am-read-level"));
});
document.addEventListener("click", (event) => {
  if (event.target.id === "am-read-window-reset") setWindow(255, 128);
});
let drag = null;
document.addEventListener("pointerdown", (event) => {
  if (event.target.closest("#am-read figure")) {
    drag = { x: event.clientX, y: event.clientY, width: value("am-read-window"), level: value("am-read-level") };
    event.preventDefault();
  }
});
document.addEventListener("pointermove", (event) => {
  if (drag && stage()) setWindow(drag.width + (event.clientX - drag.x) / 2, drag.level + (event.clientY - drag.y) / 2);
});
document.addEventListener("pointerup", () => { drag = null; });
document.addEventListener("pointercancel", () => { drag = null; });

let answered = { place: null, at: 0 };  // a key held or hit twice must not answer an image that was not seen
const press = (id) => {
  const button = document.getElementById(id);
  const place = stage().dataset.place;
  if (!button || !button.offsetParent || (answered.place === place && Date.now() - answered.at < 3000)) return;
  answered = { place, at: Date.now() };
  button.click();
};
const mark = (digit) => {
  const lines = [...document.querySelectorAll(".am-mark")].filter((line) => line.offsetParent);
  const open = lines.find((line) => line.contains(document.activeElement) && document.activeElement.type === "radio")
    || lines.find((line) => !line.querySelector("input:checked"));
  const inputs = open ? open.querySelectorAll("input[type=radio]") : [];
  if (inputs[digit - 1]) {
    inputs[digit - 1].click();
    const next = lines.find((line) => line !== open && !line.querySelector("input:checked"));
    if (document.activeElement.type === "radio" && next) document.activeElement.blur();
  }
};
document.addEventListener("keydown", (event) => {
  const shown = stage();
  const typing = event.target.closest("textarea, input:not([type=radio]):not([type=range])");
  if (!shown || typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase(), rating = shown.dataset.design === "likert";
  const slider = event.target.type === "range";
  const sides = { 1: 0, 2: 1, ...(shown.dataset.design === "preference" && !slider ? { arrowleft: 0, arrowright: 1 } : {}) };
  if (key === "u") { answered.place = null; document.getElementById("am-undo").click(); }
  else if (key === "0") setWindow(255, 128);
  else if (rating && /^[1-9]$/.test(key)) mark(Number(key));
  else if (rating && key === "enter" && event.target.tagName !== "BUTTON") press("am-save");
  else if (!rating && key in sides) press(`am-choice-${sides[key]}`);
  else return;
  event.preventDefault();
});

// A link with ?study=... opens the tab.
if (new URLSearchParams(location.search).has("study")) {
  const tab = [...document.querySelectorAll("#am-tabs > .tab-wrapper button[role=tab]")].find((b) => b.textContent.trim() === "Reader study");
  if (tab) tab.click();
}
