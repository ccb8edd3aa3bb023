// The console works without this script. It adds: pages that stay up to date, keys, and the browser's time zone.
"use strict";
(() => {
  const main = document.getElementById("main");
  const state = document.getElementById("live-state");
  const button = document.getElementById("live-button");
  const every = Math.min(60, Math.max(2, Number(main.dataset.live) || 5)) * 1000;
  const slow = 60000;
  const idle = 600000;
  const policy = window.trustedTypes ? trustedTypes.createPolicy("oncetask", { createHTML: (text) => text }) : { createHTML: (text) => text };
  let on = Number(main.dataset.live) > 0;
  let stopped = false;
  let touched = Date.now();

  // --- live ---
  const inUse = () => {
    const at = document.activeElement;
    if (at && main.contains(at) && at !== main && at.matches("input, textarea, select, button, summary")) return true;
    if (String(window.getSelection())) return true;
    return [...main.querySelectorAll("input, textarea, select")].some((field) =>
      field.type === "checkbox" || field.type === "radio" ? field.checked !== field.defaultChecked
        : field.tagName === "SELECT" ? [...field.options].some((one) => one.selected !== one.defaultSelected)
          : field.type !== "hidden" && field.value !== field.defaultValue);
  };
  const keys = (root) => new Set([...root.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
  const tell = (number) => {
    let line = document.getElementById("new");
    if (!line) {
      line = document.createElement("p");
      line.id = "new";
      line.className = "new";
      line.setAttribute("aria-live", "polite");
      main.before(line);
    }
    const link = document.createElement("a");
    link.href = location.href;
    link.textContent = `${number} new`;
    line.replaceChildren(link, " (reload to see)");
  };
  const update = (text) => {
    const fresh = new DOMParser().parseFromString(policy.createHTML(text), "text/html").body;
    if (main.dataset.rows || inUse()) {
      const known = keys(main);
      const number = [...keys(fresh)].filter((key) => !known.has(key)).length;
      if (number) tell(number);
      else if (!inUse() && main.dataset.rows === undefined) main.replaceChildren(...fresh.childNodes);
      return;
    }
    const open = [...main.querySelectorAll("details")].map((one) => one.open);
    main.replaceChildren(...fresh.childNodes);
    main.querySelectorAll("details").forEach((one, index) => { if (open[index] !== undefined) one.open = open[index]; });
  };
  const ask = async () => {
    if (!on || stopped || document.hidden) return;
    const url = new URL(location.href);
    url.searchParams.delete("said");
    url.searchParams.set("fragment", "1");
    try {
      const answer = await fetch(url, { headers: { "X-Requested-With": "XMLHttpRequest" }, redirect: "manual", cache: "no-store" });
      if (answer.status === 401 || answer.status === 403 || answer.type === "opaqueredirect" || !answer.headers.get("X-Oncetask-Fragment")) {
        if (answer.status >= 500) { state.textContent = "not updated: the service does not answer"; return; }
        stopped = true;
        state.textContent = "signed out: reload the page";
        return;
      }
      update(await answer.text());
      state.textContent = "";
    } catch {
      state.textContent = "not updated: no connection";
    }
  };
  const next = () => setTimeout(async () => { await ask(); next(); }, Date.now() - touched > idle ? slow : every);
  const toggle = () => {
    on = !on;
    button.setAttribute("aria-pressed", String(on));
    button.textContent = on ? "Live: on" : "Live: off";
  };
  if (Number(main.dataset.live) > 0) {
    document.getElementById("live").hidden = false;
    button.addEventListener("click", toggle);
    next();
  }

  // --- keys ---
  let before = "";
  const rows = () => [...main.querySelectorAll("tr[data-key], article[data-key]")];
  const move = (step) => {
    const all = rows();
    if (!all.length) return;
    const at = all.findIndex((row) => row.classList.contains("at"));
    const to = Math.min(all.length - 1, Math.max(0, at + step));
    if (at >= 0) all[at].classList.remove("at");
    all[to].classList.add("at");
    all[to].scrollIntoView({ block: "nearest" });
    const link = all[to].querySelector("a");
    if (link) link.focus();
  };
  const go = { o: "go-overview", l: "go-list", s: "go-schedules" };
  document.addEventListener("keydown", (event) => {
    touched = Date.now();
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
    const key = event.key;
    if (before === "g" && go[key]) document.getElementById(go[key])?.click();
    else if (key === "/") { const field = document.querySelector("[data-search]"); if (field) { field.focus(); event.preventDefault(); } }
    else if (key === "j") move(1);
    else if (key === "k") move(-1);
    else if (key === "r" && !document.getElementById("live").hidden) toggle();
    else if (key === "?") document.querySelector(".keys").scrollIntoView();
    before = key;
  });
  document.addEventListener("pointerdown", () => { touched = Date.now(); });

  // --- the browser's time zone ---
  const zone = document.getElementById("browser-zone");
  zone.hidden = false;
  zone.addEventListener("click", () => { document.getElementById("zone").value = Intl.DateTimeFormat().resolvedOptions().timeZone; });
})();
