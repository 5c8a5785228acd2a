// What a setup link shows, within a page of yours: <gatehouse-setup link="https://..."></gatehouse-setup>, and this script.
// All of it is text in a shadow root, which your page's style does not reach; colours and type are those around it.
"use strict";

(() => {
  const style = new CSSStyleSheet();
  style.replaceSync(`
    :host { display: block; }
    ul { list-style: none; padding: 0; }
    li { border: 1px solid; border-radius: .3rem; padding: .25rem 1rem; margin: .75rem 0; }
    dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; margin: .5rem 0; }
    dd { margin: 0; overflow-wrap: anywhere; }
    button { font: inherit; margin-left: .5rem; }
  `);

  function element(name, text, ...children) {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    made.append(...children);
    return made;
  }

  function copied(value, what) {
    const shown = element("dd", "", element("code", value));
    if (!value) shown.textContent = "leave it empty";
    if (!value || !navigator.clipboard) return shown;
    const button = element("button", "Copy");
    button.type = "button";
    button.setAttribute("aria-label", `Copy the ${what} ${value}`);
    button.addEventListener("click", async () => {
      const isDone = await navigator.clipboard.writeText(value).then(() => true, () => false);
      button.textContent = isDone ? "Copied" : "Not permitted";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    shown.append(button);
    return shown;
  }

  function record({ type, name, relative_name: short, value }) {
    return element("li", "", element("dl", "",
      element("dt", "Type"), element("dd", type),
      element("dt", "Name, short"), copied(short, "short name"),
      element("dt", "Name, whole"), copied(name, "whole name"),
      element("dt", "Value"), copied(value, "value")));
  }

  function finding({ text, found, remedy }) {
    const mend = remedy ? ` To mend it: ${remedy}` : "";
    return element("p", `${text}${found ? ` ${found}.` : ""}${mend}`);
  }

  function view(shown) {
    const parts = [
      element("p", "", element("strong", shown.unicode)), element("p", shown.message),
      element("p", `DNS records to set in ${shown.zone}:`), element("ul", "", ...shown.records.map(record)),
    ];
    // The link may be another site's, if yours takes it from its users.
    if (shown.provider && /^https:\/\//.test(shown.provider.page)) {
      const page = element("a", `How records are set at ${shown.provider.name}`);
      page.href = shown.provider.page;
      page.rel = "noopener noreferrer";
      parts.push(element("p", "", page), ...shown.provider.hints.map((hint) => element("p", hint)));
    }
    if (shown.checked_at) parts.push(element("p", `Looked at on ${new Date(shown.checked_at).toLocaleString()}:`));
    return [...parts, ...shown.findings.map(finding)];
  }

  class GatehouseSetup extends HTMLElement {
    static observedAttributes = ["link"];
    #root = this.attachShadow({ mode: "open" });
    #timer;
    #loaded;

    connectedCallback() { this.#root.adoptedStyleSheets = [style]; this.#load(); }
    disconnectedCallback() { clearTimeout(this.#timer); this.#loaded = undefined; }
    attributeChangedCallback() { if (this.isConnected && this.#root.adoptedStyleSheets.length) this.#load(); }

    async #load() {
      clearTimeout(this.#timer);
      const link = this.getAttribute("link");
      const isOurs = () => link === this.getAttribute("link") && this.isConnected;
      // As the page of the link does.
      const again = () => { this.#timer = setTimeout(() => this.#load(), 15000); };
      let answer, said;
      try {
        answer = await fetch(`${link}.json`, { credentials: "omit", referrerPolicy: "no-referrer", cache: "no-store" });
        said = await answer.json();
      } catch {
        said = undefined;
      }
      if (!isOurs()) return;
      if (answer?.ok && said) {
        this.#loaded = link;
        this.#root.replaceChildren(...view(said));
        if (said.state === "waiting") again();
        return;
      }
      // Asked too often, or not reached: what was shown of this link stays.
      const isOver = answer?.status === 404;
      if (isOver || this.#loaded !== link) {
        this.#root.replaceChildren(element("p", said?.detail ?? "The DNS records cannot be shown now."));
      }
      if (!isOver) again();
    }
  }

  if (!customElements.get("gatehouse-setup")) customElements.define("gatehouse-setup", GatehouseSetup);
})();
