// Looks at the pages of a console in a real Chromium: without and with JavaScript, light and dark. Prints what it found as JSON.
// Its arguments are one JSON object: where the console is, the token, and the folder for screenshots (absent, none are made).
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const { console: root, address, name, token, domain, screenshots, modules } = JSON.parse(process.argv[2]);
const require = createRequire(join(modules, "index.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", `--host-resolver-rules=MAP ${name} ${address}`],
});

const faults = [];
const seen = [];

// A page in which whatever the policy forbids, or a script says is wrong, is a fault.
async function open(options) {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(20000);
  page.on("console", (message) => {
    const text = message.text();
    // A status that a page is answered with is said there as well.
    if (message.type() === "error" && !/the server responded with a status of/.test(text)) faults.push(`console: ${text}`);
  });
  page.on("pageerror", (error) => faults.push(`script: ${error.message}`));
  return { context, page };
}

async function signIn(page) {
  await page.goto(`${root}/sign-in`);
  await page.fill("#token", token);
  await page.click("main button[type=submit]");
  await page.waitForURL(`${root}/domains`);
}

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
  const { context, page } = await open({ javaScriptEnabled });
  await signIn(page);
  await tell(page);
  for (const path of paths) {
    await page.goto(`${root}/${path}`);
    const copies = await page.locator("[data-copies]:visible").count();
    if (copies > 0 && !javaScriptEnabled) faults.push(`${path}: a button that does nothing is shown`);
    const width = await page.evaluate(() => document.documentElement.scrollWidth).catch(() => 0);
    if (width > 1280) faults.push(`${path}: wider than its window (${width})`);
    seen.push(`${path} ${javaScriptEnabled ? "with" : "without"} JavaScript`);
  }
  await page.goto(`${root}/domains`);
  await page.click("text=Sign out");
  await page.waitForURL(`${root}/sign-in`);
  await page.goto(`${root}/domains`);
  if (!page.url().endsWith("/sign-in")) faults.push("signed out, and still let in");
  await context.close();
}

for (const colorScheme of ["light", "dark"]) {
  // axe is a script of nobody's: the policy is left out here, and held above.
  const { context, page } = await open({ colorScheme, bypassCSP: true });
  await signIn(page);
  for (const path of paths) {
    await page.goto(`${root}/${path}`);
    await page.addScriptTag({ content: axe });
    const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
    for (const { id, help, nodes } of violations) faults.push(`${path} ${colorScheme}: ${id}: ${help}: ${nodes[0].html}`);
    if (passes.length === 0) faults.push(`${path}: axe has looked at nothing`);
    seen.push(`${path} ${colorScheme}, ${passes.length} rules of axe`);
    const drawn = { domains: "domains", [`domains/${domain}`]: "domain", audit: "audit", overview: "overview" }[path];
    if (screenshots && drawn) {
      await page.screenshot({ path: join(screenshots, `${drawn}-${colorScheme}.png`), fullPage: true });
    }
  }
  await context.close();
}

await browser.close();
console.log(JSON.stringify({ faults, seen }));
