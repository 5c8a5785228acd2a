// What a page can do without, and is quicker with.
"use strict";

for (const button of document.querySelectorAll("[data-copies]")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copies);
    const before = button.firstChild.data;
    button.firstChild.data = "Copied";
    setTimeout(() => { button.firstChild.data = before; }, 2000);
  });
}

for (const field of document.querySelectorAll("[data-submits]")) {
  field.addEventListener("change", () => field.form.requestSubmit());
}

// An entry that waits for its records is looked at again, as long as nothing is being written on its page.
if (document.querySelector("[data-waits]")) {
  let isWritten = false;
  document.addEventListener("input", () => { isWritten = true; });
  setInterval(() => { if (!isWritten && !document.hidden) location.reload(); }, 15000);
}
