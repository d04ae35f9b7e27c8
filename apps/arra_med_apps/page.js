// Ctrl+Enter (or Command+Enter) presses Generate from anywhere; on a narrow screen the results scroll into view.
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const button = document.getElementById("am-generate");
    if (button && !button.disabled) {
      event.preventDefault();
      button.click();
    }
  }
}, true);
document.addEventListener("click", (event) => {
  if (event.target.closest("#am-generate") && window.innerWidth <= 860) {
    document.getElementById("am-results").scrollIntoView({ behavior: "smooth" });
  }
});
