// A real Chromium that takes whatever the policy of a page forbids, or a script says is wrong, for a fault.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const faults = [];
export const seen = [];

// One in which `names` are at `address`; `modules` is where npm has put its packages.
export async function launch(names, address, modules) {
  const require = createRequire(join(modules, "index.js"));
  const { chromium } = require("playwright-core");
  const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
  const rules = names.map((name) => `MAP ${name} ${address}`).join(",");
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", `--host-resolver-rules=${rules}`],
  });
  return { browser, axe };
}

export async function open(browser, options) {
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

export async function signIn(page, root, token) {
  await page.goto(`${root}/sign-in`);
  await page.fill("#token", token);
  await page.click("main button[type=submit]");
  await page.waitForURL(`${root}/domains`);
}

// What must hold of each page without and with JavaScript.
export async function look(page, name, javaScriptEnabled) {
  const copies = await page.locator("[data-copies]:visible").count();
  if (copies > 0 && !javaScriptEnabled) faults.push(`${name}: a button that does nothing is shown`);
  const width = await page.evaluate(() => document.documentElement.scrollWidth).catch(() => 0);
  if (width > 1280) faults.push(`${name}: wider than its window (${width})`);
  seen.push(`${name} ${javaScriptEnabled ? "with" : "without"} JavaScript`);
}

// axe is a script of nobody's: its page is opened with `bypassCSP`, and the policy held elsewhere.
export async function judge(page, axe, name, colorScheme) {
  await page.addScriptTag({ content: axe });
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  for (const { id, help, nodes } of violations) faults.push(`${name} ${colorScheme}: ${id}: ${help}: ${nodes[0].html}`);
  if (passes.length === 0) faults.push(`${name}: axe has looked at nothing`);
  seen.push(`${name} ${colorScheme}, ${passes.length} rules of axe`);
}

export async function draw(page, screenshots, name, colorScheme) {
  if (screenshots) await page.screenshot({ path: join(screenshots, `${name}-${colorScheme}.png`), fullPage: true });
}
