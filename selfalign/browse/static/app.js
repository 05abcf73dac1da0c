// Keys, and nothing that a page could not do without them. Every action follows a link or submits a form of the page.
"use strict";

(() => {
  const rows = [...document.querySelectorAll("a.item")];
  const follow = (rel) => {
    const link = document.querySelector(`link[rel=${rel}], main a[rel=${rel}]`);
    if (link) location.href = link.href;
  };
  const step = (by) => {
    if (!rows.length) return follow(by > 0 ? "next" : "prev");
    const at = rows.indexOf(document.activeElement);
    if (by > 0 && at === rows.length - 1) return follow("next");
    const row = rows[Math.max(0, at + by)];
    row.focus();
    row.scrollIntoView({ block: "nearest" });
  };
  const decide = (decision) => {
    const button = document.querySelector(`#review button[value=${decision}]`);
    if (button) button.click();
  };
  const focus = (event, selector) => {
    const field = document.querySelector(selector);
    if (!field) return;
    event.preventDefault();
    field.focus();
    if (field.select) field.select();
  };
  const keys = {
    j: () => step(1),
    k: () => step(-1),
    a: () => decide("accept"),
    f: () => decide("flip"),
    r: () => decide("reject"),
    w: () => decide("withdraw"),
    n: (event) => focus(event, "#review textarea"),
    u: () => { const list = document.querySelector(".steps a[href^='/pairs']:not([rel])"); if (list) location.href = list.href; },
    "/": (event) => focus(event, "#search"),
    "?": () => { location.href = "/help"; },
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "Escape" && typing) return typing.blur();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && typing && typing.form) return typing.form.requestSubmit();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    const act = keys[event.key];
    if (act) act(event);
  });
})();
