// Ctrl+Enter (or Command+Enter) presses Generate, or the run button of the tab that is open; on a narrow screen the results scroll into view.
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const buttons = [...document.querySelectorAll("#am-generate, .am-run")];
    const button = buttons.find((one) => one.offsetParent && !one.disabled);
    if (button) {
      event.preventDefault();
      button.click();
    }
  }
}, true);
document.addEventListener("click", (event) => {
  if (event.target.closest("#am-generate, #am-table-draw") && window.innerWidth <= 860) {
    document.getElementById("am-results").scrollIntoView({ behavior: "smooth" });
  }
});

/* Window and level: a linear map of the 8-bit values, low = level - width / 2 to black, high to white. */
function showWindow() {
  const width = document.getElementById("am-window-width"), level = document.getElementById("am-window-level");
  const slope = 255 / width.value, intercept = 0.5 - (slope * level.value) / 255;
  for (const part of document.querySelectorAll("#am-window-filter feComponentTransfer > *")) {
    part.setAttribute("slope", slope);
    part.setAttribute("intercept", intercept);
  }
  document.getElementById("am-window-shown").textContent = `${width.value} / ${level.value}`;
  document.documentElement.dataset.amWindow = width.value === "255" && level.value === "128" ? "" : "on";
}
document.addEventListener("input", (event) => {
  if (event.target.matches("#am-window-width") || event.target.matches("#am-window-level")) showWindow();
});
document.addEventListener("click", (event) => {
  if (!event.target.closest("#am-window-reset")) return;
  document.getElementById("am-window-width").value = 255;
  document.getElementById("am-window-level").value = 128;
  showWindow();
});
