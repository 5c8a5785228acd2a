// The story of an operator's customer, in a real Chromium. Prints what it found as JSON. Its arguments are one JSON object; `act` says which
// part is played: in `link` the operator adds a domain and makes a link, which the customer opens; in `served` the customer, whose DNS
// records are set, looks again.
import { draw, faults, judge, launch, look, open, seen, signIn } from "./browser.mjs";

const { act, console: root, address, name, token, domain, screenshots, modules, url } = JSON.parse(process.argv[2]);
const { browser, axe } = await launch([name, domain], address, modules);

// The operator: adds the domain, and makes the link on its page.
async function makeLink() {
  const { context, page } = await open(browser, {});
  await signIn(page, root, token);
  await page.click("text=Add a domain");
  await page.fill("#domain", domain);
  await page.click("main button[type=submit]");
  await page.waitForURL(`${root}/domains/${domain}`);
  await page.click("text=Make a link for the owner of the name");
  const made = await page.getAttribute("#link", "href");
  await look(page, "the new link", true);
  await context.close();
  return made;
}

// The customer, whose browser has no session.
async function openLink(link, state) {
  for (const javaScriptEnabled of [false, true]) {
    const { context, page } = await open(browser, { javaScriptEnabled });
    const response = await page.goto(link);
    if (response.status() !== 200) faults.push(`${state}: answered with ${response.status()}`);
    const shown = await page.textContent("main");
    if (!shown.includes(domain) || !shown.includes(state)) faults.push(`${state}: it says ${shown}`);
    const copies = await page.locator("[data-copies]:visible").count();
    if (copies === 0 && javaScriptEnabled) faults.push(`${state}: nothing can be copied by a button`);
    await look(page, state, javaScriptEnabled);
    const cookies = await context.cookies();
    if (cookies.length > 0) faults.push(`${state}: a cookie is kept`);
    await context.close();
  }
  for (const colorScheme of ["light", "dark"]) {
    const { context, page } = await open(browser, { colorScheme, bypassCSP: true });
    await page.goto(link);
    await judge(page, axe, state, colorScheme);
    await draw(page, screenshots, act === "link" ? "setup" : "setup-connected", colorScheme);
    await context.close();
  }
}

// A page of the operator's own site, whose policy permits the script and what it asks for, and nothing else.
async function embed(link, message) {
  const [site, origin] = ["https://www.operator.test/", new URL(link).origin];
  for (const bypassCSP of [false, true]) {
    const { context, page } = await open(browser, { bypassCSP });
    await page.route(site, (route) => route.fulfill({
      contentType: "text/html; charset=utf-8",
      headers: { "content-security-policy": `default-src 'none'; script-src ${origin}; connect-src ${origin}` },
      body: `<!DOCTYPE html><html lang="en"><title>Domains</title><main><h1>Domains</h1>
        <gatehouse-setup link="${link}"></gatehouse-setup></main><script src="${origin}/setup/widget.js"></script></html>`,
    }));
    await page.goto(site);
    await page.locator("gatehouse-setup dd", { hasText: "edge.test" }).first().waitFor();
    const shown = await page.locator("gatehouse-setup").evaluate((widget) => widget.shadowRoot.textContent);
    if (!shown.includes(domain) || !shown.includes(message)) faults.push(`the widget says ${shown}`);
    if (bypassCSP) await judge(page, axe, "the widget", "light");
    else await look(page, "the widget", true);
    await context.close();
  }
}

let link = url;
if (act === "link") {
  link = await makeLink();
  await openLink(link, "waiting");
} else {
  await openLink(link, "connected");
  await embed(link, "All is well");
  const { context, page } = await open(browser, {});
  const response = await page.goto(`https://${domain}/`);
  if (response.status() !== 200) faults.push(`the name is answered with ${response.status()}`);
  seen.push("the name itself");
  await context.close();
}

// What is no link, and one that was changed, are told as one that has ended.
const { context, page } = await open(browser, { bypassCSP: true });
const changed = await page.goto(`${link.slice(0, -1)}${link.endsWith("A") ? "B" : "A"}`);
if (changed.status() !== 404) faults.push(`a changed link is answered with ${changed.status()}`);
await judge(page, axe, "a changed link", "light");
await context.close();

await browser.close();
console.log(JSON.stringify({ faults, seen, link }));
