// Pictures enlarge in a dialog (Esc closes, arrow keys step through their neighbours); a report opens in a page of its own.
(() => {
  const shown = { group: [], at: 0 };
  const dialog = () => {
    let box = document.getElementById("am-zoom");
    if (!box) {
      box = document.createElement("dialog");
      box.id = "am-zoom";
      box.setAttribute("aria-label", "Enlarged picture");
      const picture = document.createElement("img"), caption = document.createElement("p"), close = document.createElement("button");
      close.type = "button";
      close.textContent = "Close";
      close.addEventListener("click", () => box.close());
      box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
      box.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step && shown.group.length) show((shown.at + step + shown.group.length) % shown.group.length);
      });
      box.append(picture, caption, close);
      document.body.append(box);
    }
    return box;
  };
  const show = (at) => {
    shown.at = at;
    const button = shown.group[at], box = dialog();
    const [picture, caption] = [box.querySelector("img"), box.querySelector("p")];
    picture.src = button.querySelector("img").src;
    picture.alt = button.querySelector("img").alt;
    caption.textContent = button.dataset.caption;
    if (!box.open) box.showModal();
  };
  const openReport = (button) => {
    const frame = button.parentElement.querySelector("iframe.am-cmp-report");
    const page = document.implementation.createHTMLDocument(button.dataset.title);
    const style = page.createElement("style");
    style.textContent = "html,body,iframe{margin:0;border:0;width:100%;height:100%;display:block}";
    const own = page.createElement("iframe");
    own.setAttribute("sandbox", "");
    own.setAttribute("title", button.dataset.title);
    own.setAttribute("srcdoc", frame.getAttribute("srcdoc"));
    page.head.append(style);
    page.body.append(own);
    const blob = new Blob(["<!doctype html>" + page.documentElement.outerHTML], { type: "text/html" });
    window.open(URL.createObjectURL(blob), "_blank", "noopener");
  };
  document.addEventListener("click", (event) => {
    const picture = event.target.closest(".am-zoomable"), report = event.target.closest(".am-cmp-open");
    if (picture) {
      shown.group = [...picture.closest(".am-live, .am-cmp-cards").querySelectorAll(".am-zoomable")];
      show(shown.group.indexOf(picture));
    } else if (report) {
      openReport(report);
    }
  });
})();
