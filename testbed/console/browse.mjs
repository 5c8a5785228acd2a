// Looks at the pages of a console in a real Chromium: without and with JavaScript, light and dark. Prints what it found as JSON.
// Its arguments are one JSON object: where the console is, the token, and the folder for screenshots (absent, none are made).
import { draw, faults, judge, launch, look, open, seen, signIn } from "./browser.mjs";

const { console: root, address, name, token, domain, screenshots, modules } = JSON.parse(process.argv[2]);
const { browser, axe } = await launch([name], address, modules);

// The story of a person: adds a domain, looks at it, changes it, and removes it.
async function tell(page) {
  await page.click("text=Add a domain");
  await page.fill("#domain", "192.0.2.1");
  await page.click("main button[type=submit]");
  if (await page.inputValue("#domain") !== "192.0.2.1") faults.push("the form has forgotten what was written");
  await page.fill("#domain", `added.${domain}`);
  await page.click("main button[type=submit]");
  await page.waitForURL(`${root}/domains/added.${domain}`);
  await page.click("text=Begin a maintenance");
  await page.waitForSelector("text=End the maintenance");
  await page.click("text=Remove");
  await page.click("text=Remove it");
  await page.waitForURL(`${root}/domains`);
}

const paths = ["sign-in", "domains", "domains?prefix=nothing", "domains/new", `domains/${domain}`, `domains/${domain}/removal`,
  "domains/absent.example", "import", "audit", "overview", "fleet"];

for (const javaScriptEnabled of [false, true]) {
  const { context, page } = await open(browser, { javaScriptEnabled });
  await signIn(page, root, token);
  await tell(page);
  for (const path of paths) {
    await page.goto(`${root}/${path}`);
    await look(page, path, javaScriptEnabled);
  }
  await page.goto(`${root}/domains`);
  await page.click("text=Sign out");
  await page.waitForURL(`${root}/sign-in`);
  await page.goto(`${root}/domains`);
  if (!page.url().endsWith("/sign-in")) faults.push("signed out, and still let in");
  await context.close();
}

for (const colorScheme of ["light", "dark"]) {
  const { context, page } = await open(browser, { colorScheme, bypassCSP: true });
  await signIn(page, root, token);
  for (const path of paths) {
    await page.goto(`${root}/${path}`);
    await judge(page, axe, path, colorScheme);
    const drawn = { domains: "domains", [`domains/${domain}`]: "domain", audit: "audit", overview: "overview" }[path];
    if (drawn) await draw(page, screenshots, drawn, colorScheme);
  }
  await context.close();
}

await browser.close();
console.log(JSON.stringify({ faults, seen }));
