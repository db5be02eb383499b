// Keeps a page fresh: takes changed parts of it from /events and works them into what is there, so that the focus, the
// selection and the place to which somebody scrolled stay. Everything else works without this script.
"use strict";

(() => {
  const live = document.body.dataset.live;
  const connection = document.getElementById("connection");
  if (!live || !connection || !window.EventSource) return;

  const RETRY_MILLIS = 3000;
  // The markup is natshook's own: whatever others wrote was escaped when it was made.
  const rules = { createHTML: (html) => html };
  const policy = window.trustedTypes ? window.trustedTypes.createPolicy("natshook", rules) : rules;
  let source;
  let retry;

  function parse(html) {
    const template = document.createElement("template");
    template.innerHTML = policy.createHTML(html);
    return template.content.firstElementChild;
  }

  // Makes `old` as `next` is, by changing no more than has to be changed.
  function sync(old, next) {
    if (old.isEqualNode(next)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = next.nodeValue;
      return;
    }
    if (next.hasAttribute("data-kept")) return;
    for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    syncChildren(old, next);
  }

  function syncChildren(old, next) {
    let at = old.firstChild;
    for (const child of [...next.childNodes]) {
      const same = child.id ? [...old.children].find((known) => known.id === child.id) : at;
      if (same && same.nodeName === child.nodeName && same.id === child.id) {
        if (same === at) at = at.nextSibling;
        else old.insertBefore(same, at);
        sync(same, child);
      } else {
        old.insertBefore(child, at);
      }
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  function say(text, lost) {
    if (connection.textContent !== text) connection.textContent = text;
    connection.classList.toggle("lost", lost);
  }

  // Where the session has ended, or the page is gone, loading it again says so: the first leads to the login form.
  async function loadIfRefused() {
    try {
      const { status } = await fetch(location.href, { method: "HEAD" });
      if (status === 401 || status === 404) location.reload();
    } catch {
      // natshook is away; the next try says more.
    }
  }

  function open() {
    close();
    source = new EventSource(`/events?${live}`);
    source.addEventListener("open", () => say("Live", false));
    source.addEventListener("fragment", ({ data }) => {
      const { id, html } = JSON.parse(data);
      const old = document.getElementById(id);
      const next = parse(html);
      if (old && next) sync(old, next);
    });
    source.addEventListener("error", () => {
      say("Connection lost, trying again", true);
      if (source && source.readyState === EventSource.CLOSED) {
        close();
        retry = setTimeout(open, RETRY_MILLIS);
        loadIfRefused();
      }
    });
  }

  function close() {
    clearTimeout(retry);
    if (source) source.close();
    source = undefined;
  }

  // A browser has few connections for one address: pages that nobody sees give theirs back.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  if (!document.hidden) open();
})();
